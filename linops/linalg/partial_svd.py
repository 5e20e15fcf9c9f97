"""`svds`: a few singular values and vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.inputs import fits, operator_of
from linops.linalg.methods.krylov import without_derivatives
from linops.linalg.methods.lanczos import Lanczos
from linops.linalg.methods.lobpcg import LOBPCG
from linops.linalg.methods.randomized import RandomizedSVD
from linops.linalg.ordering import columns_taken, order_of, rows_taken, taken
from linops.linalg.partial import (
    check_count,
    check_method,
    is_closed,
    is_small,
    require_converged,
    setting,
    tolerance,
)
from linops.linalg.parts import adjoint, is_constant, norms
from linops.linalg.perturbation import moving
from linops.linalg.singular import svd_
from linops.linalg.spectra import real_part
from linops.operator import LinearOperator, flat
from linops.operators.dense import Dense


def svds(
    A: Any,
    k: int = 6,
    which: str = "LM",
    method: Lanczos | LOBPCG | RandomizedSVD | None = None,
    *,
    tol: float | None = None,
) -> tuple[LinearOperator, Any, LinearOperator]:
    """Some singular values and vectors.

    Without a method they are picked from closed forms where the structure has one; small matrices, and for ``"SM"`` all
    that may be written out, are factorised; others go to `Lanczos`, on Aᴴ A or A Aᴴ. Of what is iterated, singular
    values have first derivatives, u_kᴴ dA v_k, and vectors by a solve with MINRES, but those of `RandomizedSVD`.

    Args:
        A: An operator or matrix (m, n).
        k: How many.
        which: The largest (``"LM"``) or smallest (``"SM"``).
        method: `Lanczos()`, `LOBPCG()`, `RandomizedSVD()` (for ``"LM"``), or None.
        tol: The largest ‖A v − s u‖ and ‖Aᴴ u − s v‖, as a share of the largest singular value that was met; None for
            eps^⅔, and no limit for `RandomizedSVD`.

    Returns:
        U, an operator (m, k); s, a descending array (k,); Vᴴ, an operator (k, n).

    Raises:
        ConvergenceError: If one is not within tolerance; where nothing can raise, as in `jax.jit`, it is NaN.
        ValueError: If there are fewer than k singular values.

    Example:
        >>> import linops as lo, numpy as np
        >>> U, s, Vh = lo.linalg.svds(lo.Kronecker(np.diag([1., 2.]), lo.Diagonal(np.arange(1000.))), 2)
        >>> s, U.shape, Vh.shape
        (array([1998., 1996.]), (2000, 2), (2, 2000))
    """
    operator = operator_of("svds", A)
    check_count("svds", operator, k, min(operator.shape))
    if which not in ("LM", "SM"):
        raise ValueError(f"linalg.svds: which={which!r}: expected 'LM' or 'SM'")
    check_method("svds", method, (Lanczos, LOBPCG, RandomizedSVD))
    if method is None and _is_direct(operator, k, which):
        U, values, Vh = svd_(operator, True)
        if values.shape[0] >= k and (which == "LM" or values.shape[0] == min(operator.shape)):
            return _chosen(U, values, Vh, k, which)
    if isinstance(method, RandomizedSVD):
        if which != "LM":
            raise ValueError("linalg.svds: RandomizedSVD finds the largest singular values, not 'SM'")
        return _randomized(operator, k, method, tol)
    return _iterated(operator, k, which, Lanczos() if method is None else method, tol)


def _is_direct(A: LinearOperator, k: int, which: str) -> bool:
    return is_closed(svd_, A) or is_small(A, k) or (which == "SM" and fits(A))


def _chosen(U: LinearOperator, values: Any, Vh: LinearOperator, k: int, which: str) -> Any:
    """K of a whole decomposition."""
    count = values.shape[0]
    order = order_of(values, descending=True)
    order = np.arange(count) if order is None else order
    order = order[:k] if which == "LM" else order[count - k :]
    if not isinstance(order, np.ndarray):
        return columns_taken(U, order, values), taken(values, order), rows_taken(Vh, order, values)
    return (
        columns_taken(U, order, None) if isinstance(U, Dense) else U[:, order],
        taken(values, order),
        rows_taken(Vh, order, None) if isinstance(Vh, Dense) else Vh[order],
    )


def _randomized(A: LinearOperator, k: int, method: RandomizedSVD, tol: float | None) -> Any:
    A, like, dtype = setting(A)
    U, s, Vh = method.triplets(without_derivatives(A), like, dtype, k)
    V = adjoint(Vh)
    return _finished(A, U, V, tol, s[0], method.power_iterations, checked=tol is not None)


def _iterated(A: LinearOperator, k: int, which: str, method: Any, tol: float | None) -> Any:
    """By the eigenvectors of Aᴴ A, or of A Aᴴ where that is smaller."""
    A, like, dtype = setting(A)
    m, n = A.shape
    constant = without_derivatives(A)
    one = constant if m >= n else constant.H
    other = one.H
    real = backends.real_dtype(dtype, A.backend)
    eps = float(backends.namespace(A.backend).finfo(real).eps)
    limit = max(50 * eps, tolerance(tol, dtype, A.backend) / 1000)
    which = which if not isinstance(method, LOBPCG) else {"LM": "LA", "SM": "SA"}[which]
    found = method.eigenpairs(lambda x: flat(other @ flat(one @ x)), min(m, n), like, dtype, k, which, limit)
    V = lapack.stop_gradient(found.vectors / norms(found.vectors))
    if not is_constant(A):
        across = A if m >= n else A.H
        whole = across.H @ across
        w = lapack.stop_gradient(norms(flat(one @ V)) ** 2)
        one, V = across, moving(whole, other @ one, V, w)
    space: Any = backends.namespace(backends.backend_of(V))
    U = flat(one @ V)
    size = norms(U)
    U = U / space.where(size == 0, 1 + 0 * size, size)
    U, V = (U, V) if m >= n else (V, U)
    return _finished(A, U, V, tol, space.sqrt(space.abs(found.scale)), found.iterations)


def _finished(
    A: LinearOperator, U: Any, V: Any, tol: float | None, scale: Any, iterations: int, checked: bool = True
) -> Any:
    """(U, s, Vᴴ) of vectors, checked; values as uᴴ A v, with derivatives through the product."""
    space: Any = backends.namespace(backends.backend_of(V))
    left, right = lapack.stop_gradient(U), lapack.stop_gradient(V)
    image = flat(A @ right)
    values = real_part(space.sum(backends.conj(left) * image, axis=0))
    if checked:
        fixed = lapack.stop_gradient(values)
        back = norms(lapack.stop_gradient(flat(without_derivatives(A).H @ left)) - right * fixed)
        residuals = space.maximum(norms(lapack.stop_gradient(image) - left * fixed), back)
        bound = tolerance(tol, V.dtype, A.backend) * space.maximum(scale, space.max(space.abs(fixed)))
        require_converged("svds", A, residuals, bound, iterations, V)
        values = space.where(residuals <= bound, values, space.nan)
        U, V = space.where(residuals <= bound, U, space.nan), space.where(residuals <= bound, V, space.nan)
    order = order_of(lapack.stop_gradient(values), descending=True)
    U, V = columns_taken(Dense(U), order, values), columns_taken(Dense(V), order, values)
    return U, taken(values, order), V.H
