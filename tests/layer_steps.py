"""Steps of one layer on one batch by optimisers of optax, and how far results are apart."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx


def by_equinox(layer, tx, x, y, steps):
    """The leaves of a layer of Equinox after some steps, under jit and scan."""

    def step(carried, _):
        layer, state = carried
        gradient = jax.grad(lambda layer: jnp.mean((layer(x) - y) ** 2))(layer)
        updates, state = tx.update(gradient, state, layer)
        return (optax.apply_updates(layer, updates), state), None

    (layer, _), _ = jax.jit(lambda *carried: jax.lax.scan(step, carried, length=steps))(layer, tx.init(layer))
    return dict(layer.operator.named_leaves()) | {"bias": layer.bias}


def by_flax(layer, tx, x, y, steps):
    """The leaves of a layer of Flax after some steps, under jit."""
    trained = nnx.Optimizer(layer, tx, wrt=nnx.Param)

    @nnx.jit
    def step(layer, trained):
        trained.update(layer, nnx.grad(lambda layer: jnp.mean((layer(x) - y) ** 2))(layer))

    for _ in range(steps):
        step(layer, trained)
    return {name: getattr(layer, name).get_value() for name in (*layer.leaf_names, "bias")}


def differs(found, expected):
    """The greatest relative difference of a leaf."""
    assert found.keys() == expected.keys()
    return max(np.linalg.norm(found[name] - leaf) / np.linalg.norm(leaf) for name, leaf in expected.items())
