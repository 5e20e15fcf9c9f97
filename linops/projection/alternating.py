"""Alternating least squares: each leaf in turn, which enters linearly, is the best for the others as they are.

With E the other leaves contracted, the leaf's least squares are G x = h, G = Eᴴ (A ⊗ C) E, h = Eᴴ (A W C). An axis of
the leaf that is open, in a metric that is diagonal, is one of independent systems; the others are unknowns. Steps are
damped, x += (G + λ)⁻¹ (h − G x), so that the error never grows, also where G is singular.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from linops import backends
from linops.projection.conjugate_gradients import conjugate_gradients
from linops.projection.contraction import contract, primes
from linops.projection.effort import Effort
from linops.projection.environments import Part, absorbed
from linops.projection.goal import Goal, is_full
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
    if not effort.max_iterations:
        return tensors, 0, False
    equations = Equations(net, goal, _image(net, goal))
    free = [k for k in net.acting[::-1] if net.free[k]]
    before = goal.error(net.written(tensors))
    if before <= len(tensors) * float(goal.space.finfo(goal.source.dtype).eps) * goal.norm:
        return tensors, 0, True  # the leaves' rounding is all that is left
    for sweep in range(1, effort.max_iterations + 1):
        kept = list(tensors)
        equations.improve(tensors)
        after = goal.error(net.written(tensors))
        if not after <= before:  # by rounding
            return kept, sweep, True
        if len(free) == 1 or is_settled(before, after, goal, effort):
            return tensors, sweep, True
        before = after
    return tensors, effort.max_iterations, False


def least_squares(net: Net, goal: Goal, tensors: Sequence[Any]) -> list[Any]:
    """The tensors with each, in turn, the best for the others; of one leaf the optimum, with derivatives.

    Args:
        net: The net.
        goal: The goal.
        tensors: Of each leaf.

    Returns:
        The tensors.
    """
    tensors = list(tensors)
    Equations(net, goal, _image(net, goal)).improve(tensors)
    return tensors


def is_settled(before: float, after: float, goal: Goal, effort: Effort) -> bool:
    """Whether a sweep changed an error by less than the tolerance, or nothing but rounding is left."""
    eps = float(goal.space.finfo(goal.source.dtype).eps)
    return before - after <= effort.tol * before or after <= eps * goal.norm


def _image(net: Net, goal: Goal) -> Part:
    """A W C, as far as the net sees it."""
    return Part(net.open, net.read(goal.weighted(goal.matrix)))


class Equations:
    """The least squares of each leaf, where W enters by its image alone."""

    def __init__(self, net: Net, goal: Goal, image: Part | None = None) -> None:
        self.net, self.space = net, goal.space
        self.free = [k for k in net.acting[::-1] if net.free[k]]
        terms, weights = weights_of(net, goal)
        metrics = [(net.out, goal.output_metric), (net.into, goal.second_moment)]
        tied = "".join([axes for axes, metric in metrics if not is_full(metric)])
        every = "".join(net.sizes)
        self.second = {axis: axis for axis in every} | primes("".join([a for a in every if a not in tied]), every)
        (_, A), (_, C) = metrics
        if is_full(A):
            terms.append(self.named(net.out) + net.out)
            weights.append(A.reshape(net.dims(net.out + net.out)))
        if is_full(C):
            terms.append(net.into + self.named(net.into))
            weights.append(C.reshape(net.dims(net.into + net.into)))
        self.weights = [*map(Part, terms, weights)]
        self.images = [] if image is None else [image]
        within = "".join([*net.tensors, *terms])
        self.copies = net.size("".join([axis for axis in net.open if axis not in within]))

    def named(self, axes: str) -> str:
        """The names of axes in the second copy."""
        return "".join([self.second[axis] for axis in axes])

    def improve(self, tensors: list[Any]) -> None:
        """Each free leaf in turn is replaced by the best for the others."""
        given = [k for k in range(len(tensors)) if k not in self.free]
        self._improve(self.free, tensors, *self._around(tensors, given, self.free, self.images, self.weights))

    def improve_by(self, k: int, tensors: list[Any], h: Any) -> None:
        """A leaf is replaced by the best for the others, of what these make of W's image."""
        others = [other for other in range(len(tensors)) if other != k]
        _, inside = self._around(tensors, others, [k], [], self.weights)
        tensors[k] = self._improved(k, tensors[k], [Part(self.net.tensors[k], h)], inside)

    def _improve(self, leaves: list[int], tensors: list[Any], images: list[Part], inside: list[Part]) -> None:
        """Some leaves, in what the others are with W, and with each other."""
        if len(leaves) == 1:
            (k,) = leaves
            tensors[k] = self._improved(k, tensors[k], images, inside)
            return
        half = len(leaves) // 2
        for mine, others in ((leaves[:half], leaves[half:]), (leaves[half:], leaves[:half])):
            self._improve(mine, tensors, *self._around(tensors, others, mine, images, inside))

    def _around(
        self, tensors: list[Any], others: list[int], mine: list[int], images: list[Part], inside: list[Part]
    ) -> tuple[list[Part], list[Part]]:
        """What is around some leaves, with others in it."""
        terms = self.net.tensors
        kept = "".join([terms[k] for k in mine])
        firsts = [Part(terms[k], tensors[k]) for k in others]
        adjoint = [Part(axes, backends.conj(array)) for axes, array in firsts]
        seconds = [Part(self.named(axes), array) for axes, array in adjoint]
        images = absorbed([*images, *adjoint], kept)
        return images, absorbed([*inside, *seconds, *firsts], kept + self.named(kept))

    def _improved(self, leaf: int, x: Any, images: list[Part], inside: list[Part]) -> Any:
        """The leaf that is best for the others."""
        net, axes = self.net, self.net.tensors[leaf]
        terms, arrays = zip(*images)
        h = contract([*terms], axes, *arrays)
        if not inside:
            return h / self.copies
        terms, arrays = zip(*inside)
        within = "".join(terms)
        unknown = "".join([axis for axis in axes if self.second[axis] != axis])
        systems = "".join([axis for axis in axes if axis not in unknown and axis in within])
        if net.size(systems) * net.size(unknown) ** 2 > LIMIT:
            return self._descended(axes, x, h, [*terms], [*arrays])
        G = self.copies * contract([*terms], systems + self.named(unknown) + unknown, *arrays)
        return self._solved(axes, systems, unknown, G, x, h)

    def _solved(self, axes: str, systems: str, unknown: str, G: Any, x: Any, h: Any) -> Any:
        """X + (G + λ)⁻¹ (h − G x), a few times."""
        net, space = self.net, self.space
        alone = "".join([axis for axis in axes if axis not in systems + unknown])
        order = systems + unknown + alone
        S, P, F = net.size(systems), net.size(unknown), net.size(alone)
        G = space.astype(G.reshape(S, P, P), x.dtype)  # real weights of complex matrices
        x, h = (contract([axes], order, y).reshape(S, P, F) for y in (x, h))
        size = space.max(space.abs(space.linalg.diagonal(G)), axis=-1)[:, None, None]
        eps = float(space.finfo(x.dtype).eps)
        damping = space.where(size > 0, 10 * P * eps * size, space.ones_like(size))
        damped = G + damping * backends.eye(G, P, G.dtype)
        for _ in range(3):
            r = h - G @ x
            x = x + (r / damped if P == 1 else space.linalg.solve(damped, r))
        return contract([order], axes, x.reshape(net.dims(order)))

    def _descended(self, axes: str, x: Any, h: Any, terms: list[str], arrays: list[Any]) -> Any:
        """Steps of conjugate gradients."""

        def product(y: Any) -> Any:
            return self.copies * contract([axes, *terms], self.named(axes), y, *arrays)

        return conjugate_gradients(product, x, h, STEPS)[0]
