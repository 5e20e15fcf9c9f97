"""A step of a program: one kernel or view, and what it costs.

Operators lower themselves to steps. Costs, tables and the choice of an order know steps and numbers, no operator.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One kernel or view of a program.

    Attributes:
        kind: What runs: ``"matmul"``, ``"bmm"``, ``"gather"``, ``"view"`` …
        detail: Its operands, by shape.
        macs: Multiply-accumulates.
        other_flops: Additions and multiplications that are not part of a MAC.
        inputs: Numbers read of what flows through the program.
        weights: Numbers read of parameters.
        outputs: Numbers written.
        gradient_macs: Multiply-accumulates of its gradients that have no counterpart in the step, as the outer product
            that the gradient of a solve ends with.
        merges: Whether it is among parameters alone, which are multiplied with each other before the operand.
        viewed: Of a view whose axes are exchanged, the numbers that it shows; where products read no views, a copy.
        of_leaf: Whether what it reads, counted as `inputs`, is a leaf, so that its gradient is one of parameters.
        gradient: Of a backward pass, what it computes: ``"grad x"`` of an operand, ``"grad A"`` of parameters.
        blocks: Of a matrix product, how many there are.
        rows: Of a matrix product, the rows of each left operand; 0 for other steps.
        columns: Of a matrix product, what each number sums over.
        batch: Of a matrix product, the columns of each right operand.
    """

    kind: str
    detail: str
    macs: int = 0
    other_flops: int = 0
    inputs: int = 0
    weights: int = 0
    outputs: int = 0
    gradient_macs: int = 0
    merges: bool = False
    viewed: int = 0
    of_leaf: bool = False
    gradient: str = ""
    blocks: int = 0
    rows: int = 0
    columns: int = 0
    batch: int = 0


def matmul_step(blocks: int, rows: int, columns: int, batch: int, *, weights: int | None = None) -> Step:
    """A (batched) matrix product: blocks × (rows, columns) @ (columns, batch).

    Args:
        blocks: Number of products.
        rows: Rows of each block.
        columns: Columns of each block.
        batch: Columns of each right-hand side.
        weights: Numbers of the left operand, if it is shared between the blocks.

    Returns:
        The step.
    """
    lead = f"{blocks}, " if blocks != 1 else ""
    shared = weights is not None and blocks != 1
    left = f"({'' if shared else lead}{rows}, {columns})"
    return Step(
        kind="matmul" if blocks == 1 else "bmm",
        detail=f"{left} × ({lead}{columns}, {batch})",
        macs=blocks * rows * columns * batch,
        inputs=blocks * columns * batch,
        weights=blocks * rows * columns if weights is None else weights,
        outputs=blocks * rows * batch,
        blocks=blocks,
        rows=rows,
        columns=columns,
        batch=batch,
    )


def copy_step(detail: str, *, inputs: int = 0, weights: int = 0) -> Step:
    """A copy of numbers to another order.

    Args:
        detail: What it is for.
        inputs: Numbers of what flows through the program.
        weights: Numbers of parameters.

    Returns:
        The step.
    """
    return Step("copy", detail, inputs=inputs, weights=weights, outputs=inputs + weights)
