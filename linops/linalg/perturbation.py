"""First and second derivatives of a few eigenpairs that an iteration found.

Let A₀ V₀ = V₀ W, V₀ orthonormal, W diagonal, and A = A₀ + E, where E is zero in value and has the derivatives of A.
With P = I − V₀ V₀ᴴ and S the inverse of X ↦ P A₀ X − X W on columns that P leaves as they are, the invariant subspace
of A is that of X = V₀ + Q, up to third powers of E, where

    Q₁ = −S P E V₀,    Q = −S P (E V₀ + E Q₁ − Q₁ V₀ᴴ E V₀).

In the orthonormal basis X (XᴴX)^(−½) = X − ½ V₀ Q₁ᴴ Q₁, A is the k×k matrix

    H = W + V₀ᴴ E V₀ + ½ ((P E V₀)ᴴ Q₁ + Q₁ᴴ P E V₀),

whose eigenvalues are those wanted, and whose eigenvectors C make theirs of the basis. `eigh` takes H, so that values
that coincide are treated as those of a matrix are. Each power of E is zero in value: S is applied (MINRES solves) only
where a derivative needs it. What is left out are third powers, so third derivatives are made NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.exponential import alike
from linops.linalg.methods.krylov import without_derivatives
from linops.linalg.methods.minres import MINRES
from linops.linalg.parts import adjoint, space_of
from linops.linalg.solving import solve
from linops.linalg.spectra import hermitian_part
from linops.operator import LinearOperator, assume, flat
from linops.operators.function import Function
from linops.tags import Tag


@dataclass(frozen=True)
class _Apart(MINRES):
    """MINRES, which does not converge where a value that is wanted coincides with one that is not.

    Attributes:
        whose: What A is.
    """

    advice: ClassVar[str] = (
        "more values, or fewer: one of these coincides, or nearly, with one that is not among them, where neither "
        "vectors nor first derivatives of values have derivatives"
    )

    whose: str = ""

    def __str__(self) -> str:
        return f"MINRES, for derivatives of a few eigenpairs of {self.whose},"


def moving(A: LinearOperator, V: Any, w: Any) -> tuple[Any, Any]:
    """Eigenpairs of a Hermitian operator, with first and second derivatives in it.

    Args:
        A: The operator.
        V: (n, k) eigenvectors, orthonormal, as constants.
        w: (k,) eigenvalues, ascending, as constants.

    Returns:
        w and V, in value, but for signs and the order of those that coincide. The derivative of a vector whose value
        coincides with one that is not among the k is NaN, or a ConvergenceError; so is the second one of that value.
    """
    fixed = without_derivatives(A)
    n, k = V.shape

    def along(x: Any) -> Any:
        """E x, for x that is zero."""
        return flat(A @ x) - flat(fixed @ x)

    def beside(x: Any) -> Any:
        """P x."""
        return x - V @ (adjoint(V) @ x)

    def product(x: Any, V: Any, w: Any, *leaves: Any) -> Any:
        """P (A₀ − w) P x + (1 − P) x."""
        columns = x.reshape(n, k)
        inner = V @ (adjoint(V) @ columns)
        beyond = columns - inner
        moved = flat(fixed.with_leaves(leaves) @ beyond) - beyond * w
        return (moved - V @ (adjoint(V) @ moved) + inner).reshape(x.shape)

    fixed = alike(fixed, V.dtype)
    params = (V, space_of(V).astype(w, V.dtype), *[leaf for _, leaf in fixed.named_leaves()])
    shifted = assume(Function((n * k, n * k), product, product, params, complex_entries=A._is_complex), Tag.HERMITIAN)

    method = _Apart(rtol=None, max_iterations=10 * n, whose=A._short())

    def solved(x: Any) -> Any:
        """S P x."""
        return solve(shifted, beside(x).reshape(n * k), method).reshape(n, k)

    image = flat(A @ V)
    change = image - lapack.stop_gradient(image)  # E V₀
    inside = adjoint(V) @ change
    first = -solved(change)
    second = -solved(change + along(first) - first @ inside)
    bent = adjoint(beside(change)) @ first
    values, C = lapack.eigh(hermitian_part(backends.eye(V, k, V.dtype) * w + inside + bent))
    end = without_more(change, 2)
    return values + end, (V + second - V @ (adjoint(first) @ first) / 2) @ C + end


def without_more(change: Any, order: int) -> Any:
    """Zero, whose derivatives up to an order are zero where those of an array of zeros are not, and NaN beyond.

    Args:
        change: Zeros.
        order: The last derivative that is zero.

    Returns:
        Σ |x|^(order + ½), a 0-d array.
    """
    space = space_of(change)
    parts = [space.real(change), space.imag(change)] if backends.is_complex(change.dtype) else [change]
    return sum([space.sum(space.abs(part) ** (order + 0.5)) for part in parts])
