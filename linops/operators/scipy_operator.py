"""ScipyOperator: a scipy.sparse.linalg.LinearOperator as an operator; made by `aslinearoperator`."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from linops.declare import declare
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

    def _columns(self, x: Any) -> Any:
        return self.operator.matmat(flat(x))

    def _vector(self, x: Any) -> Any:
        return self.operator.matvec(x)

    def _transpose(self) -> ScipyOperator:
        return ScipyOperator(self.operator.T)

    def _conj(self) -> ScipyOperator:
        return ScipyOperator(self.operator.H.T) if self._is_complex else self

    def _lower(self, batch: int) -> tuple[Step, ...]:
        m, n = self.shape
        return (Step("scipy", f"{type(self.operator).__name__} × ({n}, {batch}), work unknown", inputs=n * batch, outputs=m * batch),)

    def _detail(self) -> str:
        return type(self.operator).__name__
