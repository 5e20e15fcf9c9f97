"""Runs plans: the kernels of a program, one after the other, on the arrays of any backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from linops import backends
from linops.plan.contraction import OPERAND, Kernel, Program
from linops.plan.plan import Plan


def multiply(plan: Plan, leaves: Sequence[Any], x: Any) -> Any:
    """The product of a plan.

    Args:
        plan: The plan.
        leaves: The leaves of the operator that it is of.
        x: The operand, features first.

    Returns:
        The result, features first.
    """
    return run(plan.program, [leaves[place] for place in plan.network.leaves], x)


def run(program: Program, tensors: list[Any], x: Any) -> Any:
    """The product of a program.

    Args:
        program: The program.
        tensors: Its tensors; the list is changed.
        x: The operand, features first.

    Returns:
        The result, features first.
    """
    batch = x.shape[-1]
    for kernel in program.kernels:
        place = kernel.onto
        if place == OPERAND:
            x = contract(kernel, tensors[kernel.tensor], x, batch)
        else:
            tensors[place] = contract(kernel, tensors[kernel.tensor], tensors[place], 1)
    x = x.reshape(*program.dims, batch)
    return backends.permute(x, program.turn) if program.turn else x


def contract(kernel: Kernel, a: Any, x: Any, batch: Any) -> Any:
    """What one kernel computes.

    Args:
        kernel: The kernel.
        a: The tensor that acts.
        x: What it acts on.
        batch: How many vectors the last axis of x counts beside its features.

    Returns:
        The result.
    """
    _, _, kind, dims, turn, shape, split, order, merged, copies = kernel
    if turn:
        a = backends.permute(a if a.shape == dims else a.reshape(dims), turn)
        if copies:
            a = backends.copy(a)
    if a.shape != shape:
        a = a.reshape(shape)
    x = x.reshape(*split[:-1], split[-1] * batch)
    if order:
        x = backends.permute(x, order)
    if kind == "outer":  # arrays come out as the first operand lies
        return (backends.copy(x) if order else x) * a
    if merged:
        x = x.reshape(*merged[:-1], merged[-1] * batch)
    if kind == "bmm":
        return backends.block_matmul(a, x)
    if kind == "shared":
        return backends.shared_matmul(a, x)
    return a @ x if kind == "matmul" else a * x
