"""Structure-aware learning rates for optax: trees of multipliers applied to updates, or as labels of groups.

    multipliers = lo.nn.equinox.lr_multipliers(model, "adamw", base=64)          # or lo.nn.flax.lr_multipliers
    tx = optax.chain(optax.adamw(3e-3, weight_decay=0.1, mask=decay_mask), scale_by_tree(multipliers))

The rates are those of `lo.nn.param_groups`. In this chain multipliers of the rate multiply the decay too, as with
``decay="coupled"`` there. Decay that does not scale with them, as with ``decay="independent"``, is added after them:

    tx = optax.chain(
        optax.scale_by_adam(),
        scale_by_tree(multipliers),
        optax.add_decayed_weights(0.1, mask=decay_mask),
        optax.scale_by_learning_rate(3e-3),
    )

For ``decay="product"``, by which the product of k factors decays as a dense matrix does, `add_decay(0.1, shares)` is in
that place, with ``shares = lo.nn.equinox.decay_shares(model)`` or those of `lo.nn.flax`.

AdamW and Muon with all their rates, decay, ε by width and depth, and renormalised steps are `adamw` and `muon` of
`lo.nn.flax` and `lo.nn.equinox`; `scale_by_muon` is Muon's direction alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax

from linops.nn.hyperparameters import plain, require_schedule
from linops.nn.jax_muon import orthogonalize, scale_by_muon
from linops.nn.matrices import VECTOR, by_name


def scale_by_tree(multipliers: Any) -> optax.GradientTransformation:
    """A transformation that multiplies each update by a number of its own.

    Args:
        multipliers: A tree of numbers with the leaves of the parameters, in their order.

    Returns:
        The transformation; it has no state.

    Raises:
        ValueError: If updates have another number of leaves.

    Example:
        >>> import jax, optax
        >>> tx = optax.chain(optax.sgd(1.0), scale_by_tree({"a": 2.0, "b": 0.5}))
        >>> params = {"a": jax.numpy.ones(()), "b": jax.numpy.ones(())}
        >>> updates, _ = tx.update(params, tx.init(params))
        >>> float(updates["a"]), float(updates["b"])
        (-2.0, -0.5)
    """

    def update(updates: Any, params: Any = None) -> Any:
        return jax.tree.map(lambda number, leaf: leaf * number, like(multipliers, updates), updates)

    return optax.stateless(update)


def add_decay(weight_decay: Any, shares: Any) -> optax.GradientTransformation:
    """Weight decay by which the matrix of every layer decays by  rate · weight_decay,  structured or dense.

    It comes after `scale_by_tree`, and before the rate, as `optax.add_decayed_weights` in this module's second example.

    Args:
        weight_decay: Of a dense matrix: a number, or a function of the step.
        shares: A tree of numbers with the leaves of the parameters, in their order: `lo.nn.flax.decay_shares` or
            `lo.nn.equinox.decay_shares`, 1/k for each of k factors.

    Returns:
        The transformation, which adds weight_decay · share · parameter to each update; its state counts steps.

    Raises:
        ValueError: If updates have another number of leaves, there are no parameters, or the decay is no number of at
            least 0.

    Example:
        >>> import jax, optax
        >>> tx = optax.chain(add_decay(0.1, {"U": 0.5, "bias": 0.0}), optax.scale_by_learning_rate(1.0))
        >>> params = {"U": jax.numpy.ones(()), "bias": jax.numpy.ones(())}
        >>> updates, _ = tx.update(jax.tree.map(jax.numpy.zeros_like, params), tx.init(params), params)
        >>> round(float(updates["U"]), 3), float(updates["bias"])
        (-0.05, -0.0)
    """
    require_schedule("add_decay", "weight_decay", weight_decay)
    weight_decay = plain(weight_decay)

    def init(params: Any) -> Any:
        return optax.ScaleByScheduleState(count=jax.numpy.zeros([], "int32"))

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        if params is None:
            raise ValueError("add_decay: needs the parameters, as in tx.update(updates, state, params)")
        rate = weight_decay(state.count) if callable(weight_decay) else weight_decay
        decayed = jax.tree.map(
            lambda share, leaf, weight: leaf + (rate * share * weight).astype(leaf.dtype),
            like(shares, updates),
            updates,
            params,
        )
        return decayed, optax.ScaleByScheduleState(count=optax.safe_increment(state.count))

    return optax.GradientTransformation(init, update)


def labels(multipliers: Any) -> Callable[[Any], Any]:
    """The multipliers as labels, for `optax.partition`.

    Args:
        multipliers: A tree of numbers with the leaves of the parameters, in their order.

    Returns:
        A function from parameters to a tree of labels: the multipliers themselves.

    Example:
        >>> import jax, optax
        >>> multipliers = {"a": 2.0, "b": 0.5}
        >>> rates = {number: optax.adam(1e-3 * number) for number in set(jax.tree.leaves(multipliers))}
        >>> tx = optax.partition(rates, labels(multipliers))
    """
    return lambda params: like(multipliers, params)


def decay_mask(params: Any) -> Any:
    """Which parameters to decay: matrices and embeddings, not vectors and scalars (biases, norms, gains, positions).

    Of a model's arrays alone it is their names and shapes that tell: where layers are stacked, or arrays are the
    model's own, take ``mask=lo.nn.flax.decay_mask(model)`` or ``lo.nn.equinox.decay_mask(model)``, which know the
    layers.

    Args:
        params: A tree of arrays.

    Returns:
        A tree of booleans.

    Example:
        >>> import jax
        >>> decay_mask({"kernel": jax.numpy.ones((2, 2)), "bias": jax.numpy.ones((3, 2))})  # of three stacked layers
        {'bias': False, 'kernel': True}
    """
    return jax.tree_util.tree_map_with_path(lambda path, leaf: _decays(path, tuple(leaf.shape)), params)


def _decays(path: Any, size: tuple[int, ...]) -> bool:
    names = [str(getattr(step, "name", getattr(step, "key", ""))) for step in path]
    key = next((name for name in reversed(names) if name not in ("", "value")), "")  # Flax wraps arrays in variables
    return len(size) > 1 and (key == "embedding" or by_name("", key, None, size) != VECTOR)


def like(multipliers: Any, tree: Any) -> Any:
    """The multipliers in the tree of the parameters, which Flax wraps in variables at times and at times does not.

    Args:
        multipliers: A tree of numbers.
        tree: A tree of as many leaves.

    Returns:
        The numbers in the other tree.

    Raises:
        ValueError: If it has another number of leaves.
    """
    numbers, structure = jax.tree.leaves(multipliers), jax.tree.structure(tree)
    if len(numbers) != structure.num_leaves:
        raise ValueError(
            f"{len(numbers)} multipliers for {structure.num_leaves} parameters: "
            "take both from the same model and filter: in Flax by the same wrt= of muon, adamw or lr_multipliers, "
            "and of nnx.Optimizer; in Equinox from the part of the model that is trained"
        )
    return structure.unflatten(numbers)


__all__ = ["add_decay", "decay_mask", "labels", "like", "orthogonalize", "scale_by_muon", "scale_by_tree"]
