"""What Muon demands of groups of `param_groups`, from which something may have been taken on the way."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from linops.nn.torch.wrong_rates import calls, outside, structured_in


def require_leaves(group: dict[str, Any]) -> None:
    """Raise if a group of `param_groups` has lost what tells whether its steps are measured, and of which layers.

    Args:
        group: The group, as Muon is given it.

    Raises:
        ValueError: If so.
    """
    if group.get("algorithm") != "muon" or not {"names", "lr_multiplier"} <= {*group}:
        return
    if "leaves" not in group and group.get("measured", True) and (layer := structured_in([group])):
        raise ValueError(
            f"Muon: the group of {', '.join(map(repr, group['names'][:4]))} does not say whether steps of structured "
            f"layers ({layer!r}) are measured: it has lost its 'leaves', which no Muon keeps in its param_groups. Pass "
            "what lo.nn.param_groups(model, lr, optimizer='muon') returns; for static rates, with renormalize=False"
        )


def require_partners(group: dict[str, Any]) -> None:
    """Raise if a group has lost parameters whose partners it still has: none would be multiplied by its own.

    Args:
        group: The group, as Muon is given it.

    Raises:
        ValueError: If so.
    """
    params, partners = group["params"], group.get("partners")
    if partners is not None and isinstance(params, (list, tuple)) and len(params) != len(partners):
        raise ValueError(
            f"Muon: a group has 'partners' of {len(partners)} parameters, but other parameters than those, as "
            "ZeroRedundancyOptimizer makes them: leave renormalize=True out of param_groups (renormalize=False for "
            "that optimiser), or take the same places out of the group's 'names' and 'partners'"
        )


def require_whole(groups: Iterable[Any]) -> None:
    """Raise if `ZeroRedundancyOptimizer` gives this rank some leaves of a layer whose steps are measured.

    Args:
        groups: What Muon is given.

    Raises:
        ValueError: If so.
    """
    if not calls("torch.distributed.optim.zero_redundancy_optimizer"):
        return
    groups = [group for group in groups if isinstance(group, dict)]
    here = {id(one) for group in groups for one in group["params"]}
    held: dict[int, set[bool]] = {}
    for leaf in [one for group in groups for one in group.get("leaves", ()) if one is not None]:
        held.setdefault(id(leaf.layer), set()).add(id(leaf.parameter) in here)
    if any(len(found) > 1 for found in held.values()):
        raise ValueError(
            "Muon in ZeroRedundancyOptimizer: this rank has some leaves of a structured layer and other ranks have the "
            "others, so that none can measure how far the layer moves. Take static rates, "
            "lo.nn.param_groups(model, lr, optimizer='muon', renormalize=False), or divide parameters by FSDP2, of "
            "which Muon measures layers"
        )


def require_algorithm(groups: Iterable[Any]) -> None:
    """Raise if groups are of another optimiser, and have vectors, which Muon would take for matrices.

    Args:
        groups: What Muon is given.

    Raises:
        ValueError: If so.
    """
    for group in groups:
        if not isinstance(group, dict) or "optimizer" not in group or group.get("algorithm"):
            continue
        flat = [name for name, one in zip(group.get("names", ()), group["params"]) if one.ndim < 2]
        if flat:
            raise ValueError(
                f"Muon: groups of param_groups(optimizer={group['optimizer']!r}) do not say what Muon steps, and it "
                f"cannot orthogonalise {', '.join(map(repr, flat[:4]))}, which are no matrices: make them by "
                "lo.nn.param_groups(model, lr, optimizer='muon'), which leaves vectors to AdamW"
            )


def warn_of_own(groups: Iterable[Any], name: str, value: Any) -> None:
    """Warn where all groups have a rate, or decay, of their own, so that the one which Muon is given does nothing.

    Args:
        groups: What Muon is given.
        name: ``"lr"`` or ``"weight_decay"``.
        value: What it is given.
    """
    groups = list(groups)
    own = [group[name] for group in groups if isinstance(group, dict) and name in group]
    if not own or len(own) < len(groups):
        return
    dense = [one / group.get("lr_multiplier", 1.0) if name == "lr" else one for one, group in zip(own, groups)]
    if any(abs(float(one) - float(value)) <= 1e-6 * abs(float(value)) for one in dense):
        return
    way = "lo.nn.set_lr(optimizer, lr) sets it later" if name == "lr" else f"{name}= is an argument there, too"
    warnings.warn(
        f"Muon({name}={value!r}) changes nothing: all groups have their own {name}, as lo.nn.param_groups(model, lr) "
        f"gives it; give it there; {way}",
        stacklevel=outside(),
    )
