"""The operator that a layer keeps from one forward to the next, while its parameters are the same tensors."""

from __future__ import annotations

from operator import is_
from typing import Any
from weakref import ref

import torch
from torch import nn

from linops import operators
from linops.nn.torch.leaves import held, kinds
from linops.nn.torch.structured import Structured
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


class Keeping(Structured):
    """A layer that keeps its operator from one forward to the next."""

    _indices: list[str]
    _kinds: list[Any]
    #: the class whose instances may keep an operator
    _keeps: Any = None
    #: leaves, index arrays and operator of the last forward
    _kept: Any = None
    #: weak references to the leaves of the last forward
    _met: Any = None

    def _acting(self) -> tuple[Any, Any]:
        """Operator and bias for one product: those of the last one while its tensors are the same objects.

        They are kept when they come a second time, so that those of one call alone (of `torch.func`, or of weights that
        wait elsewhere between two calls, as in accelerate's offloading) are not held.
        `operator` is always made anew, for what users ask of it may be kept by it, such as how it is solved.
        """
        if type(self) is not self._keeps or torch.compiler.is_compiling():
            return self.operator, self.bias
        kept, parameters, buffers = self._kept, self._parameters, self._buffers
        if kept and self.__dict__.keys().isdisjoint((*self._names, "bias")):  # as FSDP1 hides them
            leaves, indices, operator = kept
            if (
                all(map(is_, map(parameters.get, self._names), leaves))
                and all(map(is_, map(buffers.get, self._indices), indices))
                and kinds(leaves) == self._kinds  # `.data` may be another
                and "bias" in parameters
            ):
                return operator, parameters["bias"]
        leaves, indices = held(self, self._names), held(self, self._indices)
        operator, met = self._over(leaves, indices), self._met
        self._kept = None
        if _are_own(leaves) and _are_own(indices):
            if met is not None and len(met) == len(leaves) and all(one() is leaf for one, leaf in zip(met, leaves)):
                self._kept = leaves, indices, operator
            self._met = [ref(leaf) for leaf in leaves]
        return operator, self.bias

    def _over(self, leaves: list[Any], indices: list[Any]) -> Any:
        """The operator over leaves and index arrays."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        """As of `torch.nn.Module`, without the kept operator."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_kept", "_met")}


def _are_own(tensors: list[Any]) -> bool:
    """Whether tensors are a layer's own; others, as of torch.func and parametrisations, hold what they came of."""
    return all(type(one) is nn.Parameter or (type(one) is torch.Tensor and not one.requires_grad) for one in tensors)
