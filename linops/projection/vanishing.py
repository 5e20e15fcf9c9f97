"""All leaves of a small net at once, with a ridge that vanishes: for what alternating least squares do not find.

Where a matrix is the sum of more terms than a block has sides, iterations from most starts end where terms grow without
bound and cancel. With a ridge, ‖W − Ŵ‖² + μ Σ ‖leaf‖², they cannot: Levenberg and Marquardt's method follows the
minimum from a random start down a few μ, then without a ridge. The normal matrix Jᴴ (A ⊗ C) J is contracted leaf by
leaf, as in `alternating.py`, so J itself is never written out; the damping also holds what scalings between leaves
leave open.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy  # whose submodules load when they are first used

from linops import backends
from linops.projection.alternating import Equations
from linops.projection.contraction import contract, primes
from linops.projection.effort import Effort
from linops.projection.environments import Part
from linops.projection.goal import Goal
from linops.projection.nets import Net

#: the most numbers in all leaves, whose normal matrix is solved with, for `USUAL` iterations; their cubes, which steps
#: take, may be more in proportion to `max_iterations`
LIMIT, USUAL = 2000, 100
#: random starts at most, of few numbers; of many ones fewer, by the cubes that steps take, but some
STARTS, WORK, FEW = 16, 8 * 10**9, 2
#: steps of all starts, times these cubes, in proportion too: where W is no member, they would take minutes
STEPS_WORK = 6 * 10**11
#: a start for so many of `max_iterations`
SWEEPS = 6
#: ridges, as shares of the mean of the normal matrix's diagonal at the start, of one start after the other: where those
#: from large ridges all end at one point, others do not; each for so many steps at most
RIDGES, STEPS = ((10**-1, 10**-1.5, 10**-2, 10**-2.5), (10**-2, 10**-3), (10**-3, 10**-4)), 60
#: a share of ‖W‖: of a larger error W is taken for no member, and none is looked for
NEAR = 0.3
#: a share of ‖W‖ that is as good as none
EXACT = 1e-10
#: a share of ‖W‖ with which W is a member, but for what its numbers were rounded to before
MEMBER = 1e-6
#: starts with ridges of every kind that end at the same error as what they are to be better than, to this share of it,
#: are taken for proof enough
SAME = 1e-3
#: a seed that no one is likely to have drawn W with
SEED = 90_001
#: what `ProjectionInfo` calls these steps
METHOD = "Levenberg and Marquardt's method"


class Point(NamedTuple):
    """Leaves as one vector, their squared error as a share of ‖W‖², and whether steps have become small."""

    x: np.ndarray
    square: float
    settled: bool


def fits(net: Net, goal: Goal, effort: Effort) -> bool:
    """Whether a net is closed, of leaves that are all free, and small enough for the effort."""
    count = sum([net.size(axes) for axes in net.tensors])
    return all(net.free) and net.is_closed and not goal.is_large and count**3 <= LIMIT**3 * _times(effort)


def _times(effort: Effort) -> float:
    """How many times the usual work may be done."""
    return max(effort.max_iterations / USUAL, 1)


def is_nothing(error: float, goal: Goal) -> bool:
    """Whether an error is no more than rounding makes."""
    return error <= 100 * float(goal.space.finfo(goal.source.dtype).eps) * goal.norm


def vanishing(net: Net, goal: Goal, tensors: Sequence[Any], effort: Effort) -> tuple[list[Any], int, bool] | None:
    """Better tensors than some, from random starts, the nearest of which is kept.

    Args:
        net: The net, which `fits`.
        goal: The goal.
        tensors: Of each leaf, to be better than.
        effort: When to stop.

    Returns:
        The tensors, steps, and whether the last was below the tolerance; None where none are better, or where these
        leave nothing, or so much that W is no member.
    """
    before, whole = goal.error(net.written(tensors)), goal.norm
    if is_nothing(before, goal) or not before < NEAR * whole:
        return None
    eps = float(goal.space.finfo(goal.source.dtype).eps)
    path, taken, same, best = _Path(net, _wide(goal)), 0, 0, None
    cube = path.ends[-1] ** 3
    starts, left = max(FEW, min(STARTS, WORK // cube)), max(STEPS, int(STEPS_WORK * _times(effort)) // cube)
    for number in range(min(starts, effort.max_iterations // SWEEPS)):
        if taken >= left:
            break
        rival = None if best is None or best.square**0.5 * whole >= (1 - SAME) * before else best.square
        point, steps = path.followed(number, effort.tol, rival, left - taken)
        taken += steps
        if point is None:
            continue
        if best is None or point.square < best.square:
            best = point
        if best.settled and best.square <= max(MEMBER, 10 * eps) ** 2:
            break
        same += abs(point.square**0.5 * whole - before) <= SAME * before
        if same == len(RIDGES) and rival is None:
            break
    found = None if best is None else path.nearer(best, goal, before)
    return None if best is None or found is None else (found, taken, best.settled)


def onwards(net: Net, goal: Goal, tensors: Sequence[Any], effort: Effort) -> tuple[list[Any], int, bool] | None:
    """Better tensors, from some, by the same steps without a ridge: for where alternating least squares crawl.

    Args:
        net: The net, which `fits`.
        goal: The goal.
        tensors: Of each leaf.
        effort: When to stop.

    Returns:
        The tensors, steps, and whether the last was below the tolerance; None where none are better.
    """
    path = _Path(net, _wide(goal))
    x = np.concatenate([backends.to_numpy(leaf).ravel() for leaf in tensors]).astype(path.goal.matrix.dtype)
    point, steps = path.descended(x, 0.0, min(effort.tol, 1e-4), min(STEPS, effort.max_iterations))
    found = path.nearer(point, goal, goal.error(net.written(tensors)))
    return None if found is None else (found, steps, point.settled)


def _wide(goal: Goal) -> Goal:
    """The goal in NumPy's double precision."""
    dtype = complex if backends.is_complex(goal.matrix.dtype) else float
    goal = goal.on_numpy()
    return goal.of(goal.matrix.astype(dtype))


class _Path:
    """Levenberg and Marquardt's method on the leaves of a net."""

    def __init__(self, net: Net, goal: Goal) -> None:
        self.net, self.goal = net, goal
        self.equations = Equations(net, goal)
        self.sizes = [net.size(axes) for axes in net.tensors]
        self.ends = [int(end) for end in np.cumsum(self.sizes)]
        self.whole = goal.norm**2

    def leaves(self, x: np.ndarray) -> list[np.ndarray]:
        """The tensors of one vector."""
        return [part.reshape(self.net.dims(axes)) for part, axes in zip(np.split(x, self.ends[:-1]), self.net.tensors)]

    def nearer(self, point: Point, goal: Goal, before: float) -> list[Any] | None:
        """The tensors of a point, in the goal's dtype; None where they are no nearer than others were."""
        if not point.square**0.5 * goal.norm < before:
            return None
        like = goal.matrix
        found = [backends.constant(like, leaf, like.dtype) for leaf in self.leaves(point.x)]
        return found if goal.error(self.net.written(found)) < before else None

    def followed(self, number: int, tol: float, best: float | None, left: int) -> tuple[Point | None, int]:
        """Where a start ends, and steps; None where with the last ridge it is no nearer than the best."""
        drawn = self.net.target.init(seed=SEED + number, backend="numpy", dtype=self.goal.matrix.dtype)
        leaves = [self.net.tensor(k, leaf) for k, (_, leaf) in enumerate(drawn.named_leaves())]
        size = float(self.goal.square(self.net.written(leaves)))
        if not size:
            return None, 0
        factor = (self.whole / size) ** (0.5 / len(leaves))
        x = np.concatenate([factor * leaf.ravel() for leaf in leaves])
        unit = float(np.mean(np.real(np.diag(self.normal(self.leaves(x))))))
        taken = 0
        for ridge in RIDGES[number % len(RIDGES)]:
            point, steps = self.descended(x, ridge * unit, 1e-5, max(1, min(STEPS, left - taken)))
            x, taken = point.x, taken + steps
        if best is not None and point.square >= best and point.square > 1e-4:
            return None, taken
        point, steps = self.descended(x, 0.0, min(tol, 1e-4), max(1, min(STEPS, left - taken)))
        return point, taken + steps

    def descended(self, x: np.ndarray, ridge: float, tol: float, most: int = STEPS) -> tuple[Point, int]:
        """The end of steps with a ridge, each of which lowers what is minimised, and how many were tried."""
        error, gradient, normal = self._at(x, ridge)
        value, damping, growth = error + ridge * _square(x), 1e-3, 2.0
        eye = np.eye(x.size)
        for step in range(1, most + 1):
            mean = float(np.mean(np.real(np.diag(normal)))) or 1.0
            try:
                held = normal + (ridge + (damping + 1e-14) * mean) * eye
                move = scipy.linalg.solve(held, gradient, assume_a="pos", check_finite=False, overwrite_a=True)
            except np.linalg.LinAlgError:
                damping *= 10
                continue
            there = x + move
            after = self._error(self.leaves(there))[1]
            less = value - after - ridge * _square(there)
            expected = float(np.real(np.vdot(move, gradient + damping * mean * move)))
            if not less > 0:  # also where it is not a number
                damping, growth = damping * growth, 2 * growth
                if damping > 1e8:
                    return Point(x, error / self.whole, True), step
                continue
            is_small = less <= tol * value
            damping = max(damping * max(0.2, 1 - (2 * less / expected - 1) ** 3), 1e-15)
            x, growth, value = there, 2.0, value - less
            if is_small or after <= EXACT**2 * self.whole:
                return Point(x, after / self.whole, True), step
            error, gradient, normal = self._at(x, ridge)
        return Point(x, error / self.whole, False), most

    def _error(self, leaves: list[np.ndarray]) -> tuple[np.ndarray, float]:
        E = self.goal.matrix - self.net.written(leaves)
        return E, float(self.goal.square(E))

    def _at(self, x: np.ndarray, ridge: float) -> tuple[float, np.ndarray, np.ndarray]:
        """The squared error, half the negative gradient, and the normal matrix."""
        net, leaves = self.net, self.leaves(x)
        E, square = self._error(leaves)
        image, found = net.read(self.goal.weighted(E)), []
        for k, axes in enumerate(net.tensors):
            others = [Part(net.tensors[i], leaf.conj()) for i, leaf in enumerate(leaves) if i != k]
            found.append(_contracted([Part(net.open, image), *others], axes).ravel())
        return square, np.concatenate(found) - ridge * x, self.normal(leaves)

    def normal(self, leaves: list[np.ndarray]) -> np.ndarray:
        """Jᴴ (A ⊗ C) J."""
        found = np.zeros((self.ends[-1], self.ends[-1]), leaves[0].dtype)
        places = [slice(end - size, end) for end, size in zip(self.ends, self.sizes)]
        for k, rows in enumerate(places):
            for j, columns in enumerate(places[k:], k):
                found[rows, columns] = self._between(leaves, k, j)
                found[columns, rows] = found[rows, columns].conj().T
        return found

    def _between(self, leaves: list[np.ndarray], k: int, j: int) -> np.ndarray:
        """A block of the normal matrix: leaf k of the conjugate copy with leaf j of the other."""
        net, equations = self.net, self.equations
        sizes = net.sizes | {equations.second[axis]: size for axis, size in net.sizes.items()}
        rows, columns = equations.named(net.tensors[k]), net.tensors[j]
        around = [Part(equations.named(net.tensors[i]), leaf.conj()) for i, leaf in enumerate(leaves) if i != k]
        around += [Part(net.tensors[i], leaf) for i, leaf in enumerate(leaves) if i != j]
        around += equations.weights
        kept, within = "".join(dict.fromkeys(rows + columns)), "".join([part.axes for part in around])
        around += [Part(axis, np.ones(sizes[axis])) for axis in kept if axis not in within]
        shared = "".join([axis for axis in rows if axis in columns])  # of which the block is diagonal
        new = primes(shared, "".join(sizes))
        eyes = [Part(axis + new[axis], np.eye(sizes[axis])) for axis in shared]
        result = rows + "".join([new.get(axis, axis) for axis in columns])
        block = _contracted([Part(kept, _contracted(around, kept)), *eyes], result)
        return equations.copies * block.reshape(self.sizes[k], self.sizes[j])


def _square(x: np.ndarray) -> float:
    return float(np.real(np.vdot(x, x)))


def _contracted(parts: Sequence[Part], result: str) -> Any:
    """The contraction of parts to the axes of the result."""
    return contract([part.axes for part in parts], result, *[part.array for part in parts])
