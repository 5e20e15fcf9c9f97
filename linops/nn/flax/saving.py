"""`save` and `load` of Flax NNX models: weights, and the structure of every structured layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flax import nnx

from linops.nn.flax.checkpoint import load_state_dict, state_dict
from linops.nn.flax.dense import find
from linops.nn.flax.layer import Linear
from linops.nn.flax.nonlinear import Nonlinear
from linops.nn.flax.placing import build, exchange
from linops.nn.obstacles import elsewhere
from linops.nn.projected import Fit
from linops.nn.recipe import Layer
from linops.nn.stored import Stored, described, is_same, require_fit, require_same, require_whole, write_model
from linops.nn.swap import Swap
from linops.reading import Reader
from linops.safetensors import opened


def save(model: nnx.Module, path: str | Path) -> None:
    """Write a model's variables and the structure of its structured layers to a safetensors file.

    Names and layouts are those of `state_dict`, so a PyTorch or Equinox model of the same names reads the file too. The
    file is written beside the old one of this name and put in its place when it is whole and on the disk. Random states
    are not saved.

    Args:
        model: The model.
        path: The file; ``.safetensors`` is the usual suffix. One that linops did not write is not replaced.

    Raises:
        TypeError: If it is no module of Flax NNX, or a structure holds a callable.
        ValueError: If a variable is abstract.
        FileExistsError: If the file is there and is none of linops.
        OSError: If it cannot be written.

    Example:
        >>> import linops as lo, os, tempfile
        >>> from flax import nnx
        >>> def dense():
        ...     return nnx.Sequential(nnx.Linear(64, 64, rngs=nnx.Rngs(0)), nnx.Linear(64, 10, rngs=nnx.Rngs(1)))
        >>> model = dense()
        >>> report = lo.nn.flax.replace_linear(model, "btt", where="layers.0", rngs=nnx.Rngs(2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     lo.nn.flax.save(model, os.path.join(folder, "model.safetensors"))
        ...     other = lo.nn.flax.load(dense(), os.path.join(folder, "model.safetensors"))
        >>> other.layers[0].structure == model.layers[0].structure
        True
    """
    _require("save", model)
    layers = {name: _described(layer) for name, layer in _structured(model)}
    write_model(path, layers, state_dict(model))


def load(model: nnx.Module, path: str | Path) -> nnx.Module:
    """Load a file of `save` into a model that is built as the saved one was before its layers were replaced.

    Its dense layers become the structured layers of the file; then all variables are loaded. A model that has these
    layers already is loaded as it is. Where an error is raised, the model is as it was.

    Args:
        model: The model, changed in place; it may be abstract, of `nnx.eval_shape`. Its dtypes must be those of the
            file.
        path: A file of `save`, of `lo.nn.save` or `lo.nn.equinox.save`, or of ``linops compress``; it need not be
            trusted.

    Returns:
        The model.

    Raises:
        ValueError: If the file is damaged or holds no model, or if layers, names, shapes or dtypes differ.
        TypeError: If it is no module of Flax NNX.
        OSError: If it cannot be read.
    """
    _require("load", model)
    file, new, old = opened(path), {}, {}
    drawn: list[tuple[Any, str]] = []
    try:
        stored = Stored(Reader(file, "jax"))
        stored.require_leaves()
        there, found = dict(_structured(model)), {one.name: one for one in find(model)}
        for name, layer in stored.layers.items():
            require_whole(name, layer)
            own_layer = _described(there[name]) if name in there else None
            if own_layer is not None and is_same(own_layer, layer):
                drawn += [(there[name], layer.scheme)] if own_layer.scheme != layer.scheme else []
                continue
            one = require_fit(name, layer, found, own_layer)
            fit = Fit(() if layer.nonlinear else (stored.operator(name, 0),), ())
            made = build(Swap(one, layer.operators, False, scheme=layer.scheme), layer.weight_norm, None, fit)
            new[id(one.layer)] = made
            old[id(made)] = one.layer
        exchange(model, new)
        own = state_dict(model)
        tensors = stored.without_counters(own)
        require_same({name: described(array) for name, array in own.items()}, tensors)
        state = {name: stored.array(name) for name in tensors}
    except BaseException as error:
        exchange(model, old)
        if isinstance(error, (ValueError, KeyError, AttributeError)):
            raise ValueError(f"{file.path}: {error}") from None
        raise
    for kept, scheme in drawn:
        kept.scheme = scheme
    load_state_dict(model, state)
    return model


def _require(where: str, model: Any) -> None:
    if not isinstance(model, nnx.Module):
        way = elsewhere(model, (f"flax.{where}", f"equinox.{where}", where)) or "expected a module of Flax NNX"
        raise TypeError(f"lo.nn.flax.{where}({type(model).__name__}): {way}")


def _described(layer: Any) -> Layer:
    """A layer as a recipe has it."""
    if isinstance(layer, Nonlinear):
        return Layer((layer.nonlinear.structure,), nonlinear=layer.nonlinear)
    return Layer((layer.structure,), weight_norm=layer.weight_norm, scheme=layer.scheme)


def _structured(model: nnx.Module) -> list[tuple[str, Any]]:
    """The structured layers with their names."""
    found = [(".".join(map(str, path)), module) for path, module in nnx.iter_modules(model)]
    return [(name, module) for name, module in found if isinstance(module, (Linear, Nonlinear))]
