"""Warnings of rates that are wrong, from a hook before every step, once an optimiser.

They are of rates that are wiped (`linops.nn.torch.schedules`), of groups that `param_groups` has made for another kind
of optimiser (Muon's in AdamW, SGD's in Adam), of an optimiser that holds parameters which `replace_linear_` or
`parallelize_` has replaced in their model,
and of one that Hugging Face's Trainer has made itself, or a user Muon, for structured layers, all with one rate.
"""

from __future__ import annotations

import re
import sys
import warnings
import weakref
from collections.abc import Iterable
from math import inf
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_pre_hooks, register_optimizer_step_pre_hook

from linops.nn.torch.schedules import keeper_of

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
#: what has replaced a parameter, by its id
_replaced: dict[int, tuple[weakref.ref[Tensor], str]] = {}


def watch() -> None:
    """Warn of rates that are wiped, whichever optimiser has them: a hook before every step.

    A rate that is negative or not finite, as a loop or scheduler may set it, is an error at the step, if it is a number
    of the host: tensors are not read.

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
    rates: list[Any] = [group.get("lr") for group in optimizer.param_groups]
    seen = _seen.get(optimizer)
    if seen is not None and rates == seen[0]:
        return
    for place, rate in enumerate(rates):
        if isinstance(rate, Real) and not 0 <= float(rate) < inf:
            _require_rate(optimizer, place)
    if optimizer in _warned:
        return
    if seen is not None:
        seen[1] += 1
        if seen[1] > _OFTEN and seen[1] % _OFTEN:  # those of the last look stay, so a last change is seen too
            return
    if not hasattr(optimizer, "renormalizes") and any(
        norm for group in optimizer.param_groups for norm, *_ in group.get("partners", ())
    ):
        _warned.add(optimizer)
        warnings.warn(
            f"groups of param_groups(renormalize=True) are stepped by {type(optimizer).__name__}, which does not "
            "renormalise; take lo.nn.muon.Muon, which steps AdamW's groups too",
            stacklevel=outside(),
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
    are_kept = all(abs(rate * multiplier - first * other) <= 1e-6 * abs(rate * multiplier) for rate, other in rest)
    if are_kept or keeper_of(optimizer):
        return
    if _are_wiped([(float(rate), multiplier) for rate, multiplier in rates]):
        _warned.add(optimizer)
        listed = ", ".join(f"{rate:.3g}" for rate in sorted({float(rate) for rate, _ in rates})[:6])
        warnings.warn(
            f"parameter groups have the rates {listed}, which are not in proportion to their lr_multiplier: a loop or "
            "scheduler has set one number for all, and the structure-aware rates are lost. In a loop, use "
            "lo.nn.set_lr(optimizer, lr); for a scheduler, call lo.nn.keep_rates(optimizer) before making it",
            stacklevel=outside(),
        )


def _require_rate(optimizer: Any, place: int) -> None:
    """Raise for a rate that a loop or scheduler has set, in a group of `param_groups` or of Muon."""
    group, name = optimizer.param_groups[place], type(optimizer).__name__
    if group.keys() >= _OURS or hasattr(optimizer, "renormalizes"):
        which = ", ".join(map(repr, group.get("names", ())[:4])) or f"number {place}"
        raise ValueError(
            f"{name}: the group of {which} has the rate {group['lr']}, as a loop or scheduler has set it: expected a "
            "finite number, at least 0. No parameter was changed; lo.nn.set_lr(optimizer, lr) sets the rates of groups "
            "of lo.nn.param_groups"
        )


def replaced(parameter: Tensor, by: str) -> None:
    """Remember that a parameter is no longer one of its model's, for optimisers that still hold it.

    Args:
        parameter: The parameter.
        by: The public function that has replaced it.
    """
    watch()
    key = id(parameter)
    _replaced[key] = weakref.ref(parameter, lambda _: _replaced.pop(key, None)), by
    _seen.clear()  # so that optimisers which have stepped are looked at again


def structured(layer: Any) -> None:
    """Remember a structured layer, whose leaves should have rates of their own.

    Args:
        layer: The layer.
    """
    watch()
    _layers.add(layer)


def structured_in(groups: Iterable[dict[str, Any]]) -> str:
    """The name of a structured layer whose parameters stand in groups.

    Args:
        groups: Of an optimiser.

    Returns:
        The path of the layer, or its class; empty if there is none.
    """
    held = {id(one) for group in groups for one in group["params"]}
    found = [layer for layer in _layers if not held.isdisjoint(map(id, layer.parameters()))]
    return min([str(layer._path or type(layer).__name__) for layer in found], default="")


def _check_trainer(optimizer: Any) -> None:
    """Warn of an optimiser that Hugging Face's Trainer has made, which gives all leaves of structured layers one rate.

    Elsewhere a loop that takes ``model.parameters()`` may mean it; the Trainer does so where nothing is said.
    """
    if any(group.keys() >= _OURS for group in optimizer.param_groups) or not calls("transformers.trainer"):
        return
    name = structured_in(optimizer.param_groups)
    if name:
        warnings.warn(
            f"Trainer has made {type(optimizer).__name__} itself, so that the leaves of structured layers ({name!r}) "
            "have no rates of their own: give it one as Trainer(optimizers=(optimizer, None)), with "
            "optimizer = lo.nn.keep_rates(torch.optim.AdamW(lo.nn.param_groups(model, lr)))",
            stacklevel=outside(),
        )


def calls(module: str) -> bool:
    """Whether a module's code is among the callers.

    Args:
        module: Its full name.

    Returns:
        True or False.
    """
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") != module:
        frame = frame.f_back
    return frame is not None


def _check_held(optimizer: Any) -> None:
    """Warn of an optimiser that was made before the model's parameters were replaced."""
    if not _replaced:
        return
    held = [_replaced.get(id(one)) for group in optimizer.param_groups for one in group["params"]]
    found = [one for one in held if one is not None]
    if found:
        by = found[0][1]
        warnings.warn(
            f"{type(optimizer).__name__} holds parameters that {by} has replaced, so that it does not train the new "
            f"layers: make the optimiser, and its groups, after {by}",
            stacklevel=outside(),
        )


def _check_kind(optimizer: Any) -> None:
    """Warn, at the first step, of groups that are for another kind of optimiser."""
    ours = [group for group in optimizer.param_groups if group.keys() >= _OURS]
    made = {str(group.get("optimizer", group.get("algorithm"))) for group in ours} - {"None"}  # older ones have neither
    kind = _kind(optimizer)
    name, wanted = type(optimizer).__name__, {"another Muon": "muon", None: "adamw"}.get(kind, kind)
    if kind == "muon":
        made = {
            group["optimizer"]
            for group in ours
            if "optimizer" in group and "partners" not in group and group["algorithm"] != "adamw"
        }
        wrong = bool(made)
        plain = [one for one in optimizer.param_groups if "lr_multiplier" not in one and one["algorithm"] == "muon"]
        if left := structured_in(plain):
            warnings.warn(
                f"Muon steps the leaves of structured layers ({left!r}) at one rate, and does not measure their steps, "
                "as their groups are not those of lo.nn.param_groups(model, lr, optimizer='muon'): make them so",
                stacklevel=outside(),
            )
    else:
        other = kind is not None and any((one == "sgd") != (kind == "sgd") for one in made)
        wrong = "muon" in made or other or (kind == "another Muon" and bool(made))
    if wrong:
        found = "muon" if "muon" in made else ", ".join(sorted(made))
        way = "" if kind != "another Muon" else "; of Muons, that of lo.nn.muon takes those rates"
        warnings.warn(
            f"parameter groups made by param_groups(optimizer={found!r}) are stepped by {name}, whose steps have "
            f"another size: the rates are wrong. Make them by param_groups(model, lr, optimizer={wanted!r}){way}",
            stacklevel=outside(),
        )
    elif kind == "adam" and "adamw" in made and any(_is_coupled(group) for group in ours):
        warnings.warn(
            f"parameter groups made by param_groups(optimizer='adamw') are stepped by {name}, which decays through the "
            "gradient, so that weight_decay is no longer that of the groups. Take torch.optim.AdamW",
            stacklevel=outside(),
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


def outside() -> int:
    """The stack level of the first caller that is neither in linops nor in torch.

    Returns:
        What `warnings.warn` takes as ``stacklevel``.
    """
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("linops", "torch"):
        level, frame = level + 1, frame.f_back
    return level
