"""What Muon demands of groups of `param_groups`, from which something may have been taken on the way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from linops.nn.torch.wrong_rates import calls, structured_in


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
