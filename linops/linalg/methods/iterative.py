"""What iterative methods share: their settings, and what they make of an operator."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from inspect import isfunction
from typing import Any, ClassVar

from linops import backends
from linops.backends import factorizations as lapack
from linops.checks import callable_name
from linops.linalg.errors import ConvergenceError
from linops.linalg.methods.loop import System, iterate
from linops.linalg.methods.method import Factor, Method
from linops.linalg.parts import is_constant
from linops.linalg.preconditioners import Preconditioner
from linops.operator import LinearOperator, flat
from linops.operators.wrap import aslinearoperator
from linops.plan.step import Step

_ADVICE = "a larger rtol, more max_iterations or a preconditioner, such as lo.linalg.Jacobi(), or another method"


@dataclass(frozen=True)
class Iterative(Method):
    """A method that iterates until ‖b − A x‖ ≤ max(rtol ‖b‖, atol), for each right-hand side.

    Attributes:
        rtol: The tolerance as a share of ‖b‖; None is 1e-10 in double precision and 1e-5 in single.
        atol: The tolerance as a number.
        max_iterations: The most iterations a right-hand side; None is 10 n.
        preconditioner: An approximate inverse of A: an operator or matrix, or what makes one of A, such as
            `lo.linalg.Jacobi()`. It has no derivative.
        callback: A function called after each iteration with the number of those so far and the norms of the residuals,
            by the method's recursion, one a right-hand side.
        advice: What to take where it does not converge.
    """

    iterates: ClassVar[bool] = True
    advice: ClassVar[str] = _ADVICE

    rtol: float | None = 1e-6
    atol: float = 0.0
    max_iterations: int | None = None
    preconditioner: Any = None
    callback: Callable[[int, Any], object] | None = None

    def __post_init__(self) -> None:
        name = type(self).__name__
        for key, value in (("rtol", 0.0 if self.rtol is None else self.rtol), ("atol", self.atol)):
            if not value >= 0:
                raise ValueError(f"{name}: {key} must not be negative, got {value!r}")
        if self.max_iterations is not None and self.max_iterations < 0:
            raise ValueError(f"{name}: max_iterations must not be negative, got {self.max_iterations!r}")
        if self.callback is not None and not callable(self.callback):
            raise TypeError(f"{name}: callback must be a function of (iterations, residuals), got {self.callback!r}")
        M = self.preconditioner
        if M is not None and not isinstance(M, (Preconditioner, LinearOperator)):
            if isinstance(M, type):
                raise TypeError(f"{name}: preconditioner {M.__name__} is a class; call it, as in {M.__name__}()")
            if isfunction(M) or isinstance(M, partial):
                raise TypeError(
                    f"{name}: preconditioner must be an operator, got the function {callable_name(M)}; "
                    "lo.Function((n, n), f) is the operator of a function f"
                )
            object.__setattr__(self, "preconditioner", aslinearoperator(M))

    # ------------------------------------------------------------ what a method says

    def length(self, n: int, limit: int) -> int:
        """The most iterations before it begins again from the residual."""
        return limit

    def admit(self, A: LinearOperator) -> None:
        """Raise where the method is not for an operator."""

    def begin(self, system: System, x: Any, r: Any, norm: Any) -> Any:
        """The state at iterates x (n, k), residuals r and their norms: a tuple of arrays with a field ``norm``."""
        raise NotImplementedError

    def advance(self, system: System, state: Any, step: Any, going: Any) -> Any:
        """The state after one more iteration, the step-th; columns that are not going are thrown away."""
        raise NotImplementedError

    def keep(self, kept: Any, new: Any, old: Any) -> Any:
        """The new state in the columns to keep, the old one in the others."""
        if lapack.is_known(kept) and bool(kept.all()):
            return new
        space: Any = backends.namespace(backends.backend_of(kept))
        return type(new)(*[space.where(kept, one, other) for one, other in zip(new, old)])

    def end(self, system: System, state: Any) -> Any:
        """The iterates of a state."""
        return state.x

    # ------------------------------------------------------------ as a method of solving

    def factor(self, A: LinearOperator, kept: bool) -> Iteration:
        """The operator and its preconditioner."""
        self.admit(A)
        return Iteration(self, A)

    def steps(self, A: LinearOperator, batch: int, kept: bool) -> Iterable[Step]:
        """One iteration's products; how many there are is not known before."""
        (m, n), cost = A.shape, A.cost(batch)
        yield Step(
            f"{type(self).__name__}, each iteration",
            f"({m}, {n}) @ ({n}, {batch})",
            macs=cost.macs,
            inputs=A.num_params + n * batch,
            outputs=m * batch,
        )


@dataclass(frozen=True)
class Recipe:
    """Solving by a method, without the arrays that it takes, which are given later."""

    method: Iterative
    is_derived: bool = False

    def __call__(self, M: Any, guess: Any) -> Run:
        """With a preconditioner, or None, and where to begin, or None."""
        return Run(self, M, guess)


class Run:
    """The black box of `factorizations.implicit_solve`.

    Attributes:
        recipe: How to solve.
        given: The preconditioner and where to begin.
    """

    given: Any
    recipe: Any

    def __init__(self, recipe: Recipe, M: LinearOperator | None, guess: Any = None) -> None:
        self.recipe, self.given = recipe, (M, guess)

    def _with(self, M: LinearOperator | None) -> Run:
        return Run(replace(self.recipe, is_derived=True), M)

    @property
    def H(self) -> Run:
        """Solving with Aᴴ."""
        return self._with(None if self.given[0] is None else self.given[0].H)

    @property
    def T(self) -> Run:
        """Solving with Aᵀ."""
        return self._with(None if self.given[0] is None else self.given[0].T)

    @property
    def again(self) -> Run:
        """Solving with A for derivatives."""
        return self._with(self.given[0])

    def __call__(self, A: LinearOperator, b: Any) -> tuple[Any, Any]:
        """x, NaN where it did not converge; the last iterates, norms of residuals, iterations, and what converged."""
        method, (M, guess) = self.recipe.method, self.given
        if M is None and method.preconditioner is not None:
            M = method.preconditioner.of(A)
        x, norms, counts, converged = iterate(method, A, M, b, guess)
        if self.recipe.is_derived and lapack.is_known(converged):
            require_convergence(method, A, x, norms, counts, converged)
        space: Any = backends.namespace(backends.backend_of(b))
        return space.where(converged, x, space.nan), (x, norms, counts, converged)


class Iteration(Factor):
    """An operator, and its preconditioner where that may be made once."""

    method: Any

    def __init__(self, method: Iterative, A: LinearOperator) -> None:
        self.A = A
        self.is_constant: bool = is_constant(A)
        M = method.preconditioner
        if isinstance(M, LinearOperator):
            if M.shape != A.shape[::-1] and M.shape != (A.shape[1],) * 2:
                raise ValueError(f"{method}: the preconditioner {M._short()} does not fit {A._short()}")
            if M.backend is not None and A.backend is not None and M.backend != A.backend:
                raise TypeError(
                    f"{method}: the preconditioner {M._short()} and {A._short()} have mixed backends; "
                    f"convert one, as in M.to(backend={A.backend!r})"
                )
            if M.dtype is not None and A.dtype is not None and M.dtype != A.dtype:
                M = M.to(dtype=backends.result_type(A.backend, M.dtype, A.dtype))
            method = replace(method, preconditioner=None)
        elif M is not None and self.is_constant:
            M = M.of(A)
            method = replace(method, preconditioner=None)
        else:
            M = None
        self.method, self.M = method, M

    def solve(self, b: Any, transposed: bool) -> Any:
        """A⁻¹ b or A⁻ᵀ b."""
        return self.solve_from(b, transposed, None)[0]

    def solve_from(self, b: Any, transposed: bool, guess: Any, share: float = 1.0) -> tuple[Any, tuple[Any, Any, Any]]:
        """A⁻¹ b or A⁻ᵀ b; and for each right-hand side the residual's norm, iterations, and whether it converged.

        Of the tolerance atol each may take a share.
        """
        A, M = (self.A.T, None if self.M is None else self.M.T) if transposed else (self.A, self.M)
        guess = None if guess is None else lapack.stop_gradient(guess)
        x, (last, norms, counts, converged) = lapack.implicit_solve(
            b, A, Run(Recipe(replace(self.method, atol=self.method.atol * share)), M, guess)
        )
        if lapack.is_known(converged):
            require_convergence(self.method, A, last, norms, counts, converged)
        return flat(x), (norms, counts, converged)


def require_convergence(
    method: Iterative, A: LinearOperator, x: Any, norms: Any, counts: Any, converged: Any, advice: str | None = None
) -> None:
    """Raise ConvergenceError unless all right-hand sides converged."""
    if bool(converged.all()):
        return
    failed = int((~converged).sum())
    count = int(counts.max())
    raise ConvergenceError(
        f"{method} did not converge on {A._short()}: {failed} of {len(converged)} right-hand side"
        f"{'' if len(converged) == 1 else 's'}, after {count} iterations, with a residual of norm "
        f"{float(norms[~converged].max()):.3g}. Take {advice or method.advice}",
        x,
        norms,
        count,
    )
