"""`save` and `load` of Equinox models: arrays, and the structure of every structured layer."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax

from linops.nn.equinox.checkpoint import load_state_dict, state_dict
from linops.nn.equinox.dense import exchanged, find, name_of
from linops.nn.equinox.layer import Linear
from linops.nn.equinox.nonlinear import Nonlinear
from linops.nn.equinox.placing import build
from linops.nn.equinox.structured import is_structured
from linops.nn.jax import one_copy
from linops.nn.obstacles import elsewhere
from linops.nn.projected import Fit
from linops.nn.recipe import Layer
from linops.nn.stored import Stored, described, is_same, require_fit, require_same, require_whole, write_model
from linops.nn.swap import Swap
from linops.reading import Reader
from linops.safetensors import opened

Model = TypeVar("Model")


def save(model: Any, path: str | Path) -> None:
    """Write a model's arrays and the structure of its structured layers to a safetensors file.

    Names and layouts are those of `state_dict`, so a PyTorch or Flax model of the same names reads the file too. The
    file is written beside the old one of this name and put in its place when it is whole and on the disk.

    Args:
        model: The model: any pytree.
        path: The file; ``.safetensors`` is the usual suffix. One that linops did not write is not replaced.

    Raises:
        TypeError: If it is a model of another framework, or a structure holds a callable.
        FileExistsError: If the file is there and is none of linops.
        OSError: If it cannot be written.

    Example:
        >>> import equinox as eqx, jax, linops as lo, os, tempfile
        >>> dense = eqx.nn.MLP(64, 10, 64, 1, key=jax.random.key(0))
        >>> model, report = lo.nn.equinox.replace_linear(dense, "btt", where="layers.0", key=jax.random.key(1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     lo.nn.equinox.save(model, os.path.join(folder, "model.safetensors"))
        ...     other = lo.nn.equinox.load(dense, os.path.join(folder, "model.safetensors"))
        >>> bool(eqx.tree_equal(model, other))
        True
    """
    _require("save", model)
    layers = {name: _described(layer) for name, layer in _structured(model).items()}
    write_model(path, layers, state_dict(model))


def load(model: Model, path: str | Path) -> Model:
    """A model that is built as the saved one was before its layers were replaced, with what a file of `save` holds.

    Its dense layers become the structured layers of the file; then all arrays are loaded. A model that has these layers
    already is loaded as it is.

    Args:
        model: The model, which may be abstract, of `eqx.filter_eval_shape`. Its dtypes must be those of the file.
        path: A file of `save`, of `lo.nn.save` or `lo.nn.flax.save`, or of ``linops compress``; it need not be trusted.

    Returns:
        The new model.

    Raises:
        ValueError: If the file is damaged or holds no model, or if layers, names, shapes or dtypes differ.
        TypeError: If it is a model of another framework.
        OSError: If it cannot be read.
    """
    _require("load", model)
    file = opened(path)
    try:
        stored = Stored(Reader(file, "jax"))
        stored.require_leaves()
        there, found = _structured(model), {one.name: one for one in find(model)}
        new: dict[str, Any] = {}
        schemes: dict[str, str] = {}
        for name, layer in stored.layers.items():
            require_whole(name, layer)
            own_layer = _described(there[name]) if name in there else None
            if own_layer is not None and is_same(own_layer, layer):
                if own_layer.scheme != layer.scheme:
                    schemes[name] = layer.scheme
                continue
            one = require_fit(name, layer, found, own_layer)
            fit = Fit(() if layer.nonlinear else (stored.operator(name, 0),), ())
            swap = Swap(one, layer.operators, False, scheme=layer.scheme)
            new[name] = build(swap, layer.weight_norm, None, fit)
        changed = _drawn_by(exchanged(model, new.get), schemes)
        own = state_dict(changed)
        tensors = stored.without_counters(own)
        require_same({name: described(array) for name, array in own.items()}, tensors)
        return load_state_dict(changed, {name: stored.array(name) for name in tensors})
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{file.path}: {error}") from None


def _require(where: str, model: Any) -> None:
    functions = (f"flax.{where}", f"equinox.{where}", where)
    if not isinstance(model, eqx.Module) and (way := elsewhere(model, functions)):
        raise TypeError(f"lo.nn.equinox.{where}({type(model).__name__}): {way}")


def _structured(model: Any) -> dict[str, Any]:
    """The structured layers by name."""
    leaves = jax.tree_util.tree_leaves_with_path(model, is_leaf=is_structured)
    return {name_of(path): leaf for path, leaf in leaves if is_structured(leaf)}


def _described(layer: Any) -> Layer:
    """A layer without its numbers; of a stack of layers one."""
    if isinstance(layer, Nonlinear):
        return Layer((layer.nonlinear.structure,), nonlinear=layer.nonlinear)
    return Layer((one_copy(layer.operator).structure,), weight_norm=layer.gains is not None, scheme=layer.scheme)


def _drawn_by(model: Any, schemes: Mapping[str, str]) -> Any:
    """The model with other schemes of the structured layers of these names."""

    def change(path: Any, node: Any) -> Any:
        if name_of(path) not in schemes or not isinstance(node, Linear):
            return node
        same = copy(node)
        object.__setattr__(same, "scheme", schemes[name_of(path)])
        return same

    return jax.tree_util.tree_map_with_path(change, model, is_leaf=is_structured) if schemes else model
