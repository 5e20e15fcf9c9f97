"""Muon and AdamW for a model of Flax or Equinox, by optax: what `lo.nn.param_groups` says, with all its rates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from linops.nn.hyperparameters import plain, require_base, require_hyperparameters, require_schedule
from linops.nn.jax_muon import scale_by_muon
from linops.nn.jax_renormalizing import layers_of, renormalized
from linops.nn.optax import like, scale_by_tree
from linops.nn.rate_warnings import known_or_warned, warn_of_coupled, warn_of_unmet
from linops.nn.rates import Entry, require_depth
from linops.nn.renormalizing import require_every, require_renormalized
from linops.nn.stepping import EPS, stepped


def optimizer_of(
    optimizer: str,
    entries: Iterable[Entry],
    base: Any,
    lr: float | Callable[[Any], Any],
    weight_decay: float,
    decay: str,
    *,
    betas: tuple[float, float],
    eps: float | None,
    depth: Mapping[Any, float] | None,
    matrices: Mapping[Any, str | None] | None,
    renormalize: bool | None,
    adamw_lr: float | None = None,
    adamw: Any = None,
    momentum: float = 0.95,
    nesterov: bool = True,
    every: int | None = None,
) -> optax.GradientTransformation:
    """The optimiser of a model whose parameters are known: what `muon` and `adamw` are in each framework.

    Args:
        optimizer: ``"muon"`` or ``"adamw"``.
        entries: The parameters, in the order of their tree.
        base: As `linops.nn.rates.multipliers` takes it.
        lr: The rate, or a schedule of optax.
        weight_decay: The decay.
        decay: ``"coupled"``, ``"independent"`` or ``"product"``.
        betas: Of AdamW.
        eps: Of AdamW at the base width and depth; None takes 1e-8, scaled only with `depth`.
        depth: How much deeper the model is than its base, by patterns over layers.
        matrices: Patterns over arrays, which have been read; those that match none are warned of.
        renormalize: Whether steps are renormalised; None: those of layers that Muon steps, where they can be measured.
        adamw_lr: The rate of what falls back to AdamW; None takes `lr`.
        adamw: Patterns of layers for AdamW.
        momentum: Of Muon.
        nesterov: Of Muon.
        every: Once in how many steps layers that Muon steps are measured, if steps are renormalised; None leaves it
            to `linops.nn.renormalizing.cadence`.

    Returns:
        The optimiser.

    Raises:
        ValueError: If there is no such kind of decay, `adamw_lr` stands beside a schedule, `every` is less than 1 or
            stands where no steps are renormalised, or with ``renormalize=True`` a layer is trained in part.
    """
    require_hyperparameters(
        optimizer, momentum=momentum, betas=betas, weight_decay=weight_decay, eps=EPS if eps is None else eps
    )
    require_schedule(optimizer, "lr", lr)
    require_every(optimizer, every)
    renormalizes = optimizer == "muon" if renormalize is None else renormalize
    require_renormalized(optimizer, every, renormalizes, "leave renormalize=False out")
    if adamw_lr is not None:
        require_hyperparameters(optimizer, adamw_lr=adamw_lr)
    if adamw_lr is not None and (callable(lr) or _is_zero(lr)):
        raise ValueError(f"{optimizer}(adamw_lr={adamw_lr}): stands beside a number lr, not {lr!r}; leave it out")
    lr, adamw_lr, weight_decay, eps, momentum = map(plain, (lr, adamw_lr, weight_decay, eps, momentum))
    betas = tuple(map(plain, betas))
    require_depth(optimizer, depth)
    base = require_base(optimizer, base)
    found = list(entries)
    if base is not None or not _is_zero(weight_decay) or optimizer == "muon":  # else nothing follows from what they are
        known_or_warned(optimizer, found, 3)
    rest = {"base": base, "adamw": adamw, "depth": depth}
    warn_of_unmet(optimizer, found, matrices, what="the model's trained", stacklevel=3, **rest)
    ratio = 1.0 if adamw_lr is None or _is_zero(adamw_lr) or callable(lr) else lr / adamw_lr
    said = stepped(found, optimizer, base, weight_decay, decay, ratio=ratio, adamw=adamw, depth=depth, eps=eps)
    if decay == "coupled" and not _is_zero(weight_decay):
        warn_of_coupled(optimizer, found, said, depth, stacklevel=3)
    lower = adamw_lr / lr if adamw_lr is not None and not callable(lr) else 1.0
    factors = [one.factor * (lower if one.rule == "adamw" else 1.0) for one in said]
    rules, decays = [one.rule for one in said], [one.decay for one in said]
    directions: dict[Any, optax.GradientTransformation] = {}
    labels = []
    for entry, (rule, _, _, tiny) in zip(found, said):
        axes, tiny = _unusual(entry), EPS if tiny is None else tiny
        labels.append(f"muon {axes}" if rule == "muon" else f"adamw {tiny}")
        made = (
            scale_by_muon(momentum, nesterov, axes) if rule == "muon" else by_parts(optax.scale_by_adam(*betas, tiny))
        )
        directions.setdefault(labels[-1], made)

    def decayed(updates: Any, params: Any) -> Any:
        return jax.tree.map(lambda share, u, w: u + share * w, like(decays, updates), updates, like_of(params, updates))

    def like_of(params: Any, updates: Any) -> Any:
        if params is None:
            raise ValueError(f"{optimizer}: decay needs the parameters; call update(updates, state, params)")
        return jax.tree.structure(updates).unflatten(jax.tree.leaves(params))

    is_asked = renormalize is not None
    layers = layers_of(optimizer, found, rules, factors, every, is_asked=is_asked) if renormalizes else []
    return optax.chain(
        optax.partition(directions, lambda params: like(labels, params)),
        renormalized(layers) if layers else optax.identity(),
        optax.identity() if all(map(_is_zero, decays)) else optax.stateless(decayed),
        scale_by_tree(factors),
        optax.scale_by_learning_rate(lr),
    )


def _is_zero(value: Any) -> bool:
    """Whether a value is None or known to be 0; what JAX traces is not."""
    return not isinstance(value, Tracer) and not value


def by_parts(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """A transformation to which a complex number is a pair of real ones, as torch's optimisers have it.

    Args:
        inner: The transformation of real arrays, elementwise; its state has arrays like the parameters.

    Returns:
        The transformation; its state is that of `inner`.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> tx, params = by_parts(optax.scale_by_adam()), jnp.ones(1, "complex64")
        >>> abs(tx.update(jnp.asarray([3 - 4j], "complex64"), tx.init(params))[0] - (1 - 1j)).max() < 1e-5
        Array(True, dtype=bool)
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        moves, after = inner.update(_pairs(updates), _pairs(state), _pairs(params))
        return _complex(moves, updates), _complex(after, state)

    return optax.GradientTransformation(inner.init, update)


def _pairs(tree: Any) -> Any:
    """Complex arrays as real ones, with a last axis of two."""
    return jax.tree.map(lambda leaf: jnp.stack([leaf.real, leaf.imag], -1) if jnp.iscomplexobj(leaf) else leaf, tree)


def _complex(tree: Any, like: Any) -> Any:
    """The arrays of `_pairs` complex again."""
    return jax.tree.map(
        lambda leaf, one: jax.lax.complex(*jnp.moveaxis(leaf, -1, 0)) if jnp.iscomplexobj(one) else leaf, tree, like
    )


def _unusual(entry: Entry) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The axes of rows and of columns of a leaf's matrices, counted from its end, if they are not the last two."""
    if entry.matrix_axes is None:
        return None
    rows, columns = (tuple([axis - len(entry.size) for axis in axes]) for axes in entry.matrix_axes[1:])
    return None if (rows, columns) == ((-2,), (-1,)) else (rows, columns)
