"""What a measurement of kernels in torch needs: when to make none, what is timed, and whether results agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch._C import _autograd
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

#: how far results may be apart, as a share of their norm
APART = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}
#: rounds of a measurement
ROUNDS = 7


def seconds(functions: Sequence[Callable[[], Any]]) -> list[float]:
    """What calls take on a CPU.

    Args:
        functions: The calls.

    Returns:
        Medians of rounds in turns.
    """
    taken: list[list[float]] = [[] for _ in functions]
    for turn in range(ROUNDS + 1):
        for place in range(len(functions))[:: 1 if turn % 2 else -1]:
            start = perf_counter()
            functions[place]()
            taken[place].append(perf_counter() - start)
    return [median(each[1:]) for each in taken]  # the first round warms up


def saves_are_seen() -> bool:
    """Whether someone sees what is saved for gradients.

    Returns:
        True under hooks of saved tensors, as of checkpoints.
    """
    return _autograd._top_saved_tensors_default_hooks(False) is not None


def watched() -> bool:
    """Whether someone sees what runs now, so that nothing is to be tried.

    Returns:
        True under a mode of torch, as one that counts FLOPs (not that of a default device), and under hooks of saved
        tensors, as of checkpoints.
    """
    return bool(
        torch._C._len_torch_dispatch_stack() > 0
        or any(not isinstance(mode, DeviceContext) for mode in _get_current_function_mode_stack())
        or saves_are_seen()
    )


def detached(operands: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    """Operands that have no history.

    Args:
        operands: Of a product.

    Returns:
        The same numbers, of those of which gradients are recorded now too.
    """
    return [t.detach().requires_grad_(t.requires_grad and torch.is_grad_enabled()) for t in operands]


def step(way: Callable[..., torch.Tensor], operands: Sequence[torch.Tensor]) -> Callable[[], list[torch.Tensor]]:
    """A way on operands.

    Args:
        way: A product.
        operands: Of it, as `detached` makes them.

    Returns:
        The function: the product, and where gradients are asked for, these.
    """
    leaves = [t for t in operands if t.requires_grad]

    def run() -> list[torch.Tensor]:
        y = way(*operands)
        return [y.detach(), *(torch.autograd.grad(y, leaves, torch.ones_like(y)) if leaves else ())]

    return run


def agree(found: list[torch.Tensor], expected: list[torch.Tensor]) -> bool:
    """Whether tensors are the same within the rounding of their dtypes.

    Args:
        found: The tensors.
        expected: The others.

    Returns:
        True or False; False where a number is not finite, unless the expected one is not either.
    """
    for a, b in zip(found, expected):
        a, b = (torch.where(b.isfinite(), each, 0) for each in (a, b))  # operands with such numbers say nothing
        apart = (a.double() - b.double()).norm()
        if not bool(apart <= APART[b.dtype] * b.double().norm()):
            return False
    return True
