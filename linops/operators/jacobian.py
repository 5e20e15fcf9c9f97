"""Jacobian: the derivative of a function, never formed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from linops import backends
from linops.checks import admit, callable_name, require_callable, require_leaves, require_params, require_size
from linops.declaration import declare, tree
from linops.operator import LinearOperator, flat
from linops.plan.step import Step
from linops.tags import Tag

MODES = ("forward", "reverse")


@declare
class Jacobian(LinearOperator):
    """The Jacobian of f at x, by automatic differentiation of torch or JAX: A v = lim (f(x + t v) − f(x)) / t.

    A v is one forward-mode derivative, Aᵀ u one reverse-mode derivative; matrices are one vmapped derivative, with f(x)
    computed once. Both can be differentiated again, with respect to x and to params. What f detaches
    (``torch.no_grad``, ``jax.lax.stop_gradient``) is constant in both modes. A complex x asks for a holomorphic f,
    whose derivative is complex linear.

    m is found from shapes alone in JAX, and by one evaluation of f in torch (its shape-only evaluation refuses much of
    what functions do).

    Inside torch.compile write ``A.__matmul__(x)`` for ``A @ x``, as for `Function`.

    Cost: unknown, some two to four evaluations of f; no MACs are counted, but x, params and the numbers moved.

    Attributes:
        f: (n,) array, *params → (m,) array.
        x: (n,) array, where f is differentiated.
        params: Arrays, passed to f after x. As x they are leaves: what f closes over are constants.
        mode: ``"forward"``, or ``"reverse"`` to use reverse mode alone (twice for A v), for functions that have no
            forward mode, as ``jax.custom_vjp``.
        out_features: m, or None to find it.
        transposed: Whether this is the transpose; set by `T` and `H`.
        conjugated: Whether this is the conjugate; set by `conj` and `H`.

    Raises:
        TypeError: If x is no torch or JAX array of floating or complex dtype, or f is not callable or does not return
            such an array.
        ValueError: If x or f(x) has not one axis, or the mode is unknown.

    Example:
        >>> import jax.numpy as jnp, linops as lo
        >>> A = lo.Jacobian(lambda x: x[1:] * x[:-1], jnp.array([1., 2., 3.]))
        >>> (A @ jnp.ones(3)).tolist(), (A.T @ jnp.ones(2)).tolist()
        ([3.0, 5.0], [2.0, 4.0, 2.0])
    """

    f: Callable[..., Any]
    x: Any = tree(axes=1)
    params: Any = tree(default=())
    mode: str = "forward"
    out_features: int | None = None
    transposed: bool = False
    conjugated: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", require_differentiable("Jacobian", self))
        if self.out_features is None:
            shape = value_shape("Jacobian", self)
            if len(shape) != 1:
                raise ValueError(
                    f"Jacobian of {callable_name(self.f)}: expected (n,) → (m,), got {tuple(self.x.shape)} → {shape}"
                )
            object.__setattr__(self, "out_features", shape[0])
        require_size("Jacobian", "out_features", self.out_features)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        shape: Any = (self.out_features, self.x.shape[0])
        return shape[::-1] if self.transposed else shape

    def _columns(self, x: Any) -> Any:
        return backends.map_columns(flat(x), self._apply)

    def _vector(self, x: Any) -> Any:
        return backends.applied(x, self._apply)  # f may return its argument

    def _apply(self, x: Any) -> Any:
        require_dtype(self, x)
        y = self._derivative(backends.conj(x) if self.conjugated else x)
        if y.shape[0] != self.shape[0]:
            raise ValueError(
                f"{self._short()}: the derivative of {callable_name(self.f)} has {y.shape[0]} numbers, "
                f"expected {self.shape[0]}"
            )
        return backends.conj(y) if self.conjugated else y

    def _derivative(self, v: Any) -> Any:
        x, f = self.x, lambda x: self.f(x, *self.params)
        if self.transposed:
            return backends.vjp(x, f, v)
        if self.mode == "forward":
            return backends.jvp(x, f, v)
        zeros = backends.zeros(x, (self.out_features,), x.dtype)  # u ↦ Jᵀ u is linear: its transpose anywhere is J
        return backends.vjp(zeros, lambda u: backends.vjp(x, f, u), v)

    def _transpose(self) -> Jacobian:
        return replace(self, transposed=not self.transposed, assumed=Tag.NONE)

    def _conj(self) -> Jacobian:
        return replace(self, conjugated=not self.conjugated, assumed=Tag.NONE)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        m, n = self.shape
        kind = "vjp" if self.transposed else "jvp" if self.mode == "forward" else "vjp of vjp"
        detail = f"{callable_name(self.f)}: ({n}, {batch}) → ({m}, {batch}), work unknown"
        return (Step(kind, detail, inputs=n * batch, weights=self.num_params, outputs=m * batch),)

    def _detail(self) -> str:
        words = [callable_name(self.f)] + ["reverse"] * (self.mode == "reverse")
        return ", ".join(words + ["transposed"] * self.transposed + ["conjugated"] * self.conjugated)


def require_differentiable(where: str, operator: Any) -> tuple[Any, ...]:
    """The params of a derivative, or an error where its function, point or mode will not do.

    Args:
        where: The operator's name.
        operator: The operator, with its fields in place.

    Returns:
        The params as a tuple.

    Raises:
        TypeError: If the function is not callable, or the point no torch or JAX array of numbers that vary
            continuously.
        ValueError: If the point has not one axis, or the mode is unknown.
    """
    require_callable(where, "f", operator.f)
    if operator.f is None:
        raise TypeError(f"{where}: f must be a callable, got None")
    admit(operator, "x", 1)
    if not backends.differentiates(operator.x):
        raise TypeError(
            f"{where}: x is a NumPy array of shape {operator.x.shape}, and NumPy has no derivatives; "
            "give a torch or JAX array"
        )
    if not backends.is_inexact(operator.x.dtype):
        raise TypeError(f"{where}: x must be of a floating or complex dtype, got {operator.x.dtype}")
    if operator.mode not in MODES:
        raise ValueError(f"{where}: mode must be 'forward' or 'reverse', got {operator.mode!r}")
    params = require_params(where, operator.params)
    require_leaves(operator)
    return params


def value_shape(where: str, operator: Any) -> tuple[int, ...]:
    """The shape of f(x), or an error where it is no array of x's field.

    Args:
        where: The operator's name.
        operator: The operator, with its fields in place.

    Returns:
        The shape.

    Raises:
        TypeError: If x is a spec, f returns no array, or one of x and f(x) is real and the other complex.
    """
    x, name = operator.x, callable_name(operator.f)
    if operator.is_symbolic:
        raise TypeError(f"{where} of {name}: what it returns cannot be seen at a spec; give out_features")
    value = backends.value_of(x, lambda x: operator.f(x, *operator.params))
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(f"{where} of {name}: it returned {type(value).__name__}, expected an array")
    if not backends.is_inexact(value.dtype) or backends.is_complex(value.dtype) != backends.is_complex(x.dtype):
        raise TypeError(
            f"{where} of {name}: x is {x.dtype} and f(x) {value.dtype}; "
            "both must be real, or complex with a holomorphic f"
        )
    return tuple(value.shape)


def require_dtype(operator: Any, v: Any) -> None:
    """Raise if torch would multiply a derivative and a vector of two dtypes: its derivatives then leave out terms."""
    if v.dtype != operator.x.dtype and not backends.promotes(backends.backend_of(v)):
        raise TypeError(
            f"{operator._short()} @ array of {v.dtype}: torch does not mix dtypes in a product; "
            f"take x.to({operator.x.dtype})"
        )
