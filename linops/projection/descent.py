"""Structures in which leaves do not enter linearly, or are no contractions: L-BFGS, with the framework's gradients."""

from __future__ import annotations

from itertools import accumulate
from math import prod
from typing import Any

import numpy as np
import scipy  # whose submodules load when they are first used

from linops import backends
from linops.linalg.spectra import real_part
from linops.operator import LinearOperator
from linops.operators.dense import Dense
from linops.projection.effort import Effort, Found
from linops.projection.goal import Goal
from linops.specs import Spec


def descended(target: LinearOperator, goal: Goal, effort: Effort, start: LinearOperator | None = None) -> Found:
    """A member by L-BFGS (SciPy's) from structure-aware random leaves; there may be nearer ones.

    Args:
        target: The structure.
        goal: The goal.
        effort: When it stops.
        start: A member to start from.

    Returns:
        The member.

    Raises:
        TypeError: If no framework with derivatives is installed.
    """
    backend = goal.backend if goal.backend != "numpy" else _differentiating(target)
    home, like, device = goal.backend, goal.matrix, goal.source.device if goal.backend == "torch" else None
    dtype = like.dtype
    if backend == "torch":
        dtype = "complex128" if backends.is_complex(dtype) else "float64"
    goal = _moved(goal.constant(), backend, dtype, device)
    space: Any = backends.namespace(backend)
    # SciPy stops by gains relative to the loss, or to 1 where it is less: times this it is that from small errors on
    unit = 1 / float(space.finfo(real_part(goal.matrix).dtype).eps)
    scale = (float(goal.square(goal.matrix)) or 1.0) / unit
    drawn = target.init(seed=0, backend=backend, dtype=dtype, device=device)
    if start is not None:
        drawn = drawn.with_leaves([backends.asarray(leaf, backend, dtype, device) for _, leaf in start.named_leaves()])
    both = zip(target.named_leaves(), drawn.named_leaves())
    leaves = [(isinstance(leaf, Spec), array) for (_, leaf), (_, array) in both]
    free = [array for is_free, array in leaves if is_free]
    sizes = [prod(array.shape) for array in free]
    is_complex = backends.is_complex(goal.matrix.dtype)

    def arrays(x: Any) -> list[Any]:
        """Leaves of one real vector, which holds real parts, then imaginary ones."""
        x = x[: x.shape[0] // 2] + 1j * x[x.shape[0] // 2 :] if is_complex else x
        ends = [*accumulate(sizes)]
        return [x[end - size : end].reshape(tuple(array.shape)) for end, size, array in zip(ends, sizes, free)]

    def loss(x: Any) -> Any:
        given = iter(arrays(x))
        member = drawn.with_leaves([next(given) if is_free else array for is_free, array in leaves])
        return goal.square(goal.matrix - member.to_dense()).reshape(1) / scale

    def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        there = backends.constant(goal.matrix, x, real_part(goal.matrix).dtype)
        value = loss(there)
        gradient = backends.vjp(there, loss, space.ones_like(value))
        return float(value[0]), backends.to_numpy(gradient).astype(float)

    flat = np.concatenate([backends.to_numpy(array).ravel() for array in free])
    first = np.concatenate([np.real(flat), np.imag(flat)]) if is_complex else flat
    options = {"maxiter": 20 * effort.max_iterations, "maxfun": 40 * effort.max_iterations, "maxcor": 20}
    options |= {"ftol": effort.tol**2, "gtol": 1e-12 * unit}
    found = scipy.optimize.minimize(
        value_and_gradient, first.astype(float), jac=True, method="L-BFGS-B", options=options
    )
    parts = iter([backends.asarray(backends.to_numpy(part), home, like.dtype, device) for part in arrays(found.x)])
    member = target.with_leaves([next(parts) if isinstance(leaf, Spec) else leaf for _, leaf in target.named_leaves()])
    is_exact = found.fun * unit <= 100  # within ten roundings, where a line search finds nothing lower
    return Found(member, "L-BFGS", iterations=int(found.nit), converged=found.status == 0 or bool(is_exact))


def _moved(goal: Goal, backend: str, dtype: Any, device: Any) -> Goal:
    """A goal on a backend."""
    matrix, A, C = (
        None if array is None else backends.asarray(array, backend, dtype, device)
        for array in (goal.matrix, goal.output_metric, goal.second_moment)
    )
    return Goal(Dense(matrix), A, C)


def _differentiating(target: LinearOperator) -> str:
    """A framework with derivatives that is installed, for NumPy has none."""
    for name in ("torch", "jax"):
        try:
            backends.load(name)
        except ImportError:
            continue
        return name
    raise TypeError(
        f"project(…, {target._short()}): the leaves do not enter linearly and are found by L-BFGS, which needs "
        "derivatives: install torch or jax"
    )
