"""The arrays of an Equinox model by PyTorch's names, for checkpoints (safetensors) that every framework reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import equinox as eqx
import jax

from linops.nn.equinox.dense import name_of
from linops.nn.equinox.structured import arrays_of, is_structured
from linops.nn.state import filled

Model = TypeVar("Model")


def state_dict(model: Any) -> dict[str, jax.Array]:
    """The arrays of a model by name: dotted paths, with those of `named_leaves` in a `linops.nn.equinox.Linear`.

    Where the modules of a PyTorch model have the same names, the names and layouts are those of its ``state_dict()``.
    So ``safetensors.flax.save_file(state_dict(model), path)`` writes what ``safetensors.torch.load_file`` and
    ``load_state_dict`` read.

    Args:
        model: The model: any pytree.

    Returns:
        A dict from names to arrays.

    Example:
        >>> import jax, linops as lo
        >>> sorted(lo.nn.equinox.state_dict(lo.nn.equinox.Linear(lo.btt(16, 16), key=jax.random.key(0))))
        ['bias', 'cores_0', 'cores_1']
    """
    return dict(_arrays(model))


def load_state_dict(model: Model, state: Mapping[str, Any]) -> Model:
    """A model with its arrays taken from a state dict; dtypes stay those of the model.

    Args:
        model: The model, which may be abstract.
        state: Arrays of any framework by the names of `state_dict`.

    Returns:
        The model.

    Raises:
        KeyError: If names are missing or unexpected.
        ValueError: If a shape differs.
    """
    values = iter(filled(state_dict(model), state).values())
    return jax.tree.map(lambda leaf: next(values) if _is_array(leaf) else leaf, model)


def _is_array(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def _arrays(model: Any) -> Iterator[tuple[str, Any]]:
    """Names and arrays in the order of the pytree's leaves."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(model, is_leaf=is_structured):
        name = name_of(path)
        if is_structured(leaf):
            dot = f"{name}." if name else ""
            own, elementwise = arrays_of(leaf)
            yield from ((dot + key, array) for key, array in own + elementwise)
        elif _is_array(leaf):
            yield name, leaf
