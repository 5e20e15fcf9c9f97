"""What the gradients of a product run: the steps of a backward pass, of those of a forward pass.

A step y = A x has two gradients: of x, Aᵀ g, and of A, g xᵀ. Either is left out where nobody asks for it: that of A if
the leaf is frozen, and that of x if neither the operand nor any leaf that acted before wants one. Where tensors are
multiplied with each other before the operand, both x and A are tensors.

What is wanted is an integer of bits: 1 for the operand, and 2, 4, 8 … for the leaves in the order of `named_leaves`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from linops.plan.machine import Machine
from linops.plan.network import Network
from linops.plan.step import Step, copy_step, matmul_step

#: how the gradients of a step are called in tables
OF_OPERAND, OF_TENSOR = "grad x", "grad A"

#: a step, and which gradients of it are wanted: of its operand, and of its tensor
Marked = tuple[Step, bool, bool]


def tensors_wanted(network: Network, wanted: int) -> list[bool]:
    """Of each tensor of a network, whether its gradient is wanted.

    Args:
        network: The network.
        wanted: Of what gradients are wanted, in bits.

    Returns:
        True or False of each.
    """
    return [bool(wanted >> leaf + 1 & 1) for leaf in network.leaves]


def gradients(step: Step, of_operand: bool, of_tensor: bool) -> Iterator[Step]:
    """The steps of a step's gradients.

    Args:
        step: The step.
        of_operand: Whether the gradient of what it acts on is wanted.
        of_tensor: Whether the gradient of the parameters that it reads is wanted.

    Returns:
        Steps, in the order in which they run.

    Example:
        >>> [(one.gradient, one.detail) for one in gradients(matmul_step(1, 2, 3, 10), True, True)]
        [('grad A', '(2, 10) × (10, 3)'), ('grad x', '(3, 2) × (2, 10)')]
    """
    if of_tensor and step.weights:
        yield from _of_tensor(step)
    if of_tensor and step.gradient_macs:
        yield Step("outer", step.detail, macs=step.gradient_macs, merges=step.merges, gradient=OF_TENSOR)
    name = OF_TENSOR if step.of_leaf else OF_OPERAND
    if of_operand and (step.kind == "view" or step.inputs):
        if step.blocks:
            shared = step.weights if step.weights < step.blocks * step.rows * step.columns else None
            found = matmul_step(step.blocks, step.columns, step.rows, step.batch, weights=shared)
            yield replace(found, merges=step.merges, gradient=name)
        elif step.kind == "view" and step.viewed:  # frameworks join the axes of a gradient by a copy
            yield replace(copy_step(step.detail, inputs=step.viewed), gradient=name)
        elif step.kind == "scale" and step.outputs > step.inputs:  # of an operand whose numbers meet several
            yield replace(step, inputs=step.outputs, gradient_macs=0, gradient=name)
            yield replace(_sum(step.outputs, step.inputs), merges=step.merges, gradient=name)
        else:
            yield replace(step, inputs=step.outputs, outputs=step.inputs, gradient_macs=0, gradient=name)


def _of_tensor(step: Step) -> Iterator[Step]:
    """The steps of the gradient of what a step reads of parameters."""
    if step.blocks:
        whole = step.blocks * step.rows * step.columns
        found = matmul_step(step.blocks, step.rows, step.batch, step.columns)
        # the right operand is what flowed through the step: none of it is parameters
        yield replace(found, inputs=step.outputs + step.inputs, weights=0, merges=step.merges, gradient=OF_TENSOR)
    elif step.kind == "copy":
        yield replace(step, inputs=0, weights=step.weights, outputs=step.weights, gradient=OF_TENSOR)
        return
    else:
        whole = step.outputs
        read = step.outputs + step.inputs
        yield replace(step, inputs=read, weights=0, gradient_macs=0, gradient=OF_TENSOR)
    if whole > step.weights:  # which one matrix, or one number, of many shares
        yield replace(_sum(whole, step.weights), merges=step.merges, gradient=OF_TENSOR)


def _sum(whole: int, left: int) -> Step:
    """The sum of as many numbers to fewer."""
    return Step("sum", f"{whole // left} × ({left},)", inputs=whole, outputs=left)


def backward(marked: Sequence[Marked]) -> tuple[Step, ...]:
    """The backward pass of steps.

    Args:
        marked: The steps of the forward pass, with what is wanted of each.

    Returns:
        The steps of the backward pass, in the order in which they run.
    """
    return tuple(
        found for step, of_operand, of_tensor in reversed(marked) for found in gradients(step, of_operand, of_tensor)
    )


def marked(steps: Iterable[Step], of_operand: bool, of_tensors: Iterator[bool]) -> list[Marked]:
    """Steps that act on an operand one after the other, with which gradients are wanted of each.

    Args:
        steps: The steps of the forward pass.
        of_operand: Whether the gradient of the operand is wanted.
        of_tensors: Of each step that reads parameters, whether their gradient is wanted.

    Returns:
        The steps; a step's operand has a gradient if the first one has, or a tensor that acted before.
    """
    found, flows = [], of_operand
    for step in steps:
        reads = step.weights > 0 or step.gradient_macs > 0
        of_tensor = next(of_tensors) if reads else False
        found.append((step, flows, of_tensor))
        flows = flows or of_tensor
    return found


def total(steps: Sequence[Marked], machine: Machine, itemsize: int) -> float:
    """Seconds of a forward and a backward pass.

    Args:
        steps: The steps of the forward pass, with what is wanted of each.
        machine: What steps take.
        itemsize: Bytes of a number.

    Returns:
        Seconds.
    """
    back = backward(steps)
    kept = bool(back)
    return machine.total([step for step, *_ in steps], itemsize, kept) + machine.total(back, itemsize, kept)
