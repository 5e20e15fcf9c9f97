"""`clip_grad_norm_` for models of which some parameters are divided among ranks and some are not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor


@torch.no_grad()
def clip_grad_norm_(
    parameters: Iterable[Tensor] | Tensor, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """As `torch.nn.utils.clip_grad_norm_`, which takes no `DTensor`s beside tensors, nor of several meshes.

    Args:
        parameters: Parameters, or one; those without a gradient are left out.
        max_norm: What the norm of all gradients together is to be at most.
        norm_type: The p of the norm; may be infinity.
        error_if_nonfinite: Whether a norm that is NaN or infinite is an error, before anything is changed.

    Returns:
        The norm before, the same on every rank.

    Raises:
        TypeError: If they are no parameters, but a model, say.
        RuntimeError: If the norm is not finite, where that is asked for.

    Cost: one number a mesh is summed over the ranks.

    Example:
        >>> parameter = torch.nn.Parameter(torch.zeros(2))
        >>> parameter.grad = torch.tensor([3.0, 4.0])
        >>> clip_grad_norm_([parameter], max_norm=1.0), parameter.grad
        (tensor(5.), tensor([0.6000, 0.8000]))
    """
    if not isinstance(parameters, Iterable):
        raise TypeError(
            f"clip_grad_norm_({type(parameters).__name__}): expected parameters, as model.parameters(); in JAX "
            "optax.clip_by_global_norm does it"
        )
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    groups: dict[Any, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            mesh = parameter.grad.device_mesh if isinstance(parameter.grad, DTensor) else None
            groups.setdefault(mesh, []).append(parameter)
    gradients = [[one.grad for one in own if one.grad is not None] for own in groups.values()]
    norms = [torch.nn.utils.get_total_norm(own, norm_type) for own in gradients]
    norms = [norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]
    total = torch.linalg.vector_norm(torch.stack(norms), norm_type) if norms else torch.tensor(0.0)
    if error_if_nonfinite and not total.isfinite():
        raise RuntimeError(f"clip_grad_norm_: the norm of the gradients is {total.item()}")
    for own in groups.values():
        torch.nn.utils.clip_grads_with_norm_(own, max_norm, total)
    return total
