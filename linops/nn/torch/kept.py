"""The operator that a layer keeps from one forward to the next, while its parameters are the same tensors."""

from __future__ import annotations

from operator import is_
from typing import Any

import torch
from torch import nn

from linops import operators
from linops.structure import Structure

#: operators that keep nothing of the numbers in their leaves: these may be written in place between two products
READ_ANEW = frozenset(
    {
        operators.Block,
        operators.BlockDiag,
        operators.BlockTensorTrain,
        operators.Butterfly,
        operators.Circulant,
        operators.DFT,
        operators.Dense,
        operators.Diagonal,
        operators.DirectSum,
        operators.Einsum,
        operators.Hadamard,
        operators.Householder,
        operators.Identity,
        operators.Kronecker,
        operators.KroneckerSum,
        operators.LowRank,
        operators.Pad,
        operators.Permute,
        operators.PermuteAxes,
        operators.Product,
        operators.Scaled,
        operators.Selected,
        operators.Sliced,
        operators.Sparse,
        operators.Sum,
        operators.TensorTrain,
        operators.Toeplitz,
        operators.Triangular,
        operators.Tridiagonal,
        operators.Zero,
    }
)


def reads_anew(structure: Structure) -> bool:
    """Whether an operator of a structure may be kept while its leaves are written in place.

    Args:
        structure: The structure.

    Returns:
        True or False; False where it holds operators of other classes, such as an inverse, which keeps its factors.
    """
    return all(type(node) in READ_ANEW for _, node in structure.operator._nodes())


def held(layer: Any, names: list[str]) -> list[Any]:
    """What a layer has by these names.

    Args:
        layer: The layer.
        names: Names of parameters or buffers.

    Returns:
        Tensors.
    """
    return [getattr(layer, name) for name in names]


def kinds(leaves: list[Any]) -> list[Any]:
    """What of leaves an operator relies on, beside their numbers.

    Args:
        leaves: Tensors.

    Returns:
        Shape, dtype and device of each.
    """
    return [(leaf.shape, leaf.dtype, leaf.device) for leaf in leaves]


def acting(layer: Any) -> tuple[Any, Any]:
    """Operator and bias of a `Linear` for one product.

    The operator is that of the last product while its tensors are the same objects. `layer.operator` is always made
    anew, for what users ask of it may be kept by it, such as how it is solved.

    Args:
        layer: The layer.

    Returns:
        The operator, and the bias or None.
    """
    if type(layer) is not layer._keeps or torch.compiler.is_compiling():
        return layer.operator, layer.bias
    kept, parameters, buffers = layer._kept, layer._parameters, layer._buffers
    if kept and layer.__dict__.keys().isdisjoint((*layer._names, "bias")):  # as FSDP1 hides them
        leaves, indices, operator = kept
        if (
            all(map(is_, map(parameters.get, layer._names), leaves))
            and all(map(is_, map(buffers.get, layer._indices), indices))
            and kinds(leaves) == layer._kinds  # `.data` may be another
            and "bias" in parameters
        ):
            return operator, parameters["bias"]
    leaves, indices = held(layer, layer._names), held(layer, layer._indices)
    operator = layer._over(leaves, indices)
    if _are_own(leaves) and _are_own(indices):
        layer._kept = leaves, indices, operator
    return operator, layer.bias


def _are_own(tensors: list[Any]) -> bool:
    """Whether tensors are a layer's own; others, as of torch.func and parametrisations, hold what they came of."""
    return all(type(one) is nn.Parameter or (type(one) is torch.Tensor and not one.requires_grad) for one in tensors)
