"""`param_groups`: rate and weight decay of every parameter of a PyTorch model, by the rules of `linops.nn.rates`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from linops.nn import rates
from linops.nn.hyperparameters import plain, require_base, require_hyperparameters
from linops.nn.rate_warnings import known_or_warned, warn_of_coupled, warn_of_unmet
from linops.nn.rates import DECAYS, Entry, require_depth
from linops.nn.renormalizing import ALONE, partner, require_renormalized
from linops.nn.stepping import EPS, stepped
from linops.nn.torch.arrays import entries
from linops.nn.torch.dense import require_module
from linops.nn.torch.layer_steps import leaf_of
from linops.nn.torch.wrong_rates import watch
from linops.starting import MatrixAxes

OPTIMIZERS = (*rates.OPTIMIZERS, "muon")


def param_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    optimizer: str = "adamw",
    base: Any = None,
    decay: str = "coupled",
    *,
    adamw_lr: float | None = None,
    adamw: Any = None,
    depth: Mapping[Any, float] | None = None,
    eps: float | None = None,
    matrices: Mapping[Any, str | None] | None = None,
    renormalize: bool | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups with structure-aware rates, for an optimiser of `torch.optim`; rules are in `linops.nn.rates`.

    Parameters of one rate and decay share a group, so there are as many groups as different rates (to Muon matrices
    that lie in their arrays by other axes are others). Frozen parameters are left out. Vectors and scalars (biases,
    norms, gains, positions) are not decayed. A tied parameter is an embedding if one of its layers is. Arrays of a
    model's own modules, of which it is unknown whether they are matrices, are treated as vectors, with a warning that
    lists them. Optimisers warn, once, if they are not of the kind that the groups are for, or if a loop or scheduler
    wipes the rates (a hook of `torch.optim`; see `linops.nn.torch.wrong_rates`).

    Args:
        model: Any model; its `linops.nn.torch.Linear` layers get a rate for each leaf.
        lr: The rate of a dense layer of the base shape.
        weight_decay: As in `torch.optim`.
        optimizer: ``"adamw"``, ``"adam"``, ``"lion"``, ``"sgd"``, or ``"muon"`` for `linops.nn.torch.Muon`.
        base: The model's base shapes: a narrow model of the same layer names (best on the meta device; structured or
            not); an integer, the base_in and base_out of every layer; or a dict of patterns over layer names to such
            integers, other layers being of base shape. None: every layer is.
        decay: ``"coupled"``: multipliers of the rate multiply the decay, as it is lr · weight_decay in an optimiser.
            ``"independent"``: the group's weight_decay is divided by the multiplier, so that all weights decay by lr ·
            weight_decay. ``"product"``: each of k factors that are multiplied decays by lr · weight_decay / k, so that
            their product decays by lr · weight_decay as a dense matrix does by ``"independent"``; the expression says
            which are multiplied (`linops.scaling.shares`), and frozen factors do not count. For Muon lr is that of the
            layer, also where some of its factors fall back to AdamW.
        adamw_lr: For Muon, the rate in the place of `lr` of the parameters that fall back to AdamW: vectors,
            embeddings, convolutions, leaves that are no matrices from fan_in to fan_out, and layers of `adamw`. Their
            multipliers are AdamW's and multiply it, and coupled decay is by it too. None takes `lr`, which is for
            matrices and much larger: the lab has .05 beside AdamW's 3e-3. Other optimisers do not read it.
        adamw: For Muon, which layers to leave to AdamW too, such as the head: a pattern, predicate or list of
            those, as in `replace_linear_`.
        depth: For Adam and AdamW, how much deeper the model is than the one that was tuned, by patterns over the layers
            of residual branches, as in ``{"blocks.*": 12 / 2}``: CompleteP (Dey et al., 2025). The model multiplies its
            branches by the inverse; rates stay, ε falls with width and depth as gradients do, and decay is to be
            ``"independent"`` or ``"product"``: CompleteP multiplies λ by what divides the rate. ``"coupled"`` breaks
            that where a matrix has another multiplier than 1, with a warning.
        eps: Adam's ε at the base width and depth, which groups then have, scaled; None leaves it to the optimiser, or
            is 1e-8 with `depth`.
        matrices: What arrays are that linops does not know, by patterns over their names: the names of their axes, as
            in ``{"*.experts.up": "expert out in", "*.mix": "in out"}``, or None for no matrix. See
            `linops.nn.matrices`.
        renormalize: Whether steps keep their size while factors grow. None: those of the layers that Muon steps do,
            and no others. True: for ``"muon"`` the step of each structured layer is measured, and made as large as a
            dense layer's (`linops.nn.torch.layer_steps`); for ``"adamw"``, and layers that are left to it, each step of
            a leaf is divided by the growth of the leaves that multiply it (`linops.nn.torch.renormalizing`).
            `linops.nn.torch.Muon` steps the groups of both. False: rates are static. A leaf that layers share has the
            step of the first; of the others the steps of their own leaves alone are measured.

    Returns:
        Groups with ``params``, ``names``, ``lr`` (that is `lr` · ``lr_multiplier``), ``weight_decay``,
        ``lr_multiplier``, of those at `adamw_lr` ``rate_ratio``, which is that over `lr`, and the rule that they
        follow: ``algorithm`` for Muon, else ``optimizer``; where steps are renormalised also ``leaves``, and if
        `renormalize` is true ``partners``; where those of Muon are not, ``measured``, which is False. Muon keeps
        ``leaves``, ``measured`` and ``rate_ratio`` apart, so that its own groups are plain data, of which no other Muon
        can be made. To set the rate later, see `linops.nn.torch.schedules`.

    Raises:
        TypeError: If the model is no `torch.nn.Module`, but its parameters, say.
        ValueError: If there is no such optimiser or kind of decay, the base model lacks a layer, decay is to be
            independent for Adam, which decays through the gradient; or `lr`, `adamw_lr`, `weight_decay` or `eps` is no
            finite number of at least 0, or a base width no positive one.

    Warns:
        UserWarning: If it is unknown what an array is; a pattern of `adamw`, `base`, `depth` or `matrices` matches
            none; or `depth` stands beside decay that is coupled to other rates than `lr`.

    Example:
        >>> import linops as lo
        >>> layer = lo.low_rank(64, 16, rank=4).to_layer()
        >>> [(group["names"], group["lr"]) for group in lo.nn.param_groups(layer, lr=0.5)]
        [(['U'], 1.0), (['V'], 0.25), (['bias'], 0.5)]
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"param_groups(optimizer={optimizer!r}): expected one of {', '.join(OPTIMIZERS)}")
    if decay not in DECAYS:
        raise ValueError(f"param_groups(decay={decay!r}): expected one of {', '.join(DECAYS)}")
    if decay != "coupled" and weight_decay and optimizer == "adam":
        raise ValueError(
            f"param_groups(decay={decay!r}): adam decays through the gradient, so no rate undoes it; take 'adamw'"
        )
    if (depth is not None or eps is not None) and optimizer not in ("adam", "adamw", "muon"):
        raise ValueError(f"param_groups(optimizer={optimizer!r}, depth=… or eps=…): it has no ε; they are for Adam's")
    require_hyperparameters(
        "param_groups",
        lr=lr,
        adamw_lr=lr if adamw_lr is None else adamw_lr,
        weight_decay=weight_decay,
        eps=EPS if eps is None else eps,
    )
    require_depth("param_groups", depth)
    base = require_base("param_groups", base)
    adamw_lr, weight_decay, eps = map(plain, (adamw_lr, weight_decay, eps))
    lr = lr if isinstance(lr, Tensor) else plain(lr)  # tensors stay, for optimisers that are captured or compiled
    if renormalize and optimizer not in ("muon", "adamw"):
        raise ValueError(
            f"param_groups(optimizer={optimizer!r}, renormalize=True): expected 'muon' or 'adamw', whose steps do not "
            "depend on the size of gradients"
        )
    require_module("param_groups", model, "flax.lr_multipliers", "equinox.lr_multipliers")
    trained: dict[int, tuple[Entry, str, nn.Parameter]] = {}
    names: dict[str, str] = {}  # of a parameter that layers share all of them, each with its first
    there: list[Entry] = []  # frozen ones too
    for entry, name, parameter in entries(model, matrices):
        there += [] if parameter is None else [entry]
        if parameter is not None and parameter.requires_grad:
            names[name] = trained.setdefault(id(parameter), (entry, name, parameter))[1]
    found = [entry for entry, _, _ in trained.values()]
    if base is not None or weight_decay or optimizer == "muon":  # else nothing follows from what they are
        known_or_warned("param_groups", found)
    warn_of_unmet("param_groups", there, matrices, base=base, adamw=adamw, depth=depth)
    base = [entry for entry, _, _ in entries(base, matrices)] if isinstance(base, nn.Module) else base
    ratio = lr / adamw_lr if adamw_lr else 1.0
    said = stepped(found, optimizer, base, weight_decay, decay, ratio=ratio, adamw=adamw, depth=depth, eps=eps)
    if decay == "coupled" and weight_decay:
        warn_of_coupled("param_groups", found, said, depth)
    groups: dict[tuple, dict[str, Any]] = {}
    by_muon = {id(entry.layer) for entry, one in zip(found, said) if one.rule == "muon"}
    renormalizes = optimizer == "muon" if renormalize is None else renormalize
    require_renormalized("param_groups", None, renormalizes, "leave renormalize=False out")
    for (entry, name, parameter), (rule, factor, decayed, tiny) in zip(trained.values(), said):
        peak = lr if rule == optimizer or adamw_lr is None else adamw_lr
        multiplier = factor if rule == optimizer or adamw_lr is None or not lr else factor * peak / lr
        fresh = {"params": [], "names": [], "lr": peak * factor, "weight_decay": decayed, "lr_multiplier": multiplier}
        fresh["algorithm" if optimizer == "muon" else "optimizer"] = rule
        if tiny is not None and rule != "muon":
            fresh["eps"] = tiny
        if peak != lr and lr:
            fresh["rate_ratio"] = float(peak / lr)
        axes = _unusual(entry) if rule == "muon" else None
        group = groups.setdefault((rule, factor, decayed, fresh.get("eps"), axes), fresh)
        group["params"].append(parameter)
        group["names"].append(name)
        if axes:
            group.setdefault("axes", []).append(axes)
        if renormalizes:
            group.setdefault("algorithm", rule)
            group.setdefault("leaves", []).append(leaf_of(entry, parameter, rule, factor, by_muon))
        if renormalize:
            alone = id(entry.layer) in by_muon
            group.setdefault("partners", []).append(ALONE if alone else partner(entry, name, names, names))
    for group in groups.values():
        if not any(group.get("leaves", ())) and renormalize is not None:
            group.pop("leaves", None)
        if group.get("algorithm") == "muon" and "leaves" not in group:
            group["measured"] = False
    watch()
    return list(groups.values())


def _unusual(entry: Entry) -> MatrixAxes | None:
    """The axes of matrices in a leaf, if they are not the last two."""
    axes, last = entry.matrix_axes, len(entry.size) - 1
    return None if axes is None or axes[1:] == ((last - 1,), (last,)) else axes
