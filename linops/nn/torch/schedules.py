"""Rates that survive a training loop: groups of different rates, when a loop or a scheduler sets one rate for all.

A group of `param_groups` has the rate  lr · lr_multiplier.  Schedulers that multiply rates keep the ratios. What sets a
number for all groups wipes them: ``group["lr"] = lr``, OneCycleLR(max_lr=number), CyclicLR(number), and in part eta_min
and min_lr. Of two ways out, `set_lr` is for a loop of one's own, and `keep_rates` for any scheduler: after it
``group["lr"]`` is the rate of the dense layer, the same in all groups, and each step multiplies it.

A hook before every step warns, once an optimiser, of rates that are wiped, of groups that `param_groups` has made for
another kind of optimiser (Muon's in AdamW, SGD's in Adam), and of an optimiser that Hugging Face's Trainer has made
itself for structured layers, all with one rate.
"""

from __future__ import annotations

import re
import sys
import warnings
import weakref
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_pre_hooks, register_optimizer_step_pre_hook

Kind = TypeVar("Kind", bound=Optimizer)

#: rates in a group: those after the first are of schedulers
_RATES = ("lr", "initial_lr", "max_lr", "min_lr")
#: so many changes of rates are looked at, then every so many'th
_OFTEN = 32
#: what a group of `param_groups` has, and hardly one of another's
_OURS = {"lr", "lr_multiplier", "names"}

#: optimisers of other libraries whose steps have the size of Adam's, by the names of their classes, and SGD
_KINDS = {"SGD": "sgd", "Adam": "adam", "AdamW": "adamw", "NAdam": "adam", "RAdam": "adam", "Adamax": "adam"}
_KINDS |= {"Lion": "lion", "FusedAdam": "adamw", "DeepSpeedCPUAdam": "adamw", "Muon": "another Muon"}

_layers: weakref.WeakSet[Any] = weakref.WeakSet()
#: rates at the last look, None if tensors are among them, and how often they had changed
_seen: weakref.WeakKeyDictionary[Optimizer, list[Any]] = weakref.WeakKeyDictionary()
_warned: weakref.WeakSet[Optimizer] = weakref.WeakSet()
_replaced: dict[int, weakref.ref[Tensor]] = {}


def watch() -> None:
    """Warn of rates that are wiped, whichever optimiser has them: a hook before every step.

    Cost: on one core of a Xeon .6 µs a step of 2 groups and 2 µs of 50; 1 and 6 µs where a scheduler changes all rates
    at each step. Rates are compared with multipliers (36 µs of 50 groups) where they have changed, and after 32 changes
    at every 32nd.

    Groups know no optimiser, so the hook is torch's for all of them; it heeds only groups with the keys of those of
    `param_groups`.
    """
    if _check not in _global_optimizer_pre_hooks.values():
        register_optimizer_step_pre_hook(_check)


def _check(optimizer: Any, *_: Any) -> None:
    if torch.compiler.is_compiling():
        return
    if optimizer in _warned:
        return
    rates: list[Any] = [group.get("lr") for group in optimizer.param_groups]
    seen = _seen.get(optimizer)
    if seen is not None:
        if rates == seen[0]:
            return
        seen[1] += 1
        if seen[1] > _OFTEN and seen[1] % _OFTEN:  # those of the last look stay, so a last change is seen too
            return
    if not hasattr(optimizer, "renormalizes") and any(group.get("partners") for group in optimizer.param_groups):
        _warned.add(optimizer)
        warnings.warn(
            f"groups of param_groups(renormalize=True) are stepped by {type(optimizer).__name__}, which does not "
            "renormalise; take lo.nn.muon.Muon, which steps AdamW's groups too",
            stacklevel=_outside(),
        )
        return
    if seen is None:
        seen = _seen[optimizer] = [None, 0]
        _check_kind(optimizer)
        _check_held(optimizer)
        _check_trainer(optimizer)
    seen[0] = None if any(isinstance(rate, Tensor) for rate in rates) else rates  # tensors change in place
    rates = [(group["lr"], group["lr_multiplier"]) for group in optimizer.param_groups if group.keys() >= _OURS]
    if len(rates) < 2 or any(isinstance(rate, Tensor) and not rate.is_cpu for rate, _ in rates):
        return
    (first, multiplier), *rest = rates
    if all(abs(rate * multiplier - first * other) <= 1e-6 * abs(rate * multiplier) for rate, other in rest) or _keeper(
        optimizer
    ):
        return
    if _are_wiped([(float(rate), multiplier) for rate, multiplier in rates]):
        _warned.add(optimizer)
        listed = ", ".join(f"{rate:.3g}" for rate in sorted({float(rate) for rate, _ in rates})[:6])
        warnings.warn(
            f"parameter groups have the rates {listed}, which are not in proportion to their lr_multiplier: a loop or "
            "scheduler has set one number for all, and the structure-aware rates are lost. In a loop, use "
            "lo.nn.set_lr(optimizer, lr); for a scheduler, call lo.nn.keep_rates(optimizer) before making it",
            stacklevel=_outside(),
        )


def replaced(parameter: Tensor) -> None:
    """Remember that a parameter is no longer one of its model's, for optimisers that still hold it.

    Args:
        parameter: The parameter.
    """
    watch()
    _replaced[id(parameter)] = weakref.ref(parameter)


def structured(layer: Any) -> None:
    """Remember a structured layer, whose leaves should have rates of their own.

    Args:
        layer: The layer.
    """
    watch()
    _layers.add(layer)


def _check_trainer(optimizer: Any) -> None:
    """Warn of an optimiser that Hugging Face's Trainer has made, which gives all leaves of structured layers one rate.

    Elsewhere a loop that takes ``model.parameters()`` may mean it; the Trainer does so where nothing is said.
    """
    if any(group.keys() >= _OURS for group in optimizer.param_groups) or not _calls("transformers.trainer"):
        return
    held = {id(one) for group in optimizer.param_groups for one in group["params"]}
    found = [layer for layer in _layers if not held.isdisjoint(map(id, layer.parameters()))]
    if found:
        name = min(str(layer._path or type(layer).__name__) for layer in found)
        warnings.warn(
            f"Trainer has made {type(optimizer).__name__} itself, so that the leaves of structured layers ({name!r}) "
            "have no rates of their own: give it one as Trainer(optimizers=(optimizer, None)), with "
            "optimizer = lo.nn.keep_rates(torch.optim.AdamW(lo.nn.param_groups(model, lr)))",
            stacklevel=_outside(),
        )


def _calls(module: str) -> bool:
    """Whether a module's code is among the callers."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") != module:
        frame = frame.f_back
    return frame is not None


def _check_held(optimizer: Any) -> None:
    """Warn of an optimiser that was made before the model's parameters were divided."""
    held = [one for group in optimizer.param_groups for one in group["params"]]
    if any((known := _replaced.get(id(one))) and known() is one for one in held):
        warnings.warn(
            f"{type(optimizer).__name__} holds parameters that parallelize_ has replaced, so that it does not train "
            "the divided layers: make the optimiser after parallelize_",
            stacklevel=_outside(),
        )


def _check_kind(optimizer: Any) -> None:
    """Warn, at the first step, of groups that are for another kind of optimiser."""
    ours = [group for group in optimizer.param_groups if group.keys() >= _OURS]
    made = {str(group.get("optimizer", group.get("algorithm"))) for group in ours} - {"None"}  # older ones have neither
    kind = _kind(optimizer)
    name, wanted = type(optimizer).__name__, {"another Muon": "muon", None: "adamw"}.get(kind, kind)
    if kind == "muon":
        made = {group["optimizer"] for group in ours if "optimizer" in group and "partners" not in group}
        wrong = bool(made)
    else:
        other = kind is not None and any((one == "sgd") != (kind == "sgd") for one in made)
        wrong = "muon" in made or other or (kind == "another Muon" and bool(made))
    if wrong:
        found = "muon" if "muon" in made else ", ".join(sorted(made))
        way = "" if kind != "another Muon" else "; of Muons, that of lo.nn.muon takes those rates"
        warnings.warn(
            f"parameter groups made by param_groups(optimizer={found!r}) are stepped by {name}, whose steps have "
            f"another size: the rates are wrong. Make them by param_groups(model, lr, optimizer={wanted!r}){way}",
            stacklevel=_outside(),
        )
    elif kind == "adam" and "adamw" in made and any(_is_coupled(group) for group in ours):
        warnings.warn(
            f"parameter groups made by param_groups(optimizer='adamw') are stepped by {name}, which decays through the "
            "gradient, so that weight_decay is no longer that of the groups. Take torch.optim.AdamW",
            stacklevel=_outside(),
        )


def _kind(optimizer: Any) -> str | None:
    """What an optimiser is, by the names of its classes; None if that is not known."""
    for kind in type(optimizer).__mro__:
        if kind.__name__ == "Muon" and kind.__module__.startswith("linops."):
            return "muon"
        plain = re.sub("^Paged|(8|32)bit$", "", kind.__name__)  # of bitsandbytes
        if plain in _KINDS:
            return _KINDS[plain]
    return None


def _is_coupled(group: dict[str, Any]) -> bool:
    return bool(group.get("weight_decay")) and not group.get("decoupled_weight_decay")


def _are_wiped(rates: list[tuple[float, float]]) -> bool:
    """Whether rates are a · multiplier + b: wholly or partly (eta_min) one for all. Two always are, for some b."""
    (low, least), (high, most) = min(rates, key=lambda pair: pair[1]), max(rates, key=lambda pair: pair[1])
    slope = (high - low) / (most - least) if most != least else 0.0
    affine = all(abs(rate - low - slope * (multiplier - least)) <= 1e-6 * abs(rate) for rate, multiplier in rates)
    return affine and (low == high or len({multiplier for _, multiplier in rates}) > 2)


def _outside() -> int:
    """The stack level of the first caller that is neither here nor in torch."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("linops", "torch"):
        level, frame = level + 1, frame.f_back
    return level


def set_lr(optimizer: Any, lr: float) -> None:
    """Set the rate of every group to  lr · lr_multiplier:  what ``group["lr"] = lr`` is where all groups have one rate.

    Groups without a multiplier, added later, get `lr`. After `keep_rates` all groups get `lr`, for the step multiplies
    it.

    Args:
        optimizer: An optimiser over groups of `param_groups`.
        lr: The rate of a dense layer of the base shape.

    Raises:
        ValueError: If no group has a multiplier: the optimiser was not made from `param_groups`.
        TypeError: If it is no optimiser.

    Example:
        >>> import linops as lo, torch
        >>> optimizer = torch.optim.AdamW(lo.nn.param_groups(lo.low_rank(64, 16, rank=4).to_layer(), lr=0.5))
        >>> set_lr(optimizer, 0.1)
        >>> [(group["names"], group["lr"]) for group in optimizer.param_groups]
        [(['U'], 0.2), (['V'], 0.05), (['bias'], 0.1)]
    """
    _require_multipliers("set_lr", optimizer)
    kept = _keeper(optimizer) is not None
    for group in optimizer.param_groups:
        rate = lr if kept else lr * group.get("lr_multiplier", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)  # as schedulers do: a captured graph reads it
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
    return float(group["lr"]) / (1.0 if _keeper(optimizer) else group.get("lr_multiplier", 1.0))


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
    if _keeper(optimizer) is None:
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


def _keeper(optimizer: Any) -> _Keeper | None:
    hooks = getattr(_inner(optimizer), "_optimizer_step_pre_hooks", {}).values()
    return next((hook.__self__ for hook in hooks if isinstance(getattr(hook, "__self__", None), _Keeper)), None)


def _inner(optimizer: Any) -> Any:
    return getattr(optimizer, "optimizer", optimizer)  # Accelerate and Lightning wrap it


def _require_multipliers(where: str, optimizer: Any) -> None:
    if not hasattr(optimizer, "param_groups"):
        raise TypeError(f"{where}: expected an optimiser, got {type(optimizer).__name__}")
    if not any("lr_multiplier" in group for group in optimizer.param_groups):
        raise ValueError(
            f"{where}: no group has an lr_multiplier; make the optimiser from lo.nn.param_groups(model, lr)"
        )
