"""Alternating least squares: each leaf in turn, which enters linearly, is the best for the others as they are.

With E the other leaves contracted, the leaf's least squares are G x = h, G = Eᴴ (A ⊗ C) E, h = Eᴴ (A W C). An axis of
the leaf that is open, in a metric that is diagonal, is one of independent systems; the others are unknowns. Steps are
damped, x += (G + λ)⁻¹ (h − G x), so that the error never grows, also where G is singular.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

from linops import backends
from linops.projection.contraction import contract, primes
from linops.projection.effort import Effort
from linops.projection.goal import Goal, is_full
from linops.projection.goal import real as _real
from linops.projection.nets import Net, weights_of

#: the most numbers in the normal matrices of a leaf; of larger ones products are taken
LIMIT = 2**25
#: steps of conjugate gradients on those
STEPS = 30


def alternating(net: Net, goal: Goal, tensors: Sequence[Any], effort: Effort) -> tuple[list[Any], int, bool]:
    """Better tensors, from some.

    Args:
        net: The net.
        goal: The goal.
        tensors: Of each leaf; those that are not free stay.
        effort: When to stop.

    Returns:
        The tensors, sweeps, and whether the last one lowered the error by less than the tolerance.
    """
    tensors = list(tensors)
    free = [k for k in net.acting[::-1] if net.free[k]]
    equations = [_Equations(net, goal, k) for k in free]
    before = goal.error(net.written(tensors))
    for sweep in range(1, effort.max_iterations + 1):
        kept = list(tensors)
        for one in equations:
            tensors[one.leaf] = one.improved(tensors)
        after = goal.error(net.written(tensors))
        if not after <= before:  # by rounding
            return kept, sweep, True
        if len(free) == 1 or is_settled(before, after, goal, effort):
            return tensors, sweep, True
        before = after
    return tensors, effort.max_iterations, False


def is_settled(before: float, after: float, goal: Goal, effort: Effort) -> bool:
    """Whether a sweep changed an error by less than the tolerance, or nothing but rounding is left."""
    eps = float(goal.space.finfo(goal.matrix.dtype).eps)
    return before - after <= effort.tol * before or after <= eps * sqrt(float(goal.square(goal.matrix)))


class _Equations:
    """The least squares of one leaf."""

    def __init__(self, net: Net, goal: Goal, leaf: int) -> None:
        self.net, self.leaf, self.space = net, leaf, goal.space
        self.axes = net.tensors[leaf]
        self.others = [k for k in range(len(net.tensors)) if k != leaf]
        self.terms, self.weights = weights_of(net, goal)
        metrics = [(net.out, goal.output_metric), (net.into, goal.second_moment)]
        tied = "".join([axes for axes, metric in metrics if not is_full(metric)])
        every = "".join(net.sizes)
        self.second = {axis: axis for axis in every} | primes("".join([a for a in every if a not in tied]), every)
        (_, A), (_, C) = metrics
        if is_full(A):
            self.terms.append(self.named(net.out) + net.out)
            self.weights.append(A.reshape(net.dims(net.out + net.out)))
        if is_full(C):
            self.terms.append(net.into + self.named(net.into))
            self.weights.append(C.reshape(net.dims(net.into + net.into)))
        self.image = net.read(goal.weighted(goal.matrix))
        inside = "".join([net.tensors[k] for k in self.others] + self.terms)
        self.unknown = "".join([axis for axis in self.axes if self.second[axis] != axis])
        self.systems = "".join([a for a in self.axes if a not in self.unknown and a in inside])
        self.alone = "".join([a for a in self.axes if a not in self.unknown and a not in inside])
        within = inside + self.axes
        self.copies = net.size("".join([axis for axis in net.open if axis not in within]))

    def named(self, axes: str) -> str:
        """The names of axes in the second copy."""
        return "".join([self.second[axis] for axis in axes])

    def improved(self, tensors: Sequence[Any]) -> Any:
        """The leaf that is best for the others."""
        net, x = self.net, tensors[self.leaf]
        others = [tensors[k] for k in self.others]
        adjoint = [backends.conj(other) for other in others]
        terms = [net.tensors[k] for k in self.others]
        seconds = [*map(self.named, terms)]
        h = contract([net.open, *terms], self.axes, self.image, *adjoint)
        inside = [*seconds, *terms, *self.terms], [*adjoint, *others, *self.weights]
        if not inside[0]:
            return h / self.copies
        if net.size(self.systems) * net.size(self.unknown) ** 2 > LIMIT:
            return self._descended(x, h, *inside)
        result = self.systems + self.named(self.unknown) + self.unknown
        return self._solved(self.copies * contract(inside[0], result, *inside[1]), x, h)

    def _solved(self, G: Any, x: Any, h: Any) -> Any:
        """X + (G + λ)⁻¹ (h − G x), a few times."""
        net, space = self.net, self.space
        order = self.systems + self.unknown + self.alone
        S, P, F = net.size(self.systems), net.size(self.unknown), net.size(self.alone)
        G = G.reshape(S, P, P)
        x, h = (contract([self.axes], order, y).reshape(S, P, F) for y in (x, h))
        size = space.max(space.abs(space.linalg.diagonal(G)), axis=-1)[:, None, None]
        eps = float(space.finfo(x.dtype).eps)
        damping = space.where(size > 0, 10 * P * eps * size, space.ones_like(size))
        damped = G + damping * backends.eye(G, P, G.dtype)
        for _ in range(3):
            r = h - G @ x
            x = x + (r / damped if P == 1 else space.linalg.solve(damped, r))
        return contract([order], self.axes, x.reshape(net.dims(order)))

    def _descended(self, x: Any, h: Any, terms: list[str], arrays: list[Any]) -> Any:
        """Steps of conjugate gradients."""
        space = self.space

        def product(y: Any) -> Any:
            return self.copies * contract([self.axes, *terms], self.named(self.axes), y, *arrays)

        r = h - product(x)
        p, square = r, _square(space, r)
        for _ in range(STEPS):
            if not float(square):
                break
            image = product(p)
            step = square / space.sum(_real(backends.conj(p) * image))
            x, r = x + step * p, r - step * image
            after = _square(space, r)
            p, square = r + after / square * p, after
        return x


def _square(space: Any, x: Any) -> Any:
    return space.sum(space.abs(x) ** 2)
