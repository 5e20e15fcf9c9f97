"""PyTorch: plain ops only, so that compile, export, vmap and double backward work as for the user's own code."""

from __future__ import annotations

from functools import reduce
from typing import Any

import array_api_compat.torch as namespace
import numpy as np
import torch
from torch.overrides import TorchFunctionMode

import linops.backends as backends
from linops.backends import primitives as p
from linops.backends import torch_linalg, torch_matrix_functions, torch_spectra, torch_triangles, torch_tridiagonals
from linops.backends.torch_blocks import transforming
from linops.backends.torch_sparse import index
from linops.backends.torch_transforms import at_hand, plain
from linops.backends.tree import register_torch
from linops.specs import dtype_name, numpy_dtype

__all__ = [
    "convert",
    "namespace",
    "result_type",
    "torch_dtype",
    "torch_linalg",
    "torch_matrix_functions",
    "torch_spectra",
    "torch_triangles",
    "torch_tridiagonals",
]

backends.register_type(torch.Tensor, "torch")
backends.register_type(torch.nn.Parameter, "torch")


def torch_dtype(dtype: Any) -> torch.dtype:
    """The torch dtype of the same name.

    Args:
        dtype: A dtype of any framework, or its name.

    Returns:
        A torch dtype.

    Raises:
        TypeError: If torch has no dtype of that name.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    found = getattr(torch, dtype_name(dtype), None)
    if not isinstance(found, torch.dtype):
        raise TypeError(f"dtype {dtype!r}: torch has no dtype of that name")
    return found


def result_type(*dtypes: Any) -> torch.dtype:
    """The dtype that dtypes and numbers promote to, as `torch.result_type` of tensors, which graphs cannot hold."""
    promoted = reduce(torch.promote_types, [dtype for dtype in dtypes if isinstance(dtype, torch.dtype)])
    for number in dtypes:
        if isinstance(number, complex):
            inexact = promoted if promoted.is_floating_point or promoted.is_complex else torch.get_default_dtype()
            promoted = torch.promote_types(inexact, torch.complex32)  # the narrowest; Dynamo knows no dtype.to_complex
        elif isinstance(number, float) and not (promoted.is_floating_point or promoted.is_complex):
            promoted = torch.get_default_dtype()
        elif type(number) is int and promoted is torch.bool:
            promoted = torch.int64
    return promoted


@p.permute.dispatch
def _permute(x: torch.Tensor, order: tuple):
    return x.permute(*order) if order else x  # faster than of a tuple


@p.copy.dispatch
def _copy(x: torch.Tensor):
    return x.clone(memory_format=torch.contiguous_format)


@p.applied.dispatch
def _applied(x: torch.Tensor, function: Any):
    return p.copy(function(p.copy(x)))  # always: which tensors share a storage cannot be seen


@p.conj.dispatch
def _conj(x: torch.Tensor):
    return x.conj() if x.is_complex() else x


@p.gather.dispatch
def _gather(x: torch.Tensor, indices: Any):
    if isinstance(indices, np.ndarray):
        indices = torch.from_numpy(indices).to(x.device)
    return x.index_select(0, indices)


@p.pad_rows.dispatch
def _pad_rows(x: torch.Tensor, rows: int):
    if rows <= x.shape[0]:
        return x[:rows]
    return torch.cat([x, x.new_zeros((rows - x.shape[0], *x.shape[1:]))])


@p.spread.dispatch
def _spread(x: torch.Tensor, start: int, step: int, rows: int):
    count, *rest = x.shape
    if step > 1:  # zeros behind each row; slice_scatter has no complex gradients
        x = torch.nn.functional.pad(x[:, None], (0, 0) * len(rest) + (0, step - 1)).reshape(count * step, *rest)
    return torch.nn.functional.pad(x, (0, 0) * len(rest) + (start, rows - start - count * step))


@p.add_slice.dispatch
def _add_slice(y: torch.Tensor, x: torch.Tensor, start: int, axis: int):
    if type(y) is torch.Tensor and y.dtype == x.dtype and not transforming() and not torch.compiler.is_compiling():
        y.narrow(axis, start, x.shape[axis]).add_(x)
        return y
    around = (start, y.shape[axis] - start - x.shape[axis])
    return y + torch.nn.functional.pad(x, (0, 0) * (x.ndim - 1 - axis) + around)


@p.three_diagonals.dispatch
def _three_diagonals(x: torch.Tensor, lower: torch.Tensor, diagonal: torch.Tensor, upper: torch.Tensor, columns: bool):
    if columns:
        lower, diagonal, upper = lower.unsqueeze(1), diagonal.unsqueeze(1), upper.unsqueeze(1)
    y, axis = diagonal * x, 0 if columns else x.ndim - 1
    beside = x.shape[axis] - 1
    if beside < 1:
        return y
    # of the first axis slices take two thirds of the time of `narrow`
    before, after = (x[:-1], x[1:]) if axis == 0 else (x.narrow(axis, 0, beside), x.narrow(axis, 1, beside))
    if (
        not torch.compiler.is_compiling()
        and not transforming()
        and type(y) is torch.Tensor
        and y.dtype == lower.dtype == upper.dtype == x.dtype
    ):
        below, above = (y[1:], y[:-1]) if axis == 0 else (y.narrow(axis, 1, beside), y.narrow(axis, 0, beside))
        below.addcmul_(lower, before)
        above.addcmul_(upper, after)
        return y
    return p.add_slice(p.add_slice(y, lower * before, 1, axis), upper * after, 0, axis)


@p.reflected.dispatch
def _reflected(x: torch.Tensor, v: torch.Tensor, rows: bool):
    if not v.is_cpu or not at_hand(v) or torch.is_autocast_enabled("cpu"):
        return None
    length = torch.linalg.vector_norm(v)
    if not p.SQUARES[0] < length.item() ** 2 < p.SQUARES[1]:
        return None
    u = v / length  # before it meets x, whose products with v may overflow
    if x.ndim == 1:
        return _reflection(x.unsqueeze(1), u, rows).squeeze(1)
    return _reflection(x, u, rows)


def _reflection(x: torch.Tensor, u: torch.Tensor, rows: bool) -> torch.Tensor:
    """The product x - 2 u uᵀ x, as matrix products, which torch's counter of FLOPs sees."""
    if rows:
        return torch.addmm(x, (x @ u).unsqueeze(1), u.unsqueeze(0), alpha=-2)
    return torch.addmm(x, u.unsqueeze(1), (u @ x).unsqueeze(0), alpha=-2)


@p.scatter.dispatch
def _scatter(x: torch.Tensor, indices: Any, rows: int):
    return x.new_zeros((rows, *x.shape[1:])).index_add(0, index(indices, x), x)


@p.concatenate.dispatch
def _concatenate(first: torch.Tensor, others: list):
    return torch.cat([first, *others])


@p.eye.dispatch
def _eye(like: torch.Tensor, n: int, dtype: Any):
    return torch.eye(n, dtype=dtype, device=like.device)


@p.zeros.dispatch
def _zeros(like: torch.Tensor, shape: tuple, dtype: Any):
    return torch.zeros(shape, dtype=dtype, device=like.device)


@p.constant.dispatch
def _constant(like: torch.Tensor, array: np.ndarray, dtype: Any):
    return torch.from_numpy(array).to(like.device, dtype)


@p.map_columns.dispatch
def _map_columns(x: torch.Tensor, function: Any):
    if x.shape[1] == 0:  # which vmap does not take everywhere
        return _map_columns(x.new_zeros((x.shape[0], 1)), function)[:, :0]
    if x.shape[1] == 1:  # five times faster
        return p.applied(x.reshape(-1), function).reshape(-1, 1)
    # with an axis in front each result lies as vmap gives it back: torch.export loses what vmap turns at the end
    columns = torch.func.vmap(lambda column: function(column).unsqueeze(0), in_dims=1)(p.copy(x))
    return p.copy(columns.squeeze(1).movedim(0, 1))


class _NoGradIsForward(TorchFunctionMode):
    """Inside, no_grad cuts derivatives in forward mode too, as in reverse mode; by itself torch ignores it there."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch._C._set_grad_enabled:
            torch._C._set_fwd_grad_enabled(args[0])
        return func(*args, **(kwargs or {}))


@p.jvp.dispatch
def _jvp(x: torch.Tensor, function: Any, tangent: torch.Tensor):
    # x and tangent are of one dtype: torch leaves out terms where they differ
    if torch.compiler.is_compiling():  # Dynamo sees no mode; u ↦ Jᵀ u is linear: its transpose anywhere is J
        zeros = torch.zeros_like(function(p.copy(x)))
        return p.vjp(zeros, lambda u: p.vjp(x, function, u), tangent)
    try:
        with torch.enable_grad(), _NoGradIsForward():
            y = torch.func.jvp(lambda x: function(p.copy(x)), (x,), (tangent,))[1]
    except NotImplementedError as error:
        raise NotImplementedError(f"{error} Jacobian and Hessian do without forward mode by mode='reverse'") from error
    return y if torch.is_grad_enabled() else y.detach()


@p.vjp.dispatch
def _vjp(x: torch.Tensor, function: Any, cotangent: torch.Tensor):
    value, pull, *_ = torch.func.vjp(lambda x: function(p.copy(x)), x)
    cotangent = cotangent.to(torch.promote_types(cotangent.dtype, value.dtype))
    return p.conj(pull(p.conj(cotangent))[0])  # torch's is the adjoint


@p.value_of.dispatch
def _value_of(x: torch.Tensor, function: Any):
    with torch.no_grad():
        return function(p.copy(x))


@p.same_array.dispatch
def _same_array(a: torch.Tensor, b: torch.Tensor):
    if a is b:
        return True
    if not (plain(a) and plain(b)) or torch.compiler.is_compiling():
        return False
    try:
        return all(
            one == other
            for one, other in zip(
                (a.data_ptr(), a.shape, a.stride(), a.dtype, a.is_conj(), a.is_neg()),
                (b.data_ptr(), b.shape, b.stride(), b.dtype, b.is_conj(), b.is_neg()),
            )
        )
    except RuntimeError:  # inside torch.func's transformations tensors have no memory to compare
        return False


@p.memory.dispatch
def _memory(x: torch.Tensor):
    if not plain(x):
        return id(x), x.stride(), False
    return (x.data_ptr(), x.device, x.dtype, x.is_neg()), x.stride(), x.is_conj()


@p.device_of.dispatch
def _device_of(x: torch.Tensor):
    return x.device


@p.to_numpy.dispatch
def _to_numpy(x: torch.Tensor):
    x = x.detach().cpu().resolve_conj().resolve_neg()
    if x.dtype is torch.bfloat16:  # NumPy knows it by ml_dtypes
        return x.view(torch.uint16).numpy().view(numpy_dtype("bfloat16"))
    return x.numpy()


@p.own_indices.dispatch
def _own_indices(indices: torch.Tensor):
    return p.copy(indices) if indices.dtype in (torch.int32, torch.int64) else indices.to(torch.int64)


@p.indices_beside.dispatch
def _indices_beside(like: torch.Tensor, indices: Any):
    x = convert(indices, None, like.device)
    if transforming() and not torch.compiler.is_compiling():
        functorch: Any = torch._C._functorch  # type: ignore[attr-defined]
        while functorch.is_gradtrackingtensor(x):  # which does not outlive the torch.func.grad around it
            x = functorch.get_unwrapped(x)
    return x


@p.never_exceeds.dispatch
def _never_exceeds(a: torch.Tensor, b: torch.Tensor):
    return None  # which may be on a device, or no numbers


@p.any_nonzero.dispatch
def _any_nonzero(x: torch.Tensor):
    return None


@p.differentiates.dispatch
def _differentiates(x: torch.Tensor):
    return True


@p.check_permutation.dispatch
def _check_permutation(indices: torch.Tensor):
    if at_hand(indices):
        p.check_permutation(p.to_numpy(indices))


@p.outside.dispatch
def _outside(indices: torch.Tensor, size: int):
    return p.outside(p.to_numpy(indices), size) if at_hand(indices) else None


@p.inverse_permutation.dispatch
def _inverse_permutation(indices: torch.Tensor):
    return torch.argsort(indices)


def convert(x: Any, dtype: Any, device: Any) -> torch.Tensor:
    """An array of any backend as one of this backend; see `linops.backends.asarray`."""
    if isinstance(x, torch.Tensor):
        return x.to(device=device, dtype=dtype)
    array = backends.native(p.to_numpy(x))
    if array.dtype.name == "bfloat16":  # torch does not read ml_dtypes
        tensor = torch.from_numpy(array.view(np.uint16).copy()).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(np.array(array))  # a copy: tensors are written in place, operators are not
    return tensor.to(device=device, dtype=dtype)


register_torch()
