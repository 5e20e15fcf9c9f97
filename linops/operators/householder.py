"""Householder: a reflection, or a product of several."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.checks import admit
from linops.declaration import declare, remembered, tree
from linops.operator import LinearOperator, flat
from linops.operators.fourier import as_dtype, transform_dtype
from linops.plan.step import Step, matmul_step
from linops.specs import dtype_name
from linops.tags import Knowledge, Tag


@declare
class Householder(LinearOperator):
    """The reflection H = I - 2 v vᴴ / (vᴴ v), Hermitian and unitary; or a product H_1 H_2 … H_k of such, unitary.

    With the vectors scaled to length √2, u_i, as the rows of U and G = Ū Uᵀ, the inner products G[i, j] = u_iᴴ u_j,

        H_1 H_2 … H_k = I - Uᵀ S⁻¹ Ū,   S = the upper triangle of G with ones on its diagonal,

    the compact WY form with its triangle inverted (Joffrain, Low, Quintana-Ortí, van de Geijn and Van Zee,
    "Accumulating Householder transformations, revisited", 2006): two products and a triangular solve instead of k
    passes over the operand. The lower triangle gives the opposite order, so that T and H are views. Only directions
    count: vectors are scaled before they are squared, so that the tiniest and the largest give no NaN. A vector of
    zeros, which has no direction, reflects nothing: its H is the identity, as LAPACK's for tau = 0, with a gradient of
    zero.

    Cost: 2 k n MACs a vector, and for k > 1 a triangular solve (k² - k FLOPs a vector) and k² n MACs once a product.

    Attributes:
        v: (n,) array or spec, or (k, n), a vector in each row.
        reverse: Whether the product is H_k … H_2 H_1.

    Raises:
        ValueError: If the array has neither one nor two axes, or holds no vector.
        TypeError: If it is no array of floating or complex numbers, or `reverse` is neither True nor False.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.Householder(np.array([1., 1.])) @ np.array([1., 2.])
        array([-2., -1.])
        >>> lo.Householder(lo.spec(3, 8)).is_orthogonal
        True
    """

    v: Any = tree(axes=lambda self: 1 if len(self.v.shape) == 1 else 2)
    reverse: bool = False

    def __post_init__(self) -> None:
        shape = tuple(admit(self, "v", None).shape)
        if len(shape) not in (1, 2) or 0 in shape:
            raise ValueError(
                f"Householder: v must be a vector (n,) or vectors (k, n), and not empty, got shape {shape}"
            )
        if not backends.is_inexact(self.v.dtype):
            raise TypeError(
                "Householder: v must be floating or complex, as entries are fractions; "
                f"got dtype {dtype_name(self.v.dtype)}"
            )
        if not isinstance(self.reverse, bool):
            raise TypeError(f"Householder: reverse must be True or False, got {self.reverse!r}")

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        n = self.v.shape[-1]
        return n, n

    @remembered
    def _count(self) -> int:
        """The number of reflections, k."""
        return self.v.shape[0] if len(self.v.shape) == 2 else 1

    _prefers_rows = True  # type: ignore[assignment]

    def _vectors(self, x: Any) -> Any:
        """U: the vectors at length √2, as rows, in the precision of a product with x; zeros stay."""
        v, dtype = self.v.reshape(self._count, self.v.shape[-1]), self.v.dtype
        if x.dtype != dtype:
            dtype = backends.result_type(self.backend, dtype, backends.real_dtype(x.dtype, self.backend))
        wide = as_dtype(v, transform_dtype(dtype, self.backend))  # the squares of half precision in single
        wide = wide / backends.magnitude(wide, -1)
        squares = ((wide * backends.conj(wide)).real if self._is_complex else wide * wide).sum(-1, keepdims=True)
        squares = backends.namespace(self.backend).where(squares > 0, squares, 1)
        return as_dtype(wide * (2 / squares) ** 0.5, dtype)

    def _coefficients(self, u: Any, x: Any) -> Any:
        """S⁻¹ Ū x."""
        conjugate = backends.conj(u) if self._is_complex else u
        return backends.solve_triangular(conjugate @ u.T, conjugate @ x, self.reverse, True)

    def _columns(self, x: Any) -> Any:
        x = flat(x)
        if self._count == 1:
            y = self._direct(x, False)
            return self._reflected(x.T).T if y is None else y
        u = self._vectors(x)
        return x - u.T @ self._coefficients(u, x)

    def _rows(self, x: Any) -> Any:
        if self._count == 1:
            y = self._direct(x, True)
            return self._reflected(x) if y is None else y
        u = self._vectors(x)
        return x - self._coefficients(u, x.T).T @ u

    def _vector(self, x: Any) -> Any:
        y = self._direct(x, False) if self._count == 1 else None
        return super()._vector(x) if y is None else y

    @remembered
    def _is_wide(self) -> bool:
        """Whether numbers are real, in at least single precision."""
        return not self._is_complex and backends.itemsize(self.v.dtype) >= 4

    def _direct(self, x: Any, rows: bool) -> Any:
        """One reflection without scaling, in single or double precision; None where it needs that."""
        v = self.v
        if x.dtype != v.dtype or not self._is_wide:
            return None
        return backends.reflected(x, v if len(v.shape) == 1 else v.reshape(self.shape[0]), rows)

    def _reflected(self, x: Any) -> Any:
        """One reflection of rows."""
        u = self._vectors(x)
        return x - (x @ (backends.conj(u) if self._is_complex else u).T) @ u

    def _transpose(self) -> Householder:
        return Householder(backends.conj(self.v), reverse=self._count > 1 and not self.reverse)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        n, k = self.shape[0], self._count
        steps = [Step("normalise", f"({k}, {n})", other_flops=3 * k * n, weights=k * n, outputs=k * n)]
        if k > 1:
            steps.append(matmul_step(1, k, n, k))
        steps.append(matmul_step(1, k, n, batch))
        if k > 1:
            # its gradients are one such solve, and an outer product
            numbers = k * batch
            solve = Step(
                "solve",
                f"({k}, {k}) \\ ({k}, {batch})",
                other_flops=(k - 1) * numbers,
                inputs=k * k + numbers,
                outputs=numbers,
                gradient_macs=k * numbers,
            )
            steps.append(solve)
        steps.append(matmul_step(1, n, k, batch))
        steps.append(
            Step("subtract", f"({n}, {batch})", other_flops=n * batch, inputs=2 * n * batch, outputs=n * batch)
        )
        return tuple(steps)

    @property
    def _repeats(self) -> int:
        return 0

    def _leaf_fans(self) -> dict[str, tuple[int, int]]:
        # lengths do not count, only directions: entries of size one, that learn as those of a vector do, turn at any
        # width alike
        return {"v": (1, 1)}

    def _knowledge(self) -> Knowledge:
        if self._count > 1:
            return Knowledge(Tag.ORTHOGONAL)
        # an eigenvalue is -1, unless the vector is zeros
        reflects = backends.any_nonzero(self.v)
        return Knowledge(Tag.ORTHOGONAL | Tag.HERMITIAN, Tag.POSITIVE_SEMIDEFINITE if reflects else Tag.NONE)

    def _detail(self) -> str:
        return "" if len(self.v.shape) == 1 else f"{self._count} reflections{', reversed' if self.reverse else ''}"
