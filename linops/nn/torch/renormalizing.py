"""Spectral renormalisation of AdamW: the step of a leaf divided by the growth of the leaves that multiply it.

With factors W_1 … W_k a step ΔW_i of one moves the layer by at most ‖ΔW_i‖ Π_{j≠i} ‖W_j‖. The rates of
`linops.nn.rates` are right for norms as `init` draws them, N_j = std_j · (sqrt(fan_in) + sqrt(fan_out)); while factors
grow, a step grows with the others. So it is multiplied by

    ρ_i = min(1, Π_{j≠i} N_j / ‖W_j‖).

This is Spectron (Janson, Oyallon and Belilovsky, "Stabilizing Native Low-Rank LLM Pretraining", 2026,
arXiv:2602.12429: orthogonalised steps of two factors, bounded by their present spectral norms) for any expression: what
multiplies a leaf, sums of products included, is ∂N/∂‖W_i‖ of `linops.partners`. It only lowers: beside a factor that
starts at zero, a step would be without bound. In a leaf of blocks the greatest norm of a block counts. Norms of
matrices are found by power iteration, one a step with a vector that is kept; those of other leaves (a tensor train's
cores, diagonals) follow from their root mean square, as of random ones.
"""

from __future__ import annotations

from collections.abc import Container
from math import sqrt
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from linops.nn.rates import Entry
from linops.nn.torch.sharded import is_cut
from linops.partners import Norm, evaluate, initial_norms, partners, renamed
from linops.scaling import fans

#: iterations with a new vector, and with one that was kept from the step before
_FIRST, _LATER = 8, 1
#: what is added to squares of norms
_LEAST = 1e-12

#: what a group has for each parameter: what multiplies it, that as `init` draws it, and its (fan_in, fan_out), if any
Partner = tuple[Norm, float, "tuple[int, int] | None"]
#: of what nothing multiplies
ALONE: Partner = ((), 1.0, None)


def partner(entry: Entry, name: str, trained: Container[str]) -> Partner:
    """What multiplies a parameter, in plain data that a state dict holds.

    Args:
        entry: The parameter.
        name: Its name in the model.
        trained: The names of parameters that the optimiser has; the norms of others are what `init` draws.

    Returns:
        The norm over names of parameters; nothing for one that stands alone, or in a layer with weight normalisation,
        which caps norms itself.
    """
    operator = entry.operator
    if operator is None or not name.endswith(entry.key) or getattr(entry.layer, "weight_norm", False):
        return ALONE
    norm, initial, place = partners(operator)[entry.key], initial_norms(operator), name.removesuffix(entry.key)
    found = renamed(norm, lambda leaf: place + leaf if place + leaf in trained else initial[leaf])
    return found, evaluate(norm, initial.__getitem__), fans(operator).get(entry.key)


class Norms:
    """The norms of an optimiser's leaves before a step, each found when first asked for.

    Args:
        optimizer: Groups with ``partners`` have the ``names`` of their parameters. Its state keeps a vector a matrix.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._state = optimizer.state
        self._found: dict[str, Any] = {}
        groups = [group for group in optimizer.param_groups if group.get("partners")]
        self._at = {
            name: (parameter, sizes)
            for group in groups
            for name, parameter, (_, _, sizes) in zip(group["names"], group["params"], group["partners"])
        }

    def share(self, norm: Norm, initial: float, _: Any = None) -> Any:
        """ρ of a leaf.

        Args:
            norm: What multiplies it.
            initial: The same, as `init` draws it.

        Returns:
            A number, or a scalar tensor where reading it would wait for a device.
        """
        present = evaluate(norm, self._norm)
        if isinstance(present, Tensor):
            return (initial / present).clamp(max=1)
        return min(1.0, initial / present) if present else 1.0

    def _norm(self, name: str) -> Any:
        if name not in self._found:
            found = self._measured(*self._at[name])
            self._found[name] = found.item() if found.is_cpu and not torch.compiler.is_compiling() else found
        return self._found[name]

    def _measured(self, leaf: Tensor, sizes: tuple[int, int] | None) -> Tensor:
        whole = leaf.full_tensor() if is_cut(leaf) else leaf  # type: ignore[operator]
        if sizes is None or tuple(sizes) != tuple(leaf.shape[:-3:-1]):
            scale = sqrt(sizes[0]) + sqrt(sizes[1]) if sizes else 1.0
            return scale * whole.abs().square().mean().sqrt()
        state = self._state[leaf]
        norm, state["vector"] = spectral_norm(whole, state.get("vector"))
        return norm


def spectral_norm(matrices: Tensor, vector: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The greatest spectral norm of a batch of matrices by power iteration, from below.

    Args:
        matrices: (…, p, q).
        vector: (…, 1, q) of the last call; None starts anew, with more iterations.

    Returns:
        The norm, a scalar tensor, and the vector.

    Example:
        >>> norm, vector = spectral_norm(torch.diag(torch.tensor([1.0, 4.0])))
        >>> round(norm.item(), 3), vector.shape
        (4.0, torch.Size([1, 2]))
    """
    count, now = (_FIRST, _start(matrices)) if vector is None else (_LATER, vector)
    length = now  # overwritten: there is at least one iteration
    for _ in range(count):
        back = (now @ matrices.mT) @ matrices.conj()  # as a row: torch multiplies batches by columns slowly
        back = back.add_(now, alpha=max(_LEAST, torch.finfo(back.dtype).tiny))  # where a block is zero its vector stays
        length = torch.linalg.vector_norm(back, dim=-1, keepdim=True)
        now = back.div_(length)
    return length.amax().sqrt(), now


def _start(matrices: Tensor) -> Tensor:
    """A random row of length one for each matrix, the same on every rank."""
    random = torch.randn(1, matrices.shape[-1], generator=torch.Generator().manual_seed(0))
    random = random / torch.linalg.vector_norm(random)
    return random.to(matrices.device, matrices.dtype).expand(*matrices.shape[:-2], -1, -1)
