"""Which kernel multiplies on CUDA: torch's, or one of Triton's where a first use measured that it is faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from statistics import median
from typing import Any

import torch

from linops.kernels.choosing import Choices, choices_file, size_class

#: sides of blocks beyond which torch's products reach their speed, and vectors below which nothing is left to save
LARGEST_SIDE, LEAST_VECTORS = 256, 16
#: how far results may be apart, as a share of their norm
APART = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}

#: whether kernels beside torch's own may run, here and now; off by default, as they have not run on a GPU yet
ALLOWED: ContextVar[bool] = ContextVar("allowed", default=False)
_BY_DEVICE: dict[int, Choices] = {}

Product = Callable[..., torch.Tensor]


def crossed(first: torch.Tensor, second: torch.Tensor, x: torch.Tensor, plain: Product) -> torch.Tensor:
    """`crossed_matmul` of tensors on CUDA: the plain product, or the kernel where it is measured to be faster.

    Args:
        first: (b, r·m, n), or (b, rows, n).
        second: (m, p, b·r).
        x: (b, n, k).
        plain: The product by torch's kernels.

    Returns:
        (m, p, k); where the kernel made it, vectors lie as in x.
    """
    if not ALLOWED.get():
        return plain(first, second, x)
    (b, rows, n), (m, p, middle), k = first.shape, second.shape, x.shape[2]
    dtypes = {first.dtype, second.dtype, x.dtype}
    if max(n, p) > LARGEST_SIDE or k < LEAST_VECTORS or len(dtypes) > 1 or x.dtype not in APART:
        return plain(first, second, x)
    kernels = _kernels()
    if kernels is None or middle % b:
        return plain(first, second, x)
    ways: dict[str, Product] = {"torch": plain}
    for tile in kernels.tiles(middle // b):
        ways[f"triton {tile}"] = lambda first, second, x, tile=tile: kernels.crossed_matmul(
            first.reshape(b, middle // b, m, n), second.reshape(m, p, b, middle // b), x, tile
        )
    needed = torch.is_grad_enabled() and tuple(t.requires_grad for t in (first, second, x))
    layout = "features" if x.stride(2) == 1 else "rows"
    case = f"crossed {b},{rows},{n} {m},{p} {x.dtype} {layout} {size_class(k)} gradients {needed}"
    choices = _choices(x.device.index)
    if choices.known.get(case) not in ways and not _busy():
        bound = {name: _step(way, (first, second, x)) for name, way in ways.items()}
        with suppress(torch.OutOfMemoryError):  # the product itself may fit: it is measured another time
            choices.choose(case, bound, seconds, agree)
    return ways.get(choices.known.get(case, ""), plain)(first, second, x)


def _busy() -> bool:
    """Whether products are not to be tried now: a graph is captured, or a mode sees them, as one that counts FLOPs."""
    return torch.cuda.is_current_stream_capturing() or torch._C._len_torch_dispatch_stack() > 0


def _step(way: Product, operands: tuple[torch.Tensor, ...]) -> Callable[[], Any]:
    """A way on detached operands: the product, and where gradients are asked for, these."""
    held = [t.detach().requires_grad_(t.requires_grad and torch.is_grad_enabled()) for t in operands]
    leaves = [t for t in held if t.requires_grad]

    def step() -> list[torch.Tensor]:
        y = way(*held)
        return [y.detach(), *(torch.autograd.grad(y, leaves, torch.ones_like(y)) if leaves else ())]

    return step


def agree(found: list[torch.Tensor], expected: list[torch.Tensor]) -> bool:
    """Whether tensors are the same within the rounding of their dtypes.

    Args:
        found: The tensors.
        expected: The others.

    Returns:
        True or False; False where a number is not finite.
    """
    for a, b in zip(found, expected):
        apart = (a.double() - b.double()).norm()
        if not bool(apart <= APART[b.dtype] * b.double().norm()):
            return False
    return True


def seconds(function: Callable[[], Any], rounds: int = 7) -> float:
    """What a call takes on the device: the median of so many, after two that warm up.

    Args:
        function: The call.
        rounds: How many.

    Returns:
        Seconds.
    """
    for _ in range(2):
        function()
    marks = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(rounds)]
    for start, stop in marks:
        start.record()
        function()
        stop.record()
    torch.cuda.synchronize()
    return 1e-3 * median(start.elapsed_time(stop) for start, stop in marks)


@cache
def _kernels() -> Any:
    """The module of Triton's kernels; None where there is no Triton."""
    return None if find_spec("triton") is None else import_module("linops.kernels.triton_ops")


def _choices(device: int) -> Choices:
    """What was measured on a device."""
    if device not in _BY_DEVICE:
        name, triton = torch.cuda.get_device_name(device), import_module("triton").__version__
        _BY_DEVICE[device] = Choices(f"{name}, torch {torch.__version__}, triton {triton}", choices_file())
    return _BY_DEVICE[device]


def chosen() -> Iterator[dict[str, str]]:
    """What was chosen in this process, by device and case.

    Yields:
        Rows.
    """
    for choices in _BY_DEVICE.values():
        for case, way in choices.known.items():
            yield {"target": choices.target, "case": case, "way": way}
