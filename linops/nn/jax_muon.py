"""Muon's directions for JAX, as a transformation of optax: the numbers of `linops.nn.torch.Muon`."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from linops.nn.hyperparameters import require_hyperparameters
from linops.nn.newton_schulz import EPS, newton_schulz


def orthogonalize(matrices: jax.Array, steps: int = 5) -> jax.Array:
    """About U Vᵀ of singular value decompositions U S Vᵀ, by Newton-Schulz: singular values end within 0.7 … 1.2.

    Args:
        matrices: (…, p, q); those of a Frobenius norm below 1e-7 are taken as divided by 1e-7, as `torch.optim.Muon`
            does, so that zeros stay zero.
        steps: How many iterations.

    Returns:
        (…, p, q).

    Example:
        >>> import jax.numpy as jnp
        >>> orthogonalize(jnp.ones((2, 3, 4))).shape
        (2, 3, 4)
    """
    norm = jnp.sqrt((jnp.abs(matrices) ** 2).sum((-2, -1), keepdims=True))
    return newton_schulz(matrices / jnp.maximum(norm, EPS), steps)


class MuonState(NamedTuple):
    """The state of `scale_by_muon`.

    Attributes:
        momentum: A tree like the parameters.
    """

    momentum: Any


def scale_by_muon(
    momentum: float = 0.95, nesterov: bool = True, axes: tuple[tuple[int, ...], tuple[int, ...]] | None = None
) -> optax.GradientTransformation:
    """Momentum, orthogonalised: over the last two axes of each array, so block by block of batches of matrices.

    Args:
        momentum: Of the running mean of gradients.
        nesterov: Whether it is Nesterov's.
        axes: The axes of the matrices' rows and of their columns, negative; None takes the last two.

    Returns:
        The transformation, without rates: `linops.nn.flax.muon` and `linops.nn.equinox.muon` have those.

    Raises:
        ValueError: If an array has less than two axes, or momentum is not from 0 up to 1.

    Example:
        >>> import jax.numpy as jnp
        >>> tx, params = scale_by_muon(), {"a": jnp.eye(3)}
        >>> updates, state = tx.update(params, tx.init(params))
        >>> updates["a"].shape
        (3, 3)
    """
    require_hyperparameters("scale_by_muon", momentum=momentum)

    def init(params: Any) -> MuonState:
        flat = [tuple(leaf.shape) for leaf in jax.tree.leaves(params) if leaf.ndim < 2]
        if flat:
            raise ValueError(f"scale_by_muon: parameters of shapes {flat} are no matrices; take optax.adamw for them")
        return MuonState(jax.tree.map(jnp.zeros_like, params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, MuonState]:
        average = jax.tree.map(lambda mean, g: mean + (1 - momentum) * (g - mean), state.momentum, updates)
        mixed = average
        if nesterov:
            mixed = jax.tree.map(lambda g, mean: mean - (mean - g) * (1 - momentum), updates, average)
        return jax.tree.map(lambda leaf: _by_axes(leaf, axes), mixed), MuonState(average)

    return optax.GradientTransformation(init, update)


def _by_axes(leaf: jax.Array, axes: tuple[tuple[int, ...], tuple[int, ...]] | None) -> jax.Array:
    """The matrices of a leaf, which lie in it by their axes of rows and of columns, orthogonalised."""
    if axes is None:
        return orthogonalize(leaf)
    rows, columns = ([axis + leaf.ndim for axis in one] for one in axes)
    copies = [axis for axis in range(leaf.ndim) if axis not in rows + columns]
    order = [*copies, *rows, *columns]
    turned = leaf.transpose(order)
    matrices = turned.reshape([prod([leaf.shape[axis] for axis in part]) for part in (copies, rows, columns)])
    return orthogonalize(matrices).reshape(turned.shape).transpose([order.index(axis) for axis in range(leaf.ndim)])
