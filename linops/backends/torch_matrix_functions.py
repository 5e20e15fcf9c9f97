"""PyTorch: functions of matrices by `torch.linalg.matrix_exp`, and by iterations."""

from __future__ import annotations

from typing import Any

import torch

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
