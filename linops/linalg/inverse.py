"""`Inverse`: the inverse of an operator by a method, whose factorisation is made once."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.declaration import declare, remembered, tree
from linops.linalg.inputs import fits, result_dtype, wide_dtype, wide_operator
from linops.linalg.methods.lu import LU
from linops.linalg.methods.method import Method
from linops.operator import LinearOperator, flat
from linops.operators.dense import Dense
from linops.plan.step import Step
from linops.tags import Knowledge, Tag, transposed

#: tags of A⁻¹ that are those of A
_KEPT = (
    Tag.SYMMETRIC
    | Tag.HERMITIAN
    | Tag.POSITIVE_DEFINITE
    | Tag.ORTHOGONAL
    | Tag.LOWER_TRIANGULAR
    | Tag.UPPER_TRIANGULAR
    | Tag.DIAGONAL
)


@declare
class Inverse(LinearOperator):
    """The inverse of a square operator by a method, made by `lo.linalg.inv`.

    A product solves, with the factorisation that the method made at the first product; A⁻ᵀ and A⁻ᴴ share it. Where
    derivatives are taken, or a program is traced, each product makes its own.

    Attributes:
        base: A.
        method: How to solve, such as `lo.linalg.LU()`.
        kept: Whether the factorisation serves later products, or there is one product alone.
        transposed: Whether it is A⁻ᵀ.
        conjugated: Whether it is conjugated.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.linalg.inv(np.array([[2., 1.], [1., 1.]]))
        >>> A @ np.array([3., 2.])
        array([1., 1.])
    """

    base: LinearOperator = tree()
    method: Method = None  # type: ignore[assignment]
    kept: bool = True
    transposed: bool = False
    conjugated: bool = False

    _has_real_leaves = False  # type: ignore[assignment]  # it takes operands of any dtype

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        n = self.base.shape[0]
        return n, n

    @remembered
    def _wide(self) -> LinearOperator:
        """A in a dtype that LAPACK has."""
        return wide_operator(self.base)

    def _factor(self, x: Any) -> Any:
        """What the method made of A; kept by the first of A⁻¹, A⁻ᵀ and A⁻ᴴ where it may be."""
        root = self.__dict__.get("_root", self)
        known = root.__dict__.get("_made")
        if known is not None and self.base.backend is not None:
            return known
        if (
            self.base.backend is None and not self.method.iterates and fits(self.base)
        ):  # x's framework writes out what has no arrays
            matrix = Dense(flat(self.base._columns(backends.eye(x, self.shape[0], x.dtype))))
            made = (LU() if self.method.of_structure else self.method).factor(matrix, self.kept)
        else:
            made = self.method.factor(root._wide, self.kept)
        if self.kept and not backends.is_compiling() and made.is_constant:
            root.__dict__["_made"] = made
        return made

    def _twin(self, transposed: bool, conjugated: bool) -> Inverse:
        twin = Inverse(self.base, self.method, self.kept, transposed, conjugated, assumed=self.assumed)
        twin.__dict__["_root"] = self.__dict__.get("_root", self)
        return twin

    @remembered
    def _plain(self) -> Any:
        """The dtype of right-hand sides that the method takes as they are, and gives back; None where there is none."""
        base = self.base
        if base.backend is None or self.conjugated or self.method.iterates:
            return None
        return base.dtype if wide_dtype(base.dtype, base.backend) == base.dtype else None

    def _columns(self, x: Any) -> Any:
        x = flat(x)
        if self._plain is not None and x.dtype == self._plain:  # to NumPy float64 is equal to None
            if self.kept:
                y = self._factor(x).solve(x, self.transposed)
            else:
                y = self.method.once(self.base, x, self.transposed)
            return y if y.dtype == x.dtype else self._fitting(y, x.dtype)
        return self._solved(x, None)[0]

    def _solved(self, x: Any, guess: Any) -> tuple[Any, Any]:
        """A⁻¹ x of columns, from a guess; and of an iterative method each one's residual, iterations, convergence."""
        backend, dtype = backends.backend_of(x), result_dtype(x, self.base)
        space: Any = backends.namespace(backend)
        wide = wide_dtype(result_dtype(x, self._wide), backend)
        x, guess = [one if one is None or wide == one.dtype else space.astype(one, wide) for one in (x, guess)]
        x, guess = [one if one is None or not self.conjugated else backends.conj(one) for one in (x, guess)]
        is_split = backends.is_complex(x.dtype) and not self.base._is_complex
        if is_split:  # LAPACK has no real matrix beside complex vectors
            x, guess = [
                one if one is None else backends.concatenate(space.real(one).T, [space.imag(one).T]).T
                for one in (x, guess)
            ]
        factor = self._factor(x)
        if self.method.iterates:
            y, others = factor.solve_from(x, self.transposed, guess, 0.5**0.5 if is_split else 1.0)
        else:
            y, others = factor.solve(x, self.transposed), None
        if is_split:
            k = x.shape[1] // 2
            y = y[:, :k] + 1j * y[:, k:]
            if others is not None:
                size, counts, converged = others
                others = (
                    space.hypot(size[:k], size[k:]),
                    space.maximum(counts[:k], counts[k:]),
                    converged[:k] & converged[k:],
                )
        y = backends.conj(y) if self.conjugated else y
        return (y if y.dtype == dtype else self._fitting(y, dtype)), others

    def _fitting(self, y: Any, dtype: Any) -> Any:
        """A result in a dtype; complex numbers where real ones are to be are an error."""
        if backends.is_complex(y.dtype) and not backends.is_complex(dtype):
            raise TypeError(
                f"linalg.inv({self.base._short()}): its products are complex, and it does not say so; "
                "lo.Function(…, complex_entries=True) does"
            )
        return backends.namespace(backends.backend_of(y)).astype(y, dtype)

    def _written(self, x: Any, count: int) -> Dense | None:
        """A⁻¹ written out, where it multiplies so many right-hand sides."""
        n = self.base.shape[0]
        if not self.method.writes or not 1 < n <= count or self._plain is None or x.dtype != self._plain:
            return None
        return self._factor(x).written(self.transposed)

    def _rows(self, x: Any) -> Any:
        inverse = self._written(x, x.shape[0])
        return flat(self._columns(x.T)).T if inverse is None else inverse._rows(x)

    def _stacked(self, x: Any) -> Any:
        inverse = self._written(x, x.shape[0] * x.shape[2])
        return super()._stacked(x) if inverse is None else inverse._stacked(x)

    def _transpose(self) -> Inverse:
        return self._twin(not self.transposed, self.conjugated)

    def _conj(self) -> Inverse:
        return self._twin(self.transposed, not self.conjugated) if self._is_complex else self

    def _lower(self, batch: int) -> tuple[Step, ...]:
        return tuple(self.method.steps(self.base, batch, self.kept))

    def _knowledge(self) -> Knowledge:
        kept = self.base.tags.yes & _KEPT
        return Knowledge(Tag.INVERTIBLE | (transposed(kept) if self.transposed else kept))

    def _detail(self) -> str:
        words = [str(self.method), *["transposed"] * self.transposed, *["conjugated"] * self.conjugated]
        return ", ".join(words)
