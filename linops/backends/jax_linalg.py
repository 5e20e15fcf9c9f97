"""JAX: factorisations of `jax.numpy.linalg` and `jax.scipy.linalg`."""

from __future__ import annotations

from functools import partial
from typing import Any, Union

import jax
import jax.numpy as jnp
import numpy as np
from jax._src.array import ArrayImpl
from jax.core import Tracer

from linops.backends import factorizations as p
from linops.backends.segments import joined

Array = Union[ArrayImpl, Tracer]


@p.lu_factor.dispatch
def _lu_factor(a: Array):
    return jax.scipy.linalg.lu_factor(a) if a.size else (a, jnp.zeros(0, "int32"))


@p.lu_solve.dispatch
def _lu_solve(lu: Array, pivots: Any, b: Any, transposed: bool):
    return jax.scipy.linalg.lu_solve((lu, pivots), b, trans=int(transposed)) if b.size else b


@p.lu_sign.dispatch
def _lu_sign(pivots: Array):
    return 1.0 - 2.0 * (jnp.count_nonzero(pivots != jnp.arange(pivots.shape[0])) % 2)


@p.lu_order.dispatch
def _lu_order(pivots: Array):
    n = pivots.shape[0]
    return jax.lax.linalg.lu_pivots_to_permutation(pivots, n) if n else pivots


@p.cholesky.dispatch
def _cholesky(a: Array):
    return jnp.linalg.cholesky(a, symmetrize_input=False) if a.size else a


@p.cholesky_solve.dispatch
def _cholesky_solve(lower: Array, b: Any):
    return jax.scipy.linalg.cho_solve((lower, True), b) if b.size else b


@p.solve.dispatch
def _solve(a: Array, b: Any):
    return jnp.linalg.solve(a, b)


@p.inverse.dispatch
def _inverse(a: Array):
    return jnp.linalg.inv(a)


@p.slogdet.dispatch
def _slogdet(a: Array):
    return tuple(jnp.linalg.slogdet(a))


@p.log_product.dispatch
def _log_product(x: Array):
    return jnp.prod(jnp.sign(x)), jnp.sum(jnp.log(jnp.abs(x)))


@p.eig.dispatch
def _eig(a: Array):
    # the derivative of vectors of norm 1, for what does not depend on their phases
    return tuple(jax.lax.linalg.eig(a, compute_left_eigenvectors=False, enable_eigvec_derivs=True))


@p.eigvals.dispatch
def _eigvals(a: Array):
    return jnp.linalg.eigvals(a)


@p.qr.dispatch
def _qr(a: Array):
    return tuple(jnp.linalg.qr(a))


@p.has_zero.dispatch
def _has_zero(x: Array):
    return False if isinstance(x, Tracer) else bool((x == 0).any())


@p.stop_gradient.dispatch
def _stop_gradient(x: Array):
    return jax.lax.stop_gradient(x)


@p.is_constant.dispatch
def _is_constant(x: Array):
    return not isinstance(x, Tracer)


@p.lu_inverse.dispatch
def _lu_inverse(lu: Array, pivots: Any):
    return jax.scipy.linalg.lu_solve((lu, pivots), jnp.eye(lu.shape[-1], dtype=lu.dtype)) if lu.size else lu


@p.cholesky_inverse.dispatch
def _cholesky_inverse(lower: Array):
    return (
        jax.scipy.linalg.cho_solve((lower, True), jnp.eye(lower.shape[-1], dtype=lower.dtype)) if lower.size else lower
    )


@p.is_known.dispatch
def _is_known(x: Array):
    return not isinstance(x, Tracer)


@p.implicit_solve.dispatch
def _implicit_solve(b: Array, operator: Any, solve: Any):
    if hasattr(solve, "recipe"):
        return _compiled_solve(solve.recipe, b, operator, solve.given)
    return _linear_solve(b, operator, solve)


@partial(jax.jit, static_argnums=0)
def _compiled_solve(recipe: Any, b: Any, operator: Any, given: Any):
    """What solves by a recipe and arrays, compiled once a structure."""
    return _linear_solve(b, operator, recipe(*given))


def _linear_solve(b: Any, operator: Any, solve: Any):
    turned = getattr(solve, "T", solve)

    def product(x: Any) -> Any:  # whose tangents JAX can transpose, where products look at numbers, too
        return jax.jvp(lambda x: operator @ x, (jnp.zeros_like(x),), (x,))[1]

    return jax.lax.custom_linear_solve(
        product,
        b,
        lambda _, right: solve(operator, right),
        transpose_solve=lambda _, right: turned(operator.T, right),
        has_aux=True,
    )


@p.tridiagonal_solve.dispatch
def _tridiagonal_solve(b: Array, lower: Any, diag: Any, upper: Any):
    if b.shape[0] < 2 or not b.shape[1]:
        return b / diag[:, None]
    before, after = jnp.pad(lower, (1, 0)).astype(b.dtype), jnp.pad(upper, (0, 1)).astype(b.dtype)
    return jax.lax.linalg.tridiagonal_solve(before, diag.astype(b.dtype), after, b)


@p.tridiagonal_slogdet.dispatch
def _tridiagonal_slogdet(diag: Array, lower: Any, upper: Any):
    return p.log_product(_swapped_pivots(diag, lower, jnp.pad(upper, (0, 1))))


@jax.jit
def _swapped_pivots(diag: Array, lower: Any, upper: Any):
    """The pivots of elimination row after row, negative for a swap."""

    def step(row: Any, following: Any) -> Any:
        (first, second), (below, own, above) = row, following
        swaps = jnp.abs(below) > jnp.abs(first)
        pivot, other = jnp.where(swaps, below, first), jnp.where(swaps, first, below)
        ratio = other / jnp.where(pivot == 0, 1, pivot)  # zero where both are
        beside = jnp.where(swaps, own, second), jnp.where(swaps, second, own)
        left = beside[1] - ratio * beside[0], jnp.where(swaps, -ratio * above, above)
        return left, jnp.where(swaps, -pivot, pivot)

    (last, _), pivots = jax.lax.scan(step, (diag[0], upper[0]), (lower, diag[1:], upper[1:]))
    return jnp.append(pivots, last)


@p.tridiagonal_pivots.dispatch
def _tridiagonal_pivots(diag: Array, squares: Any):
    return _scanned(diag, squares)


@jax.jit
def _scanned(diag: Array, squares: Any):
    return jax.lax.associative_scan(joined, (diag, jnp.pad(squares, (1, 0)), jnp.zeros_like(diag)))[0]


@p.on_numpy.dispatch
def _on_numpy(b: Array, function: Any, arrays: Any):
    def plain(*arguments: Any) -> Any:
        return np.asarray(function(*[np.asarray(one) for one in arguments]), b.dtype)

    def quiet(*arguments: Any) -> Any:  # a compiled program has no errors
        try:
            return plain(*arguments)
        except np.linalg.LinAlgError:
            return np.full(arguments[0].shape, np.nan, b.dtype)

    if not any(isinstance(one, Tracer) for one in (b, *arrays)):
        return jnp.asarray(plain(b, *arrays))
    return jax.pure_callback(quiet, jax.ShapeDtypeStruct(b.shape, b.dtype), b, *arrays, vmap_method="sequential")


@p.found_on_numpy.dispatch
def _found_on_numpy(x: Array, like: Any, function: Any, derivative: Any):
    shape, dtype = like.shape, like.dtype  # which no trace holds

    @jax.custom_jvp
    def found(x: Any) -> Any:
        return p.on_numpy(jnp.zeros(shape, dtype), lambda _, x: function(x), (x,))

    found.defjvp(lambda given, moved: (found(*given), derivative(*given, *moved)))
    return found(x)


@p.iterate.dispatch
def _iterate(like: Array, state: tuple, keeps_on: Any, step: Any):
    return jax.lax.while_loop(keeps_on, step, state)


@p.apart.dispatch
def _apart(like: Array, function: Any, arguments: tuple):
    return function(*arguments)


@p.put.dispatch
def _put(x: Array, axis: int, index: Any, value: Any):
    return x.at[(slice(None),) * axis + (index,)].set(value)


@p.tell.dispatch
def _tell(x: Array, function: Any, rest: Any):
    jax.debug.callback(function, x, *rest)


@p.pinv.dispatch
def _pinv(a: Array, rtol: float):
    if a.size:  # LAPACK does not return from infinities
        return jnp.linalg.pinv(jnp.where(jnp.isfinite(a), a, jnp.nan), rtol=rtol)
    return jnp.zeros((*a.shape[:-2], a.shape[-1], a.shape[-2]), a.dtype)
