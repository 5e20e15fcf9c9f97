"""Tridiagonal: three diagonals."""

from __future__ import annotations

from typing import Any, ClassVar

from linops import backends
from linops.checks import admit, require_leaves
from linops.declaration import declare, tree
from linops.operator import LinearOperator, flat
from linops.plan.step import Step
from linops.sameness import same
from linops.tags import Knowledge, Tag


@declare
class Tridiagonal(LinearOperator):
    """The square operator with three diagonals: (A x)[i] = lower[i-1] x[i-1] + diag[i] x[i] + upper[i] x[i+1].

    Cost: no MACs; 3n - 2 multiplications and 2n - 2 additions a vector (n > 0), over views of the operand.

    Attributes:
        lower: (n-1,) array or spec, the entries A[i+1, i].
        diag: (n,) array or spec, the entries A[i, i].
        upper: (n-1,) array or spec, the entries A[i, i+1].

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If one is no array, or they are of several backends.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.Tridiagonal(-np.ones(2), 2 * np.ones(3), -np.ones(2)) @ np.array([1., 2., 4.])
        array([ 0., -1.,  6.])
    """

    lower: Any = tree(axes=1)
    diag: Any = tree(axes=1)
    upper: Any = tree(axes=1)

    _adds: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("lower", "diag", "upper"):
            admit(self, name, 1)
        sizes = [leaf.shape[0] for leaf in (self.lower, self.diag, self.upper)]
        n = sizes[1]
        if sizes != [max(n - 1, 0), n, max(n - 1, 0)]:
            raise ValueError(
                f"Tridiagonal: lower, diag and upper of shapes ({sizes[0]},), ({n},) and ({sizes[2]},) do not fit; "
                f"expected (n-1,), (n,) and (n-1,)"
            )
        require_leaves(self)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        (n,) = self.diag.shape
        return n, n

    _prefers_rows = True  # type: ignore[assignment]

    def _columns(self, x: Any) -> Any:
        return backends.three_diagonals(flat(x), self.lower, self.diag, self.upper, True)

    def _rows(self, x: Any) -> Any:
        return self._vector(x)

    def _stacked(self, x: Any) -> Any:
        return self._vector(x.swapaxes(1, 2)).swapaxes(1, 2)

    def _vector(self, x: Any) -> Any:
        return backends.three_diagonals(x, self.lower, self.diag, self.upper, False)

    def _transpose(self) -> Tridiagonal:
        return Tridiagonal(self.upper, self.diag, self.lower)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        n = self.shape[0]
        beside = max(n - 1, 0)
        step = Step(
            "tridiagonal",
            f"({n}, 3) · ({n}, {batch})",
            other_flops=(n + 4 * beside) * batch,
            inputs=n * batch,
            weights=n + 2 * beside,
            outputs=n * batch,
        )
        return (step,)

    def _leaf_fans(self) -> dict[str, tuple[int, int]]:
        neighbours = min(3, self.shape[0])  # an output sums over its own input and the two beside it
        return dict.fromkeys(("lower", "diag", "upper"), (neighbours, neighbours))

    def _output_leaves(self) -> tuple[str, ...]:
        return "lower", "diag", "upper"

    def _knowledge(self) -> Knowledge:
        if self.shape[0] <= 1:
            return Knowledge(Tag.DIAGONAL)
        return Knowledge(Tag.SYMMETRIC if same(self.lower, self.upper) else Tag.NONE)
