"""The best approximation of given rank of a matrix, or of each of a stack."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.projection.goal import adjoint
from linops.projection.krylov import BLOCK, krylov

#: the smaller side from which a few singular vectors are looked for in a Krylov space
LARGE = 512
#: up to how many are looked for one vector at a time: BLAS's products with one are faster than with few
SINGLE = 12


def truncated(M: Any, rank: int) -> tuple[Any, Any, Any]:
    """The factors of the best approximation U B of rank r of a matrix (…, p, q), Uᴴ U = I (Eckart and Young, 1936).

    Where M is a constant, the singular vectors are eigenvectors of the smaller of M Mᴴ and Mᴴ M, made exact by a
    product with M and an orthogonalisation; of a large matrix they are looked for in a block Krylov space (Musco and
    Musco, 2015). Otherwise they are LAPACK's, which have derivatives.

    Args:
        M: An array (…, p, q).
        rank: r; where the smaller side is less, B has rows of zeros.

    Returns:
        U (…, p, r), B (…, r, q), whose rows are orthogonal and descend, and the squared norm of the rows of B (…, r).
    """
    space: Any = backends.namespace(backends.backend_of(M))
    if len(M.shape) == 3 and M.shape[0] == 1:
        U, B, squares = truncated(M[0], rank)
        return U[None], B[None], squares[None]
    p, q = M.shape[-2:]
    kept = min(rank, p, q)
    if p == 1 or kept == 0:
        U = space.zeros_like(M[..., :1]) + 1 if kept else M[..., :0]
    elif not lapack.is_constant(M) or 2 * kept > min(p, q):
        U = lapack.svd(M)[0][..., :kept]
    elif len(M.shape) == 2 and _is_large(M, kept):
        # NumPy's calls take less time than torch's
        U = lapack.on_numpy(M, _of_large, (kept,)) if backends.is_at_hand(M) else _of_large(M, kept)
    else:
        U = _of_gram(space, M, kept)
    B = adjoint(U) @ M
    if kept > 1 and lapack.is_constant(M):  # rotated, so that rows are orthogonal and descend
        R = _turned(space, B @ adjoint(B))
        U, B = U @ R, adjoint(R) @ B
    if kept < rank:
        U, B = padded(space, U, rank - kept, -1), padded(space, B, rank - kept, -2)
    return U, B, space.sum(space.abs(B) ** 2, axis=-1)


def truncated_in(M: Any, C: Any, rank: int) -> tuple[Any, Any] | None:
    """The factors of the best approximation U B of rank r in the norm ‖E C^½‖, without a root of C, which is constant.

    U are the leading eigenvectors of M C Mᴴ, made exact by a product with it and an orthogonalisation, and B = Uᴴ M.

    Args:
        M: A constant array (p, q).
        C: (q, q), positive semidefinite.
        rank: r.

    Returns:
        U (p, r), Uᴴ U = I, and B (r, q); None where a root of C takes less time, or most of the rank is kept.
    """
    p, q = M.shape
    if not 0 < 2 * rank <= min(p, q) or p > 2 * q or not (lapack.is_constant(M) and lapack.is_constant(C)):
        return None
    U = lapack.on_numpy(M, _of_both, (C, rank)) if backends.is_at_hand(M) else _of_both(M, C, rank)
    return U, adjoint(U) @ M


def _of_both(M: Any, C: Any, rank: int) -> Any:
    """The leading eigenvectors (p, r) of M C Mᴴ, descending."""
    space: Any = backends.namespace(backends.backend_of(M))
    H, U, is_settled = adjoint(M), None, False

    def product(x: Any) -> Any:
        return M @ (C @ (H @ x))

    if _is_large(M, rank):
        U, is_settled = krylov(product, M, rank, M.shape, None, min(M.shape) // BLOCK)
    if U is None or not is_settled:
        U = lapack.leading_eigenvectors((M @ C) @ H, rank)
    U = _orthonormal(space, product(U))
    return U @ _turned(space, adjoint(U) @ product(U))


def _is_large(M: Any, rank: int) -> bool:
    """Whether so few singular vectors are looked for in a Krylov space."""
    return min(M.shape) >= LARGE and BLOCK * (rank + 8) <= min(M.shape)


def _turned(space: Any, gram: Any) -> Any:
    """The eigenvectors of a Gram matrix, descending."""
    return space.flip(lapack.eigh(gram)[1], axis=-1)


def _of_large(M: Any, rank: int) -> Any:
    """The leading left singular vectors (p, r) of a large matrix: in a Krylov space, unless it does not settle."""
    space, is_jax = backends.namespace(backends.backend_of(M)), backends.backend_of(M) == "jax"
    width = 1 if rank <= SINGLE and not is_jax else BLOCK if 2 * rank > BLOCK else BLOCK // 2
    most = min(M.shape) // (4 if width == 1 else BLOCK)  # about the work of all singular vectors
    entries, H = M.reshape(-1), adjoint(M)
    whole = float(space.abs(backends.conj(entries) @ entries))  # ‖M‖², without an array of squares
    U, is_settled = krylov(lambda x: M @ (H @ x), M, rank, M.shape, width, most, whole)
    return U if is_settled else _of_gram(space, M, rank)


def _of_gram(space: Any, M: Any, rank: int) -> Any:
    """An orthonormal basis (…, p, r) of the leading left singular vectors, by the eigenvectors of a Gram matrix."""
    if M.shape[-2] <= M.shape[-1]:
        U = _leading(space, M, rank)
        if M.shape[-2] == 2:
            return U
        Y = M @ (adjoint(M) @ U)
    else:
        Y = M @ _leading(space, adjoint(M), rank)
    return _orthonormal(space, Y)


def _orthonormal(space: Any, Y: Any) -> Any:
    """An orthonormal basis (…, p, r) of columns, small ones too."""
    # in units of each column, for small ones would be lost beside large ones
    size = space.sqrt(space.sum(space.abs(Y) ** 2, axis=-2, keepdims=True))
    Y = Y / space.where(size == 0, space.ones_like(size), size)
    if Y.shape[-1] > 1:
        return space.linalg.qr(Y)[0]
    return space.where(size == 0, Y + Y.shape[-2] ** -0.5, Y)


def _leading(space: Any, M: Any, rank: int) -> Any:
    """The leading eigenvectors (…, p, r) of M Mᴴ."""
    if M.shape[-2] == 2 and rank == 1:
        return _of_two(space, M)
    return lapack.leading_eigenvectors(M @ adjoint(M), rank)


def _of_two(space: Any, M: Any) -> Any:
    """The leading left singular vector (…, 2, 1) of two rows.

    Of the Gram matrix [[a, b], [b̄, d]] it is (cos θ, sin θ b̄/|b|) with tan 2θ = 2 |b| / (a − d).
    """
    one, other = M[..., 0, :], M[..., 1, :]
    b = lapack.dots(other, one)
    if not backends.is_complex(M.dtype):
        angle = space.atan2(2 * b, lapack.dots(one - other, one + other)) / 2
        return space.stack([space.cos(angle), space.sin(angle)], axis=-1)[..., None]
    size = space.abs(b)
    angle = space.atan2(2 * size, space.sum(space.abs(one) ** 2 - space.abs(other) ** 2, axis=-1)) / 2
    phase = space.where(size == 0, space.ones_like(b), backends.conj(b) / space.where(size == 0, size + 1, size))
    return space.stack([space.astype(space.cos(angle), M.dtype), space.sin(angle) * phase], axis=-1)[..., None]


def padded(space: Any, x: Any, count: int, axis: int) -> Any:
    """Zeros after the last row or column.

    Args:
        space: The array namespace.
        x: An array.
        count: How many.
        axis: -2 for rows, -1 for columns.

    Returns:
        The array.
    """
    shape = list(x.shape)
    shape[axis] = count
    return space.concat([x, backends.zeros(x, tuple(shape), x.dtype)], axis=axis)
