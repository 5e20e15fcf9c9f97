"""Trained weights of PyTorch's layers in structures: one layer, or those of a model as it runs on calibration data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import torch
from torch import nn

from linops.nn.members import build as build_member
from linops.nn.members import named
from linops.nn.obstacles import brief
from linops.nn.progress import printer
from linops.nn.projected import Fit, fit, groups, lines, warn_of
from linops.nn.spreads import spread_of
from linops.nn.swap import Found, Swap
from linops.nn.torch import calibration as calibrating
from linops.nn.torch.dense import is_conv1d, is_dense, obstacle_of
from linops.nn.torch.layer import Linear
from linops.nn.torch.placing import build, put, shifted
from linops.operator import LinearOperator
from linops.projection import Moments
from linops.projection.moments import moments_of


def from_linear(
    linear: nn.Module, family: Any, *, inputs: Any = None, second_moment: Any = None, **options: Any
) -> Linear:
    """A structured layer that starts from a trained dense one: its weight is the nearest that the structure has.

    With inputs "nearest" is in the mean over them, and if the layer has a bias, the new one makes up for the mean of
    what is lost. A weight of zeros stays zero, by the factor nearest the output alone, so that it gets a gradient.

    Args:
        linear: A `torch.nn.Linear`, or a Hugging Face ``Conv1D``; it is not changed.
        family: A family's name, with options or without (``"btt:rank=2"``), a function ``(out_features, in_features,
            **options) -> operator``, or a symbolic operator.
        inputs: What the layer is given: rows (…, n), an iterable of batches of them, or `lo.Moments`.
        second_moment: Instead of inputs C = mean of x xᴴ, (n, n); the bias is copied then, as the mean is not known.
        **options: The family's options, as ``rank=2``.

    Returns:
        The layer, in the dtype, on the device, as trainable and in the mode of `linear`. Hooks stay with `linear`.

    Raises:
        TypeError: If an argument is none of the above.
        ValueError: If the layer computes or shards its weight, or is on the meta device, shapes do not fit, numbers are
            not finite, or the family refuses the sizes.

    Warns:
        UserWarning: If there are fewer inputs than features, or an iteration stopped before it converged.

    Example:
        >>> import linops as lo, torch
        >>> linear = torch.nn.Linear(64, 64)
        >>> layer = lo.nn.from_linear(linear, "low_rank", rank=32)
        >>> x = torch.randn(8, 64)
        >>> torch.dist(layer(x), linear(x)) < torch.dist(linear(x), linear.bias)
        tensor(True)
    """
    if not is_dense(linear):
        raise TypeError(f"from_linear({type(linear).__name__}): expected a torch.nn.Linear, or transformers' Conv1D")
    if obstacle := obstacle_of(linear):
        raise ValueError(f"from_linear: the layer {obstacle}" + (f"; {obstacle.remedy}" if obstacle.remedy else ""))
    if inputs is not None and second_moment is not None:
        raise ValueError("from_linear: inputs and second_moment both say how inputs are spread; give one of them")
    m, n = matrix_of(linear).shape
    if isinstance(family, LinearOperator):
        if options or family.shape != (m, n):
            what = f"takes no options {sorted(options)}" if options else f"has another shape than the layer, {m}×{n}"
            raise ValueError(f"from_linear: the operator {family._short()} {what}")
        target = family
    else:
        target = build_member(named(family), m, n, options, "linear")
    bias: Any = linear.bias
    is_zero = not linear.weight.is_meta and not torch.count_nonzero(matrix_of(linear))
    found = Found("linear", linear, (m, n), bias is not None, lambda: is_zero)
    swap = Swap(found, (target,), is_zero)
    require_numbers([swap])
    one = None
    if not is_zero:
        given = second_moment
        if inputs is not None:
            given = inputs if isinstance(inputs, Moments) else moments_of(inputs, n)
        spreads = {} if given is None else {"linear": spread_of(found, given, bias is not None)}
        one = fit([swap], matrix_of(linear), spreads)
        warn_of({"linear": replace(one, few=())}, stacklevel=3)
    layer = build(swap, False, one and one.operators)
    if bias is not None:
        value = bias.detach().clone()
        shift = one.shifts.get("linear") if one else None
        layer.bias = nn.Parameter(value if shift is None else shifted(value, shift), bias.requires_grad)
    return layer


def project_layers(
    model: nn.Module,
    swaps: Sequence[Swap],
    weight_norm: bool,
    moments: Mapping[str, Any],
    calibration: Any = None,
    sequential: bool = True,
    anchor: bool = False,
    progress: bool = False,
) -> tuple[dict[str, Fit], list[str]]:
    """Put layers with projected weights in the place of a model's; if that fails, the model is what it was.

    Args:
        model: The model.
        swaps: The layers.
        weight_norm: Whether the new layers normalise their factors.
        moments: What is known of the layers' inputs, by name.
        calibration: What shows these inputs; see `linops.nn.torch.calibration.runner`.
        sequential: Whether each layer's are those of a model whose earlier layers are new.
        anchor: Whether outputs are to be near to those that the original model has.
        progress: Whether to print a line for each layer that is done.

    Returns:
        The fits by the name of the first layer that has the weight, and the names of layers that no input reached.
    """
    require_numbers(swaps)
    run = None if calibration is None else calibrating.runner(calibration)
    original = _copied(model) if anchor else None
    undo: list[Callable[[], object]] = []
    try:
        if run is None:
            project = _Projection(model, swaps, weight_norm, undo, progress)
            for group in project.groups:
                project(group, moments)
        else:
            with calibrating.evaluating(*[one for one in (model, original) if one is not None]):
                project = _Projection(model, swaps, weight_norm, undo, progress)
                _calibrated(project, run, sequential, original)
        zeros = [swap for group in groups(swaps) if group[0].zero_init for swap in group]
        project.layers |= put(model, zeros, weight_norm, undo=undo)
    except BaseException:
        for step in reversed(undo):
            step()
        raise
    for swap in swaps:
        project.layers[swap.found.name].train(swap.found.layer.training)
    names = [swap.found.name for group in project.groups for swap in group]
    return project.fits, [name for name in names if run is not None and name not in project.seen]


def _copied(model: nn.Module) -> nn.Module:
    """A copy of a model, also of one that keeps what it computed, such as its last loss: that is copied as a number."""
    kept = [value for module in model.modules() for value in vars(module).values() if isinstance(value, torch.Tensor)]
    return copy.deepcopy(model, {id(value): value.detach().clone() for value in kept if not value.is_leaf})


class _Projection:
    """A model whose layers are projected group by group."""

    def __init__(
        self, model: nn.Module, swaps: Sequence[Swap], weight_norm: bool, undo: list[Any], progress: bool
    ) -> None:
        self.model, self.weight_norm, self.undo = model, weight_norm, undo
        self.groups = [group for group in groups(swaps) if not group[0].zero_init]
        self.fits: dict[str, Fit] = {}
        self.layers: dict[str, Any] = {}
        self.seen: set[str] = set()
        self.say = printer(len(self.groups), progress)
        self.corrects = corrects(model)

    def __call__(self, group: Sequence[Swap], moments: Mapping[str, Any]) -> None:
        """Project a group by what is known of its inputs, and put it into the model."""
        start = perf_counter()
        name, known = group[0].found.name, [swap.found for swap in group if swap.found.name in moments]
        spreads = {one.name: spread_of(one, moments[one.name], self.corrects(one)) for one in known}
        self.seen |= spreads.keys()
        self.fits[name] = fit(group, matrix_of(group[0].found.layer), spreads)
        self.layers |= put(self.model, group, self.weight_norm, self.fits, self.undo)
        self.say(lines(name, self.fits[name], group[0].found.shape, perf_counter() - start))


def _calibrated(project: _Projection, run: Any, sequential: bool, original: nn.Module | None) -> None:
    """Project layers in the order of the forward pass, each by the inputs that it then has."""
    model, every = project.model, {swap.found.name: swap.found for group in project.groups for swap in group}

    def moments_in(names: Mapping[str, Found]) -> dict[str, Moments]:
        found = calibrating.moments(model, run, names, original)
        return {name: one for name, one in found.items() if one.count}

    if not sequential:
        known = moments_in(every)
        for group in project.groups:
            project(group, known)
        return
    place = {name: number for number, name in enumerate(calibrating.order(model, run, every))}

    def first(group: Sequence[Swap]) -> int:
        return min([place.get(swap.found.name, len(every)) for swap in group])

    for group in sorted(project.groups, key=first):
        names = {swap.found.name: swap.found for swap in group if swap.found.name in place}
        project(group, moments_in(names) if names else {})


def corrects(model: nn.Module) -> Callable[[Found], bool]:
    """Which layers have a bias that takes the mean of what is lost.

    Args:
        model: The model.

    Returns:
        A function of a layer: whether it has a bias that no other layer has too.
    """
    holders: dict[int, int] = {}
    for module in model.modules():
        bias = module._parameters.get("bias")
        holders[id(bias)] = holders.get(id(bias), 0) + 1
    shared = {key for key, count in holders.items() if count > 1}
    return lambda found: found.bias and id(found.layer.bias) not in shared


def matrix_of(layer: Any) -> torch.Tensor:
    """The weight of a layer as (m, n) numbers, without derivatives."""
    weight = layer.weight.detach()
    return weight.T if is_conv1d(layer) else weight


def require_numbers(swaps: Sequence[Swap]) -> None:
    """Raise where a weight is on the meta device.

    Args:
        swaps: The layers.

    Raises:
        ValueError: If one is.
    """
    names = [swap.found.name for swap in swaps if swap.found.layer.weight.is_meta]
    if names:
        raise ValueError(
            f"layer {names[0]!r} is on the meta device, where its weight has no numbers to project "
            f"({len(names)} such: {brief(names)}); load the weights first, or use weights='init'"
        )
