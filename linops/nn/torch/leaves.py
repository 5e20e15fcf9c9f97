"""What PyTorch's structured layers hold of an operator: its leaves and index arrays, by name, and how leaves start."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from linops.nn.torch.sharded import cut_as, normal_
from linops.operator import LinearOperator


def held(layer: Any, names: Iterable[str]) -> list[Any]:
    """What a layer has by these names.

    Args:
        layer: The layer.
        names: Names of parameters or buffers.

    Returns:
        Tensors.
    """
    return [getattr(layer, name) for name in names]


def kinds(leaves: Iterable[Any]) -> list[Any]:
    """What an operator relies on of its leaves, beside their numbers.

    Args:
        leaves: Tensors.

    Returns:
        Shape, dtype and device of each.
    """
    return [(leaf.shape, leaf.dtype, leaf.device) for leaf in leaves]


def index_arrays(operator: LinearOperator) -> list[tuple[str, Any]]:
    """The index arrays of an operator, in the order of `LinearOperator._map`.

    Args:
        operator: The operator.

    Returns:
        (name, array) of each; an array that stands in two places has one name.
    """
    paths = {
        id(array): prefix + name
        for prefix, node in operator._nodes()
        for name, kind in node._fields
        if kind == "index" and (array := getattr(node, name)) is not None
    }
    found: list[tuple[str, Any]] = []
    operator._map(lambda leaf: leaf, lambda array: found.append((paths[id(array)], array)))
    return found


def draw_(parameter: Any, std: float | None, factor: float, drawn: torch.Tensor | None = None) -> None:
    """Fill a parameter with what it starts from.

    Args:
        parameter: The parameter.
        std: The standard deviation of its numbers; None of scalars, which start at one.
        factor: On its numbers; 0 of what starts at zero.
        drawn: Its numbers, where these have been drawn.
    """
    if not factor:
        parameter.zero_()
    elif std is None:
        parameter.fill_(1)
    elif drawn is not None:
        parameter.copy_(cut_as(drawn, parameter)).mul_(factor)
    else:
        normal_(parameter, std * factor)


def excess(leaf: torch.Tensor, std: float) -> torch.Tensor:
    """What weight normalisation divides a leaf by: max(1, rms / std).

    Args:
        leaf: The leaf.
        std: Its structure-aware initial std.

    Returns:
        A scalar tensor; as the root of a maximum, for the root has no gradient at zero.
    """
    return (leaf.abs().square().mean() / std**2).clamp(min=1).sqrt()
