"""ScipyOperator: a scipy.sparse.linalg.LinearOperator as an operator; made by `aslinearoperator`."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import scipy  # whose submodules load when they are first used

from linops import backends
from linops.declare import declare, remembered
from linops.operator import LinearOperator, flat
from linops.plan.step import Step


@declare
class ScipyOperator(LinearOperator):
    """The operator of a `scipy.sparse.linalg.LinearOperator`, on NumPy alone. Cost: unknown, counted as none.

    Attributes:
        operator: scipy's operator; T and H need its rmatvec.

    Example:
        >>> import linops as lo, numpy as np, scipy.sparse.linalg
        >>> scipys = scipy.sparse.linalg.LinearOperator((2, 2), matvec=lambda x: 3 * x, dtype=float)
        >>> (lo.aslinearoperator(scipys) + lo.Identity(2)) @ np.ones(2)
        array([4., 4.])
    """

    operator: Any

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        m, n = self.operator.shape
        return int(m), int(n)

    _home: ClassVar[str | None] = "numpy"

    @property
    def dtype(self) -> Any:
        """The dtype that scipy's operator states."""
        return np.dtype(self.operator.dtype)

    @property
    def _is_complex(self) -> bool:
        return self.dtype.kind == "c"

    @remembered
    def _loops(self) -> bool:
        return _loops(self.operator, adjoint=False)

    def _columns(self, x: Any) -> Any:
        x = flat(x)
        return backends.map_columns(x, self.operator.matvec) if self._loops else backends.applied(x, self.operator.matmat)

    def _vector(self, x: Any) -> Any:
        return backends.applied(x, self.operator.matvec)

    def _transpose(self) -> ScipyOperator:
        return ScipyOperator(self.operator.T)

    def _conj(self) -> ScipyOperator:
        return ScipyOperator(self.operator.H.T) if self._is_complex else self

    def _lower(self, batch: int) -> tuple[Step, ...]:
        m, n = self.shape
        return (Step("scipy", f"{type(self.operator).__name__} × ({n}, {batch}), work unknown", inputs=n * batch, outputs=m * batch),)

    def _detail(self) -> str:
        return type(self.operator).__name__


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
