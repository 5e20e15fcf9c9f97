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
from linops.linalg.parts import norms as column_norms
from linops.operator import LinearOperator, flat
from linops.operators.block import vstack
from linops.operators.diagonal import Diagonal
from linops.plan.step import Step
from linops.tags import Knowledge, Tag

_ADVICE = "a larger rtol, more max_iterations or a damp, or lo.linalg.SVD() of a matrix that can be written out"


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

    def __call__(self, reference: Any, shift: Any) -> NormalRun:
        """The black box."""
        return NormalRun(self, reference, shift)


class NormalRun:
    """The black box of `factorizations.implicit_solve` for `Normal`.

    Attributes:
        recipe: How to solve.
        given: Of which norms the first tolerance is a share, and what is to be added to w before its norm is one; or
            None and None.
    """

    again: Any
    given: Any

    def __init__(self, recipe: NormalRecipe, reference: Any = None, shift: Any = None) -> None:
        self.recipe, self.given = recipe, (reference, shift)

    @property
    def H(self) -> NormalRun:
        """Solving for derivatives."""
        return NormalRun(NormalRecipe(self.recipe.method, True))

    T = again = H

    def __call__(self, A: Any, c: Any) -> tuple[Any, Any]:
        """x, NaN where it did not converge; and what `Run` gives."""
        method: Iterative = self.recipe.method
        reference, shift = self.given
        w, norms, counts, is_first = iterate(method, A.base.H, None, c, None, reference)
        size = None if shift is None else column_norms(w + shift)
        spent = None if method.max_iterations is None else counts
        x, more_norms, more, is_second = iterate(method, A.base, None, w, None, size, spent)
        space: Any = backends.namespace(backends.backend_of(c))
        counts = more if spent is not None else counts + more
        norms, converged = space.where(is_first, more_norms, norms), is_first & is_second
        if self.recipe.is_derived and lapack.is_known(converged):
            require_convergence(method, A.base, x, norms, counts, converged, _ADVICE)
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
        return self.solved(flat(x), None)[0]

    def solved(self, b: Any, guess: Any) -> tuple[Any, Any]:
        """The solutions of least squares.

        Args:
            b: Right-hand sides, (m, k).
            guess: Where to begin, (n, k), or None. Of all solutions it is then the one nearest to that.

        Returns:
            The solutions (n, k), and the number of iterations of each and whether it converged.

        Raises:
            ConvergenceError: If one does not, and numbers can be looked at.
        """
        A, backend = self.base, backends.backend_of(b)
        space: Any = backends.namespace(backend)
        dtype = result_dtype(b, A)
        wide = wide_dtype(dtype, backend)
        A = A if A.dtype is None else A.to(dtype=wide)
        b = space.astype(b, wide)
        guess = None if guess is None else lapack.stop_gradient(space.astype(guess, wide))
        if self.method.damp:
            A, b = _damped(A, b, self.method.damp)
        image = None if guess is None else A @ guess
        r = b if image is None else b - image
        is_tall = A.shape[0] >= A.shape[1]

        def whole(y: Any) -> Any:
            found = flat(y if is_tall else A.H @ y)
            return found if guess is None else found + guess

        base = A if is_tall else A.H
        c, first = (A.H @ r, A.H @ b) if is_tall else (r, b)
        given = (
            (None, None) if guess is None else (column_norms(lapack.stop_gradient(first)), image if is_tall else guess)
        )
        y, others = lapack.implicit_solve(c, Normal(base), NormalRun(NormalRecipe(self.method), *given))
        last, norms, counts, converged = others
        if lapack.is_known(converged):
            last = space.astype(whole(last), dtype)
            require_convergence(self.method, self.base, last, norms, counts, converged, _ADVICE)
        return space.astype(whole(y), dtype), (counts, converged)

    def _transpose(self) -> LeastSquares:
        return LeastSquares(self.base.T, self.method)

    def _conj(self) -> LeastSquares:
        return LeastSquares(self.base.conj(), self.method)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        return tuple(self.method.steps(self.base, batch, True))

    def _detail(self) -> str:
        return str(self.method)


def _damped(A: LinearOperator, b: Any, damp: float) -> tuple[LinearOperator, Any]:
    """The operator of A and d I on top of each other, and b above zeros: least squares of these are damped."""
    n = A.shape[1]
    below = Diagonal(backends.zeros(b, (n,), b.dtype if A.dtype is None else A.dtype) + damp)
    return vstack(A, below), backends.concatenate(b, [backends.zeros(b, (n, b.shape[1]), b.dtype)])
