"""What structures that are no linear maps compute in JAX, for the layers of Flax and Equinox."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from linops.nn.jax import drawn
from linops.nn.nonlinear import Chain, Mixture, Nonlinear
from linops.nn.obstacles import brief
from linops.nn.routing import placed, sizes

_ACTIVATIONS = {
    "silu": jax.nn.silu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "relu": jax.nn.relu,
    "tanh": jax.numpy.tanh,
    "sigmoid": jax.nn.sigmoid,
}


def start(nonlinear: Nonlinear, dtype: Any, key: Any, zero_init: bool, how: str) -> dict[str, Any]:
    """The parameters of a layer, drawn with structure-aware scale (`linops.initial_stds`).

    Args:
        nonlinear: What it computes.
        dtype: Their dtype; None takes that of the leaves.
        key: A key of `jax.random`.
        zero_init: Whether the layer starts at zero, by the factor nearest the output alone.
        how: How the caller's layer takes a key, for errors.

    Returns:
        Arrays by name.

    Raises:
        TypeError: If there is no key.
    """
    if key is None:
        raise TypeError(f"{nonlinear}: its parameters are drawn, which needs {how}")
    stds = nonlinear.stds | dict.fromkeys(nonlinear._output_leaves() if zero_init else (), 0.0)
    dtype = nonlinear.operator.dtype if dtype is None else dtype
    keys = jax.random.split(key, len(stds))
    return {name: drawn(one, shape, stds[name], dtype) for one, (name, shape) in zip(keys, nonlinear.leaves.items())}


def mapped(nonlinear: Nonlinear, leaves: Mapping[str, Any], x: Any, tag: Any = lambda scores: scores) -> Any:
    """The map over the last axis of x, without a bias, and what its balance loss is made of.

    Args:
        nonlinear: What to compute.
        leaves: The parameters by name.
        x: (…, n).
        tag: An identity that scores of experts, (rows, experts), go through.

    Returns:
        (…, m), and the scores; None where there are none.
    """
    if isinstance(nonlinear, Chain):
        name = nonlinear.activation
        activation: Any = _ACTIVATIONS[name] if isinstance(name, str) else name
        return activation(x @ leaves["V"].T) @ leaves["U"].T, None
    if not isinstance(nonlinear, Mixture):
        raise TypeError(f"no layer of JAX computes {nonlinear}")
    m, n = nonlinear.shape
    rows = x.reshape(-1, n)
    scores = tag(rows @ leaves["gate"].T)
    highest, chosen = jax.lax.top_k(scores, nonlinear.active)
    y = _experts(nonlinear, [leaves[name] for name in nonlinear.structure.names], rows, chosen)
    y = (y * jax.nn.softmax(highest, -1)[..., None].astype(y.dtype)).sum(1)
    return y.reshape(*x.shape[:-1], m), scores


def _experts(mixture: Mixture, leaves: list[Any], rows: Any, chosen: Any) -> Any:
    """The outputs of the experts chosen for each row, (rows, k, m); see `linops.nn.routing`."""
    size, blocks = sizes(chosen.size, mixture.experts)
    m, n = mixture.shape
    numbers = jax.numpy.arange(mixture.experts)
    places, owners, _ = placed(chosen.reshape(-1), numbers, size, jax.numpy.arange(blocks))
    given = jax.numpy.repeat(rows, chosen.shape[1], 0)
    cut = jax.numpy.zeros((blocks * size, n), rows.dtype).at[places].set(given, unique_indices=True)
    structure = mixture.structure
    y = jax.vmap(lambda leaves, block: structure.fill(leaves)._linear(block))(
        [leaf[owners] for leaf in leaves], cut.reshape(blocks, size, n)
    )
    return y.reshape(blocks * size, m)[places].reshape(*chosen.shape, m)


def balance_of(mixture: Mixture, scores: Any) -> Any:
    """The balance loss, balance · E · Σ_e f_e p_e of E experts; see `lo.nn.balance_loss`.

    Args:
        mixture: The mixture.
        scores: (…, experts): of all rows.

    Returns:
        A scalar in float32, zero without rows; its gradient is that of p.
    """
    scores = scores.reshape(-1, mixture.experts)
    _, chosen = jax.lax.top_k(scores, mixture.active)
    rows = max(len(scores), 1)
    shares = (chosen[..., None] == jax.numpy.arange(mixture.experts)).sum((0, 1)) / (rows * mixture.active)
    means = jax.nn.softmax(scores.astype(jax.numpy.promote_types(scores.dtype, "float32")), -1).sum(0) / rows
    return mixture.balance * mixture.experts * (shares * means).sum()


def warn_left(where: str, layers: Iterable[tuple[str, Any]]) -> None:
    """Warn of layers that stay as they are because they are no linear maps.

    Args:
        where: The function whose caller is warned.
        layers: Names and layers.
    """
    if names := [name for name, _ in layers]:
        warnings.warn(
            f"{where} left {brief(names)} alone: no linear maps, without a dense weight", UserWarning, stacklevel=3
        )
