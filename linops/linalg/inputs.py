"""What functions of `lo.linalg` take: operators or matrices, square or not, with numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.errors import SingularError
from linops.operator import LinearOperator
from linops.operators.wrap import aslinearoperator

#: how many entries of a matrix are written out unasked: 5,792 × 5,792, 256 MiB in float64
DENSE_LIMIT = 2**25

#: what takes operators that are not square
_OF_OTHERS = {
    **dict.fromkeys(("solve", "inv"), "; lo.linalg.lstsq and pinv take others"),
    **dict.fromkeys(("eigh", "eigvalsh", "eig", "eigvals"), "; lo.linalg.svd and svdvals take others"),
    **dict.fromkeys(("det", "slogdet", "logdet"), "; lo.linalg.svdvals takes others"),
    **dict.fromkeys(("cholesky", "lu"), "; lo.linalg.qr takes others"),
    "eigsh": "; lo.linalg.svds takes others",
    "cond": ", but for p=2 and p=-2",
    "trace": "; lo.linalg.diagonal takes others",
}


def operator_of(function: str, A: Any, *, square: bool = False, symbolic: bool = False) -> LinearOperator:
    """An operand as an operator.

    Args:
        function: Who asks.
        A: An operator, or what `lo.aslinearoperator` takes.
        square: Whether it has to be square.
        symbolic: Whether it may be without numbers.

    Returns:
        The operator, with floating numbers where it had integers, as in `numpy.linalg`.

    Raises:
        TypeError: If it is none, or is symbolic.
        ValueError: If it is not square.
    """
    if not isinstance(A, LinearOperator):
        shape = getattr(A, "shape", None)
        if shape is not None and len(shape) != 2:
            raise ValueError(
                f"linalg.{function}: expected an operator or a matrix, got an array of shape {tuple(shape)}; "
                "a stack of matrices is an operator as lo.BlockDiag(stack)"
            )
        A = aslinearoperator(A)
    m, n = A.shape
    if square and m != n:
        raise ValueError(f"linalg.{function}({A._short()}): expected a square operator{_OF_OTHERS.get(function, '')}")
    if not symbolic and A.is_symbolic:
        raise TypeError(
            f"linalg.{function}({A._short()}): it is symbolic, without numbers. "
            "Make it concrete first: A.init(seed=0, backend='numpy')"
        )
    return floating(A)


def floating(A: LinearOperator) -> LinearOperator:
    """An operator with floating numbers of one precision: sums and products of parts are those of the whole."""
    if "_floats" in A.__dict__ or A.dtype is None or A.backend == "spec":
        return A
    whole = A.dtype if backends.is_inexact(A.dtype) else backends.result_type(A.backend, A.dtype, 1.0)
    leaves = [leaf for _, leaf in A.named_leaves()]
    if all(leaf.dtype == whole for leaf in leaves):
        if not backends.is_compiling():
            A.__dict__["_floats"] = True  # so is what is asked again
        return A
    real = backends.real_dtype(whole, A.backend)
    if all(backends.is_inexact(leaf.dtype) and backends.real_dtype(leaf.dtype, A.backend) == real for leaf in leaves):
        return A
    space: Any = backends.namespace(A.backend)
    return A.with_leaves([space.astype(leaf, whole if backends.is_complex(leaf.dtype) else real) for leaf in leaves])


def floating_array(b: Any) -> Any:
    """An array with floating numbers where it has integers or booleans; what is no array as it is."""
    backend = backends.backend_of(b)
    if backend is None or backend == "spec" or backends.is_inexact(b.dtype):
        return b
    return backends.namespace(backend).astype(b, backends.result_type(backend, b.dtype, 1.0))


def fits(A: LinearOperator) -> bool:
    """Whether the matrix is small enough to be written out unasked."""
    return A.shape[0] * A.shape[1] <= DENSE_LIMIT


def wide_dtype(dtype: Any, backend: str | None) -> Any:
    """The dtype in which LAPACK computes: single precision for halves."""
    if backends.itemsize(dtype) // (2 if backends.is_complex(dtype) else 1) == 2:
        return backends.result_type(backend, dtype, backends.canonical_dtype("float32", backend))
    return dtype


def wide_operator(A: LinearOperator) -> LinearOperator:
    """An operator in a dtype that LAPACK has."""
    if A.dtype is None:
        return A
    dtype = wide_dtype(A.dtype, A.backend)
    return A if dtype == A.dtype else A.to(dtype=dtype)


def result_dtype(x: Any, A: LinearOperator) -> Any:
    """The dtype of products of A with an array; of one without arrays that of the array, or its complex one."""
    backend = backends.backend_of(x)
    if A.dtype is not None:
        return backends.result_type(backend, x.dtype, A.dtype)
    return backends.result_type(backend, x.dtype, 1j) if A._is_complex else x.dtype


#: what to do where a matrix is not written out
_INSTEAD = (
    "Name an iterative method where the function takes one, as in method=lo.linalg.GMRES(); take a part of a spectrum "
    "by lo.linalg.eigsh or svds"
)


def matrix_of(A: LinearOperator, instead: str = _INSTEAD) -> Any:
    """The matrix in a dtype that LAPACK has.

    Args:
        A: A concrete operator.
        instead: What to do where it is too large.

    Returns:
        An array; halves become single.

    Raises:
        ValueError: If it is larger than `DENSE_LIMIT`.
        TypeError: If the dtype is wider than double.
    """
    if not fits(A):
        raise ValueError(
            f"{A._short()} has {A.shape[0] * A.shape[1]:,} entries; no matrix of more than {DENSE_LIMIT:,} is written "
            f"out unasked. {instead}; or pass A.to_dense()"
        )
    return widened(A, A.to_dense())


def widened(A: LinearOperator, matrix: Any) -> Any:
    """An operator's array in a dtype that LAPACK has: halves become single, what is wider than double is an error."""
    if isinstance(matrix, np.ndarray) and matrix.dtype.char in "gG":
        raise TypeError(f"{A._short()}: LAPACK has no {matrix.dtype}; convert it, as in A.to(dtype='float64')")
    wide = wide_dtype(matrix.dtype, backends.backend_of(matrix))
    return matrix if wide == matrix.dtype else backends.namespace(backends.backend_of(matrix)).astype(matrix, wide)


def matrices_of(A: LinearOperator, parts: Iterable[LinearOperator]) -> list[Any]:
    """The matrices of an operator's parts, as arrays of the whole's framework: parts without arrays give NumPy's.

    In torch, which mixes none, those of a complex operator are complex.

    Args:
        A: The whole.
        parts: Parts of it.

    Returns:
        Arrays.
    """
    like, dtype = A._like, A._like.dtype
    backend = backends.backend_of(like)
    if A._is_mixed:
        dtype = wide_dtype(A.dtype, backend)
    found = [
        matrix if backends.backend_of(matrix) == backend else backends.constant(like, matrix, dtype)
        for matrix in map(matrix_of, parts)
    ]
    return [backends.namespace(backend).astype(matrix, dtype) for matrix in found] if A._is_mixed else found


def of_whole(A: LinearOperator, parts: Iterable[LinearOperator]) -> list[LinearOperator]:
    """What was made of an operator's parts, in the whole's framework: of parts without arrays NumPy's arrays are made.

    In torch, which mixes none, all become complex where one is.

    Args:
        A: The whole.
        parts: What was made of its parts.

    Returns:
        Operators that can be joined.
    """
    if A.backend in (None, "numpy", "spec"):
        return list(parts)
    kind = {"dtype": A.dtype, "device": A.device} if A.backend == "torch" else {"dtype": A.dtype}
    found = [part.to(backend=A.backend, **kind) if part.backend == "numpy" else part for part in parts]
    if A.backend == "jax" or not any(part._is_complex for part in found):
        return found
    complex_dtype = backends.result_type("torch", A.dtype, 1j)
    return [part.to(dtype=complex_dtype) if part.dtype not in (None, complex_dtype) else part for part in found]


def singular(A: LinearOperator, why: str = "") -> SingularError:
    """The error that an operator has no inverse."""
    return SingularError(
        f"{A._short()} is singular{': ' + why if why else ''}; lo.linalg.lstsq and lo.linalg.pinv give the solution of "
        "least squares"
    )


def require_no_zero(A: LinearOperator, numbers: Any, why: str) -> None:
    """Raise SingularError where one of an array's numbers is zero."""
    if backends.backend_of(numbers) != "spec" and lapack.has_zero(numbers):
        raise singular(A, why)


def ones(A: LinearOperator, n: int) -> Any:
    """N ones of an operator's dtype and place; of NumPy's float64 where it has none."""
    like = A._like
    dtype = like.dtype if A.dtype is None else A.dtype
    return backends.zeros(like, (n,), dtype) + 1
