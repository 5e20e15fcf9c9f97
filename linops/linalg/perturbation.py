"""First derivatives of a few eigenvectors that an iteration found."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.methods.minres import MINRES
from linops.linalg.parts import adjoint
from linops.linalg.solving import solve
from linops.operator import LinearOperator, assume, flat
from linops.operators.function import Function
from linops.tags import Tag


def moving(A: LinearOperator, constant: LinearOperator, V: Any, w: Any) -> Any:
    """Eigenvectors V of a Hermitian operator, with first derivatives in it.

    dV = V C − Z with C_ij = v_iᴴ dA v_j / (w_j − w_i), 0 where that divides by what rounding leaves, and, for
    P = I − V Vᴴ, P (A − w_j) P z_j = P dA v_j. MINRES solves that when a derivative is taken; for the value there is
    nothing to solve.

    Args:
        A: The operator.
        constant: The same without derivatives.
        V: (n, k) eigenvectors, orthonormal, as constants.
        w: (k,) eigenvalues, as constants.

    Returns:
        V, in value.
    """
    space: Any = backends.namespace(backends.backend_of(V))
    n, k = V.shape
    image = flat(A @ V)
    change = image - lapack.stop_gradient(image)  # zero, with the derivative dA V

    inside = adjoint(V) @ change
    gaps = w[None, :] - w[:, None]
    apart = space.abs(gaps) > n * space.finfo(w.dtype).eps * space.max(space.abs(w))
    inside = inside * space.where(apart, 1 / space.where(apart, gaps, 1 + 0 * gaps), 0 * gaps)

    def outside(x: Any) -> Any:
        return x - V @ (adjoint(V) @ x)

    def product(x: Any) -> Any:
        columns = x.reshape(n, k)
        beyond = outside(columns)
        moved = outside(flat(constant @ beyond) - beyond * w)
        return (moved + columns - beyond).reshape(x.shape)

    shifted = Function((n * k, n * k), product, product, complex_entries=A._is_complex, runs_on=A.backend)
    shifted = assume(shifted, Tag.HERMITIAN)
    z = solve(shifted, outside(change).reshape(n * k), MINRES(rtol=None)).reshape(n, k)
    return V + V @ inside - z
