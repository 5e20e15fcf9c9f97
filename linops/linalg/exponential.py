"""`Exponential`: e^A of an operator of which only products are taken."""

from __future__ import annotations

from math import ceil
from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.backends.matrix_functions import repeated
from linops.declaration import declare, remembered, tree
from linops.linalg.errors import ConvergenceError
from linops.linalg.inputs import floating, wide_dtype, wide_operator
from linops.linalg.norm_bounds import norm_bound
from linops.operator import LinearOperator, flat
from linops.plan.step import Step
from linops.tags import Knowledge, Tag

#: m → of which norms m terms of the Taylor series of e^A are exact to 2^-53 of the norm; Al-Mohy & Higham, table 3.1
THETA = {5: 2.40e-3, 10: 1.44e-1, 15: 6.41e-1, 20: 1.44, 25: 2.43, 30: 3.54}
_TERMS = max(THETA)


def alike(base: LinearOperator, dtype: Any) -> LinearOperator:
    """An operator in the dtype of what it is applied to again and again, where the framework mixes none.

    Args:
        base: The operator.
        dtype: The dtype.

    Returns:
        An operator.
    """
    mixes = base.dtype is None or backends.promotes(base.backend)
    return base if mixes or all(leaf.dtype == dtype for _, leaf in base.named_leaves()) else base.to(dtype=dtype)


@declare
class Exponential(LinearOperator):
    """The exponential e^A of a square operator, which `lo.linalg.expm` makes of a large one: no matrix is formed.

    A product is s times the Taylor polynomial of e^(A/s) of m terms, with s and m from a bound of the norm, so that the
    error is a few roundings of double precision times e^(‖A‖/s) ≤ 34 (Al-Mohy & Higham, Computing the action of the
    matrix exponential, 2011). The transpose is the exponential of the transpose. The derivatives are those of the
    polynomial, of any order. Where numbers cannot be looked at, as in `jax.jit`, s is found as the program runs.

    Cost: about 9 ‖A‖ products with A, at least 5, for a matrix of vectors as for one.

    Attributes:
        base: A.
        limit: The most products with A that one product may take.

    Raises:
        ValueError: If A is not square.
        ConvergenceError: In a product, if it takes more; where numbers cannot be looked at, the result is NaN.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.linalg.Exponential(lo.Dense(np.array([[0., 1.], [0., 0.]])))
        >>> A @ np.array([1., 2.])
        array([3., 2.])
    """

    base: LinearOperator = tree()
    limit: int = 2000

    def __post_init__(self) -> None:
        if self.base.shape[0] != self.base.shape[1]:
            raise ValueError(f"Exponential({self.base._short()}): expected a square operator")

    _has_real_leaves = False  # type: ignore[assignment]  # it takes operands of any dtype

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        return self.base.shape

    @remembered
    def _wide(self) -> LinearOperator:
        """A of floating numbers, of single precision at least."""
        return wide_operator(floating(self.base))

    def _counts(self, norm: Any) -> tuple[Any, int]:
        """(s, m) for a norm."""
        if backends.is_array(norm) and not lapack.is_known(norm):
            space: Any = backends.namespace(backends.backend_of(norm))
            return space.clip(space.ceil(norm / THETA[_TERMS]), 1, None), _TERMS
        norm = float(norm)
        if not norm < 1e18:
            return 1, _TERMS
        return min([(max(1, ceil(norm / theta)), m) for m, theta in THETA.items()], key=lambda pair: pair[0] * pair[1])

    def _columns(self, x: Any) -> Any:
        x, base = flat(x), self._wide
        if not x.shape[0] or not x.shape[1]:
            return x
        backend, dtype = backends.backend_of(x), x.dtype
        space: Any = backends.namespace(backend)
        own = () if self.dtype is None else (self.dtype,)
        dtype = backends.result_type(backend, dtype, *own, 1j if self._is_complex else 1.0)
        wide = wide_dtype(dtype if base.dtype is None else backends.result_type(backend, dtype, base.dtype), backend)
        y = x if x.dtype == wide else space.astype(x, wide)
        base = alike(base, wide)
        norm = norm_bound(base)
        scales, terms = self._counts(norm)
        if isinstance(scales, int) and scales * terms > self.limit:
            raise self._unconverged(f"‖A‖ ≤ {float(norm):.3g} takes {scales * terms:,} products")
        tolerance = 1e3 * space.finfo(wide).eps
        real = backends.real_dtype(wide, backend)

        def term(j: Any, state: Any) -> Any:
            total, last = state
            last = flat(base._columns(last)) / (scales * (j + 1))
            last = last if last.dtype == wide else space.astype(last, wide)
            return total + last, last

        def scale(_: Any, state: Any) -> Any:
            y, worst = state
            y, last = repeated(y, term, (y, y), terms, terms)
            sizes = [space.amax(space.abs(lapack.stop_gradient(one))) for one in (last, y)]
            over = sizes[0] - tolerance * sizes[1]
            return y, space.where(over > worst, over, worst)

        limit = max(1, self.limit // terms)
        y, worst = repeated(y, scale, (y, backends.zeros(y, (1,), real)), scales, limit)
        failed = worst > 0
        if not isinstance(scales, int):
            y = space.where(failed | (scales > limit), space.nan, y)
        elif not lapack.is_known(worst):
            y = space.where(failed, space.nan, y)
        elif bool(failed):
            raise self._unconverged(f"the terms do not decrease as ‖A‖ ≈ {float(norm):.3g}, an estimate, has it", y)
        return y if y.dtype == dtype else space.astype(y, dtype)

    def _unconverged(self, why: str, y: Any = None) -> ConvergenceError:
        return ConvergenceError(
            f"{self._short()}: {why}, more than {self.limit:,}; "
            f"lo.linalg.Exponential(A, limit=…) allows more, lo.linalg.expm(A.to_dense()) takes the matrix",
            y,
        )

    def _transpose(self) -> Exponential:
        return Exponential(self.base.T, self.limit)

    def _conj(self) -> Exponential:
        return Exponential(self.base.conj(), self.limit)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        scales, terms = (1, _TERMS) if self.is_symbolic else self._counts(norm_bound(self._wide))
        count = terms * scales if isinstance(scales, int) else self.limit
        cost = self.base.cost(batch)
        n = self.shape[0]
        return (
            Step(
                "taylor",
                f"{count} products",
                macs=count * cost.macs,
                other_flops=count * (cost.flops - 2 * cost.macs + 2 * n * batch),
                inputs=count * n * batch,
                weights=self.num_params,
                outputs=count * n * batch,
            ),
        )

    def _knowledge(self) -> Knowledge:
        tags = self.base.tags.yes
        kept = tags & (Tag.SYMMETRIC | Tag.LOWER_TRIANGULAR | Tag.UPPER_TRIANGULAR | Tag.DIAGONAL)
        return Knowledge(kept | Tag.INVERTIBLE | (Tag.POSITIVE_DEFINITE if Tag.HERMITIAN in tags else Tag.NONE))
