"""Hessian: the second derivative of a scalar function, never formed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from linops import backends
from linops.checks import callable_name
from linops.declaration import declare, tree
from linops.operator import LinearOperator, flat
from linops.operators.jacobian import require_differentiable, require_dtype, value_shape
from linops.plan.step import Step
from linops.tags import Knowledge, Tag


@declare
class Hessian(LinearOperator):
    """The Hessian of a scalar function f at x, differentiated by torch or JAX: A v = lim (∇f(x + t v) − ∇f(x)) / t.

    A v is the forward-mode derivative of the reverse-mode gradient (Pearlmutter, "Fast exact multiplication by the
    Hessian", 1994); matrices are one vmapped derivative, with ∇f(x) computed once. A is symmetric: f is taken to have
    continuous second derivatives. A complex x asks for a holomorphic f; A is then complex symmetric, not Hermitian.

    Inside torch.compile write ``A.__matmul__(x)`` for ``A @ x``, as for `Function`.

    Cost: unknown, some four to eight evaluations of f; no MACs are counted, but x, params and the numbers moved.

    Attributes:
        f: (n,) array, *params → 0-d array.
        x: (n,) array, where f is differentiated.
        params: Arrays, passed to f after x. As x they are leaves: what f closes over are constants.
        mode: ``"forward"`` over reverse, or ``"reverse"`` over reverse, for functions that have no forward mode, as
            ``jax.custom_vjp``.
        conjugated: Whether this is the conjugate; set by `conj` and `H`.

    Raises:
        TypeError: If x is no torch or JAX array of floating or complex dtype, or f is not callable or does not return
            such an array.
        ValueError: If x has not one axis, f(x) has any, or the mode is unknown.

    Example:
        >>> import jax.numpy as jnp, linops as lo
        >>> A = lo.Hessian(lambda x: (x**3).sum(), jnp.array([1., 2.]))
        >>> (A @ jnp.ones(2)).tolist()
        [6.0, 12.0]
    """

    f: Callable[..., Any]
    x: Any = tree(axes=1)
    params: Any = tree(default=())
    mode: str = "forward"
    conjugated: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", require_differentiable("Hessian", self))
        if not self.conjugated and not self.is_symbolic and (shape := value_shape("Hessian", self)) != ():
            raise ValueError(
                f"Hessian of {callable_name(self.f)}: expected (n,) → (), got {tuple(self.x.shape)} → {shape}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        (n,) = self.x.shape
        return n, n

    def _columns(self, x: Any) -> Any:
        return backends.map_columns(flat(x), self._apply)

    def _vector(self, x: Any) -> Any:
        return backends.applied(x, self._apply)

    def _apply(self, x: Any) -> Any:
        require_dtype(self, x)
        derivative = backends.jvp if self.mode == "forward" else backends.vjp
        y = derivative(self.x, self._gradient, backends.conj(x) if self.conjugated else x)
        return backends.conj(y) if self.conjugated else y

    def _gradient(self, x: Any) -> Any:
        return backends.vjp(x, lambda x: self.f(x, *self.params), backends.eye(x, 1, x.dtype).reshape(()))

    def _transpose(self) -> Hessian:
        return self

    def _conj(self) -> Hessian:
        return replace(self, conjugated=not self.conjugated, assumed=Tag.NONE)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        n = self.shape[0]
        kind = "jvp of vjp" if self.mode == "forward" else "vjp of vjp"
        detail = f"{callable_name(self.f)}: ({n}, {batch}) → ({n}, {batch}), work unknown"
        return (Step(kind, detail, inputs=n * batch, weights=self.num_params, outputs=n * batch),)

    def _knowledge(self) -> Knowledge:
        return Knowledge(Tag.SYMMETRIC)

    def _detail(self) -> str:
        words = [callable_name(self.f)] + ["reverse"] * (self.mode == "reverse")
        return ", ".join(words + ["conjugated"] * self.conjugated)
