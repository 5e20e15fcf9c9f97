"""Rates that survive a training loop: groups of different rates, when a loop or a scheduler sets one rate for all.

A group of `param_groups` has the rate  lr · lr_multiplier.  Schedulers that multiply rates keep the ratios. What sets a
number for all groups wipes them: ``group["lr"] = lr``, OneCycleLR(max_lr=number), CyclicLR(number), and in part eta_min
and min_lr. Of two ways out, `set_lr` is for a loop of one's own, and `keep_rates` for any scheduler: after it
``group["lr"]`` is the rate of the dense layer, the same in all groups, and each step multiplies it.

What wipes them, or steps them by another rule, is warned of by `linops.nn.torch.wrong_rates`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from linops.nn.hyperparameters import plain, require_hyperparameters

Kind = TypeVar("Kind", bound=Optimizer)

#: rates in a group: those after the first are of schedulers
_RATES = ("lr", "initial_lr", "max_lr", "min_lr")


def set_lr(optimizer: Any, lr: float) -> None:
    """Set the rate of every group to  lr · lr_multiplier:  what ``group["lr"] = lr`` is where all groups have one rate.

    Groups without a multiplier, added later, get `lr`. After `keep_rates` all groups get `lr`, for the step multiplies
    it.

    Args:
        optimizer: An optimiser over groups of `param_groups`.
        lr: The rate of a dense layer of the base shape; under `torch.compile` it is not checked.

    Raises:
        ValueError: If no group has a multiplier: the optimiser was not made from `param_groups`; or the rate is no
            number, or less than 0.
        TypeError: If it is no optimiser.

    Example:
        >>> import linops as lo, torch
        >>> optimizer = torch.optim.AdamW(lo.nn.param_groups(lo.low_rank(64, 16, rank=4).to_layer(), lr=0.5))
        >>> set_lr(optimizer, 0.1)
        >>> [(group["names"], group["lr"]) for group in optimizer.param_groups]
        [(['U'], 0.2), (['V'], 0.05), (['bias'], 0.1)]
    """
    _require_multipliers("set_lr", optimizer)
    if not torch.compiler.is_compiling():  # which knows no values
        require_hyperparameters("set_lr", lr=lr)
        lr = lr if isinstance(lr, Tensor) else plain(lr)
    kept = keeper_of(optimizer) is not None
    for group in optimizer.param_groups:
        rate = lr if kept else lr * group.get("lr_multiplier", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(
                rate.reshape(()) if isinstance(rate, Tensor) else rate
            )  # as schedulers do: a captured graph reads it
        else:
            group["lr"] = rate


def dense_rate(optimizer: Any) -> float:
    """The rate of a dense layer of the base shape, as the groups have it now.

    Args:
        optimizer: An optimiser; without groups of `param_groups`, the rate of its first group.

    Returns:
        The rate.
    """
    group = optimizer.param_groups[0]
    return float(group["lr"]) / (1.0 if keeper_of(optimizer) else group.get("lr_multiplier", 1.0))


def keep_rates(optimizer: Kind) -> Kind:
    """Multiply rates at each step, so that every scheduler and loop may treat all groups alike.

    From now on ``group["lr"]`` is the rate of the dense layer, the same in all groups; before each step it is
    multiplied by the group's ``lr_multiplier``, and after it put back. The state dict has the multiplied rates, so it
    loads into an optimiser with or without this. Copies of the optimiser (`copy.deepcopy`, pickle) lose it, as they
    lose all hooks.

    Args:
        optimizer: An optimiser over groups of `param_groups`.

    Returns:
        The optimiser.

    Raises:
        ValueError: If no group has a multiplier, or there is a scheduler already, which has read the multiplied rates.
        TypeError: If it is no optimiser.

    Example:
        >>> import linops as lo, torch
        >>> optimizer = keep_rates(torch.optim.AdamW(lo.nn.param_groups(lo.btt(64, 64).to_layer(), lr=1e-3)))
        >>> scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=100)
        >>> {f"{group['lr']:.0e}" for group in optimizer.param_groups}  # a 25th, in every group
        {'4e-05'}
    """
    _require_multipliers("keep_rates", optimizer)
    if keeper_of(optimizer) is None:
        if hasattr(_inner(optimizer).step, "_wrapped_by_lr_sched"):
            raise ValueError(
                "keep_rates: a scheduler has read the rates of this optimiser already; call keep_rates before making it"
            )
        keeper, inner = _Keeper(), _inner(optimizer)
        inner.register_step_pre_hook(keeper.multiply)
        inner.register_step_post_hook(keeper.restore)
        inner.register_state_dict_post_hook(keeper.save)
        inner.register_load_state_dict_pre_hook(keeper.load)
        for group in optimizer.param_groups:
            group.update(_divided(group))
    return optimizer


class _Keeper:
    """The hooks of `keep_rates`."""

    def __init__(self) -> None:
        self.held: list[tuple[dict[str, Any], Any, Any]] = []

    def multiply(self, optimizer: Any, *_: Any) -> None:
        """Before a step."""
        self.restore()  # a step that raised has not
        for group in optimizer.param_groups:
            rate, multiplier = group["lr"], group.get("lr_multiplier", 1.0)
            if multiplier != 1:
                group["lr"] = rate * multiplier
                self.held.append((group, group["lr"], rate))

    def restore(self, *_: Any) -> None:
        """After a step."""
        for group, multiplied, rate in self.held:
            if group["lr"] is multiplied:
                group["lr"] = rate
        self.held = []

    def save(self, optimizer: Any, state: dict[str, Any]) -> None:
        """The multiplied rates into a state dict, and the others beside them, exactly."""
        # within a step, or after one that has raised, some are multiplied already
        held = {id(group): {"lr": rate} for group, multiplied, rate in self.held if group["lr"] is multiplied}
        for own, group in zip(optimizer.param_groups, state["param_groups"]):
            multiplier = group.get("lr_multiplier", 1.0)
            kept = {name: group[name] for name in _RATES if name in group} | held.get(id(own), {})
            group.update({name: rate * multiplier for name, rate in kept.items()}, kept_rates=kept)

    @staticmethod
    def load(optimizer: Any, state: dict[str, Any]) -> dict[str, Any]:
        """The rates of a state dict divided again."""
        known = [
            {name: group[name] for name in ("lr_multiplier",) if name in group} for group in optimizer.param_groups
        ]
        groups = [{**multiplier, **group} for multiplier, group in zip(known, state["param_groups"])]
        for group in groups:
            group.update(_divided(group))
        return {**state, "param_groups": groups}


def _divided(group: dict[str, Any]) -> dict[str, Any]:
    """The rates of the dense layer from multiplied ones; those kept beside them are taken out of the group."""
    multiplier, kept = group.get("lr_multiplier", 1.0), group.pop("kept_rates", {})
    rates = {name: group[name] for name in _RATES if name in group}
    same = all(bool(kept.get(name, 0) * multiplier == rate) for name, rate in rates.items())
    return kept if kept and same else {name: _short(rate / multiplier) for name, rate in rates.items()}


def _short(rate: Any) -> Any:
    return rate if isinstance(rate, Tensor) else float(f"{rate:.15g}")  # so that groups do not differ in the last digit


def keeper_of(optimizer: Any) -> _Keeper | None:
    """What multiplies an optimiser's rates since `keep_rates`; None without it."""
    hooks = getattr(_inner(optimizer), "_optimizer_step_pre_hooks", {}).values()
    return next((hook.__self__ for hook in hooks if isinstance(getattr(hook, "__self__", None), _Keeper)), None)


def _inner(optimizer: Any) -> Any:
    return getattr(optimizer, "optimizer", optimizer)  # Accelerate and Lightning wrap it


def require_optimizer(where: str, optimizer: Any) -> None:
    """Raise unless it is an optimiser, or wraps one.

    Args:
        where: The public name of what was given it, for errors.
        optimizer: The optimiser.

    Raises:
        TypeError: If it has no groups of parameters.
    """
    if not getattr(optimizer, "param_groups", None):
        raise TypeError(
            f"{where}: expected an optimiser, got {type(optimizer).__name__}; take one of torch.optim or "
            "lo.nn.muon.Muon, as torch.optim.AdamW(lo.nn.param_groups(model, lr)). In JAX the rate is lr= of "
            "lo.nn.flax.adamw or muon, or of lo.nn.equinox, which takes schedules"
        )


def _require_multipliers(where: str, optimizer: Any) -> None:
    require_optimizer(where, optimizer)
    if not any("lr_multiplier" in group for group in optimizer.param_groups):
        raise ValueError(
            f"{where}: no group has an lr_multiplier; make the optimiser from lo.nn.param_groups(model, lr)"
        )
