"""`svds`: a few singular values and vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.asking import asked
from linops.linalg.inputs import fits, matrix_of, operator_of
from linops.linalg.inversion import inverse_
from linops.linalg.methods.krylov import without_derivatives
from linops.linalg.methods.lanczos import Lanczos
from linops.linalg.methods.lobpcg import LOBPCG
from linops.linalg.methods.randomized import RandomizedSVD
from linops.linalg.ordering import columns_taken, order_of, rows_taken, taken
from linops.linalg.partial import (
    check_method,
    check_wanted,
    inverting,
    is_closed,
    is_small,
    require_converged,
    setting,
    settled,
    shifted_by,
    size_of,
    tolerance,
)
from linops.linalg.parts import adjoint, is_constant, norms, space_of
from linops.linalg.perturbation import without_more
from linops.linalg.singular import svd_
from linops.linalg.spectra import real_part
from linops.operator import LinearOperator, assume, flat
from linops.operators.block import Block
from linops.operators.dense import Dense
from linops.tags import Tag


@asked
def svds(
    A: Any,
    k: int = 6,
    which: str = "LM",
    sigma: float | None = None,
    method: Lanczos | LOBPCG | RandomizedSVD | None = None,
    *,
    tol: float | None = None,
) -> tuple[LinearOperator, Any, LinearOperator]:
    """Some singular values and vectors.

    Without a method they are picked from closed forms where the structure has one; small matrices, and for ``"SM"`` or
    a shift all that may be written out, are factorised; others go to `Lanczos`, on Aᴴ A or A Aᴴ. What is iterated has
    first and second derivatives, by solves with MINRES when they are asked for, and third ones that are NaN; values of
    `RandomizedSVD` have first ones alone, its vectors none.

    Args:
        A: An operator or matrix (m, n).
        k: How many.
        which: The largest (``"LM"``) or smallest (``"SM"``); of shifts only ``"LM"``.
        sigma: A shift, not below 0; the k singular values nearest to it, found by products with (Aᴴ A − sigma² I)⁻¹.
            That squares A: the vectors of what is below 1e-5 of the largest lose their digits in double precision.
        method: `Lanczos()`, `LOBPCG()` (without a shift), `RandomizedSVD()` (for ``"LM"`` without a shift), or None.
        tol: The largest ‖A v − s u‖ and ‖Aᴴ u − s v‖, as a share of the largest singular value that was met; None for
            eps^⅔, and no limit for `RandomizedSVD`.

    Returns:
        U, an operator (m, k); s, a descending array (k,); Vᴴ, an operator (k, n).

    Raises:
        ConvergenceError: If one is not within tolerance; where nothing can raise, as in `jax.jit`, it is NaN.
        SingularError: If sigma is a singular value, so that there is no inverse.
        ValueError: If there are fewer than k singular values.

    Example:
        >>> import linops as lo, numpy as np
        >>> U, s, Vh = lo.linalg.svds(lo.Kronecker(np.diag([1., 2.]), lo.Diagonal(np.arange(1000.))), 2)
        >>> s, U.shape, Vh.shape
        (array([1998., 1996.]), (2000, 2), (2, 2000))
    """
    operator = operator_of("svds", A)
    check_wanted("svds", operator, k, which, sigma)
    check_method("svds", method, (Lanczos, LOBPCG, RandomizedSVD))
    if method is None and is_direct(operator, k, which, sigma):
        found = _chosen(svd_(operator, True), min(operator.shape), k, which, sigma)
        if found is None and fits(operator):  # the structure left out values that are zero
            found = _chosen(svd_(Dense(matrix_of(operator)), True), min(operator.shape), k, which, sigma)
        if found is not None:
            return found
    if isinstance(method, RandomizedSVD):
        if which != "LM" or sigma is not None:
            asked_for = "'SM'" if sigma is None else "those near a shift"
            raise ValueError(f"linalg.svds: RandomizedSVD finds the largest singular values, not {asked_for}")
        return lapack.apart(operator._like, _randomized, (operator, k, method, tol))
    arguments = operator, k, which, sigma, Lanczos() if method is None else method, tol
    return lapack.apart(operator._like, _iterated, arguments)


def is_direct(A: LinearOperator, k: int, which: str, sigma: Any) -> bool:
    """Whether all singular values are found, and some taken."""
    return is_closed(svd_, A) or is_small(A, k) or ((which == "SM" or sigma is not None) and fits(A))


def _chosen(decomposition: tuple[Any, Any, Any], full: int, k: int, which: str, sigma: Any) -> Any:
    """K of a decomposition; None where values that are zero were left out of it and are asked for."""
    U, values, Vh = decomposition
    count = values.shape[0]
    order = order_of(values, descending=True)
    order = np.arange(count) if order is None else order
    if count < k or (count < full and which == "SM"):
        return None
    if sigma is None:
        order = order[:k] if which == "LM" else order[count - k :]
    else:
        known = lapack.is_known(values)
        space: Any = np if known else space_of(values)
        away = space.abs((backends.to_numpy(lapack.stop_gradient(values)) if known else values)[order] - sigma)
        nearest = space.argsort(away)[:k]
        if count < full and not (known and bool((away[nearest] <= sigma).all())):
            return None
        order = order[space.sort(nearest)]
    if not isinstance(order, np.ndarray):
        return columns_taken(U, order, values), taken(values, order), rows_taken(Vh, order, values)
    return (
        columns_taken(U, order, None) if isinstance(U, Dense) else U[:, order],
        taken(values, order),
        rows_taken(Vh, order, None) if isinstance(Vh, Dense) else Vh[order],
    )


def _randomized(A: LinearOperator, k: int, method: RandomizedSVD, tol: float | None) -> Any:
    """An estimate, whose values have first derivatives; second ones would be those of true vectors, and are NaN."""
    A, like, dtype = setting(A)
    U, s, Vh = method.triplets(without_derivatives(A), like, dtype, k)
    U, V = lapack.stop_gradient(U), lapack.stop_gradient(adjoint(Vh))
    if tol is not None:
        values, converged = _checked(A, U, V, None, tol, s[0], method.power_iterations)
        space = space_of(values)
        U, V = space.where(converged, U, space.nan), space.where(converged, V, space.nan)
    image = flat(A @ V)
    values = real_part(space_of(V).sum(backends.conj(U) * image, axis=0))
    if not is_constant(A):
        values = values + without_more(image - lapack.stop_gradient(image), 1)
    order = order_of(lapack.stop_gradient(values), descending=True)
    return columns_taken(Dense(U), order, U), taken(values, order), columns_taken(Dense(V), order, V).H


def _iterated(A: LinearOperator, k: int, which: str, sigma: Any, method: Any, tol: float | None) -> Any:
    """By the eigenvectors of Aᴴ A, or of A Aᴴ where that is smaller."""
    A, like, dtype = setting(A)
    m, n = A.shape
    constant = without_derivatives(A)
    one = constant if m >= n else constant.H
    other = one.H
    space: Any = backends.namespace(A.backend)
    eps = float(space.finfo(backends.real_dtype(dtype, A.backend)).eps)
    limit = max(50 * eps, tolerance(tol, dtype, A.backend) / 1000)
    if sigma is None:
        which = which if not isinstance(method, LOBPCG) else {"LM": "LA", "SM": "SA"}[which]
        found = method.eigenpairs(lambda x: flat(other @ flat(one @ x)), min(m, n), like, dtype, k, which, limit)
        V, scale, products = found.vectors / norms(found.vectors), space.sqrt(space.abs(found.scale)), found.iterations
    else:
        with inverting("svds", A, sigma):
            V, products = _nearest(A, one, k, sigma, method, like, dtype, limit)
        scale = size_of(one, like, dtype)
    V = lapack.stop_gradient(V)
    U = flat(one @ V)
    size = norms(U)
    U = U / space.where(size == 0, 1 + 0 * size, size)
    U, V = (U, V) if m >= n else (V, U)
    values, converged = _checked(A, U, V, sigma, tol, scale, products)
    # (u; −v) / √2 are eigenvectors of [0 A; Aᴴ 0] to the eigenvalues −s, which ascend
    both = assume(Block(((None, A), (A.H, None))), Tag.HERMITIAN)
    values, X = settled(both, -values, backends.concatenate(U, [-V]) * 0.5**0.5, converged)
    return Dense(X[:m] * 2**0.5), -values, Dense(X[m:] * -(2**0.5)).H


def _nearest(
    A: LinearOperator, B: LinearOperator, k: int, sigma: Any, method: Any, like: Any, dtype: Any, limit: float
) -> Any:
    """The right singular vectors of B, which is A or Aᴴ, of the k values s nearest to a shift σ; and how many products.

    Lanczos with (Bᴴ B − σ² I)⁻¹ finds those with the nearest squares. If d is the largest |s² − σ²| among them, all
    values with |s² − σ²| < d are found, and so all with |s − σ| < √(σ² + d) − σ, which is narrower below σ than d is.
    Of those are to be k; else twice as many are asked for. Where numbers cannot be looked at, more are asked for once,
    and what is not sure is NaN.
    """
    n, products, known = B.shape[1], 0, lapack.is_known(like)
    count = k if known else min(2 * k + 8, n)
    inverse = inverse_(shifted_by(B.H @ B, sigma**2), True)
    while True:
        found = method.eigenpairs(lambda x: flat(inverse @ x), n, like, dtype, count, "LM", limit)
        V, products = found.vectors / norms(found.vectors), products + found.iterations
        require_converged("svds", A, found.residuals, limit * found.scale, products, V, sigma)
        values, space = norms(flat(B @ V)), space_of(V)
        away, eps = space.abs(values - sigma), space.finfo(values.dtype).eps
        sizes = space.abs(found.values)
        sure = sizes > space.max(space.where(found.converged, 0 * sizes, sizes))  # none nearer than these is missing
        if count < n:
            farthest = space.max(space.where(sure, away * (values + sigma), 0 * away))
            sure = sure & (away * (away + 2 * sigma) <= farthest * (1 + 16 * eps))
        nearest = space.argsort(space.where(sure, away, space.inf))[:k]
        if not known or count == n or bool(sure[nearest].all()):
            return space.where(sure[nearest], V[:, nearest], space.nan), products
        count = min(2 * count, n)


def _checked(
    A: LinearOperator, U: Any, V: Any, sigma: Any, tol: float | None, scale: Any, iterations: int
) -> tuple[Any, Any]:
    """(k,) values uᴴ A v of vectors, and whether each is within tolerance; all constants."""
    space: Any = backends.namespace(backends.backend_of(V))
    fixed = without_derivatives(A)
    image = flat(fixed @ V)
    values = real_part(space.sum(backends.conj(U) * image, axis=0))
    residuals = space.maximum(norms(image - U * values), norms(flat(fixed.H @ U) - V * values))
    bound = tolerance(tol, V.dtype, A.backend) * space.maximum(scale, space.max(space.abs(values)))
    require_converged("svds", A, residuals, bound, iterations, V, sigma)
    return values, residuals <= bound
