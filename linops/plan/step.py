"""A step of a program: one kernel or view, and what it costs.

Operators lower themselves to steps. Costs, tables and (later) the choice of an order know steps and numbers, no operator.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
        gradient_macs: Multiply-accumulates of its gradients that have no counterpart in the step, as the outer product that the gradient of
            a solve ends with.
    """

    kind: str
    detail: str
    macs: int = 0
    other_flops: int = 0
    inputs: int = 0
    weights: int = 0
    outputs: int = 0
    gradient_macs: int = 0


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
    )


def explain(header: str, steps: Iterable[Step], itemsize: int) -> str:
    """A table of the steps of a program, first step first.

    Args:
        header: The line above the table.
        steps: The steps.
        itemsize: Bytes of one number.

    Returns:
        The table, as text: per step its operands, MACs, FLOPs, and bytes moved (read and written).
    """
    rows: list[Sequence[str]] = [("step", "what", "operands", "MACs", "FLOPs", "bytes moved")]
    total = [0, 0, 0]
    for number, step in enumerate(steps, 1):
        moved = itemsize * (step.inputs + step.weights + step.outputs)
        flops = 2 * step.macs + step.other_flops
        rows.append((str(number), step.kind, step.detail, f"{step.macs:,}", f"{flops:,}", f"{moved:,}"))
        total = [total[0] + step.macs, total[1] + flops, total[2] + moved]
    rows.append(("", "total", "", *(f"{value:,}" for value in total)))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]

    def line(row: Sequence[str]) -> str:
        cells = [f"{cell:<{width}}" if column in (1, 2) else f"{cell:>{width}}" for column, (cell, width) in enumerate(zip(row, widths))]
        return "  ".join(cells).rstrip()

    rule = "  ".join("─" * width for width in widths)
    return "\n".join([header, line(rows[0]), rule, *map(line, rows[1:-1]), rule, line(rows[-1])])
