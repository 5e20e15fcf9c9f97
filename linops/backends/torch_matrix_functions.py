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
