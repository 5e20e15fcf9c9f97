"""`Schur`: Kronecker sums of any square factors, by their complex Schur forms (Bartels and Stewart, 1972)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # whose submodules load when they are first used

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.errors import SingularError
from linops.linalg.inputs import matrices_of
from linops.linalg.methods.black_box import BlackBox
from linops.linalg.methods.method import Method
from linops.operator import LinearOperator
from linops.plan.step import Step


class SchurForms(BlackBox):
    """A_k = Q_k T_k Q_kᴴ."""

    def prepare(self, A: Any) -> Any:
        """T and Q of each factor where there are numbers, else nothing."""
        matrices = matrices_of(A, A.factors)
        if not all(map(lapack.is_known, matrices)):
            return None
        return _forms([backends.to_numpy(lapack.stop_gradient(matrix)) for matrix in matrices])

    def run(self, A: Any, prepared: Any, b: Any) -> Any:
        """Into the bases, back substitution, and back."""

        def solved(b: np.ndarray, *matrices: np.ndarray) -> np.ndarray:
            forms = _forms(matrices) if prepared is None else prepared
            sizes = [len(triangle) for triangle, _ in forms]
            x = b.reshape(*sizes, b.shape[1]).astype(np.result_type(b, 1j))
            for axis, (_, basis) in enumerate(forms):
                x = np.moveaxis(np.tensordot(basis.conj().T, x, (1, axis)), 0, axis)
            x = _substituted([triangle for triangle, _ in forms], x, 0)
            if not np.isfinite(x).all() and np.isfinite(b).all():
                raise SingularError(f"{A._short()} is singular: two eigenvalues of its factors add up to zero")
            for axis, (_, basis) in enumerate(forms):
                x = np.moveaxis(np.tensordot(basis, x, (1, axis)), 0, axis)
            x = x.reshape(b.shape)
            return x.astype(b.dtype) if np.iscomplexobj(b) else np.ascontiguousarray(np.real(x), b.dtype)

        return lapack.on_numpy(b, solved, () if prepared is not None else matrices_of(A, A.factors))


def _forms(matrices: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    return [scipy.linalg.schur(np.asarray(matrix).astype(complex), output="complex") for matrix in matrices]


def _substituted(triangles: list[np.ndarray], x: np.ndarray, shift: complex) -> np.ndarray:
    """X of (T_1 ⊕ … ⊕ T_c + shift) X = B, with an axis of X a factor, and one of right-hand sides."""
    first, *rest = triangles
    n = len(first)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if not rest:
            shifted = first + shift * np.eye(n)
            if not np.diagonal(shifted).all():
                return np.full_like(x, np.nan)
            return scipy.linalg.solve_triangular(shifted, x, check_finite=False)
        x = x.copy()
        for row in range(n)[::-1]:
            known = np.tensordot(first[row, row + 1 :], x[row + 1 :], 1) if row + 1 < n else 0
            x[row] = _substituted(rest, x[row] - known, shift + first[row, row])
    return x


@dataclass(frozen=True)
class Schur(Method):
    """Kronecker sums by the Schur forms of their factors, which holds for defective ones too; on NumPy's side.

    Cost: 25 Σ n_k³ once; N Σ n_k MACs a right-hand side, four times as many in complex numbers.
    """

    of_structure = True

    def factor(self, A: LinearOperator, kept: bool) -> SchurForms:
        """The Schur forms of the factors."""
        return SchurForms(A)

    def steps(self, A: Any, batch: int, kept: bool) -> Iterable[Step]:
        """Schur forms, changes of basis and back substitution."""
        sizes, total = [factor.shape[0] for factor in A.factors], A.shape[0]
        if not kept:
            for n in sizes:
                yield Step("schur", f"({n}, {n})", macs=25 * n**3, inputs=n * n, outputs=2 * n * n)
        macs = 4 * total * batch * sum(sizes) * 5 // 2
        yield Step("substitute", f"({total}, {batch})", macs=macs, inputs=total * batch, outputs=total * batch)
