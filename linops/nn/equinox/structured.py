"""What the structured layers of Equinox share, linear or not: which nodes of a pytree they are, and their arrays."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax

from linops.nn.equinox.layer import Linear
from linops.nn.equinox.nonlinear import Nonlinear


def is_structured(node: Any) -> bool:
    """Whether a node of a pytree is a structured layer, or several that are stacked."""
    return isinstance(node, (Linear, Nonlinear))


def is_parameter(leaf: Any) -> bool:
    """Whether a leaf of a pytree is an array, or an abstract one, that is trained."""
    return eqx.is_inexact_array(leaf) or (
        isinstance(leaf, jax.ShapeDtypeStruct) and jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact)
    )


def arrays_of(layer: Linear | Nonlinear) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """The arrays of a structured layer by name, in the order of the pytree.

    Args:
        layer: The layer; in one that was filtered some are None.

    Returns:
        Those of the operator and the matrices beside it, and those that act elementwise: the bias and gains.
    """
    gains = {} if isinstance(layer, Nonlinear) else layer.gains or {}
    own = sorted(layer.leaves.items()) if isinstance(layer, Nonlinear) else list(layer.operator.named_leaves())
    bias = [] if layer.bias is None else [("bias", layer.bias)]
    return own, bias + [(f"{name}_gain", gain) for name, gain in sorted(gains.items())]
