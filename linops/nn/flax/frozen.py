"""Structured layers of a Flax NNX model for inference: frozen, or as the dense layers that they compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flax import nnx

from linops.freezing import freeze as freeze_operator
from linops.nn.flax.layer import Linear
from linops.nn.flax.nonlinear import Nonlinear
from linops.nn.flax.placing import exchange
from linops.nn.jax_nonlinear import warn_left


def freeze(model: nnx.Module, batch: int = 1) -> None:
    """Freeze every structured layer's operator, in place: `lo.freeze` for many products with the same weights.

    What can be multiplied beforehand is multiplied, weight normalisation too, so that the state changes. Biases are
    kept.

    Args:
        model: The model.
        batch: The number of vectors of the products to come.

    Raises:
        ValueError: If the model is a structured layer itself, which cannot be replaced in place.

    Example:
        >>> import linops as lo
        >>> from flax import nnx
        >>> model = nnx.Sequential(lo.nn.flax.Linear(lo.dense(16, 16) + lo.dense(16, 16), rngs=nnx.Rngs(0)))
        >>> lo.nn.flax.freeze(model)
        >>> model.layers[0].operator
        Dense()  16×16  float32  256 parameters  jax
    """

    def frozen(layer: Linear) -> Linear:
        return layer._over(freeze_operator(layer.operator, batch))

    _exchange(model, frozen, f"lo.freeze(layer.operator, {batch})")


def to_dense(model: nnx.Module) -> None:
    """Replace every structured layer of a model, in place, by an `nnx.Linear` with the weights that it computes.

    Args:
        model: The model.

    Raises:
        ValueError: If the model is a structured layer itself, which cannot be replaced in place.

    Warns:
        UserWarning: If layers stay because they are no linear maps.

    Example:
        >>> import linops as lo
        >>> from flax import nnx
        >>> model = nnx.Sequential(lo.nn.flax.Linear(lo.btt(16, 16), rngs=nnx.Rngs(0)))
        >>> lo.nn.flax.to_dense(model)
        >>> model.layers[0].kernel.shape
        (16, 16)
    """
    _exchange(model, lambda layer: layer.to_dense(), "layer.to_dense()")
    modules = nnx.iter_modules(model)
    warn_left("to_dense", [(".".join(map(str, at)), one) for at, one in modules if isinstance(one, Nonlinear)])


def _exchange(model: nnx.Module, make: Callable[[Linear], Any], instead: str) -> None:
    """Make all new layers, then replace the old by them; one that occurs twice is replaced by one that does."""
    if isinstance(model, Linear):
        raise ValueError(f"{type(model).__name__} is the whole model, which cannot be replaced in place; use {instead}")
    new: dict[int, Any] = {}
    for _, module in nnx.iter_modules(model):
        if isinstance(module, Linear):
            new[id(module)] = made = make(module)
            made.bias = module.bias
    exchange(model, new)
