"""Alternating least squares on an operator too large to be written out: each leaf takes a pass over its panels.

W enters a leaf's least squares by h = Eᴴ (A W C) alone (`alternating.py`), which is a sum over panels. The error after
it is ‖W‖² − Re⟨x, h⟩ in squares, so that errors below the root of rounding are not told from zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

from linops import backends
from linops.linalg.spectra import real_part
from linops.projection.alternating import Equations
from linops.projection.contraction import contract
from linops.projection.effort import Effort
from linops.projection.goal import Goal
from linops.projection.netpanels import NetPanels, Slices, sliced
from linops.projection.nets import Net
from linops.projection.panels import square


def passes(net: Net, goal: Goal, tensors: Sequence[Any], effort: Effort) -> tuple[list[Any], int, bool]:
    """Better tensors, from some.

    Args:
        net: The net, all of whose leaves are free.
        goal: The goal.
        tensors: Of each leaf.
        effort: When to stop.

    Returns:
        The tensors, sweeps, and whether the last one lowered the error by less than the tolerance.
    """
    equations, panels = Equations(net, goal), NetPanels(net, goal.source, net.into)
    tensors, whole = list(tensors), square(goal, goal.source)
    eps, before = float(goal.space.finfo(goal.source.dtype).eps), sqrt(whole)
    for sweep in range(1, effort.max_iterations + 1):
        for k in equations.free:
            h = _image(net, goal, panels, tensors, k)
            equations.improve_by(k, tensors, h)
        gain = float(goal.space.sum(real_part(backends.conj(tensors[k]) * h)))
        after = sqrt(max(whole - gain, 0.0))
        if (sweep > 1 and before - after <= effort.tol * before) or after**2 <= 16 * eps * whole:
            return tensors, sweep, True
        before = after
    return tensors, effort.max_iterations, False


def _image(net: Net, goal: Goal, panels: NetPanels, tensors: Sequence[Any], leaf: int) -> Any:
    """What the other leaves make of A W C."""
    others = [k for k in range(len(tensors)) if k != leaf]
    terms, result = [net.out + net.into, *[net.tensors[k] for k in others]], net.tensors[leaf]

    def part(at: Slices) -> tuple[Any]:
        arrays = [backends.conj(sliced(tensors[k], net.tensors[k], at)) for k in others]
        return (contract(terms, result, panels.weighted(goal, at), *arrays),)

    return panels.over(net.into, part, (result,))[0]
