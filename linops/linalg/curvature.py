"""Logarithms of determinants from the eigenvalues of several parts, with second derivatives where values coincide.

Σ log |λ| over a grid λ of eigenvalues α, β … of Hermitian A, B … is a function φ(A) whose gradient by A is V g Vᴴ, g_i
the sum of q / λ_i over the other values, where λ = p + q α. Along E its derivative has the entries (g_i − g_j) / (α_i −
α_j) Ê_ij, Ê = Vᴴ E V, which are g[α_i, α_j] Ê_ij with the divided differences

    g[α_i, α_j] = −Σ q² / (λ_i λ_j).

Derivatives of eigenvalues leave them out where α_i = α_j, for vectors of one value may turn (`torch_spectra`). So what
is added here is zero and has no gradient, and has that part for its second derivative: ½ Σ g[α_i, α_j] |Ê_ij|² over
pairs that coincide, E = A less A as it is. Third derivatives lack such parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.backends.coinciding import rounding_of_values
from linops.linalg.eigenvalues import eigvalsh_
from linops.linalg.inputs import matrices_of
from linops.linalg.parts import adjoint, alike, is_constant, space_of
from linops.linalg.spectra import DENSELY, hermitian_part
from linops.operator import LinearOperator

#: eigenvalues of parts (n_k,) → λ (n_1, …, n_K), real, and affine in those of each part
Grid = Callable[[list[Any]], Any]


def slogdet_of_parts(a: LinearOperator, parts: Sequence[LinearOperator], grid: Grid) -> tuple[Any, Any]:
    """(sign, Σ log |λ|) over the grid of the parts' eigenvalues.

    Args:
        a: The operator whose determinant it is.
        parts: Hermitian operators.
        grid: What makes its eigenvalues of theirs.

    Returns:
        Two 0-d arrays.
    """
    dense = [k for k, part in enumerate(parts) if eigvalsh_.find(part).says == DENSELY and not is_constant(part)]
    matrices = dict(zip(dense, matrices_of(a, [parts[k] for k in dense])))
    rest = {k: eigvalsh_(part) for k, part in enumerate(parts) if k not in matrices}
    found = matrices | dict(zip(rest, alike(a, list(rest.values()))))
    return logarithms([found[k] for k in range(len(parts))], grid)


def logarithms(parts: Sequence[Any], grid: Grid) -> tuple[Any, Any]:
    """The same of arrays.

    Args:
        parts: Hermitian matrices (n_k, n_k), or eigenvalues (n_k,).
        grid: What makes eigenvalues of theirs.

    Returns:
        Two 0-d arrays.
    """
    matrices = {k: hermitian_part(part) for k, part in enumerate(parts) if len(part.shape) == 2}
    pairs = {k: lapack.eigh(matrix) for k, matrix in matrices.items()}
    values = [pairs[k][0] if k in pairs else part for k, part in enumerate(parts)]
    sign, found = lapack.log_product(grid(values).reshape(-1))
    fixed = list(map(lapack.stop_gradient, values))
    for k, (_, V) in pairs.items():
        together = _coinciding(fixed[k])
        if together is not None:
            found = found + _turning(matrices[k], lapack.stop_gradient(V), together, k, fixed, grid)
    return sign, found


def _coinciding(w: Any) -> Any:
    """Which pairs of two values differ by rounding alone, as the derivatives of eigenvalues see it; None where none."""
    space: Any = space_of(w)
    n = w.shape[0]
    if not n:
        return None
    limit = rounding_of_values(n, float(space.finfo(w.dtype).eps)) * space.max(space.abs(w))
    together = (space.abs(w[None, :] - w[:, None]) <= limit) & (backends.eye(w, n, w.dtype) == 0)
    return None if lapack.is_known(w) and not bool(space.any(together)) else together


def _turning(matrix: Any, V: Any, together: Any, k: int, values: list[Any], grid: Grid) -> Any:
    """½ Σ g[α_i, α_j] |Ê_ij|² over pairs that coincide: zero."""
    w = values[k]
    space: Any = space_of(w)

    def at(x: Any) -> Any:
        """λ with the part's own axis first, the others as one."""
        found = grid([*values[:k], x, *values[k + 1 :]])
        order = (k, *[axis for axis in range(len(values)) if axis != k])
        return backends.permute(found, order).reshape(x.shape[0], -1)

    slope = at(0 * w[:1] + 1) - at(0 * w[:1])
    ratios = slope / at(w)
    differences = space.where(together, -(ratios @ ratios.T), space.zeros_like(ratios[:1, :1]))
    E = adjoint(V) @ (matrix - lapack.stop_gradient(matrix)) @ V
    squares = E * backends.conj(E)
    return space.sum(differences * (space.real(squares) if backends.is_complex(squares.dtype) else squares)) / 2


def sums(values: list[Any]) -> Any:
    """The grid of sums: a Kronecker sum's eigenvalues."""
    return _outer(values, lambda one, other: one + other)


def products(values: list[Any]) -> Any:
    """The grid of products: a Kronecker product's eigenvalues."""
    return _outer(values, lambda one, other: one * other)


def _outer(values: list[Any], combine: Callable[[Any, Any], Any]) -> Any:
    found = values[0]
    for one in values[1:]:
        found = combine(found[..., None], one)
    return found
