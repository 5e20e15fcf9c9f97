"""Operators that a layer may keep from one forward to the next: those that multiply by their leaves as they are then."""

from __future__ import annotations

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


def are_own(tensors: list[Any]) -> bool:
    """Whether a layer's tensors are its own, and none that a transformation or a parametrisation puts in their place.

    Args:
        tensors: Parameters and buffers.

    Returns:
        True or False. Others are not to be kept alive: they hold the graph that they were computed in.
    """
    return all(type(one) is nn.Parameter or (type(one) is torch.Tensor and not one.requires_grad) for one in tensors)
