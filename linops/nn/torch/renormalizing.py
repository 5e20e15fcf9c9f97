"""Spectral renormalisation of AdamW: the step of a leaf divided by the growth of the leaves that multiply it.

With factors W_1 … W_k a step ΔW_i of one moves the layer by at most ‖ΔW_i‖ Π_{j≠i} ‖W_j‖. The rates of
`linops.nn.rates` are right for norms as `init` draws them, N_j = std_j · (sqrt(fan_in) + sqrt(fan_out)); while factors
grow, a step grows with the others. So it is multiplied by

    ρ_i = min(1, Π_{j≠i} N_j / ‖W_j‖).

This is Spectron (Janson, Oyallon and Belilovsky, "Stabilizing Native Low-Rank LLM Pretraining", 2026,
arXiv:2602.12429: orthogonalised steps of two factors, bounded by their present spectral norms) for any expression: what
multiplies a leaf, sums of products included, is ∂N/∂‖W_i‖ of `linops.partners`. It only lowers: beside a factor that
starts at zero, a step would be without bound. In a leaf of blocks the greatest norm of a block counts;
the experts of a mixture have norms and ρ of their own. Norms of
matrices are found by power iteration, one a step with a vector that is kept; those of other leaves (a tensor train's
cores, diagonals) follow from their root mean square, as of random ones.
"""

from __future__ import annotations

from functools import cached_property
from math import sqrt
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from linops.nn.renormalizing import FIRST, LATER, LEAST, start
from linops.nn.torch.sharded import is_cut
from linops.partners import Norm, evaluate


class Norms:
    """The norms of an optimiser's leaves before a step, each found when first asked for.

    Args:
        optimizer: Groups with ``partners`` have the ``names`` of their parameters. Its state keeps a vector a matrix.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._state, self._groups = optimizer.state, optimizer.param_groups
        self._found: dict[str, Any] = {}

    @cached_property
    def _at(self) -> dict[str, Any]:
        return {
            name: (parameter, sizes, copies)
            for group in self._groups
            if group.get("partners")
            for name, parameter, (_, _, sizes, copies) in zip(group["names"], group["params"], group["partners"])
        }

    def share(self, norm: Norm, initial: float, *_: Any) -> Any:
        """ρ of a leaf.

        Args:
            norm: What multiplies it.
            initial: The same, as `init` draws it.

        Returns:
            A number; a scalar tensor where reading it would wait for a device; or a tensor of one number a copy.
        """
        present = evaluate(norm, self._norm)
        if isinstance(present, Tensor):
            return (initial / present).clamp(max=1)
        return min(1.0, initial / present) if present else 1.0

    def _norm(self, name: str) -> Any:
        if name not in self._found:
            found = self._measured(*self._at[name])
            self._found[name] = (
                found.item() if found.ndim == 0 and found.is_cpu and not torch.compiler.is_compiling() else found
            )
        return self._found[name]

    def _measured(self, leaf: Tensor, sizes: tuple[int, int] | None, copies: int) -> Tensor:
        whole = leaf.full_tensor() if is_cut(leaf) else leaf  # type: ignore[operator]
        if sizes is None or tuple(sizes) != tuple(leaf.shape[copies:][:-3:-1]):
            scale = sqrt(sizes[0]) + sqrt(sizes[1]) if sizes else 1.0
            return scale * _by_copy(whole.abs().square(), copies).mean(-1).sqrt()
        state = self._state[leaf]
        norm, state["vector"] = spectral_norm(whole, state.get("vector"), copies)
        return norm


def spectral_norm(matrices: Tensor, vector: Tensor | None = None, copies: int = 0) -> tuple[Tensor, Tensor]:
    """The greatest spectral norm of a batch of matrices by power iteration, from below.

    Args:
        matrices: (…, p, q).
        vector: (…, 1, q) of the last call; None starts anew, with more iterations.
        copies: The number of first axes that have norms of their own.

    Returns:
        The norm, a scalar tensor or one of the first axes, and the vector.

    Example:
        >>> norm, vector = spectral_norm(torch.diag(torch.tensor([1.0, 4.0])))
        >>> round(norm.item(), 3), vector.shape
        (4.0, torch.Size([1, 2]))
    """
    count, now = (FIRST, _start(matrices)) if vector is None else (LATER, vector)
    length = now  # overwritten: there is at least one iteration
    for _ in range(count):
        back = (now @ matrices.mT) @ matrices.conj()  # as a row: torch multiplies batches by columns slowly
        back = back.add_(now, alpha=max(LEAST, torch.finfo(back.dtype).tiny))  # where a block is zero its vector stays
        length = torch.linalg.vector_norm(back, dim=-1, keepdim=True)
        now = back.div_(length)
    return _by_copy(length, copies).amax(-1).sqrt(), now


def _by_copy(numbers: Tensor, copies: int) -> Tensor:
    """All numbers of a copy in the last axis, after the first ones."""
    return numbers.reshape(*numbers.shape[:copies], -1)


def _start(matrices: Tensor) -> Tensor:
    """A row of length one for each matrix, the same on every rank."""
    row = torch.from_numpy(start(matrices.shape[-1]))[None, :]
    return row.to(matrices.device, matrices.dtype).expand(*matrices.shape[:-2], -1, -1)
