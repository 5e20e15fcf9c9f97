"""Structures whose entries are parameters, each in some places: diagonals, bands, patterns, Toeplitz, circulant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from linops import backends
from linops.linalg.inputs import DENSE_LIMIT, fits
from linops.linalg.spectra import real_part
from linops.operator import LinearOperator
from linops.operators.toeplitz import Toeplitz
from linops.projection.conjugate_gradients import conjugate_gradients
from linops.projection.effort import Effort, Found
from linops.projection.goal import Goal, adjoint, is_full, root
from linops.specs import Spec

#: the most operations that are spent on the systems of rows one by one
LIMIT = 10**11
#: steps of conjugate gradients that count as one iteration
STEPS = 10


@dataclass(frozen=True)
class Placement:
    """Which parameter stands where.

    Attributes:
        ids: (m, n) integers: the number of the parameter there, or the number of parameters where there is a zero.
        count: The number of parameters.
    """

    ids: np.ndarray
    count: int

    @property
    def is_pattern(self) -> bool:
        """Whether every parameter stands in one place at most."""
        return bool((np.bincount(self.ids.ravel(), minlength=self.count + 1)[:-1] <= 1).all())


def placement_of(target: LinearOperator) -> Placement | None:
    """Where a structure places its parameters, all of which are specs.

    Args:
        target: The structure.

    Returns:
        The placement; None where entries are no parameters.
    """
    leaves = [leaf for _, leaf in target.named_leaves()]
    count = target.num_params
    if not all(isinstance(leaf, Spec) for leaf in leaves) or not fits(target) or count > DENSE_LIMIT:
        return None

    def written(values: np.ndarray) -> np.ndarray:
        return np.asarray(filled(target, values).to_dense())

    try:
        found = written(np.arange(1.0, count + 1))
    except (TypeError, ValueError):
        return None
    if np.iscomplexobj(found):
        return None
    ids = np.rint(found).astype(np.int64) - 1
    ids[(ids < 0) | (ids >= count)] = count
    values = np.append(np.random.default_rng(0).integers(1, 1000, count).astype(float), 0.0)
    if not np.allclose(written(values[:-1]), values[ids], rtol=0, atol=0.1):
        return None
    return Placement(ids, count)


def placed(target: LinearOperator, placement: Placement, goal: Goal, effort: Effort) -> Found:
    """The nearest member.

    In Frobenius' norm, or with weights of rows and columns, parameters are weighted means of their places. With a full
    second moment and every parameter in one place, row i with support S is (W C)_{i,S} C_SS⁺. Otherwise the least
    squares are solved by conjugate gradients.

    Args:
        target: The structure.
        placement: Where it places its parameters.
        goal: The goal.
        effort: When iterations stop.

    Returns:
        The member.
    """
    iterations, converged, method = 0, True, "least squares of rows"
    turned = Placement(placement.ids.T, placement.count)
    if not goal.has_full:
        values, method = _means(placement, goal), "means of entries"
    elif not is_full(goal.output_metric) and placement.is_pattern and _work(placement) <= LIMIT:
        values = _by_rows(placement, goal)
    elif not is_full(goal.second_moment) and placement.is_pattern and _work(turned) <= LIMIT:
        values, method = _by_rows(turned, goal.T), "least squares of columns"
    else:
        values, iterations, converged = _descended(placement, goal.constant(), effort)
        method = "conjugate gradients"
    return Found(whole(filled(target, values)), method, converged, None, iterations, converged)


def filled(target: LinearOperator, values: Any) -> LinearOperator:
    """A structure of specs with parameters, one after the other."""
    leaves, start = [], 0
    for _, leaf in target.named_leaves():
        size = int(np.prod(leaf.shape))
        leaves.append(values[start : start + size].reshape(tuple(leaf.shape)))
        start += size
    return target.with_leaves(leaves)


def whole(operator: LinearOperator) -> LinearOperator:
    """The operator; of a Toeplitz one the number that is not read is the corner.

    Args:
        operator: Any.

    Returns:
        The operator.
    """
    if not isinstance(operator, Toeplitz):
        return operator
    r = backends.concatenate(operator.c[:1], [operator.r[1:]])
    return Toeplitz(operator.c, r, operator.transposed)


def summed(matrix: Any, ids: np.ndarray, count: int) -> Any:
    """The sum of a matrix's entries over each parameter's places."""
    flat = matrix.reshape(matrix.shape[0] * matrix.shape[1], 1)
    places = backends.indices_beside(flat, ids.ravel())
    return backends.scatter(flat, places, count + 1).reshape(count + 1)[:count]


def _means(placement: Placement, goal: Goal) -> Any:
    space, W = goal.space, goal.matrix
    weights = real_part(space.ones_like(W))
    if goal.output_metric is not None:
        weights = weights * goal.output_metric[:, None]
    if goal.second_moment is not None:
        weights = weights * goal.second_moment
    sums, counts = (summed(one, placement.ids, placement.count) for one in (W * weights, weights))
    return sums / space.where(counts == 0, space.ones_like(counts), counts)


def _work(placement: Placement) -> float:
    supports = np.unique(placement.ids < placement.count, axis=0)
    return float((supports.sum(axis=1).astype(float) ** 3 * 10).sum())


def _by_rows(placement: Placement, goal: Goal) -> Any:
    """Each row by its own system, those of one support together."""
    space, W, C = goal.space, goal.matrix, goal.second_moment  # each row by itself: weights of rows do not matter
    wc = W @ C
    supports, which = np.unique(placement.ids < placement.count, axis=0, return_inverse=True)
    rows, order = [], []
    for number, support in enumerate(supports):
        inside = np.flatnonzero(support)
        here = np.flatnonzero(which.ravel() == number)
        if not len(inside):
            continue
        among, columns = (backends.indices_beside(W, index) for index in (here, inside))
        part = backends.gather(backends.gather(wc, among).T, columns).T
        block = backends.gather(backends.gather(C, columns).T, columns).T
        _, back = root(block)
        rows.append(((part @ adjoint(back)) @ back).reshape(len(here) * len(inside)))
        order.append(placement.ids[np.ix_(here, inside)].ravel())
    if not rows:
        return space.zeros_like(W[:0, 0])
    values = space.concat(rows)
    places = backends.indices_beside(values, np.concatenate(order))
    return backends.scatter(values.reshape(-1, 1), places, placement.count).reshape(placement.count)


def _descended(placement: Placement, goal: Goal, effort: Effort) -> tuple[Any, int, bool]:
    """Conjugate gradients on the normal equations, in units of the parameters' numbers of places."""
    space, W = goal.space, goal.matrix
    counts = np.maximum(np.bincount(placement.ids.ravel(), minlength=placement.count + 1)[:-1], 1)
    scale = backends.constant(W, counts**-0.5, real_part(W).dtype)
    ids = backends.indices_beside(W, placement.ids.ravel())

    def matrix(x: Any) -> Any:
        padded = space.concat([x * scale, backends.zeros(x, (1,), x.dtype)])
        return backends.gather(padded, ids).reshape(W.shape)

    def product(x: Any) -> Any:
        return scale * summed(goal.weighted(matrix(x)), placement.ids, placement.count)

    h = scale * summed(goal.weighted(W), placement.ids, placement.count)
    x = _means(placement, goal.plain()) / scale
    eps = float(space.finfo(real_part(W).dtype).eps)
    x, iterations, left = conjugate_gradients(product, x, h, STEPS * effort.max_iterations, eps)
    return x * scale, iterations, left <= eps
