"""The primitives that products need and the array API lacks, declared here and implemented once a backend.

Shapes: blocks `a` (b, p, q); features-first operands `x` (…, k), whose last axis counts vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from linops.dispatch import generic


@generic
def block_matmul(a, x):
    """A product per block: (b, p, q) and (b, q, k) give (b, p, k), contiguous."""


@generic
def crossed_matmul(first, second, x, swapped=False):
    """Two products a block, the second across the first's blocks: Σ_jρ second[i, o, jρ] Σ_n first[j, ρi, n] x[j, n, k].

    (b, r·m, n), (m, p, b·r) and (b, n, k) give (m, p, k), or where swapped (p, m, k). It is contiguous, or a view of
    such; of a compiled kernel (`linops.kernels`) rows where x is a view of rows.
    """


@generic
def block_matvec(a, x):
    """As `block_matmul` of one vector, in order, as (b, q, 1) or in other than three axes: b p numbers in any shape."""


@generic
def grid_matmul(a, x):
    """As `block_matmul`, x with blocks in several axes, any strides: (b, p, q), (…, q, k) give (…, p, k), any shape."""


@generic
def shared_matmul(a, x):
    """One matrix times each of a stack: (p, q) and (l, q, k) give (l, p, k), without copying the matrix."""


@dataclass(frozen=True, eq=False, slots=True)
class Positions:
    """Where the entries of a sparse matrix stand, sorted both ways.

    Attributes:
        shape: (m, n).
        rows: (nnz,) the row of each entry.
        columns: (nnz,) its column.
        by_row: (nnz,) the entries in an order of rising rows; None if they are in one.
        by_column: (nnz,) the entries in an order of rising columns; None if they are in one.
        row_starts: (m + 1,) where the entries of each row start in that order, and their number.
        column_starts: (n + 1,) the same of each column.
    """

    shape: tuple[int, int]
    rows: Any
    columns: Any
    by_row: Any
    by_column: Any
    row_starts: Any
    column_starts: Any

    @property
    def T(self) -> Positions:
        """Those of the transpose."""
        m, n = self.shape
        return Positions(
            (n, m), self.columns, self.rows, self.by_column, self.by_row, self.column_starts, self.row_starts
        )


@generic
def prepared_sparse(values, positions: Positions):
    """What products with a sparse matrix take in the place of its positions, made once; None where they take those."""


@generic
def sparse_matmul(values, positions, x):
    """A sparse matrix, given by its entries, times (n, k): gives (m, k).

    The positions are `Positions`, or what `prepared_sparse` made of them.
    """


@generic
def sparse_matvec(values, positions, x):
    """As `sparse_matmul` of one vector: (n,) gives (m,)."""


@generic
def permute(x, order):
    """The axes in another order: a view."""


@generic
def conj(x):
    """The complex conjugate; a real array itself."""


@generic
def copy(x):
    """A fresh array in row-major order."""


@generic
def applied(x, function):
    """A function of a copy of x: what it returns, or a copy of that where someone else may hold its memory."""


@generic
def gather(x, indices):
    """Rows ``x[indices]`` along the first axis."""


@generic
def pad_rows(x, rows: int):
    """The first axis padded with zeros, or cropped, to `rows`."""


@generic
def spread(x, start: int, step: int, rows: int):
    """Zeros of `rows` rows, with the rows of x at start, start + step and so on."""


@generic
def add_slice(y, x, start: int, axis: int):
    """y, with x added along an axis from a position on; y is no longer of use."""


@generic
def three_diagonals(x, lower, diagonal, upper, columns: bool):
    """Three diagonals times the vectors along the last axis: l[i-1] x[…, i-1] + d[i] x[…, i] + u[i] x[…, i+1].

    Or times the columns of a matrix.
    """


#: sums of squares between which no square that counts over- or underflows in single precision
SQUARES = 1e-24, 1e30


@generic
def reflected(x, v, rows: bool):
    """One x or columns or rows of them, reflected: x - 2 v vᵀ x / vᵀ v; None where vᵀ v is not at hand, or extreme."""


@generic
def scatter(x, indices, rows: int):
    """Zeros of `rows` rows, with each row of x added at its index."""


@generic
def concatenate(first, others):
    """Arrays joined along the first axis."""


@generic
def eye(like, n: int, dtype):
    """The (n, n) identity matrix on the backend and device of `like`."""


@generic
def zeros(like, shape: tuple, dtype):
    """Zeros on the backend and device of `like`."""


@generic
def constant(like, array, dtype):
    """A NumPy array of constants, of a dtype, on the backend and device of `like`."""


@generic
def map_columns(x, function):
    """A function of vectors applied to each column of (n, k): a fresh (m, k). NumPy calls it k times, the others once.

    The function may write to its operand, and return it, a view, or a buffer that it keeps.
    """


@generic
def jvp(x, function, tangent):
    """The derivative of a function at x, times a vector: forward mode. The function may write to its operand."""


@generic
def vjp(x, function, cotangent):
    """Jᵀ times a vector, without conjugation: reverse mode. The function may write to its operand."""


@generic
def value_of(x, function):
    """A function at x, or where the framework can do without numbers, the shape and dtype of that."""


@generic
def same_array(a, b):
    """Whether two arrays surely are the same numbers: the same memory seen the same way or, where cheap, equal."""


@generic
def memory(x):
    """(key, strides, conj): arrays of one key are the same numbers up to the order of axes, and to conjugation."""


@generic
def solve_triangular(a, b, lower: bool, unit: bool):
    """The x of a x = b, (n, n) and (n, k), of the lower or upper triangle of a, its diagonal ones where `unit`."""


@generic
def device_of(x):
    """The device of an array, as its framework names it."""


@generic
def to_numpy(x):
    """The array as a NumPy array, copied only if it has to be."""


@generic
def check_permutation(indices):
    """Raise ValueError unless the indices are a permutation of 0 … n - 1; unchecked where there are no values."""


@generic
def outside(indices, size: int):
    """Whether a number of an index array is no position along an axis of that size; None where they are not at hand."""


@generic
def own_indices(indices):
    """A copy of an index array, of integers that gathers take."""


@generic
def indices_beside(like, indices):
    """An index array where arrays like this one are gathered by it (`indices.py`): itself where it is there."""


@generic
def never_exceeds(a, b):
    """Whether no number of an index array exceeds its fellow in another; None where they are not at hand."""


@generic
def any_nonzero(x):
    """Whether a number is not zero; None where they cannot be looked at."""


@generic
def differentiates(x):
    """Whether the framework has derivatives of functions."""


@generic
def inverse_permutation(indices):
    """The indices of the inverse permutation."""


@generic
def fourier(x, transform: str, length: int, axis: int, norm):
    """The transform of that name in `numpy.fft` along an axis padded or cropped to `length`; float32 stays float32."""


@generic
def convolved(x, leaves: tuple, kernel, length: int, axis: int, reverse: bool, kept: dict):
    """The circular convolution of reals along an axis, -1 or -2, with a (length,) kernel, or with it in reverse.

    The kernel is a function that makes it of leaves of the dtype of x. From the second product on its spectrum is kept,
    with a copy of the leaves, and taken again where they are the same numbers and no gradient is wanted of them.

    None where it is to be made of its transforms, one by one: where numbers cannot be looked at, or overflowed.
    """


@generic
def columns_at_once(x, length: int):
    """How many columns of x to transform at once, each of `length` numbers; None for all."""


@generic
def suits_rows(x, length: int):
    """Whether to transform columns as rows of a copy, and copy back, for each is gathered from all over the memory."""


@generic
def multiply_quietly(x, y):
    """The product, number by number, without a warning of what overflows."""


@generic
def multiplies_integers(x):
    """Whether all devices multiply matrices of integers."""


@generic
def magnitude(x, axis):
    """The largest power of two up to the largest number along an axis, which stays; ones for zeros; no gradient.

    Divided by it, which rounds nothing, numbers are below 2 (√8 where complex), and no square or sum of squares over-
    or underflows.
    """


@generic
def vectors_at_once(x, count: int):
    """How many of so many vectors to multiply at a time where they are better multiplied in parts; 0 for all."""


@generic
def rows_in_parts(x, product, size: int):
    """product(x) of rows, so many at a time, which is computed again for gradients."""


@generic
def columns_in_parts(x, product, size: int, rows: int):
    """product(x) of columns, so many at a time, with so many rows and the dtype of x; not for gradients."""


@generic
def is_at_hand(x):
    """Whether numbers can be looked at, without waiting for a device."""


@generic
def all_finite(x):
    """Whether all numbers are finite; None where they cannot be looked at, or not without waiting for a device."""


@generic
def on_mesh(x):
    """Whether an array of JAX may be divided among devices."""


@generic
def mesh_product(x, operator, axis: int):
    """The product with every vector along an axis, -1 or -2, of such an array; other axes keep their division."""


@generic
def to_integers(x, dtype):
    """Floats rounded to the nearest integers of a dtype, too large ones wrapped around as products of integers are."""


@generic
def forked(x, leaves, product):
    """product(0, leaves, x), in whose derivatives product(wanted, leaves, x) runs, `wanted` as in `plan.gradient`.

    For JAX, which says what gradients are wanted of when it differentiates: after the product was traced.
    """
