"""Triangular: one triangle of an array."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import numpy as np

from linops import backends
from linops.checks import admit
from linops.declaration import declare, tree
from linops.operator import LinearOperator, flat
from linops.plan.step import Step, matmul_step
from linops.tags import Knowledge, Tag


@declare
class Triangular(LinearOperator):
    """The lower or upper triangle of a square array, with its diagonal; what the array holds elsewhere does not count.

    Products mask the array and multiply, so no number and no gradient of the other triangle has an effect, not even
    NaN. `num_params` is the size of the leaf, n², as that is what an optimiser, a checkpoint and a device hold; n (n +
    1) / 2 of them matter.

    Cost: n² MACs a vector, as the masked product runs, and the mask once a product.

    Attributes:
        matrix: (n, n) array or spec.
        lower: Whether the lower triangle counts, or the upper.

    Raises:
        ValueError: If the array is not square.
        TypeError: If it is no array, or `lower` is neither True nor False.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.Triangular(np.array([[1., 2.], [3., 4.]]), lower=True) @ np.ones(2)
        array([1., 7.])
    """

    matrix: Any = tree(axes=2)
    lower: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        admit(self, "matrix", 2)
        if self.matrix.shape[0] != self.matrix.shape[1]:
            raise ValueError(f"Triangular: matrix must be square, got shape {tuple(self.matrix.shape)}")
        if not isinstance(self.lower, bool):
            raise TypeError(f"Triangular: lower must be True or False, got {self.lower!r}")

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        m, n = self.matrix.shape
        return m, n

    _prefers_rows = True  # type: ignore[assignment]

    def _masked(self) -> Any:
        matrix = self.matrix
        namespace: Any = backends.namespace(backends.backend_of(matrix))
        if type(matrix) is np.ndarray and matrix.strides[0] < matrix.strides[1]:  # eight times as fast along its rows
            return namespace.triu(matrix.T).T if self.lower else namespace.tril(matrix.T).T
        return namespace.tril(matrix) if self.lower else namespace.triu(matrix)

    def _columns(self, x: Any) -> Any:
        return self._masked() @ flat(x)

    def _rows(self, x: Any) -> Any:
        return x @ self._masked().T

    def _stacked(self, x: Any) -> Any:
        return backends.shared_matmul(self._masked(), x)

    def _vector(self, x: Any) -> Any:
        return self._masked() @ x

    def _entries(self) -> Any:
        return self._masked()

    def _transpose(self) -> Triangular:
        return Triangular(backends.permute(self.matrix, (1, 0)), lower=not self.lower)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        n = self.shape[0]
        return Step("mask", f"({n}, {n})", weights=n * n, outputs=n * n), matmul_step(1, n, n, batch)

    def _leaf_fans(self) -> dict[str, tuple[int, int]]:
        # of 1 … n, rounded up: an output sums over as many inputs, and an input reaches as many outputs
        mean = self.shape[0] // 2 + 1
        return {"matrix": (mean, mean)}

    def _output_leaves(self) -> tuple[str, ...]:
        return ("matrix",)

    def _knowledge(self) -> Knowledge:
        if self.shape[0] <= 1:
            return Knowledge(Tag.DIAGONAL)
        return Knowledge(Tag.LOWER_TRIANGULAR if self.lower else Tag.UPPER_TRIANGULAR)

    def _detail(self) -> str:
        return "lower" if self.lower else "upper"
