"""`HermitianFunction`: f(A) of a Hermitian operator of which only products are taken, by Chebyshev polynomials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.backends.matrix_functions import repeated
from linops.declaration import declare, remembered, tree
from linops.linalg.errors import ConvergenceError
from linops.linalg.exponential import alike
from linops.linalg.inputs import floating, wide_dtype, wide_operator
from linops.linalg.norm_bounds import norm_bound
from linops.operator import LinearOperator, flat
from linops.plan.step import Step
from linops.tags import Knowledge, Tag


@declare
class HermitianFunction(LinearOperator):
    """The function f(A) of a Hermitian operator, which `lo.linalg.funm` makes of a large one: no matrix is formed.

    A product is that of the Chebyshev series of f over an interval that holds the spectrum, as long as its last
    coefficients are 100 roundings of the largest (Trefethen, Approximation Theory and Practice, §8). Derivatives are
    those of the polynomial, of any order and also where eigenvalues coincide, as those of Lanczos' iteration are not.

    Cost: a product with A a coefficient, for a matrix of vectors as for one: about half the length of the interval for
    an exponential, many for functions with a singularity near the interval.

    Attributes:
        base: A, known to be Hermitian.
        function: f, of an array of real numbers of A's framework.
        spectrum: (lowest, highest), which all eigenvalues are between; None takes a bound of the norm, and 0 as the
            lowest of a positive semidefinite A.
        limit: The most coefficients; as many run where numbers cannot be looked at, as in `jax.jit`.
        conjugated: Whether it is conjugated.

    Raises:
        ValueError: If A is not known to be Hermitian.
        ConvergenceError: In a product, if f takes more coefficients; where numbers cannot be looked at, the result is
            NaN.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.Diagonal(np.array([0., 1., 2.]))
        >>> (lo.linalg.HermitianFunction(A, np.cos) @ np.ones(3)).round(12) + 0.
        array([ 1.        ,  0.54030231, -0.41614684])
    """

    base: LinearOperator = tree()
    function: Callable[..., Any] = None  # type: ignore[assignment]
    spectrum: tuple[float, float] | None = None
    limit: int = 512
    conjugated: bool = False

    def __post_init__(self) -> None:
        if Tag.HERMITIAN not in self.base.tags.yes:
            raise ValueError(
                f"HermitianFunction({self.base._short()}): it is not known to be Hermitian; "
                "lo.assume(A, lo.Tag.HERMITIAN) declares it"
            )

    _has_real_leaves = False  # type: ignore[assignment]  # it takes operands of any dtype

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        return self.base.shape

    @remembered
    def _wide(self) -> LinearOperator:
        """A of floating numbers, of single precision at least."""
        return wide_operator(floating(self.base))

    @remembered
    def _is_complex(self) -> bool:
        return self.base._is_complex or self._makes_complex

    @remembered
    def _makes_complex(self) -> bool:
        """Whether f makes real numbers complex."""
        if self.is_symbolic:
            return False
        like = self._wide._like
        one = backends.zeros(like, (1,), backends.real_dtype(like.dtype, backends.backend_of(like)))
        return backends.is_complex(self.function(one + sum(self.spectrum or (0.0, 2.0)) / 2).dtype)

    def _interval(self) -> tuple[Any, Any]:
        if self.spectrum is not None:
            return self.spectrum
        high = norm_bound(self._wide)
        return (0 * high if Tag.POSITIVE_SEMIDEFINITE in self.base.tags.yes else -high), high

    def _coefficients(self, low: Any, high: Any, count: int, like: Any) -> Any:
        """As many coefficients of the series."""
        angles = (np.arange(count) + 0.5) * np.pi / count
        points = backends.constant(like, np.cos(angles), like.dtype)
        found = self.function((low + high) / 2 + (high - low) / 2 * points)
        found = backends.conj(found) if self.conjugated else found
        table = np.cos(np.arange(count)[:, None] * angles) * (2 / count)
        table[0] /= 2
        return backends.constant(like, table, found.dtype) @ found

    def _series(self, low: Any, high: Any, like: Any) -> tuple[Any, Any]:
        """The coefficients, as many as it takes; and whether those suffice."""
        space: Any = backends.namespace(backends.backend_of(like))
        eps, count, known = space.finfo(like.dtype).eps, 16, lapack.is_known(like)
        known = known and all(lapack.is_known(one) for one in (low, high) if backends.is_array(one))
        while True:
            count = min(count * 2, self.limit) if known else self.limit
            found = self._coefficients(low, high, count, like)
            sizes = space.abs(lapack.stop_gradient(found))
            right = space.amax(sizes[-max(count // 8, 2) :]) <= 100 * eps * space.amax(sizes)
            if not known or not lapack.is_known(right) or count >= self.limit:
                return found, right
            if bool(right):
                needed = np.flatnonzero(backends.to_numpy(sizes) > eps * float(space.amax(sizes)))
                return found[: max(2, int(needed[-1]) + 1 if len(needed) else 2)], right

    def _columns(self, x: Any) -> Any:
        x, base = flat(x), self._wide
        if not x.shape[0] or not x.shape[1]:
            return x
        backend = backends.backend_of(x)
        space: Any = backends.namespace(backend)
        own = () if self.dtype is None else (self.dtype,)
        dtype = backends.result_type(backend, x.dtype, *own, 1j if self._is_complex else 1.0)
        wide = wide_dtype(dtype, backend)
        inner = wide
        if self._makes_complex and not self.base._is_complex and not backends.is_complex(x.dtype):
            inner = backends.real_dtype(wide, backend)
        x, base = x if x.dtype == inner else space.astype(x, inner), alike(base, inner)
        low, high = self._interval()
        like = backends.zeros(x, (1,), backends.real_dtype(wide, backend))
        if backends.is_array(high) and high.dtype != like.dtype:
            low, high = space.astype(low, like.dtype), space.astype(high, like.dtype)
        series, right = self._series(low, high, like)
        middle, half = (low + high) / 2, (high - low) / 2
        half = half + (half == 0)

        def moved(x: Any) -> Any:
            y = (flat(base._columns(x)) - middle * x) / half
            return y if y.dtype == inner else space.astype(y, inner)

        def term(k: Any, state: Any) -> Any:
            before, last, total = state
            following = 2 * moved(last) - before
            return last, following, total + series[k + 2] * following

        first = moved(x)
        total = series[0] * x + series[1] * first
        total = total if total.dtype == wide else space.astype(total, wide)
        count = series.shape[0] - 2
        *_, y = repeated(x, term, (x, first, total), count, count)
        if not lapack.is_known(right):
            y = space.where(right, y, space.nan)
        elif not bool(right):
            raise ConvergenceError(
                f"{self._short()}: {series.shape[0]} coefficients over ({float(low):.3g}, {float(high):.3g}) do not "
                "suffice; where f is singular in there, give the interval of the eigenvalues, as in "
                "lo.linalg.HermitianFunction(A, f, spectrum=(0.1, 4.0)), or more of them, limit=…",
                y,
            )
        return y if y.dtype == dtype else space.astype(y, dtype)

    def _with(self, base: LinearOperator, conjugated: bool) -> HermitianFunction:
        return HermitianFunction(base, self.function, self.spectrum, self.limit, conjugated)

    def _transpose(self) -> HermitianFunction:
        return self._with(self.base.T, self.conjugated)

    def _conj(self) -> HermitianFunction:
        return self._with(self.base.conj(), not self.conjugated)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        cost, n = self.base.cost(batch), self.shape[0]
        return (
            Step(
                "chebyshev",
                f"at most {self.limit} products",
                macs=self.limit * cost.macs,
                other_flops=self.limit * (cost.flops - 2 * cost.macs + 6 * n * batch),
                inputs=self.limit * n * batch,
                weights=self.num_params,
                outputs=n * batch,
            ),
        )

    def _knowledge(self) -> Knowledge:
        kept = self.base.tags.yes & (Tag.SYMMETRIC | Tag.DIAGONAL)
        return Knowledge(kept if self._makes_complex else kept | Tag.HERMITIAN)

    def _detail(self) -> str:
        return getattr(self.function, "__name__", "function")
