"""A Flax NNX model's variables by PyTorch's names and layouts, for safetensors that every framework reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
from flax import nnx

from linops.nn.state import filled

#: attributes that PyTorch calls otherwise: (class, name in Flax) → name in PyTorch; a Linear's kernel is also
#: transposed
_NAMES = {
    (nnx.Linear, "kernel"): "weight",
    (nnx.Embed, "embedding"): "weight",
    (nnx.LayerNorm, "scale"): "weight",
    (nnx.RMSNorm, "scale"): "weight",
    (nnx.GroupNorm, "scale"): "weight",
    (nnx.BatchNorm, "scale"): "weight",
    (nnx.BatchNorm, "mean"): "running_mean",
    (nnx.BatchNorm, "var"): "running_var",
}


def state_dict(model: nnx.Module) -> dict[str, jax.Array]:
    """A model's variables, but random states, by dotted paths; in a `linops.nn.flax.Linear` those of `named_leaves`.

    Linear layers, embeddings and norms have PyTorch's names and layouts (``weight`` of shape (out, in) for ``kernel``),
    all else its own. So where the modules of a PyTorch model have the same names,
    ``safetensors.flax.save_file(state_dict(model), path)`` writes what ``safetensors.torch.load_file`` and
    ``load_state_dict`` read.

    Args:
        model: The model.

    Returns:
        A dict from names to arrays. A variable that occurs twice has one name.

    Example:
        >>> import linops as lo
        >>> from flax import nnx
        >>> sorted(lo.nn.flax.state_dict(lo.nn.flax.Linear(lo.btt(16, 16), rngs=nnx.Rngs(0))))
        ['bias', 'cores_0', 'cores_1']
    """
    return {name: _turned(variable.get_value(), turn) for name, variable, turn in _variables(model)}


def load_state_dict(model: nnx.Module, state: Mapping[str, Any]) -> None:
    """Set the variables of a model from a state dict; dtypes stay those of the model.

    Args:
        model: The model, which may be abstract.
        state: Arrays of any framework by the names of `state_dict`.

    Raises:
        KeyError: If names are missing or unexpected.
        ValueError: If a shape differs.
    """
    variables = list(_variables(model))
    values = filled({name: _turned(variable.get_value(), turn) for name, variable, turn in variables}, state)
    for name, variable, turn in variables:
        variable.set_value(_turned(values[name], turn))


def _turned(array: Any, turn: bool) -> Any:
    if not turn:
        return array
    return jax.ShapeDtypeStruct(array.shape[::-1], array.dtype) if isinstance(array, jax.ShapeDtypeStruct) else array.T


def _variables(model: nnx.Module) -> Iterator[tuple[str, nnx.Variable, bool]]:
    """Name, variable, and whether PyTorch's layout is the transpose."""
    nodes = dict(nnx.iter_graph(model))
    for path, variable in nodes.items():
        if not isinstance(variable, nnx.Variable) or isinstance(variable, nnx.RngState):
            continue
        *parents, key = map(str, path)
        owner = nodes.get(path[:-1])
        name = next((theirs for (kind, ours), theirs in _NAMES.items() if isinstance(owner, kind) and ours == key), key)
        yield ".".join([*parents, name]), variable, isinstance(owner, nnx.Linear) and key == "kernel"
