"""Preconditioners: frozen objects that make an approximate inverse of an operator, which is an operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.errors import SingularError
from linops.linalg.settings import Settings
from linops.linalg.spectra import is_hermitian
from linops.linalg.traces import diagonal_
from linops.operator import LinearOperator, flat
from linops.operators.block_diag import BlockDiag
from linops.operators.dense import Dense
from linops.operators.diagonal import Diagonal
from linops.operators.direct_sum import DirectSum


@dataclass(frozen=True)
class Preconditioner(Settings):
    """What makes an approximate inverse of an operator, as a value with its settings."""

    def of(self, A: LinearOperator) -> LinearOperator:
        """An operator that approximates A⁻¹.

        Args:
            A: A square operator with numbers, in a dtype that LAPACK has.

        Returns:
            The operator.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Jacobi(Preconditioner):
    """One over the diagonal, and 1 where that is zero.

    Cost: that of `lo.linalg.diagonal`, which is n products where the structure does not show it; n a vector.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.Jacobi().of(lo.Dense(np.array([[2., 1.], [1., 4.]]))).to_dense()
        array([[0.5 , 0.  ],
               [0.  , 0.25]])
    """

    def of(self, A: LinearOperator) -> LinearOperator:
        """The diagonal operator."""
        diagonal = diagonal_(A)
        space: Any = backends.namespace(backends.backend_of(diagonal))
        return Diagonal(1 / space.where(diagonal == 0, space.ones_like(diagonal), diagonal))


@dataclass(frozen=True)
class BlockJacobi(Preconditioner):
    """The inverses of the blocks of a size on the diagonal; the last one may be smaller.

    Attributes:
        size: Rows and columns of a block.

    Cost: n products once, but of a dense matrix none, and n size² MACs; n size a vector.

    Raises:
        SingularError: If a block has no inverse.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.BlockJacobi(1).of(lo.Dense(np.array([[2., 1.], [1., 4.]]))).to_dense()
        array([[0.5 , 0.  ],
               [0.  , 0.25]])
    """

    size: int

    def __post_init__(self) -> None:
        require_positive(self, "size")

    def of(self, A: LinearOperator) -> LinearOperator:
        """The operator of the blocks' inverses."""
        n = A.shape[0]
        whole = n // self.size * self.size
        found = []
        if whole:
            found.append(BlockDiag(self._inverted(A, self._blocks(A, whole))))
        if whole < n:
            found.append(Dense(self._inverted(A, columns_of(A, whole, n - whole)[whole:])))
        return found[0] if len(found) == 1 else DirectSum(found)

    def _blocks(self, A: LinearOperator, whole: int) -> Any:
        """The blocks of the size, (b, size, size), from as many products at once as fit."""
        size = self.size
        width = max(1, min(whole, 2**22 // max(A.shape[0], 1)) // size) * size
        found = []
        for start in range(0, whole, width):
            count = min(width, whole - start)
            square = columns_of(A, start, count)[start : start + count].reshape(
                count // size, size, count // size, size
            )
            found.append(_diagonal_blocks(square))
        return backends.concatenate(found[0], found[1:])

    def _inverted(self, A: LinearOperator, blocks: Any) -> Any:
        inverses = lapack.inverse(blocks)
        if backends.all_finite(inverses) is False:
            raise SingularError(f"{self}: a block on the diagonal of {A._short()} is singular; take another size")
        return inverses


def _diagonal_blocks(square: Any) -> Any:
    """The blocks (i, ·, i, ·) of an array (b, s, b, s)."""
    count = square.shape[0]
    indices = np.arange(count) * (count + 1)
    rows = backends.permute(square, (0, 2, 1, 3)).reshape(count * count, *square.shape[1::2])
    return backends.gather(rows, backends.indices_beside(square, indices))


def columns_of(A: LinearOperator, start: int, count: int) -> Any:
    """Columns of an operator."""
    if isinstance(A, Dense):
        return A.matrix[:, start : start + count]
    return flat(A._matmul(A._unit_columns(start, count)))


def require_positive(preconditioner: Any, name: str) -> None:
    """Raise unless a setting is positive."""
    if getattr(preconditioner, name) < 1:
        raise ValueError(
            f"{type(preconditioner).__name__}: {name} must be positive, got {getattr(preconditioner, name)!r}"
        )


def require_definite(preconditioner: Preconditioner, A: LinearOperator) -> None:
    """Raise where an operator is not known to be Hermitian."""
    if not is_hermitian(A):
        raise ValueError(
            f"{preconditioner}: {A._short()} is not known to be Hermitian. Where it is positive definite, say so: "
            "lo.assume(A, lo.Tag.POSITIVE_DEFINITE)"
        )
