"""Functions of matrices that were written out, with errors where they have no value."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.backends import matrix_functions
from linops.linalg.inputs import singular
from linops.linalg.parts import space_of
from linops.linalg.scalars import EXP, Scalar, no_real, values
from linops.operator import LinearOperator
from linops.plan.step import Step


def dense_steps(a: LinearOperator) -> Any:
    """What a function of a matrix costs, about."""
    n = a.shape[0]
    return (Step("matrix function", f"({n}, {n})", macs=15 * n**3, inputs=n * n, outputs=n * n),)


def block_steps(a: Any) -> Any:
    """What a function of equal blocks costs, about."""
    count, n, _ = a.blocks.shape
    return (Step("batched matrix function", f"({count}, {n}, {n})", macs=15 * count * n**3, inputs=count * n * n),)


def of_matrix(f: Scalar, a: LinearOperator, matrix: Any) -> Any:
    """The function of matrices that were written out.

    Args:
        f: The function.
        a: Whose they are.
        matrix: A stack of matrices.

    Returns:
        A stack.

    Raises:
        SingularError: If one is singular, and the function has no value.
        ValueError: If the function of a real matrix is not real, or is not found.
    """
    assert f.matrix is not None
    if f.pole and lapack.is_known(matrix) and lapack.has_zero(lapack.slogdet(matrix)[0]):
        raise singular(a)
    found = f.matrix(matrix)
    if _has_nan(found) and not _has_nan(matrix):
        if f is EXP:
            return found  # it is too large
        if lapack.has_zero(lapack.slogdet(matrix)[0]):
            raise singular(a)
        if not a._is_complex:
            raise no_real(f, a)
        found = by_decomposition(f, a, matrix)  # iterations do not reach what is on the branch cut
    return found


def _has_nan(x: Any) -> bool:
    return lapack.is_known(x) and bool(space_of(x).isnan(x).any())


def by_decomposition(f: Scalar, a: LinearOperator, matrix: Any) -> Any:
    """V f(w) V⁻¹, unless that loses half the digits."""
    found, vectors = lapack.eig(lapack.stop_gradient(matrix))
    image = values(f, a, found.reshape(-1)).reshape(found.shape)
    size = lapack.svdvals(lapack.stop_gradient(vectors))
    space = space_of(vectors)
    wrong = ~(size[..., -1] > space.finfo(matrix.dtype).eps ** 0.5 * size[..., 0])
    if lapack.is_known(wrong) and bool(wrong.any()):
        raise ValueError(
            f"linalg.{f.name}({a._short()}): its eigenvectors are nearly dependent, which loses more than half the "
            "digits; lo.linalg.expm, logm, sqrtm and matrix_power take such matrices without negative eigenvalues, "
            "funm any that is known to be Hermitian"
        )
    complex_matrix = space.astype(matrix, vectors.dtype)
    result = matrix_functions.spectral_function(complex_matrix, found, vectors, lapack.inverse(vectors), f.numbers)
    result = space.where(wrong[..., None, None], space.nan, result)
    return real_of_real(f, a, image.reshape(-1), result)


def real_of_real(f: Scalar, a: LinearOperator, found: Any, result: Any) -> Any:
    """A function of a real operator as real numbers, unless the function makes real ones complex."""
    if a._is_complex or (backends.is_complex(found.dtype) and makes_complex(f, found)):
        return result
    space = space_of(result)
    away, size = space.abs(lapack.stop_gradient(space.imag(result))), space.abs(lapack.stop_gradient(result))
    wrong = space.amax(away) > space.finfo(result.dtype).eps ** 0.5 * space.amax(size)
    if lapack.is_known(wrong) and bool(wrong):
        raise no_real(f, a)
    return space.where(wrong, space.nan, space.real(result))


def makes_complex(f: Scalar, like: Any) -> bool:
    """Whether the values of real numbers are complex."""
    return f.matrix is None and backends.is_complex(f.numbers(space_of(like).real(like[:1])).dtype)
