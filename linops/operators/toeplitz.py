"""Toeplitz: constant along diagonals."""

from __future__ import annotations

from typing import Any, ClassVar

from linops import backends
from linops.checks import admit, require_leaves
from linops.declaration import declare, remembered, tree
from linops.operators.convolution import Convolution
from linops.operators.fourier import lag_length


@declare
class Toeplitz(Convolution):
    """The operator that is constant along diagonals: A[i, j] = c[i - j] for i ≥ j, r[j - i] for i < j.

    As in `scipy.linalg.toeplitz`, the corner is c[0], and r[0] is not read: whatever it holds, its gradient is zero.
    (Comparing the two would need their values, which do not exist while a program is traced.)

    A x is a part of a circular convolution of length L ≥ m + n - 1, a product of spectra (Golub & Van Loan, Matrix
    Computations, §4.8). Real numbers have real transforms.

    Cost: a transform of the entries a product (kept as by `Circulant`), and two transforms of length L a vector, of 2.5
    L log2 L FLOPs each (complex: 1.5 L log2 L); no MACs. Where that is predicted to be faster, as for short vectors, or
    many of some hundred numbers, the matrix is written out and multiplied by: m n MACs a vector.

    A NaN or infinity in a vector leaves no finite number in its product; transforms mostly leave NaN. Integers are
    multiplied, and floats rounded (relative to the norms, so that small entries beside large ones are lost), as by
    `Circulant`.

    Attributes:
        c: (m,) array or spec, the first column.
        r: (n,) array or spec, the first row; r[0] is not read.
        transposed: Whether the operator is the transpose, of shape (n, m); made by ``.T``, over the same leaves.

    Raises:
        ValueError: If one has not one axis.
        TypeError: If one is no array, or they are of two backends.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.Toeplitz(np.array([1., 2., 3.]), np.array([1., 5.])).to_dense()
        array([[1., 5.],
               [2., 1.],
               [3., 2.]])
    """

    c: Any = tree(axes=1)
    r: Any = tree(axes=1)
    transposed: bool = False

    _adds: ClassVar[bool] = True

    def __post_init__(self) -> None:
        admit(self, "c", 1)
        admit(self, "r", 1)
        require_leaves(self)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        m, n = self.c.shape[0], self.r.shape[0]
        return (n, m) if self.transposed else (m, n)

    @remembered
    def _length(self) -> int:
        return lag_length(self.c.shape[0], self.r.shape[0])

    def _kernel(self) -> Any:
        c, above = self.c, backends.namespace(self.backend).flip(self.r[1:])
        gap = backends.zeros(c, (self._length - c.shape[0] - above.shape[0],), c.dtype)
        return backends.concatenate(c, [gap, above])

    def _transpose(self) -> Toeplitz:
        return self._sharing(Toeplitz(self.c, self.r, not self.transposed))

    def _leaf_fans(self) -> dict[str, tuple[int, int]]:
        m, n = self.shape
        return {"c": (n, m), "r": (n, m)}

    def _output_leaves(self) -> tuple[str, ...]:
        return "c", "r"

    def _detail(self) -> str:
        return "transposed" if self.transposed else ""
