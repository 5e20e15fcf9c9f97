"""PyTorch: functions of matrices by `torch.linalg.matrix_exp`, and by iterations."""

from __future__ import annotations

from typing import Any

import torch

from linops.backends import divided_differences
from linops.backends import matrix_functions as p
from linops.backends.torch_transforms import at_hand


@p.expm.dispatch
def _expm(a: torch.Tensor):
    return torch.linalg.matrix_exp(a)


@p.sqrtm.dispatch
def _sqrtm(a: torch.Tensor):
    return p.iterated_sqrtm(a)


@p.logm.dispatch
def _logm(a: torch.Tensor):
    return p.iterated_logm(a)


@p.fractional_power.dispatch
def _fractional_power(a: torch.Tensor, exponent: float):
    return p.iterated_power(a, exponent)


@p.repeated.dispatch
def _repeated(x: torch.Tensor, step: Any, state: Any, count: Any, limit: int):
    if isinstance(count, int) or at_hand(count):
        for k in range(int(count)):
            state = step(k, state)
        return state
    for k in range(limit):
        state = tuple([torch.where(k < count, new, old) for new, old in zip(step(k, state), state)])
    return state


@p.derived.dispatch
def _derived(x: torch.Tensor, operator: Any, value: Any, weights: Any, surrogate: Any):
    return _Derived.apply(operator, value, weights, surrogate, *[leaf for _, leaf in operator.named_leaves()])


class _Derived(torch.autograd.Function):
    """A number with a derivative of its own; see `matrix_functions.derived`."""

    @staticmethod
    def forward(operator: Any, value: Any, weights: Any, surrogate: Any, *leaves: Any) -> Any:
        return value(operator.with_leaves(leaves))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.operator, _, ctx.weights, ctx.surrogate, *leaves = inputs
        ctx.save_for_backward(*leaves)
        ctx.save_for_forward(*leaves)

    @staticmethod
    def _product(ctx: Any, leaves: Any) -> Any:
        fixed = ctx.weights(ctx.operator.with_leaves(leaves))
        return lambda *moving: ctx.surrogate(fixed, ctx.operator.with_leaves(moving))

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        leaves = ctx.saved_tensors
        back: Any = torch.func.vjp(_Derived._product(ctx, leaves), *leaves)[1]
        return (None, None, None, None, *back(gradient))

    @staticmethod
    def jvp(ctx: Any, _: Any, __: Any, ___: Any, ____: Any, *tangents: Any) -> Any:
        leaves = ctx.saved_tensors
        moved = tuple([torch.zeros_like(leaf) if one is None else one for leaf, one in zip(leaves, tangents)])
        return torch.func.jvp(_Derived._product(ctx, leaves), tuple(leaves), moved)[1]

    @staticmethod
    def vmap(info: Any, in_dims: Any, operator: Any, value: Any, weights: Any, surrogate: Any, *leaves: Any) -> Any:
        found = []
        for i in range(info.batch_size):
            own = [leaf if one is None else leaf.select(one, i) for leaf, one in zip(leaves, in_dims[4:])]
            found.append(_Derived.apply(operator, value, weights, surrogate, *own))
        return torch.stack(found), 0


@p.derivative.dispatch
def _derivative(x: torch.Tensor, f: Any, at: Any):
    return torch.func.jvp(f, (at,), (torch.ones_like(at),))[1]


@p.hermitian_function.dispatch
def _hermitian_function(a: torch.Tensor, w: Any, V: Any, f: Any):
    w, V = w.detach(), V.detach()
    if f(w).requires_grad:  # by parameters of its own
        return divided_differences.series(f, a, a.detach(), w, V)
    return _Hermitian.apply(a, w, V, f)


def _fitting(gradient: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A gradient for x: real if x is."""
    return gradient.real if gradient.is_complex() and not x.is_complex() else gradient


class _Hermitian(torch.autograd.Function):
    """V f(w) Vᴴ."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Any, w: Any, V: Any, f: Any) -> Any:
        return divided_differences.composed(V, divided_differences.diagonal(f(w)))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.f = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        a, w, V = ctx.saved_tensors
        return _fitting(_Along.apply(a, w, V, gradient, ctx.f, True), a), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Any, *_: Any) -> Any:
        a, w, V = ctx.saved_tensors
        return _Along.apply(a, w, V, tangent, ctx.f, False)


class _Along(torch.autograd.Function):
    """The derivative of V f(w) Vᴴ along E, or its adjoint."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Any, w: Any, V: Any, E: Any, f: Any, conjugated: bool) -> Any:
        return divided_differences.along(f, w, V, E, conjugated)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.f, ctx.conjugated = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        (a, w, V, E), f, other = ctx.saved_tensors, ctx.f, not ctx.conjugated
        moved = _Twice.apply(a, w, V, gradient, E.mH, f, other)
        return _fitting(moved, a), None, None, _fitting(_Along.apply(a, w, V, gradient, f, other), E), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Any, _: Any, __: Any, moved: Any, *___: Any) -> Any:
        (a, w, V, E), f = ctx.saved_tensors, ctx.f
        parts = []
        if tangent is not None:
            parts.append(_Twice.apply(a, w, V, tangent, E, f, ctx.conjugated))
        if moved is not None:
            parts.append(_Along.apply(a, w, V, moved, f, ctx.conjugated))
        return sum(parts)


class _Twice(torch.autograd.Function):
    """The second derivative of V f(w) Vᴴ along E and G; it has none itself."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Any, w: Any, V: Any, E: Any, G: Any, f: Any, conjugated: bool) -> Any:
        return divided_differences.along_both(f, w, V, E, G, conjugated)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.f, ctx.conjugated = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        (a, w, V, E, G), f, other = ctx.saved_tensors, ctx.f, not ctx.conjugated
        if ctx.needs_input_grad[0]:
            raise NotImplementedError("functions of Hermitian operators have no third derivatives")
        along_e, along_g = [
            _fitting(_Twice.apply(a, w, V, gradient, fixed.mH, f, other), moving) for moving, fixed in ((E, G), (G, E))
        ]
        return None, None, None, along_e, along_g, None, None
