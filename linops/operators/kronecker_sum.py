"""KroneckerSum: a sum of operators, each along an axis of its own."""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar

from linops.declaration import declare, remembered, tree
from linops.operator import LinearOperator
from linops.operators.outputs import every, numbered
from linops.operators.wrap import as_operators
from linops.plan.step import Step
from linops.tags import Knowledge, Tag, summed


@declare(init=False)
class KroneckerSum(LinearOperator):
    """The Kronecker sum A_1 ⊕ … ⊕ A_c = Σ_k I ⊗ … ⊗ A_k ⊗ … ⊗ I of square operators; the first index is the slowest.

    Each factor acts along its own axis of the operand, and the results add up: of A ⊕ B on a matrix X, A X + X Bᵀ.
    Eigenvalues are the sums of the factors' eigenvalues, so sums of semidefinite factors are semidefinite, and definite
    if one of them is.

    Cost: that of factor k, of size n_k, on n / n_k vectors, and (c - 1) n additions a vector.

    Attributes:
        factors: Square operators or matrices, one by one or in a list.

    Raises:
        ValueError: If there is no factor, or one is not square.
        TypeError: If a factor is neither array nor operator, or backends are mixed.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.KroneckerSum(np.array([[1., 2.], [3., 4.]]), lo.Diagonal(np.array([10., 20.]))).to_dense()
        array([[11.,  0.,  2.,  0.],
               [ 0., 21.,  0.,  2.],
               [ 3.,  0., 14.,  0.],
               [ 0.,  3.,  0., 24.]])
    """

    factors: Any = tree()

    def __init__(self, *operators: Any, factors: Any = None, assumed: Tag = Tag.NONE) -> None:
        object.__setattr__(self, "factors", as_operators("KroneckerSum", factors or operators))
        object.__setattr__(self, "assumed", assumed)
        self.__post_init__()

    _adds: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for number, factor in enumerate(self.factors):
            if factor.shape[0] != factor.shape[1]:
                raise ValueError(f"KroneckerSum: factor {number}, {factor._short()}, is not square")

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        n = prod([factor.shape[0] for factor in self.factors])
        return n, n

    @remembered
    def _numbers(self) -> tuple[Any, ...]:
        own = LinearOperator._numbers.function(self)
        return (1, *own) if len(self.factors) > 1 else own  # a sum counts, also terms without arrays

    @remembered
    def _aliases(self) -> bool:
        return len(self.factors) == 1 and self.factors[0]._aliases

    @remembered
    def _places(self) -> list[tuple[Any, int, int, int]]:
        """Of each factor: itself, its size, and the sizes left and right of its axis."""
        sizes = [factor.shape[0] for factor in self.factors]
        return [(factor, sizes[k], prod(sizes[:k]), prod(sizes[k + 1 :])) for k, factor in enumerate(self.factors)]

    def _columns(self, x: Any) -> Any:
        batch = x.shape[-1]
        return self._along_axes(x, 1, batch, (self.shape[0], batch))

    def _rows(self, x: Any) -> Any:
        return self._along_axes(x, x.shape[0], 1, x.shape)

    def _stacked(self, x: Any) -> Any:
        return self._along_axes(x, x.shape[0], x.shape[2], x.shape)

    def _vector(self, x: Any) -> Any:
        return self._along_axes(x, 1, 1, x.shape)

    def _along_axes(self, x: Any, before: int, after: int, shape: tuple[int, ...]) -> Any:
        """The product, in a shape, with an x that has axes of sizes `before` and `after` around the features."""
        y = None
        for factor, size, left, right in self._places:
            left, right = before * left, right * after
            # the first reshape copies an x that does not lie in order, and the others are views of it
            if right == 1:  # x has rows, which matrix products take as they are
                x = x.reshape(left, size)
                term = factor._rows(x)
            elif left == 1:
                x = x.reshape(size, right)
                term = factor._columns(x)
            else:
                x = x.reshape(left, size, right)
                term = factor._stacked(x)
            y = term.reshape(shape) if y is None else y + term.reshape(shape)
        return y

    def _transpose(self) -> KroneckerSum:
        return KroneckerSum(*(factor.T for factor in self.factors))

    def _conj(self) -> KroneckerSum:
        return KroneckerSum(*(factor.conj() for factor in self.factors))

    def _lower(self, batch: int) -> tuple[Step, ...]:
        n = self.shape[0]
        steps: list[Step] = []
        for number, (factor, _, left, right) in enumerate(self._places):
            steps += factor._lower(left * right * batch)
            if number:
                steps.append(
                    Step("add", f"({n}, {batch})", other_flops=n * batch, inputs=2 * n * batch, outputs=n * batch)
                )
        return tuple(steps)

    def _output_leaves(self) -> tuple[str, ...]:
        return every(numbered("factors", self.factors))

    def _knowledge(self) -> Knowledge:
        return Knowledge(summed(factor.tags.yes for factor in self.factors))

    def _detail(self) -> str:
        return f"{len(self.factors)} factors"
