"""V f(w) Vᴴ: a function of a Hermitian operator, of its eigenvalues and eigenvectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from linops import backends
from linops.backends import matrix_functions
from linops.linalg.inputs import fits, matrix_of
from linops.linalg.parts import adjoint, is_constant, space_of
from linops.linalg.scalars import Scalar, admitted, evaluated, known
from linops.linalg.spectra import hermitian_part
from linops.operator import LinearOperator, flat
from linops.operators.block_diag import BlockDiag
from linops.operators.dense import Dense
from linops.operators.diagonal import Diagonal
from linops.operators.identity import Identity

#: up to this size matrices are written out for the sake of derivatives
WRITTEN = 1024


def recomposed(
    f: Scalar, a: LinearOperator, w: Any, vectors: LinearOperator, base: Any = None, scale: Any = None
) -> LinearOperator:
    """V diag(f(w)) Vᴴ, written out where V is.

    Where arrays may have derivatives, it is written out up to n = `WRITTEN`: first and second ones are right, also
    where eigenvalues coincide (see `divided_differences`). Of larger operators, V and w have derivatives.

    Args:
        f: The function.
        a: The operator: Hermitian, or c times one.
        w: Eigenvalues.
        vectors: V.
        base: Of which operator they are, if not of a.
        scale: c, if so.

    Returns:
        An operator.
    """
    numbers = admitted(f, a, w if scale is None else scale * w)
    found, space = evaluated(f, numbers), space_of(numbers)
    is_real, backend = not backends.is_complex(found.dtype), backends.backend_of(found)
    if isinstance(vectors, Identity):
        return known(f, a, Diagonal(found))
    if w.shape[0] and backend != "numpy" and not is_constant(a):
        if scale is None:
            w = space.real(numbers) if backends.is_complex(numbers.dtype) else numbers
            result = _derived(lambda x: f.numbers(space.astype(x, numbers.dtype)), a, w, vectors)
        else:
            result = _derived(lambda x: f.numbers(scale * x), base, w, vectors)
        if result is not None:
            return known(f, a, result, real=is_real)
    if not is_real and not vectors._is_complex and vectors.dtype is not None:
        vectors = vectors.to(dtype=backends.result_type(backend, vectors.dtype, 1j))
    if isinstance(vectors, Dense):
        matrix = vectors.matrix
        result = Dense((matrix * found) @ adjoint(matrix))
    elif isinstance(vectors, BlockDiag):
        blocks = vectors.blocks
        scaled = blocks * found.reshape(blocks.shape[0], 1, blocks.shape[1])
        result = BlockDiag(backends.block_matmul(scaled, backends.permute(backends.conj(blocks), (0, 2, 1))))
    else:
        middle = found if vectors.dtype is None else backends.namespace(backend).astype(found, vectors.dtype)
        result = vectors @ Diagonal(middle) @ vectors.H
    return known(f, a, result, real=is_real)


def _derived(
    numbers: Callable[[Any], Any], a: LinearOperator, w: Any, vectors: LinearOperator
) -> LinearOperator | None:
    """A function of a Hermitian operator, with derivatives in its matrix; None where that is too large."""
    if isinstance(vectors, BlockDiag):
        V = vectors.blocks
        count, n, _ = V.shape
        unit = backends.eye(V, n, V.dtype)
        matrix = flat(a @ backends.concatenate(unit, [unit] * (count - 1))).reshape(count, n, n)
        return BlockDiag(_of_hermitian(numbers, matrix, w.reshape(count, n), V))
    if not isinstance(vectors, Dense) and (a.shape[0] > WRITTEN or not fits(a)):
        return None
    matrix, V = matrix_of(a), vectors.matrix if isinstance(vectors, Dense) else vectors.to_dense()
    if backends.backend_of(V) != backends.backend_of(matrix):  # transforms have no arrays
        V = backends.constant(matrix, V, matrix.dtype)
    return Dense(_of_hermitian(numbers, matrix, w, V))


def _of_hermitian(numbers: Callable[[Any], Any], matrix: Any, w: Any, V: Any) -> Any:
    across = backends.conj(space_of(V).matrix_transpose(V))
    return matrix_functions.spectral_function(hermitian_part(matrix), w, V, across, numbers)
