"""`SuperLU`: elimination of a sparse operator that keeps it sparse, SciPy's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # whose submodules load when they are first used

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.inputs import singular
from linops.linalg.methods.black_box import BlackBox
from linops.linalg.methods.method import Method
from linops.operator import LinearOperator
from linops.plan.step import Step
from linops.tags import Tag


class Eliminated(BlackBox):
    """P A Q = L U."""

    def prepare(self, A: Any) -> Any:
        """L and U where there are numbers, else nothing: they are made beside the right-hand sides."""
        if not lapack.is_known(A.values):
            return None
        return factored(A, backends.to_numpy(lapack.stop_gradient(A.values)))

    def run(self, A: Any, prepared: Any, b: Any) -> Any:
        """By substitution, in double precision where b is narrower."""

        def solved(b: np.ndarray, values: np.ndarray) -> np.ndarray:
            factors = factored(A, values) if prepared is None else prepared
            dtype = np.result_type(b, values, np.float64)
            return factors.solve(np.ascontiguousarray(b, dtype)).astype(b.dtype)

        return lapack.on_numpy(b, solved, (A.values,))

    def slogdet(self) -> tuple[Any, Any]:
        """Not by this method: its permutations have no sign at hand."""
        raise NotImplementedError


def factored(A: Any, values: np.ndarray) -> Any:
    """SciPy's factors of a Sparse operator with other values, in double precision.

    Args:
        A: The operator, whose places and tags count.
        values: NumPy's numbers.

    Returns:
        SciPy's `SuperLU`.

    Raises:
        SingularError: If a pivot is zero.
    """
    rows, columns = (backends.to_numpy(one) for one in (A.rows, A.columns))
    values = values.astype(np.result_type(values, np.float64))
    matrix = scipy.sparse.csc_matrix((values, (rows, columns)), shape=A.shape)
    how: Any = {}
    if (Tag.LOWER_TRIANGULAR | Tag.UPPER_TRIANGULAR) & A.tags.yes:  # as it stands: substitution, without fill-in
        how = {"permc_spec": "NATURAL", "diag_pivot_thresh": 0.0}
    elif Tag.POSITIVE_DEFINITE in A.tags.yes:  # no pivots: an order for the pattern of A + Aᵀ has a third of the work
        how = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
    try:
        return scipy.sparse.linalg.splu(matrix, **how)
    except RuntimeError:
        raise singular(A, "elimination meets a pivot of zero") from None


@dataclass(frozen=True)
class SuperLU(Method):
    """Elimination of a `lo.Sparse` operator by SuperLU, in double precision; torch and JAX hand it their numbers.

    Of one that is tagged positive definite without pivoting, in an order for symmetric patterns; of a triangular one
    as it stands.
    """

    of_structure = True

    def factor(self, A: LinearOperator, kept: bool) -> Eliminated:
        """Sparse L and U; SingularError where a pivot is zero."""
        return Eliminated(A)

    def steps(self, A: LinearOperator, batch: int, kept: bool) -> Iterable[Step]:
        """Without fill-in, which only elimination tells."""
        n, count = A.shape[0], A.num_params
        yield Step(
            "superlu",
            f"({n}, {n}) \\ ({n}, {batch}), at least",
            macs=count * batch,
            inputs=count + n * batch,
            outputs=n * batch,
        )
