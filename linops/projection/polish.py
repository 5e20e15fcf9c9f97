"""All leaves of small nets at once, by Levenberg and Marquardt's method: where alternating least squares crawl."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import scipy  # whose submodules load when they are first used

from linops import backends
from linops.projection.contraction import contract, primes
from linops.projection.effort import Effort
from linops.projection.goal import Goal, adjoint, is_full, root
from linops.projection.nets import Net

#: the most multiplications of a step
LIMIT = 5 * 10**8


def fits(nets: Sequence[Net], goal: Goal) -> bool:
    """Whether nets are small enough, real and of leaves that are all free."""
    entries, count = prod(goal.shape), sum([net.size(axes) for net in nets for axes in net.tensors])
    return (
        all(all(net.free) and net.is_closed for net in nets)
        and count <= entries
        and entries * count**2 <= LIMIT
        and not backends.is_complex(goal.matrix.dtype)
    )


def polished(
    nets: Sequence[Net], goal: Goal, tensors: Sequence[Sequence[Any]], effort: Effort
) -> tuple[list[list[Any]], int, bool]:
    """Better tensors of a sum of nets, from some (Moré, "The Levenberg-Marquardt Algorithm", 1978; SciPy's MINPACK).

    Args:
        nets: The nets.
        goal: The goal.
        tensors: Of each net its leaves.
        effort: When to stop.

    Returns:
        The tensors; steps; and whether the last one was below tolerance.
    """
    left, right = (_root(metric) for metric in (goal.output_metric, goal.second_moment))
    W = backends.to_numpy(goal.matrix).astype(float)
    whole = float(np.linalg.norm(_weighted(left, W, right))) or 1.0
    shapes = [net.dims(axes) for net in nets for axes in net.tensors]
    ends = np.cumsum([prod(shape) for shape in shapes])

    def parts(x: Any) -> list[list[Any]]:
        pieces = iter([part.reshape(shape) for part, shape in zip(np.split(x, ends[:-1]), shapes)])
        return [[next(pieces) for _ in net.tensors] for net in nets]

    def residual(x: np.ndarray) -> np.ndarray:
        found = sum([net.written(leaves) for net, leaves in zip(nets, parts(x))])
        return _weighted(left, found - W, right).ravel() / whole

    def derivative(x: np.ndarray) -> np.ndarray:
        found = [_derivative(net, leaves, k) for net, leaves in zip(nets, parts(x)) for k in range(len(leaves))]
        return _weighted(left, np.concatenate(found, axis=-1), right).reshape(W.size, -1) / whole

    x0 = np.concatenate([backends.to_numpy(one).astype(float).ravel() for leaves in tensors for one in leaves])
    settings: Any = {"jac": derivative, "method": "lm", "max_nfev": effort.max_iterations}
    settings |= {"ftol": max(effort.tol, 1e-15), "xtol": 1e-15, "gtol": 1e-15}
    result: Any = scipy.optimize.least_squares(residual, x0, **settings)
    stayed = result.status <= 0 and np.array_equal(result.x, x0)
    if stayed or not result.cost <= 0.5 * float(np.sum(residual(x0) ** 2)):
        return [list(leaves) for leaves in tensors], 0, False
    like = goal.matrix
    found = [[backends.constant(like, one, like.dtype) for one in leaves] for leaves in parts(result.x)]
    return found, int(result.nfev), result.status > 0


def _derivative(net: Net, tensors: list[np.ndarray], leaf: int) -> np.ndarray:
    """(m, n, size of the leaf) the derivative of W's entries by those of a leaf."""
    fixed = "".join([axis for axis in net.tensors[leaf] if axis in net.open])
    new = primes(fixed, "".join(net.sizes))
    terms = [axes for k, axes in enumerate(net.tensors) if k != leaf] + [axis + new[axis] for axis in fixed]
    arrays = [array for k, array in enumerate(tensors) if k != leaf] + [np.eye(net.sizes[axis]) for axis in fixed]
    terms, arrays, into = net.completed(terms, arrays)
    result = net.out + into + "".join([new.get(axis, axis) for axis in net.tensors[leaf]])
    return contract(terms, result, *arrays).reshape(net.size(net.out), net.size(net.into), -1)


def _root(metric: Any) -> Any:
    if metric is None:
        return None
    numbers = backends.to_numpy(metric).astype(float)
    return root(numbers)[0] if is_full(numbers) else np.sqrt(numbers)


def _weighted(left: Any, E: np.ndarray, right: Any) -> np.ndarray:
    """A^½ E C^½ of a matrix, or of a stack along the last axis."""
    if left is not None:
        E = np.einsum("im,m...->i...", adjoint(left), E) if left.ndim == 2 else (E.T * left).T
    if right is not None:
        E = (
            np.moveaxis(np.tensordot(E, right, (1, 0)), -1, 1)
            if right.ndim == 2
            else np.moveaxis(np.moveaxis(E, 1, -1) * right, -1, 1)
        )
    return E
