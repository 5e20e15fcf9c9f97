"""PyTorch: factorisations of `torch.linalg`, which are differentiable and batched."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from linops.backends import factorizations as p
from linops.backends.torch_transforms import at_hand


@p.lu_factor.dispatch
def _lu_factor(a: torch.Tensor):
    lu, pivots, _ = torch.linalg.lu_factor_ex(a)
    return lu, pivots


@p.lu_solve.dispatch
def _lu_solve(lu: torch.Tensor, pivots: Any, b: Any, transposed: bool):
    if not transposed:
        return torch.linalg.lu_solve(lu, pivots, b)
    return torch.linalg.lu_solve(lu, pivots, b.conj(), adjoint=True).conj()


@p.lu_sign.dispatch
def _lu_sign(pivots: torch.Tensor):
    moved = pivots != torch.arange(1, pivots.shape[-1] + 1, dtype=pivots.dtype, device=pivots.device)
    return 1.0 - 2.0 * (moved.sum(-1) % 2)


@p.lu_order.dispatch
def _lu_order(pivots: torch.Tensor):
    n = pivots.shape[0]
    one = torch.eye(n, dtype=torch.float64, device=pivots.device)
    return torch.lu_unpack(one, pivots, unpack_data=False)[0].argmax(0) if n else pivots.long()


@p.cholesky.dispatch
def _cholesky(a: torch.Tensor):
    lower, info = torch.linalg.cholesky_ex(a)
    return torch.where((info > 0)[..., None, None], torch.nan, lower) if a.numel() else lower


@p.cholesky_solve.dispatch
def _cholesky_solve(lower: torch.Tensor, b: Any):
    return torch.cholesky_solve(b, lower)


@p.solve.dispatch
def _solve(a: torch.Tensor, b: Any):
    return torch.linalg.solve_ex(a, b)[0]


@p.inverse.dispatch
def _inverse(a: torch.Tensor):
    return torch.linalg.inv_ex(a)[0]


@p.slogdet.dispatch
def _slogdet(a: torch.Tensor):
    return tuple(torch.linalg.slogdet(a))


@p.log_product.dispatch
def _log_product(x: torch.Tensor):
    return torch.prod(torch.sgn(x)), torch.sum(torch.log(torch.abs(x)))


@p.eig.dispatch
def _eig(a: torch.Tensor):
    return tuple(_of_finite(a, one) for one in torch.linalg.eig(_finite(a)))


@p.eigvals.dispatch
def _eigvals(a: torch.Tensor):
    return _of_finite(a, torch.linalg.eigvals(_finite(a)))


def _finite(a: torch.Tensor) -> torch.Tensor:
    """Zeros where numbers are not finite, of which LAPACK makes finite ones, or an error without words."""
    return torch.where(torch.isfinite(a), a, 0)


def _of_finite(a: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """What was found of each matrix of a stack; NaN of those that have numbers that are not finite."""
    finite = torch.isfinite(a).all(-1).all(-1)
    return torch.where(finite.reshape(finite.shape + (1,) * (found.ndim - finite.ndim)), found, torch.nan)


@p.qr.dispatch
def _qr(a: torch.Tensor):
    return tuple(torch.linalg.qr(a))


@p.has_zero.dispatch
def _has_zero(x: torch.Tensor):
    return bool((x == 0).any()) if at_hand(x) else False


@p.stop_gradient.dispatch
def _stop_gradient(x: torch.Tensor):
    return x.detach()


@p.is_constant.dispatch
def _is_constant(x: torch.Tensor):
    return not x.requires_grad and at_hand(x)


@p.lu_inverse.dispatch
def _lu_inverse(lu: torch.Tensor, pivots: Any):
    return torch.linalg.lu_solve(lu, pivots, torch.eye(lu.shape[-1], dtype=lu.dtype, device=lu.device))


@p.cholesky_inverse.dispatch
def _cholesky_inverse(lower: torch.Tensor):
    return torch.cholesky_inverse(lower)


@p.is_known.dispatch
def _is_known(x: torch.Tensor):
    return at_hand(x)


@p.implicit_solve.dispatch
def _implicit_solve(b: torch.Tensor, operator: Any, solve: Any):
    return _apart(b, _solved, (b, operator, solve))


def _solved(b: Any, operator: Any, solve: Any) -> Any:
    leaves = [leaf for _, leaf in operator.named_leaves()]
    x, *others = _Solved.apply(b, operator, solve, *leaves)
    return x, tuple(others)


@p.apart.dispatch
def _apart(like: torch.Tensor, function: Any, arguments: tuple):
    """What is compiled breaks in two here: loops that look at numbers cannot be compiled."""
    return _uncompiled(function, arguments) if torch.compiler.is_dynamo_compiling() else function(*arguments)


def _uncompiled(function: Any, arguments: tuple) -> Any:
    return torch.compiler.disable(function)(*arguments)


setattr(_uncompiled, "_torchdynamo_disable", True)  # as torch.compiler.disable says it, which loads Dynamo


class _Solved(torch.autograd.Function):
    """A black box that solves; see `factorizations.implicit_solve`."""

    @staticmethod
    def forward(b: Any, operator: Any, solve: Any, *leaves: Any) -> Any:
        x, others = solve(operator.with_leaves(leaves), b)
        return x, *others

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, operator, solve, *leaves = inputs
        ctx.operator, ctx.solve = operator, solve
        ctx.save_for_backward(output[0], *leaves)
        ctx.save_for_forward(output[0], *leaves)
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, gradient: Any, *others: Any) -> Any:
        x, *leaves = ctx.saved_tensors
        if gradient is None:
            return (None, None, None, *[None] * len(leaves))
        adjoint = ctx.operator.with_leaves(leaves).H
        multiplier, _ = _implicit_solve(gradient, adjoint, getattr(ctx.solve, "H", ctx.solve))
        if not any(ctx.needs_input_grad[3:]):
            return (multiplier, None, None, *[None] * len(leaves))
        back: Any = torch.func.vjp(lambda *leaves: ctx.operator.with_leaves(leaves) @ x, *leaves)[1]
        return (multiplier, None, None, *back(-multiplier))

    @staticmethod
    def jvp(ctx: Any, tangent: Any, _: Any, __: Any, *tangents: Any) -> Any:
        x, *leaves = ctx.saved_tensors
        operator = ctx.operator.with_leaves(leaves)
        right = torch.zeros_like(x) if tangent is None else tangent
        if any(one is not None for one in tangents):
            moved = [torch.zeros_like(leaf) if one is None else one for leaf, one in zip(leaves, tangents)]
            # forward derivatives by two backward ones: torch nests no forward ones
            back = torch.func.vjp(lambda *leaves: operator.with_leaves(leaves) @ x, *leaves)[1]
            right = right - torch.func.vjp(back, torch.zeros_like(x))[1](tuple(moved))[0]
        found, others = _implicit_solve(right, operator, getattr(ctx.solve, "again", ctx.solve))
        return found, *[None] * len(others)

    @staticmethod
    def vmap(info: Any, in_dims: Any, b: Any, operator: Any, solve: Any, *leaves: Any) -> Any:
        dim, _, _, *dims = in_dims
        if all(one is None for one in dims):  # more right-hand sides of one operator
            b = b.movedim(dim, -1)
            n, k, count = b.shape
            found = _Solved.apply(b.reshape(n, k * count), operator, solve, *leaves)
            found = [one.reshape(*one.shape[:-1], k, count) for one in found]  # which all are of columns
            return tuple(found), tuple([one.ndim - 1 for one in found])
        found = []
        for i in range(info.batch_size):
            own = [leaf if one is None else leaf.select(one, i) for leaf, one in zip(leaves, dims)]
            found.append(_Solved.apply(b if dim is None else b.select(dim, i), operator, solve, *own))
        return tuple(torch.stack(one) for one in zip(*found)), tuple([0] * len(found[0]))


@p.tridiagonal_solve.dispatch
def _tridiagonal_solve(b: torch.Tensor, lower: Any, diag: Any, upper: Any):
    return p.on_numpy(b, p.tridiagonal_solve, (lower, diag, upper))


@p.on_numpy.dispatch
def _on_numpy(b: torch.Tensor, function: Any, arrays: Any):
    plain = [
        one.detach().resolve_conj().cpu().numpy() if isinstance(one, torch.Tensor) else one for one in (b, *arrays)
    ]
    return torch.from_numpy(np.ascontiguousarray(function(*plain))).to(b.device)


@p.found_on_numpy.dispatch
def _found_on_numpy(x: torch.Tensor, like: Any, function: Any, derivative: Any):
    return _apart(x, _Found.apply, (x, function, derivative))


class _Found(torch.autograd.Function):
    """What NumPy finds; see `factorizations.found_on_numpy`."""

    @staticmethod
    def forward(x: Any, function: Any, derivative: Any) -> Any:
        return _on_numpy(x, function, ())

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, _, ctx.derivative = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        (x,) = ctx.saved_tensors
        return torch.func.vjp(lambda t: ctx.derivative(x, t), torch.zeros_like(x))[1](gradient)[0], None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Any, *others: Any) -> Any:
        return ctx.derivative(*ctx.saved_tensors, tangent)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Any, function: Any, derivative: Any) -> Any:
        found = [_Found.apply(one, function, derivative) for one in x.unbind(in_dims[0])]
        return torch.stack(found), 0


@p.iterate.dispatch
def _iterate(like: torch.Tensor, state: tuple, keeps_on: Any, step: Any):
    while bool(keeps_on(state)):
        state = step(state)
    return state


@p.put.dispatch
def _put(x: torch.Tensor, axis: int, index: Any, value: Any):
    x[(slice(None),) * axis + (index,)] = value
    return x


@p.tell.dispatch
def _tell(x: torch.Tensor, function: Any, rest: Any):
    function(x, *rest)


@p.pinv.dispatch
def _pinv(a: torch.Tensor, rtol: float):
    return torch.linalg.pinv(torch.where(torch.isfinite(a), a, torch.nan), rtol=rtol)  # of infinities there are numbers
