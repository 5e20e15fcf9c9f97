"""Muon for structured layers: momentum, orthogonalised block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from linops.nn.hyperparameters import plain, require_hyperparameters
from linops.nn.newton_schulz import EPS, newton_schulz
from linops.nn.renormalizing import require_every, require_renormalized
from linops.nn.torch.groups import require_algorithm, require_leaves, require_partners, require_whole, warn_of_own
from linops.nn.torch.layer_steps import KEPT, SHARE, VECTORS, Leaf, leaves_of, share, together
from linops.nn.torch.renormalizing import Norms
from linops.nn.torch.sharded import cut_as, on_whole
from linops.nn.torch.wrong_rates import watch
from linops.starting import MatrixAxes

#: what a group has of the model, which a state dict does not change
OWN = ("names", "partners", "every")
#: what is checked of a group
CHECKED = ("lr", "weight_decay", "momentum", "betas", "eps")
#: the rate and decay of groups that have none
LR, DECAY = 0.02, 0.0
#: AdamW's β of what Muon leaves to it, and of groups that are for AdamW alone, as `torch.optim.AdamW` has them
BESIDE, ALONE = (0.9, 0.95), (0.9, 0.999)


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """About U Vᵀ of singular value decompositions U S Vᵀ, by Newton-Schulz: singular values end within 0.7 … 1.2.

    Args:
        matrices: (…, p, q); those of a Frobenius norm below 1e-7 are taken as divided by 1e-7, as `torch.optim.Muon`
            does, so that zeros stay zero.
        steps: How many iterations.

    Returns:
        (…, p, q).

    Example:
        >>> orthogonalize(torch.eye(3).expand(2, 3, 3)).shape
        torch.Size([2, 3, 3])
    """
    return newton_schulz(matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp(min=EPS), steps)


class Muon(Optimizer):
    """Muon (Jordan et al., 2024) for matrices and batches of them, AdamW for the rest, by the groups of `param_groups`.

    A step is  w ← (1 − lr · weight_decay) w − lr · ρ · orthogonalize(momentum), with no further factor of the shape:
    the groups' rates have it. Leaves of more axes, such as the cores of tensor trains, are orthogonalised as the
    matrices that they multiply as. ρ is

    * for all leaves of a structured layer of which Muon steps at least one, the number with which their step moves the
      layer as far as an orthogonalised step moves a dense layer (`linops.nn.torch.layer_steps`), at most the number of
      leaves; one for layers of a single leaf that nothing multiplies, whose step has that size, while a leaf is pruned
      or parametrised, and where groups were made with ``renormalize=False``;
    * for layers that are left to AdamW as a whole one, or where groups were made with ``renormalize=True`` the initial
      over the present spectral norm of what multiplies the leaf, at most one (`linops.nn.torch.renormalizing`).

    Decay is not multiplied by it. Complex matrices are orthogonalised as complex ones; to AdamW a complex number is a
    pair of real ones, as in `torch.optim.AdamW`.

    Parameters of FSDP2 and other DTensors are stepped as one process steps them: momentum stays cut; where blocks are
    cut each rank orthogonalises its own, and matrices that are cut themselves are gathered for it, one at a time (an
    all-gather of (p − 1)/p of the matrix a step, and each rank computes all of it). When ρ is measured, leaves
    and directions of a layer are gathered, one layer at a time.

    Under `torch.compile` all steps of an optimiser that measures a layer run as they do without; those of one that
    measures none are compiled.

    Args:
        params: Groups of `linops.nn.param_groups(model, lr, optimizer="muon")`.
        lr: The rate of groups that have none, 0.02 by default; those of `param_groups` have one.
        weight_decay: The decay of groups that have none, 0 by default; likewise.
        momentum: Of Muon.
        nesterov: Whether Muon's momentum is Nesterov's.
        betas: Of AdamW. None takes (.9, .95) for what Muon leaves to it, and (.9, .999) for groups of
            ``param_groups(optimizer="adamw", renormalize=True)``, as `torch.optim.AdamW`, `lo.nn.flax.adamw` and
            `lo.nn.equinox.adamw` have.
        eps: Of AdamW.
        every: Once in how many steps, after the first 24, the steps of layers are measured, unless groups were made
            with ``renormalize=False``. 1 keeps the size of each single step, which takes more time; else that of their
            mean is kept. None takes 6 for layers of at most four leaves, and 1 for those of more.

    Raises:
        TypeError: If these are no groups or parameters, but a model, say.
        ValueError: If a group for Muon has a parameter that is no matrix, or has lost its ``leaves``, as those that
            another optimiser had have; `ZeroRedundancyOptimizer` has given other leaves of a layer that is measured to
            other ranks; a number, in a group too, is out of its range: `lr`, `weight_decay` and `eps`
            are at least 0, `momentum` and `betas` less than 1 too; or `every` is less than 1, or given where no group
            was made for renormalised steps.

    Warns:
        UserWarning: If `lr` or `weight_decay` is given, and all groups have another one.

    Example:
        >>> import linops as lo
        >>> layer = lo.btt(16, 16).to_layer()
        >>> optimizer = Muon(lo.nn.param_groups(layer, lr=0.02, optimizer="muon"))
        >>> [(group["names"], group["algorithm"]) for group in optimizer.param_groups]
        [(['cores_0', 'cores_1'], 'muon'), (['bias'], 'adamw')]
    """

    #: that it heeds ``partners`` of groups
    renormalizes = True
    #: whether a group was made for steps that are measured, though there may be no layer to measure
    _is_measured = False
    #: of each group the rate over that of matrices, for `linops.nn.torch.watching`
    rate_ratios: tuple[float, ...] = ()

    def __init__(
        self,
        params: Any,
        lr: float | None = None,
        weight_decay: float | None = None,
        momentum: float = 0.95,
        nesterov: bool = True,
        betas: tuple[float, float] | None = None,
        eps: float = 1e-8,
        every: int | None = None,
    ) -> None:
        asked = {"lr": lr, "weight_decay": weight_decay, "betas": betas}
        given = {name: value for name, value in asked.items() if value is not None}
        require_hyperparameters("Muon", momentum=momentum, eps=eps, **given)
        lr, weight_decay = LR if lr is None else lr, DECAY if weight_decay is None else weight_decay
        if not isinstance(lr, Tensor):
            lr = plain(lr)
        weight_decay, momentum, eps = map(plain, (weight_decay, momentum, eps))
        watch()
        self._leaves: list[list[Leaf | None]] = []  # of each group's parameters; no plain data, so in no group
        rest = {
            "momentum": momentum,
            "nesterov": nesterov,
            "betas": betas,
            "eps": eps,
            "algorithm": "muon",
            "every": every,
        }
        if not isinstance(params, Iterable) or isinstance(params, torch.nn.Module):  # some modules can be iterated
            raise TypeError(
                f"Muon({type(params).__name__}): expected groups of parameters, as "
                "lo.nn.param_groups(model, lr, optimizer='muon'); for JAX there are lo.nn.flax.muon and "
                "lo.nn.equinox.muon"
            )
        params = params if isinstance(params, Tensor) else list(params)  # torch refuses a tensor
        require_whole(params)
        require_algorithm(params)
        for name in ("lr", "weight_decay"):
            if name in given:
                warn_of_own(params, name, given[name])
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, **rest})
        renormalizes = self._is_measured or any("partners" in group for group in self.param_groups)
        require_renormalized("Muon", every, renormalizes, "leave renormalize=False out of param_groups")
        for group in self.param_groups:
            flat = [tuple(parameter.shape) for parameter in group["params"] if parameter.ndim < 2]
            if group["algorithm"] == "muon" and flat:
                raise ValueError(
                    f"Muon: parameters of shapes {flat} are no matrices; "
                    "take the groups of param_groups(optimizer='muon')"
                )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As of `torch.optim.Optimizer`; a group's ``leaves`` do not become part of it, for it is plain data.

        Raises:
            ValueError: As the constructor.
        """
        if self.defaults["betas"] is None and param_group.get("betas") is None:
            param_group = param_group | {"betas": ALONE if param_group.get("optimizer") == "adamw" else BESIDE}
        whole = {**self.defaults, **param_group}
        require_hyperparameters("Muon.add_param_group", **{key: whole[key] for key in CHECKED})
        require_every("Muon", whole["every"])
        require_leaves(param_group)
        require_partners(param_group)
        own = {key: one for key, one in param_group.items() if key not in ("leaves", "measured", "rate_ratio")}
        own.update({key: plain(own[key]) for key in ("weight_decay", "momentum", "eps") if key in own})
        if isinstance(whole["lr"], Tensor):
            own["lr"] = whole["lr"].reshape(())  # of the same memory
        elif "lr" in own:
            own["lr"] = plain(own["lr"])
        super().add_param_group(own)
        self._is_measured |= "leaves" in param_group
        self.rate_ratios += (param_group.get("rate_ratio", 1.0),)
        self._leaves.append(leaves_of(self.param_groups[-1]["params"], param_group.get("leaves") or ()))

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_leaves": self._leaves, "rate_ratios": self.rate_ratios}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step.

        Args:
            closure: Computes the loss anew.

        Returns:
            Its result.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if torch.compiler.is_dynamo_compiling() and self._renormalizes():
            _uncompiled(self._update)
        else:
            self._update()
        return loss

    def _renormalizes(self) -> bool:
        """Whether any step is measured or divided."""
        is_divided = any(norm for group in self.param_groups for norm, *_ in group.get("partners", ()))
        return is_divided or any(leaf is not None for leaves in self._leaves for leaf in leaves)

    def _update(self) -> None:
        norms = Norms(self)  # all of before the step
        ratios = {
            id(parameter): norms.share(*one)
            for group in self.param_groups
            for parameter, one in zip(group["params"], group.get("partners", ()))
            if one[0] and parameter.grad is not None
        }
        for members in together(self.param_groups, self._leaves):
            moves = [
                (leaf, group, self._direction(parameter, group, place), parameter)
                for leaf, group, place in members
                if (parameter := group["params"][place]).grad is not None
            ]
            if not moves:
                continue
            leaf, group, place = members[0]
            if leaf is not None:
                ratio = share([move[:3] for move in moves], self.state[group["params"][place]])
            else:
                ratio = ratios.get(id(group["params"][place]), 1.0)
            for _, group, direction, parameter in moves:
                if isinstance(ratio, Tensor) and ratio.ndim:  # a number a copy
                    whole = ratio.reshape(-1, *[1] * (direction.ndim - 1)).expand(direction.shape)
                    ratio = cut_as(whole.to(direction.dtype), direction)
                direction, number = (direction * ratio, 1.0) if isinstance(ratio, Tensor) else (direction, ratio)
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-group["lr"] * number)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As of `torch.optim.Optimizer`; which steps are renormalised, and how often, stays as this optimiser was made.

        So a run whose steps were not renormalised goes on with steps that are, and the other way round.
        """
        own = [{key: group[key] for key in OWN if key in group} for group in self.param_groups]
        super().load_state_dict(state_dict)
        for group, kept in zip(self.param_groups, own):
            for key in OWN:
                group.pop(key, None)
            group.update(kept)
        saved = [key for group in state_dict["param_groups"] for key in group["params"]]
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        leaves = [leaf for found in self._leaves for leaf in found]
        for key, parameter, leaf in zip(saved, parameters, leaves):
            if leaf is None:  # what is kept of measured steps is of no use to static ones
                for name in KEPT if parameter in self.state else ():
                    self.state[parameter].pop(name, None)
                continue
            held = state_dict["state"].get(key, {})
            for name in {VECTORS, SHARE} & {*held}:  # torch has cast them to the parameter's dtype
                found = held[name]
                self.state[parameter][name] = found.to(parameter.device) if isinstance(found, Tensor) else found

    def _direction(self, parameter: Tensor, group: dict[str, Any], place: int) -> Any:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if group["algorithm"] != "muon":
            return _adamw(gradient, state, group)
        return _muon(gradient, state, group, group["axes"][place] if "axes" in group else None)


def _uncompiled(update: Any) -> None:
    """An update that is not compiled: Dynamo breaks where steps are measured, and then mixes up momenta of leaves."""
    disabled: Any = torch.compiler.disable(update)
    disabled()


setattr(_uncompiled, "_torchdynamo_disable", True)  # as torch.compiler.disable says it, which loads Dynamo


def _muon(gradient: Tensor, state: dict[str, Any], group: dict[str, Any], axes: MatrixAxes | None) -> Tensor:
    if "momentum" not in state:
        state["momentum"] = torch.zeros_like(gradient)
    average = state["momentum"]
    average.lerp_(gradient, 1 - group["momentum"])
    direction = gradient.lerp(average, group["momentum"]) if group["nesterov"] else average
    if axes is None:
        return on_whole(orthogonalize, direction, (-2, -1))
    of_matrices = tuple(axis - direction.ndim for axis in (*axes[1], *axes[2]))
    return on_whole(lambda leaf: _by_axes(leaf, axes), direction, of_matrices)


def _by_axes(leaf: Tensor, axes: MatrixAxes) -> Tensor:
    """The matrices of a leaf, which lie in it by their axes of copies, rows and columns, orthogonalised."""
    order = sum(axes, ())
    turned = leaf.permute(order)
    matrices = turned.reshape([prod([leaf.shape[axis] for axis in part]) for part in axes])
    return orthogonalize(matrices).reshape(turned.shape).permute([order.index(axis) for axis in range(leaf.ndim)])


def _adamw(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    if "step" not in state:
        state.update(step=0, mean=torch.zeros_like(gradient), square=torch.zeros_like(gradient))
    state["step"] += 1
    first, second = group["betas"]
    parts = (gradient, state["mean"], state["square"])
    if gradient.is_complex():  # as torch.optim.AdamW has it: a pair of real numbers
        parts = tuple(map(torch.view_as_real, parts))
    mean = parts[1].lerp_(parts[0], 1 - first) / (1 - first ** state["step"])
    square = parts[2].lerp_(parts[0].square(), 1 - second) / (1 - second ** state["step"])
    direction = mean / (square.sqrt() + group["eps"])
    return torch.view_as_complex(direction) if gradient.is_complex() else direction
