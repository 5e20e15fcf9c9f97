"""scipy's linear operators as operators (ScipyOperator, `aslinearoperator`), and operators as scipy's (`to_scipy`)."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

import numpy as np
import scipy  # whose submodules load when they are first used

from linops import backends
from linops.declaration import declare, remembered
from linops.habits import adjoint_product
from linops.operator import LinearOperator, exported, flat
from linops.plan.step import Step


@declare
class ScipyOperator(LinearOperator):
    """The operator of a `scipy.sparse.linalg.LinearOperator`, on NumPy alone. Cost: unknown, counted as none.

    Attributes:
        operator: scipy's operator, or what looks like one (a `shape` and a `matvec`, as in pylops and lazylinop); T and
            H need its rmatvec.

    Raises:
        TypeError: If its dtype is not NumPy's.

    Example:
        >>> import linops as lo, numpy as np, scipy.sparse.linalg
        >>> scipys = scipy.sparse.linalg.LinearOperator((2, 2), matvec=lambda x: 3 * x, dtype=float)
        >>> (lo.aslinearoperator(scipys) + lo.Identity(2)) @ np.ones(2)
        array([4., 4.])
    """

    operator: Any

    def __post_init__(self) -> None:
        dtype = getattr(self.operator, "dtype", None)
        try:
            np.dtype(dtype)
        except TypeError:
            raise TypeError(
                f"ScipyOperator: {type(self.operator).__name__} of shape {self.operator.shape} has dtype {dtype}; "
                "operators of other libraries run on NumPy, and lo.Function takes callables of torch and JAX"
            ) from None

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        m, n = self.operator.shape
        return int(m), int(n)

    _home: ClassVar[str | None] = "numpy"

    @remembered
    def _scipy(self) -> Any:
        """The operator as scipy's, which checks operands and results; one without a dtype multiplies zeros for it."""
        given = self.operator
        if isinstance(given, scipy.sparse.linalg.LinearOperator):
            return given
        methods = {name: getattr(given, name, None) for name in ("matvec", "rmatvec", "matmat", "rmatmat")}
        dtype = getattr(given, "dtype", None)
        if dtype is None:
            dtype = np.asarray(given.matvec(np.zeros(self.shape[1]))).dtype
        return scipy.sparse.linalg.LinearOperator(self.shape, dtype=np.dtype(dtype), **methods)

    @property
    def dtype(self) -> Any:
        """The dtype that the operator states."""
        return np.dtype(self._scipy.dtype)

    @property
    def _is_complex(self) -> bool:
        return self.dtype.kind == "c"

    @remembered
    def _loops(self) -> bool:
        return _loops(self._scipy, adjoint=False)

    def _columns(self, x: Any) -> Any:
        x = flat(x)
        return backends.map_columns(x, self._scipy.matvec) if self._loops else backends.applied(x, self._scipy.matmat)

    def _vector(self, x: Any) -> Any:
        return backends.applied(x, self._scipy.matvec)

    def _transpose(self) -> ScipyOperator:
        return ScipyOperator(self._scipy.T)

    def _conj(self) -> ScipyOperator:
        return ScipyOperator(self._scipy.H.T) if self._is_complex else self

    def _lower(self, batch: int) -> tuple[Step, ...]:
        m, n = self.shape
        return (
            Step(
                "scipy",
                f"{type(self.operator).__name__} × ({n}, {batch}), work unknown",
                inputs=n * batch,
                outputs=m * batch,
            ),
        )

    def _detail(self) -> str:
        return type(self.operator).__name__


def imported(value: Any) -> LinearOperator:
    """The operator of scipy's, or of one that looks like it; of what `to_scipy` made, the operator it was made of.

    Args:
        value: The other library's operator.

    Returns:
        The operator.
    """
    original: Any = getattr(value, "_linops", None)
    # else scipy's has a dtype that it has not
    known = isinstance(original, LinearOperator) and original.dtype is not None
    return original if known else ScipyOperator(value)


@exported.dispatch
def _exported(a: LinearOperator):
    return _exported_class()(a)


@cache
def _exported_class() -> Any:
    """The class of what `to_scipy` makes; its base is not loaded before it is asked for."""

    class Exported(scipy.sparse.linalg.LinearOperator):
        """An operator of linops as scipy's."""

        def __init__(self, operator: LinearOperator) -> None:
            super().__init__(operator.dtype or (np.complex128 if operator._is_complex else np.float64), operator.shape)
            self.args = ()  # as scipy's own have it
            self._linops = operator

        def _matvec(self, x: Any) -> Any:
            return self._linops @ x

        _matmat = _matvec

        def _rmatvec(self, y: Any) -> Any:
            return adjoint_product(self._linops, y)

        _rmatmat = _rmatvec

        def _transpose(self) -> Any:
            return Exported(self._linops.T)

        def _adjoint(self) -> Any:
            return Exported(self._linops.H)

        def dot(self, x: Any) -> Any:
            """The product; of another operator of linops one of linops."""
            return self._linops @ x if isinstance(x, LinearOperator) else super().dot(x)

        def __reduce__(self) -> Any:
            return exported, (self._linops,)

        def __repr__(self) -> str:
            return f"<{self._linops._short()} as scipy's>"

    return Exported


def _loops(operator: Any, adjoint: bool) -> bool:
    """Whether scipy multiplies by calls of a matvec, one a column, and trusts each to return another array."""
    kind, base = type(operator), scipy.sparse.linalg.LinearOperator
    if kind.__module__.startswith("scipy."):
        implementation = f"_CustomLinearOperator__{'rmatmat' if adjoint else 'matmat'}_impl"
        if hasattr(operator, implementation):
            return getattr(operator, implementation) is None
        adjoint ^= kind.__name__ in ("_AdjointLinearOperator", "_TransposedLinearOperator")
        return any(_loops(part, adjoint) for part in getattr(operator, "args", ()) if isinstance(part, base))
    return kind._rmatmat is base._rmatmat if adjoint else kind._matmat is base._matmat
