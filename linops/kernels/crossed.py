"""Two products of blocks in one compiled kernel on CPUs: operators of `torch.library`, which `crossed.cpp` computes.

`torch.ops.linops.crossed(first, second, x, swapped)` is `crossed_matmul` of `linops.backends` (with `swapped`, its
first two axes change places), laid out in memory as x is: rows where x is a view of rows. Its gradients are one kernel
too, `crossed_backward`, which computes the middle anew, so that nothing but the operands is kept for it; gradients of
gradients are those of plain products. Where there is no compiled library, both run plain products.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from linops.kernels.building import library, measured
from linops.kernels.choice import mode
from linops.kernels.choosing import size_class
from linops.kernels.measuring import agree, detached, seconds, step, watched

DTYPES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}
#: vectors from which a kernel is considered: a tile
LEAST = 32
#: vectors of a tile, of the forward pass features first, and of all others
_COLUMNS, _TILE = 64, 32
#: bytes of the middle that stay in a core's cache, forward and backward
_MIDDLE, _MIDDLE_BACKWARD = 1 << 18, 1 << 20
_WAYS = "plain", "compiled"

Plain = Callable[..., torch.Tensor]


class _Sizes(ctypes.Structure):
    """`Sizes` of `crossed.cpp`."""

    _fields_ = tuple(
        (name, ctypes.c_long)
        for name in (
            *("batch", "b", "n", "m", "r", "p"),
            *("x_stride", "x_rows", "y_stride", "y_rows", "swapped", "gx_stride", "tile", "chunk"),
        )
    )


def wants(first: torch.Tensor, second: torch.Tensor, x: torch.Tensor, swapped: bool, plain: Plain) -> bool:
    """Whether the compiled kernel is to compute a product; what is not known is measured, and the kernel built.

    Args:
        first: (b, r·m, n).
        second: (m, p, b·r).
        x: (b, n, k).
        swapped: Whether the result's first two axes are to change places.
        plain: The same product without the kernel.

    Returns:
        True or False; False wherever the kernel cannot compute it.
    """
    if torch.compiler.is_compiling():  # the operator looks for the library, and does without, when it runs
        return _takes(first, second, x)
    if not _takes(first, second, x) or library() is None:
        return False
    if mode() == "compiled":
        return True
    leaves = [torch.is_grad_enabled() and leaf.requires_grad for leaf in (first, second, x)]
    (b, rm, n), (m, p, _) = first.shape, second.shape
    case = f"crossed {b},{rm},{n} {m},{p} {DTYPES[x.dtype]} {'rows' if _rows(x) else 'features'} "
    case += f"{'swapped ' if swapped else ''}{size_class(x.shape[2])} gradients {tuple(leaves)} "
    case += f"{torch.get_num_threads()} threads"
    choices = measured()
    known = choices.known
    if known.get(case) not in _WAYS and not watched():
        ways = [lambda *operands: plain(*operands, swapped), lambda *operands: _OPERATOR(*operands, swapped)]
        operands = detached((first, second, x))
        bound = {name: step(way, operands) for name, way in zip(_WAYS, ways)}
        choices.choose(case, bound, seconds, agree)
    return known.get(case) == "compiled"


def _takes(first: torch.Tensor, second: torch.Tensor, x: torch.Tensor) -> bool:
    """Whether the kernel can compute a product: plain numbers of one dtype on a CPU, laid out as it reads them."""
    return (
        x.dtype in DTYPES
        and x.shape[2] >= LEAST
        and first.dtype is x.dtype
        and second.dtype is x.dtype
        and first.is_contiguous()
        and second.is_contiguous()
        and prod(first.shape) * prod(second.shape) * prod(x.shape) > 0
        and _stride(x) > 0
        and (torch.compiler.is_compiling() or not (first.is_neg() or second.is_neg() or x.is_neg()))
    )


def _rows(x: torch.Tensor) -> bool:
    """Whether (b, n, k) is a view of rows."""
    return x.stride(2) != 1 and (x.stride(1) == 1 or x.shape[1] == 1)


def _stride(x: torch.Tensor) -> int:
    """Numbers between vectors of rows, or between features where they come first; 0 where it is neither."""
    (b, n, k), (sb, sn, sk) = x.shape, x.stride()
    if sk == 1 and (b == 1 or n == 1 or sb == n * sn) and (stride := sb if n == 1 else sn) >= k:
        return stride
    if (sn == 1 or n == 1) and (b == 1 or sb == n) and sk >= b * n:
        return sk
    return 0


def _laid(x: torch.Tensor) -> torch.Tensor:
    """A tensor as the kernel reads it, copied if it has to be: gradients come in any layout."""
    return x if _stride(x) > 0 and not x.is_neg() else x.clone(memory_format=torch.contiguous_format)


def _empty(like: torch.Tensor, shape: tuple[int, int, int], rows: bool) -> torch.Tensor:
    """An empty (b, n, k): a view of rows, or features first."""
    b, n, k = shape
    return like.new_empty(k, b, n).permute(1, 2, 0) if rows else like.new_empty(b, n, k)


def _shape(first: torch.Tensor, second: torch.Tensor, x: torch.Tensor, swapped: bool) -> tuple[Any, Any, Any]:
    m, p, batch = second.shape[0], second.shape[1], x.shape[2]
    return (p, m, batch) if swapped else (m, p, batch)


def _sizes(first: Any, second: Any, x: Any, y: Any, swapped: bool, gradient: Any, tile: int, middle: int) -> _Sizes:
    (b, _, n), (m, p, br) = first.shape, second.shape
    width = torch.float64 if x.dtype is torch.float64 else torch.float32
    chunk = min(max(middle // (br * tile * width.itemsize), 8), 64) // 8 * 8
    strides = _stride(x), _rows(x), _stride(y), _rows(y), swapped, 0 if gradient is None else _stride(gradient)
    return _Sizes(x.shape[2], b, n, m, br // b, p, *strides, tile, chunk)


def _plain(first: torch.Tensor, second: torch.Tensor, x: torch.Tensor, swapped: bool) -> torch.Tensor:
    between = torch.bmm(first, x).reshape(second.shape[2], second.shape[0], x.shape[2])
    y = torch.bmm(second, between.transpose(0, 1))
    return y.transpose(0, 1) if swapped else y


def _plain_backward(first: Any, second: Any, x: Any, g: Any, swapped: bool, wanted: tuple[bool, bool, bool]) -> Any:
    """The gradients by plain products, which have derivatives of their own."""
    (b, rm, _), (m, _, br), batch = first.shape, second.shape, x.shape[2]
    g = g.transpose(0, 1) if swapped else g
    between = torch.bmm(first, x).reshape(br, m, batch).transpose(0, 1)
    of_between = torch.bmm(second.mT, g).transpose(0, 1).reshape(b, rm, batch)
    return (
        torch.bmm(of_between, x.mT) if wanted[0] else g.new_empty(0),
        torch.bmm(g, between.mT) if wanted[1] else g.new_empty(0),
        torch.bmm(first.mT, of_between) if wanted[2] else g.new_empty(0),
    )


def _ran(failed: int) -> None:
    if failed:
        raise MemoryError("linops' compiled kernel: no memory for its tiles; lo.kernels.use('off') does without")


# ---------------------------------------------------------------- the operators

_LIBRARY = torch.library.Library("linops", "FRAGMENT")
_LIBRARY.define("crossed(Tensor first, Tensor second, Tensor x, bool swapped) -> Tensor")
_LIBRARY.define(
    "crossed_backward(Tensor first, Tensor second, Tensor x, Tensor g, bool swapped, bool of_first, bool of_second, "
    "bool of_x) -> (Tensor, Tensor, Tensor)"
)


def _crossed(first: torch.Tensor, second: torch.Tensor, x: torch.Tensor, swapped: bool) -> torch.Tensor:
    rows = _rows(x)
    y = _empty(x, _shape(first, second, x, swapped), rows)
    kernels = library() if _takes(first, second, x) else None
    if kernels is None:
        return y.copy_(_plain(first, second, x, swapped))
    sizes = _sizes(first, second, x, y, swapped, None, _TILE if rows else _COLUMNS, _MIDDLE)
    run = getattr(kernels, f"linops_forward_{DTYPES[x.dtype]}")
    _ran(run(ctypes.byref(sizes), *(ctypes.c_void_p(a.data_ptr()) for a in (x, first, second, y))))
    return y


def _crossed_backward(
    first: torch.Tensor,
    second: torch.Tensor,
    x: torch.Tensor,
    g: torch.Tensor,
    swapped: bool,
    of_first: bool,
    of_second: bool,
    of_x: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    wanted = of_first, of_second, of_x
    made = _empty_gradients(first, second, x, wanted)
    kernels = library() if _takes(first, second, x) else None
    if kernels is None:
        found = _plain_backward(first, second, x, g, swapped, wanted)
        return tuple([to.copy_(a) for to, a in zip(made, found)])  # type: ignore[return-value]
    g = _laid(g)
    sizes = _sizes(first, second, x, g, swapped, made[2] if of_x else None, _TILE, _MIDDLE_BACKWARD)
    run = getattr(kernels, f"linops_backward_{DTYPES[x.dtype]}")
    into = [ctypes.c_void_p(made[i].data_ptr() if wanted[i] else None) for i in (2, 0, 1)]  # in the order of C++
    _ran(run(ctypes.byref(sizes), *(ctypes.c_void_p(a.data_ptr()) for a in (x, first, second, g)), *into))
    return made


def _empty_gradients(
    first: torch.Tensor, second: torch.Tensor, x: torch.Tensor, wanted: tuple[bool, bool, bool]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        torch.empty_like(first, memory_format=torch.contiguous_format) if wanted[0] else first.new_empty(0),
        torch.empty_like(second, memory_format=torch.contiguous_format) if wanted[1] else first.new_empty(0),
        _empty(x, x.shape, _rows(x)) if wanted[2] else first.new_empty(0),  # type: ignore[arg-type]
    )


_OPERATOR = torch.ops.linops.crossed
_LIBRARY.impl("crossed", _crossed, "CPU")
_LIBRARY.impl("crossed_backward", _crossed_backward, "CPU")


@torch.library.register_fake("linops::crossed", lib=_LIBRARY)
def _fake(first: Any, second: Any, x: Any, swapped: bool) -> Any:
    return _empty(x, _shape(first, second, x, swapped), _rows(x))


@torch.library.register_fake("linops::crossed_backward", lib=_LIBRARY)
def _fake_backward(
    first: Any, second: Any, x: Any, g: Any, swapped: bool, of_first: bool, of_second: bool, of_x: bool
) -> Any:
    return _empty_gradients(first, second, x, (of_first, of_second, of_x))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.swapped = inputs[3]


def _differentiated(ctx: Any, g: torch.Tensor) -> tuple[Any, ...]:
    wanted = tuple(ctx.needs_input_grad[:3])
    first, second, x = ctx.saved_tensors
    if torch.is_grad_enabled():  # gradients of gradients
        found = _plain_backward(first, second, x, g, ctx.swapped, wanted)
    else:
        found = torch.ops.linops.crossed_backward(first, second, x, g, ctx.swapped, *wanted)
    return *(gradient if want else None for gradient, want in zip(found, wanted)), None


torch.library.register_autograd("linops::crossed", _differentiated, setup_context=_keep, lib=_LIBRARY)


def _each(size: int, in_dims: tuple[Any, ...], operands: tuple[Any, ...]) -> Any:
    """The operands of each product of a batch."""
    for number in range(size):
        yield [a if dim is None else a.select(dim, number) for a, dim in zip(operands, in_dims)]


def _mapped(info: Any, in_dims: tuple[Any, ...], *operands: Any) -> tuple[Any, int]:
    products = [torch.ops.linops.crossed(*each) for each in _each(info.batch_size, in_dims, operands)]
    return torch.stack(products), 0


def _mapped_backward(info: Any, in_dims: tuple[Any, ...], *operands: Any) -> tuple[Any, tuple[int, int, int]]:
    gradients = [torch.ops.linops.crossed_backward(*each) for each in _each(info.batch_size, in_dims, operands)]
    return tuple([torch.stack(list(parts)) for parts in zip(*gradients)]), (0, 0, 0)


torch.library.register_vmap("linops::crossed", _mapped, lib=_LIBRARY)
torch.library.register_vmap("linops::crossed_backward", _mapped_backward, lib=_LIBRARY)


@register_flop_formula(torch.ops.linops.crossed)
def _flops(first: Any, second: Any, x: Any, swapped: bool, *, out_shape: Any = None, **_: Any) -> int:
    return 2 * x[2] * (prod(first) + prod(second))


@register_flop_formula(torch.ops.linops.crossed_backward)
def _flops_backward(
    first: Any, second: Any, x: Any, g: Any, swapped: bool, of_first: bool, of_second: bool, of_x: bool, **_: Any
) -> int:
    # the middle anew, for that of second; the gradient of the middle, for those of first and x
    return 2 * x[2] * (prod(first) * (of_second + of_first + of_x) + prod(second) * (of_second + (of_first or of_x)))
