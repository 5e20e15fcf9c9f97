"""Muon for a model of Flax or Equinox, by optax: `linops.nn.torch.Muon` with the groups of `lo.nn.param_groups`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import optax

from linops.nn.jax_muon import scale_by_muon
from linops.nn.optax import like, scale_by_tree
from linops.nn.patterns import matches
from linops.nn.rates import Entry, known_or_warned, multipliers, weight_decays


def muon_of(
    entries: Iterable[Entry],
    base: Any,
    lr: float | Callable[[Any], Any],
    weight_decay: float,
    decay: str,
    adamw_lr: float | None,
    adamw: Any,
    momentum: float,
    nesterov: bool,
    betas: tuple[float, float],
    eps: float,
) -> optax.GradientTransformation:
    """The optimiser of a model whose parameters are known: what `muon` is in each framework.

    Args:
        entries: The parameters, in the order of their tree.
        base: As `linops.nn.rates.multipliers` takes it.
        lr: The rate, or a schedule of optax.
        weight_decay: The decay.
        decay: ``"coupled"``, ``"independent"`` or ``"product"``.
        adamw_lr: The rate of what falls back to AdamW; None takes `lr`.
        adamw: Patterns of layers for AdamW.
        momentum: Of Muon.
        nesterov: Of Muon.
        betas: Of AdamW.
        eps: Of AdamW.

    Returns:
        The optimiser.

    Raises:
        ValueError: If there is no such kind of decay, or `adamw_lr` stands beside a schedule.
    """
    if adamw_lr is not None and (callable(lr) or not lr):
        raise ValueError(f"muon(adamw_lr={adamw_lr}): stands beside a number lr, not {lr!r}; leave it out")
    found = known_or_warned("muon", entries)
    rules = [
        "muon" if one.is_matrix and (adamw is None or not matches(adamw, one.path, one.layer)) else "adamw"
        for one in found
    ]
    factors = multipliers(found, rules, base)
    ratio = lr / adamw_lr if adamw_lr and not callable(lr) else 1.0
    decays = weight_decays(found, rules, factors, weight_decay, decay, "muon", ratio)
    if adamw_lr is not None and not callable(lr):
        factors = [factor * (adamw_lr / lr if rule == "adamw" else 1) for factor, rule in zip(factors, rules)]

    def decayed(updates: Any, params: Any) -> Any:
        return jax.tree.map(lambda share, u, w: u + share * w, like(decays, updates), updates, like_of(params, updates))

    def like_of(params: Any, updates: Any) -> Any:
        if params is None:
            raise ValueError("muon: decay needs the parameters; call update(updates, state, params)")
        return jax.tree.structure(updates).unflatten(jax.tree.leaves(params))

    directions: dict[Any, optax.GradientTransformation] = {
        "muon": scale_by_muon(momentum, nesterov),
        "adamw": optax.scale_by_adam(*betas, eps),
    }
    return optax.chain(
        optax.partition(directions, lambda params: like(rules, params)),
        optax.stateless(decayed) if any(decays) else optax.identity(),
        scale_by_tree(factors),
        optax.scale_by_learning_rate(lr),
    )
