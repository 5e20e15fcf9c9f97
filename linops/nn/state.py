"""State dicts across the frameworks: arrays by name, as `torch.nn.Module.state_dict` has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from linops import backends


def filled(expected: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of a state dict in JAX, in the order and dtypes that a model expects.

    Args:
        expected: Arrays, or what has a shape and dtype, by name.
        state: Arrays of any framework by name.

    Returns:
        JAX arrays by name.

    Raises:
        KeyError: If names are missing or unexpected.
        ValueError: If a shape differs.
    """
    missing, unexpected = expected.keys() - state.keys(), state.keys() - expected.keys()
    if missing or unexpected:
        raise KeyError(f"state dict: missing {sorted(missing)}, unexpected {sorted(unexpected)}")
    for name, array in expected.items():
        if tuple(state[name].shape) != tuple(array.shape):
            raise ValueError(
                f"state dict: {name!r} has shape {tuple(state[name].shape)}, expected {tuple(array.shape)}"
            )
    return {name: backends.asarray(state[name], "jax", array.dtype) for name, array in expected.items()}
