"""Which kernel multiplies on CUDA: torch's, or one of Triton's where a first use measured that it is faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from statistics import median
from typing import Any

import torch

from linops.kernels.choosing import Choices, choices_file, size_class
from linops.kernels.measuring import agree, step, watched

#: sides of blocks beyond which torch's products reach their speed, and vectors below which nothing is left to save
LARGEST_SIDE, LEAST_VECTORS = 256, 16
#: of the kernels
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

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
    if max(n, p) > LARGEST_SIDE or k < LEAST_VECTORS or len(dtypes) > 1 or x.dtype not in DTYPES:
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
        bound = {name: step(way, (first, second, x)) for name, way in ways.items()}
        with suppress(torch.OutOfMemoryError):  # the product itself may fit: it is measured another time
            choices.choose(case, bound, seconds, agree)
    return ways.get(choices.known.get(case, ""), plain)(first, second, x)


def _busy() -> bool:
    """Whether products are not to be tried now: a graph is captured, or someone sees them."""
    return torch.cuda.is_current_stream_capturing() or watched()


def seconds(functions: Sequence[Callable[[], Any]], rounds: int = 7) -> list[float]:
    """What calls take on the device: medians of so many, in turns, after two that warm up.

    Args:
        functions: The calls.
        rounds: How many of each.

    Returns:
        Seconds of each.
    """
    for function in [*functions, *functions]:
        function()
    marks: list[list[tuple[Any, Any]]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, each in zip(functions, marks):
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            function()
            stop.record()
            each.append((start, stop))
    torch.cuda.synchronize()
    return [1e-3 * median(start.elapsed_time(stop) for start, stop in each) for each in marks]


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
