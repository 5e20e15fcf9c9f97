"""Circulant: each column is the one before, moved down by one, around the end."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.checks import admit, require_size
from linops.declaration import declare, remembered, tree
from linops.operators.convolution import Convolution
from linops.operators.fourier import is_fast, lag_length


@declare
class Circulant(Convolution):
    """The circulant operator of a first column, or its leading block: A[i, j] = c[(i - j) mod N].

    A x is the circular convolution of c and x, a product of spectra: A = F⁻¹ diag(F c) F with F the discrete Fourier
    transform (Golub & Van Loan, Matrix Computations, §4.8). Real numbers have real transforms. Where N has a prime
    factor above 13, the convolution runs in a fast length of at least m + n - 1, without wrapping around.

    Cost: with L = N, or that length, a transform of c a product (real ones are kept where c stays the same and no
    gradient of it is wanted), and two transforms of length L a vector, of 2.5 L log2 L FLOPs each (complex: 1.5 L log2
    L); no MACs. Where that is predicted to be faster, as for short vectors, or many of some hundred numbers, the matrix
    is written out and multiplied by: m n MACs a vector.

    A NaN or infinity in a vector leaves no finite number in its product; transforms mostly leave NaN. Products of
    integers are exact and wrap around as NumPy's: numbers are split into parts so short that transforms of floats give
    every sum. Sums that fit a float do not overflow on the way. But transforms round relative to |c| |x| (Euclidean
    norms), not entry by entry: in float32, beside entries of 1e8 those below about 10 are lost, which multiplying by
    `to_dense()` keeps; take float64 where entries differ so much.

    Attributes:
        c: (N,) array or spec, the first column.
        rows: m ≤ N; None for N.
        columns: n ≤ N; None for N.
        transposed: Whether the operator is the transpose, of shape (n, m); made by ``.T``, over the same leaf.

    Raises:
        ValueError: If c has not one axis, or the block does not fit.
        TypeError: If c is no array, or a size no integer.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.Circulant(np.array([1., 2., 3.])).to_dense()
        array([[1., 3., 2.],
               [2., 1., 3.],
               [3., 2., 1.]])
    """

    c: Any = tree(axes=1)
    rows: int | None = None
    columns: int | None = None
    transposed: bool = False

    def __post_init__(self) -> None:
        admit(self, "c", 1)
        for name, size in (("rows", self.rows), ("columns", self.columns)):
            if size is not None:
                require_size("Circulant", name, size)
                if size > self.c.shape[0]:
                    raise ValueError(
                        f"Circulant: {name} must be at most {self.c.shape[0]}, the length of c, got {size}"
                    )

    @property
    def _block(self) -> tuple[int, int]:
        """(rows, columns) before transposing."""
        length = self.c.shape[0]
        return length if self.rows is None else self.rows, length if self.columns is None else self.columns

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        rows, columns = self._block
        return (columns, rows) if self.transposed else (rows, columns)

    @remembered
    def _length(self) -> int:
        length = self.c.shape[0]
        return length if is_fast(length) else lag_length(*self._block)

    def _kernel(self) -> Any:
        c, length, size = self.c, self._length, self.c.shape[0]
        if length == size:
            return c
        rows, columns = self._block
        above = c[size - columns + 1 :]
        return backends.concatenate(c[:rows], [backends.zeros(c, (length - rows - above.shape[0],), c.dtype), above])

    def _transpose(self) -> Circulant:
        return self._sharing(Circulant(self.c, self.rows, self.columns, not self.transposed))

    def _leaf_fans(self) -> dict[str, tuple[int, int]]:
        m, n = self.shape
        return {"c": (n, m)}

    def _output_leaves(self) -> tuple[str, ...]:
        return ("c",)

    def _detail(self) -> str:
        return "transposed" if self.transposed else ""
