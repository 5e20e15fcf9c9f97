"""`LeastSquares`: the pseudoinverse of an operator by products alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.declaration import declare, tree
from linops.linalg.inputs import result_dtype, wide_dtype
from linops.linalg.methods.iterative import Iterative, Recipe, require_convergence
from linops.linalg.methods.loop import iterate
from linops.linalg.methods.lsmr import LSMR
from linops.operator import LinearOperator, flat
from linops.plan.step import Step
from linops.tags import Knowledge, Tag


@declare
class Normal(LinearOperator):
    """Aᴴ A.

    Attributes:
        base: A.
    """

    base: LinearOperator = tree()

    _has_real_leaves = False  # type: ignore[assignment]  # it takes operands of any dtype

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        n = self.base.shape[1]
        return n, n

    def _columns(self, x: Any) -> Any:
        return self.base.H @ (self.base @ flat(x))

    def _transpose(self) -> Normal:
        return Normal(self.base.conj())

    def _conj(self) -> Normal:
        return Normal(self.base.conj())

    def _lower(self, batch: int) -> tuple[Step, ...]:
        return (*self.base._lower(batch), *self.base.T._lower(batch))

    def _knowledge(self) -> Knowledge:
        return Knowledge(Tag.POSITIVE_SEMIDEFINITE)


@dataclass(frozen=True)
class NormalRecipe(Recipe):
    """Solving Aᴴ A x = c by two consistent systems, Aᴴ w = c and A x = w, as if A alone were solved with."""

    def __call__(self, M: Any, guess: Any) -> NormalRun:
        """The black box."""
        return NormalRun(self)


class NormalRun:
    """The black box of `factorizations.implicit_solve` for `Normal`.

    Attributes:
        recipe: How to solve.
        given: Nothing.
    """

    again: Any
    given: Any

    given = (None, None)

    def __init__(self, recipe: NormalRecipe) -> None:
        self.recipe = recipe

    @property
    def H(self) -> NormalRun:
        """Solving for derivatives."""
        return NormalRun(NormalRecipe(self.recipe.method, True))

    T = again = H

    def __call__(self, A: Any, c: Any) -> tuple[Any, Any]:
        """x, NaN where it did not converge; and what `Run` gives."""
        method: Iterative = self.recipe.method
        w, norms, counts, is_first = iterate(method, A.base.H, None, c, None)
        x, more_norms, more, is_second = iterate(method, A.base, None, w, None)
        space: Any = backends.namespace(backends.backend_of(c))
        norms, counts, converged = space.where(is_first, more_norms, norms), counts + more, is_first & is_second
        if self.recipe.is_derived and lapack.is_known(converged):
            require_convergence(method, A.base, x, norms, counts, converged)
        return space.where(converged, x, space.nan), (x, norms, counts, converged)


@declare
class LeastSquares(LinearOperator):
    """The pseudoinverse A⁺ by LSMR, made by `lo.linalg.pinv`: a product solves least squares.

    With more columns than rows it asks for full rank. Derivatives are those at full rank.

    Attributes:
        base: A.
        method: How to iterate.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.linalg.pinv(np.array([[1., 0.], [1., 0.], [0., 1.]]), lo.linalg.LSMR(rtol=1e-12))
        >>> (A @ np.array([1., 2., 3.])).round(9)
        array([1.5, 3. ])
    """

    base: LinearOperator = tree()
    method: LSMR = None  # type: ignore[assignment]

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        m, n = self.base.shape
        return n, m

    def _columns(self, x: Any) -> Any:
        x, A, backend = flat(x), self.base, backends.backend_of(x)
        space: Any = backends.namespace(backend)
        dtype = result_dtype(x, A)
        wide = wide_dtype(dtype, backend)
        x, A = space.astype(x, wide), A if A.dtype is None else A.to(dtype=wide)
        y = self._normal(A, A.H @ x) if A.shape[0] >= A.shape[1] else A.H @ self._normal(A.H, x)
        return space.astype(y, dtype)

    def _normal(self, A: LinearOperator, c: Any) -> Any:
        """(Aᴴ A)⁻¹ c."""
        y, others = lapack.implicit_solve(c, Normal(A), NormalRun(NormalRecipe(self.method)))
        if lapack.is_known(others[3]):
            require_convergence(self.method, A, *others)
        return y

    def _transpose(self) -> LeastSquares:
        return LeastSquares(self.base.T, self.method)

    def _conj(self) -> LeastSquares:
        return LeastSquares(self.base.conj(), self.method)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        return tuple(self.method.steps(self.base, batch, True))

    def _detail(self) -> str:
        return str(self.method)
