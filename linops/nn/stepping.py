"""How an optimiser steps each parameter of a model: its rule, rate, decay and ε. Needs no framework."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from linops.nn.patterns import matches
from linops.nn.rates import Entry, epsilons, multipliers, weight_decays

#: Adam's ε where nothing is said
EPS = 1e-8


class Stepped(NamedTuple):
    """How a parameter is stepped.

    Attributes:
        rule: Its optimiser: ``"muon"``, or another.
        factor: On the rate of that optimiser.
        decay: Its weight decay, which the rate multiplies.
        eps: Adam's ε; None where nothing is said of it.
    """

    rule: str
    factor: float
    decay: float
    eps: float | None


def stepped(
    entries: Sequence[Entry],
    optimizer: str,
    base: Any,
    weight_decay: float,
    decay: str,
    *,
    ratio: float,
    adamw: Any,
    depth: Mapping[Any, float] | None,
    eps: float | None,
) -> list[Stepped]:
    """How each parameter is stepped.

    Args:
        entries: The parameters that are trained.
        optimizer: ``"muon"``, whose other parameters fall back to AdamW, or one of `linops.nn.rates.OPTIMIZERS`.
        base: As `linops.nn.rates.multipliers` takes it.
        weight_decay: As in `lo.nn.param_groups`.
        decay: As in `lo.nn.param_groups`.
        ratio: lr over the rate of what falls back to AdamW.
        adamw: As in `lo.nn.param_groups`.
        depth: As in `lo.nn.param_groups`.
        eps: As in `lo.nn.param_groups`.

    Returns:
        What is said of each.

    Raises:
        ValueError: If there is no such kind of decay, or the base model lacks a layer.
    """
    base = list(base) if isinstance(base, Iterable) and not isinstance(base, Mapping) else base
    rules = [_rule(entry, optimizer, adamw) for entry in entries]
    factors = multipliers(entries, rules, base)
    decays = weight_decays(entries, rules, factors, weight_decay, decay, optimizer, ratio)
    small: Sequence[float | None] = [None] * len(entries)
    if depth is not None or eps is not None:
        small = [(EPS if eps is None else eps) * share for share in epsilons(entries, base, depth or {})]
    return [Stepped(*one) for one in zip(rules, factors, decays, small)]


def _rule(entry: Entry, optimizer: str, adamw: Any) -> str:
    """The optimiser of a parameter: what Muon cannot orthogonalise, or is not to, falls back to AdamW."""
    if optimizer != "muon" or (entry.is_matrix and (adamw is None or not matches(adamw, entry.path, entry.layer))):
        return optimizer
    return "adamw"
