"""Trained weights of PyTorch's layers in structures: one layer, or those of a model as it runs on calibration data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from linops.nn.obstacles import brief, elsewhere
from linops.nn.projected import Fit, groups
from linops.nn.projecting import Projection
from linops.nn.single import NAME, fitted, swap_of
from linops.nn.swap import Found, Swap
from linops.nn.torch import calibration as calibrating
from linops.nn.torch.dense import is_conv1d, is_dense, obstacle_of
from linops.nn.torch.layer import Linear
from linops.nn.torch.placing import build, put, shifted

#: what does for a layer of Flax, Equinox and PyTorch what `from_linear` does
_FUNCTIONS = ("flax.from_linear", "equinox.from_linear", "from_linear")


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
        way = elsewhere(linear, _FUNCTIONS) if not isinstance(linear, nn.Module) else None
        way = way or "expected a torch.nn.Linear, or transformers' Conv1D"
        raise TypeError(f"from_linear({type(linear).__name__}): {way}")
    if obstacle := obstacle_of(linear):
        raise ValueError(f"from_linear: the layer {obstacle}" + (f"; {obstacle.remedy}" if obstacle.remedy else ""))
    m, n = matrix_of(linear).shape
    swap = swap_of(linear, (m, n), family, options, lambda: _is_zero(linear))
    require_numbers([swap])
    one = fitted(swap, matrix_of(linear), inputs, second_moment)
    layer = build(swap, False, one and one.operators)
    bias: Any = linear.bias
    if bias is not None:
        value = bias.detach().clone()
        shift = one.shifts.get(NAME) if one else None
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
        calibration: What shows these inputs; see `linops.nn.calibration.Calls.runner`.
        sequential: Whether each layer's are those of a model whose earlier layers are new.
        anchor: Whether outputs are to be near to those that the original model has.
        progress: Whether to print a line for each layer that is done.

    Returns:
        The fits by the name of the first layer that has the weight, and the names of layers that no input reached.
    """
    require_numbers(swaps)
    run = None if calibration is None else calibrating.CALLS.runner(calibration)
    original = _copied(model) if anchor else None
    undo: list[Callable[[], object]] = []
    layers: dict[str, Any] = {}

    def enter(group: Sequence[Swap], fits: Mapping[str, Fit]) -> None:
        layers.update(put(model, group, weight_norm, fits, undo))

    project = Projection(swaps, matrix_of, corrects(model), enter, progress)
    try:
        if run is None:
            project.by(moments)
        else:
            with calibrating.evaluating(*[one for one in (model, original) if one is not None]):
                project.along(calibrating.watching(model, run, project.found, original), sequential, anchor)
        zeros = [swap for group in groups(swaps) if group[0].zero_init for swap in group]
        layers |= put(model, zeros, weight_norm, undo=undo)
    except BaseException:
        for step in reversed(undo):
            step()
        raise
    for swap in swaps:
        layers[swap.found.name].train(swap.found.layer.training)
    return project.fits, [] if run is None else project.unseen


def _copied(model: nn.Module) -> nn.Module:
    """A copy of a model, also of one that keeps what it computed, such as its last loss: that is copied as a number."""
    kept = [value for module in model.modules() for value in vars(module).values() if isinstance(value, torch.Tensor)]
    return copy.deepcopy(model, {id(value): value.detach().clone() for value in kept if not value.is_leaf})


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


def _is_zero(layer: Any) -> bool:
    return not layer.weight.is_meta and not torch.count_nonzero(layer.weight)


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
