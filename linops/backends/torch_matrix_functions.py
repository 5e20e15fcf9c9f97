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


@p.spectral_function.dispatch
def _spectral_function(a: torch.Tensor, w: Any, V: Any, W: Any, f: Any):
    w, V, W = w.detach(), V.detach(), W.detach()
    if f(w).requires_grad:  # by parameters of its own
        return divided_differences.series(f, a, a.detach(), w, V, W)
    return _Spectral.apply(a, w, V, W, f)


def _fitting(gradient: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A gradient for x: real if x is."""
    return gradient.real if gradient.is_complex() and not x.is_complex() else gradient


def _adjoint(f: Any) -> Any:
    """The function z ↦ conj(f(conj(z))), of which Aᴴ gives f(A)ᴴ."""
    return lambda z: f(z.conj().resolve_conj()).conj().resolve_conj()


class _Spectral(torch.autograd.Function):
    """V f(w) W."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Any, w: Any, V: Any, W: Any, f: Any) -> Any:
        return divided_differences.composed(V, divided_differences.diagonal(f(w)), W)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.f = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        a, w, V, W = ctx.saved_tensors
        found = _Along.apply(a.mH, w.conj(), W.mH, V.mH, gradient, _adjoint(ctx.f))
        return _fitting(found, a), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Any, *_: Any) -> Any:
        a, w, V, W = ctx.saved_tensors
        return _Along.apply(a, w, V, W, tangent, ctx.f)


class _Along(torch.autograd.Function):
    """The derivative of V f(w) W along E. Its adjoint is that of (V f(w) W)ᴴ."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Any, w: Any, V: Any, W: Any, E: Any, f: Any) -> Any:
        return divided_differences.along(f, w, V, W, E)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.f = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        a, w, V, W, E = ctx.saved_tensors
        adjoint = (a.mH, w.conj(), W.mH, V.mH)
        moved = _Twice.apply(*adjoint, gradient, E.mH, _adjoint(ctx.f))
        turned = _Along.apply(*adjoint, gradient, _adjoint(ctx.f))
        return _fitting(moved, a), None, None, None, _fitting(turned, E), None

    @staticmethod
    def jvp(ctx: Any, tangent: Any, _: Any, __: Any, ___: Any, turned: Any, ____: Any) -> Any:
        (a, w, V, W, E), f = ctx.saved_tensors, ctx.f
        parts = []
        if tangent is not None:
            parts.append(_Twice.apply(a, w, V, W, tangent, E, f))
        if turned is not None:
            parts.append(_Along.apply(a, w, V, W, turned, f))
        return sum(parts)


class _Twice(torch.autograd.Function):
    """The second derivative of V f(w) W along E and G; there is no third."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Any, w: Any, V: Any, W: Any, E: Any, G: Any, f: Any) -> Any:
        return divided_differences.along_both(f, w, V, W, E, G)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.f = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        (a, w, V, W, E, G), f = ctx.saved_tensors, _adjoint(ctx.f)
        if ctx.needs_input_grad[0]:
            raise NotImplementedError("functions of operators by eigenvectors have no third derivatives")
        one, other = [
            _fitting(_Twice.apply(a.mH, w.conj(), W.mH, V.mH, gradient, fixed.mH, f), moving)
            for moving, fixed in ((E, G), (G, E))
        ]
        return None, None, None, None, one, other, None
