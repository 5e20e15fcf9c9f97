"""Structures whose entries are parameters near to operators too large to be written out: from panels of columns.

Which parameter stands where is told by products too, of the structure with its parameters' numbers in their places.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from linops import backends
from linops.linalg.inputs import DENSE_LIMIT
from linops.linalg.spectra import real_part
from linops.operator import LinearOperator
from linops.projection.conjugate_gradients import conjugate_gradients
from linops.projection.effort import Effort, Found
from linops.projection.goal import Goal, adjoint, is_full, root
from linops.projection.panels import MOST, columns, spans, weighted
from linops.projection.placements import LIMIT, STEPS, filled, summed, whole
from linops.specs import Spec


def spread(target: LinearOperator, goal: Goal, effort: Effort) -> Found | None:
    """The nearest member.

    Args:
        target: The structure.
        goal: The goal.
        effort: When conjugate gradients stop.

    Returns:
        The member; None where entries are no parameters, or there are too many.
    """
    places = _places_of(target, goal)
    if places is None:
        return None
    if not goal.has_full:
        return Found(places.member(_means(places, goal)), "means of entries of panels", is_optimal=True)
    goal = goal.constant()
    if not is_full(goal.output_metric) and (found := places.pattern(goal.shape)) is not None:
        values, method = _by_rows(places, goal, found), "least squares of rows"
    elif not is_full(goal.second_moment) and (found := places.pattern(goal.shape, by_columns=True)) is not None:
        values, method = _by_rows(places, goal.T, found), "least squares of columns"
    else:
        values, steps, converged = _descended(places, goal, effort)
        return Found(places.member(values), "conjugate gradients", converged, None, steps, converged)
    return Found(places.member(values), method, is_optimal=True)


class _Pattern(NamedTuple):
    """Rows, columns and parameters of places, row by row; for each support the places of its rows."""

    rows: np.ndarray
    columns: np.ndarray
    ids: np.ndarray
    groups: list[np.ndarray]


class _Places:
    """Which parameter stands where, some columns at a time."""

    def __init__(self, target: LinearOperator, numbered: LinearOperator, like: Any) -> None:
        self.target, self.numbered, self.like = target, numbered, like
        self.count = target.num_params

    def ids(self, at: slice) -> np.ndarray:
        """(m, k) the number of the parameter there, or the number of parameters where there is a zero."""
        found = np.rint(columns(self.numbered, at)).astype(np.int64) - 1
        found[(found < 0) | (found >= self.count)] = self.count
        return found

    def panels(self, shape: tuple[int, int]) -> Iterator[tuple[slice, np.ndarray]]:
        """Columns and their parameters."""
        for at in spans(shape):
            yield at, self.ids(at)

    def member(self, values: Any) -> LinearOperator:
        """The operator of parameters."""
        return whole(filled(self.target, values))

    def pattern(self, shape: tuple[int, int], by_columns: bool = False) -> _Pattern | None:
        """All places; None where one parameter has several, or systems would be too large."""
        parts = []
        for at, ids in self.panels(shape):
            rows, places = np.nonzero(ids < self.count)
            parts.append(np.stack([rows, places + at.start, ids[rows, places]]))
            if sum([part.shape[1] for part in parts]) > self.count:
                return None
        rows, places, ids = np.concatenate(parts, axis=1)
        if len(np.unique(ids)) < len(ids):
            return None
        rows, places = (places, rows) if by_columns else (rows, places)
        order = np.lexsort((places, rows))
        rows, places, ids = rows[order], places[order], ids[order]
        groups: dict[bytes, list[np.ndarray]] = {}
        for one in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows)) + 1):
            groups.setdefault(places[one].tobytes(), []).append(one)
        work = sum([10.0 * len(one[0]) ** 3 for one in groups.values()])
        return _Pattern(rows, places, ids, [np.stack(one) for one in groups.values()]) if work <= LIMIT else None


def _places_of(target: LinearOperator, goal: Goal) -> _Places | None:
    """Where a structure places its parameters; None where entries are something else."""
    count, shape = target.num_params, goal.shape
    leaves = [leaf for _, leaf in target.named_leaves()]
    if shape[0] * shape[1] > MOST or not 0 < count <= DENSE_LIMIT or not all(isinstance(one, Spec) for one in leaves):
        return None
    values = np.append(np.random.default_rng(0).integers(1, 1000, count).astype(float), 0.0)
    try:
        numbered, drawn = filled(target, np.arange(1.0, count + 1)), filled(target, values[:-1])
        if numbered.dtype is None or backends.is_complex(numbered.dtype):
            return None
        places = _Places(target, numbered, goal.like)
        for at, ids in places.panels(shape):
            if not np.allclose(columns(drawn, at), values[ids], rtol=0, atol=0.1):
                return None
    except (TypeError, ValueError):
        return None
    return places


def _means(places: _Places, goal: Goal) -> Any:
    """Weighted means of the places of each parameter."""
    A, C = goal.output_metric, goal.second_moment
    sums = counts = 0.0
    for at, ids in places.panels(goal.shape):
        W = columns(goal.source, at)
        weights = real_part(goal.space.ones_like(W))
        weights = weights if A is None else weights * A[:, None]
        weights = weights if C is None else weights * C[at]
        sums = sums + summed(W * weights, ids, places.count)
        counts = counts + summed(weights, ids, places.count)
    return sums / goal.space.where(counts == 0, goal.space.ones_like(counts), counts)


def _by_rows(places: _Places, goal: Goal, pattern: _Pattern) -> Any:
    """Each row by its own system (W C)_{i,S} C_SS⁺, those of one support together; weights of rows do not matter."""
    space, C, (rows, across, ids, groups) = goal.space, goal.second_moment, pattern
    parts, order = [], np.argsort(across, kind="stable")
    ends = np.searchsorted(across[order], [at.stop for at in spans(goal.shape)])
    start = 0
    for at, end in zip(spans(goal.shape), ends):
        here = order[start:end]
        start = end
        panel = weighted(Goal(goal.source, None, C), goal.source, at)
        flat = (rows[here] * (at.stop - at.start) + across[here] - at.start).astype(np.int64)
        parts.append(backends.gather(panel.reshape(-1, 1), backends.indices_beside(panel, flat)).reshape(-1))
    image = space.concat(parts)
    image = backends.gather(image[:, None], backends.indices_beside(image, np.argsort(order))).reshape(-1)
    solved, where = [], []
    for at in groups:
        support = backends.indices_beside(image, across[at[0]])
        part = backends.gather(image[:, None], backends.indices_beside(image, at.ravel())).reshape(at.shape)
        block = backends.gather(backends.gather(C, support).T, support).T
        _, back = root(block)
        solved.append(((part @ adjoint(back)) @ back).reshape(-1))
        where.append(ids[at.ravel()])
    values = space.concat(solved)
    index = backends.indices_beside(values, np.concatenate(where))
    return backends.scatter(values[:, None], index, places.count).reshape(places.count)


def _descended(places: _Places, goal: Goal, effort: Effort) -> tuple[Any, int, bool]:
    """Conjugate gradients on the normal equations, in units of the parameters' numbers of places."""
    space, like = goal.space, goal.like
    counts = sum([np.bincount(ids.ravel(), minlength=places.count + 1)[:-1] for _, ids in places.panels(goal.shape)])
    scale = backends.constant(like, np.maximum(counts, 1) ** -0.5, real_part(like).dtype)

    def image(operator: LinearOperator) -> Any:
        parts = [summed(weighted(goal, operator, at), ids, places.count) for at, ids in places.panels(goal.shape)]
        return scale * sum(parts)

    x = _means(places, goal.plain()) / scale
    eps = float(space.finfo(real_part(x).dtype).eps)
    x, steps, left = conjugate_gradients(
        lambda y: image(filled(places.target, y * scale)), x, image(goal.source), STEPS * effort.max_iterations, eps
    )
    return x * scale, steps, left <= eps
