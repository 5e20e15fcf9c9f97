"""Trained weights of Flax NNX's layers in structures: one layer, or those of a model as it runs on calibration data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import jax
from flax import nnx

from linops.nn.flax import calibration as calibrating
from linops.nn.flax.dense import DENSE, features, matrix_of, obstacle_of, uses_of
from linops.nn.flax.layer import Linear
from linops.nn.flax.placing import build, exchange
from linops.nn.jax import is_zero, require_numbers, shifted
from linops.nn.obstacles import elsewhere
from linops.nn.projected import Fit
from linops.nn.projecting import Projection
from linops.nn.single import NAME, fitted, swap_of
from linops.nn.swap import Found, Swap

#: what does for a layer of Flax, Equinox and PyTorch what `from_linear` does
_FUNCTIONS = ("flax.from_linear", "equinox.from_linear", "from_linear")


def from_linear(
    linear: Any,
    family: Any,
    *,
    inputs: Any = None,
    second_moment: Any = None,
    rngs: nnx.Rngs | None = None,
    **options: Any,
) -> Linear:
    """A structured layer that starts from a trained dense one: its weight is the nearest that the structure has.

    With inputs "nearest" is in the mean over them, and if the layer has a bias, the new one makes up for the mean of
    what is lost. A weight of zeros stays zero, by the factor nearest the output alone, so that it gets a gradient.
    ``layer.to_dense()`` is the way back.

    Args:
        linear: An `nnx.Linear` or `nnx.LinearGeneral`; it is not changed.
        family: A family's name, with options or without (``"btt:rank=2"``), a function ``(out_features, in_features,
            **options) -> operator``, or a symbolic operator.
        inputs: What the layer is given: rows (…, n), an iterable of batches of them, or `lo.Moments`.
        second_moment: Instead of inputs C = mean of x xᴴ, (n, n); the bias is copied then, as the mean is not known.
        rngs: The random streams, of which ``params`` is used; needed of a weight of zeros.
        **options: The family's options, as ``rank=2``.

    Returns:
        The layer, with parameters of its own, in the dtypes of `linear`.

    Raises:
        TypeError: If an argument is none of the above.
        ValueError: If the layer multiplies in a way of its own, or is abstract or traced, shapes do not fit, numbers
            are not finite, or the family refuses the sizes.

    Warns:
        UserWarning: If there are fewer inputs than features, or an iteration stopped before it converged.

    Example:
        >>> import linops as lo
        >>> from flax import nnx
        >>> linear = nnx.Linear(64, 64, rngs=nnx.Rngs(0))
        >>> layer = lo.nn.flax.from_linear(linear, "low_rank", rank=32)
        >>> layer.operator.num_params
        4096
        >>> layer.to_dense().kernel.shape
        (64, 64)
    """
    if not isinstance(linear, DENSE):
        way = None if isinstance(linear, nnx.Module) else elsewhere(linear, _FUNCTIONS)
        raise TypeError(
            f"lo.nn.flax.from_linear({type(linear).__name__}): {way or 'expected an nnx.Linear or nnx.LinearGeneral'}"
        )
    if obstacle := obstacle_of(NAME, linear, uses_of(linear)):
        raise ValueError(f"from_linear: the layer {obstacle}")
    into, out = (prod(sizes) for sizes in features(linear))
    swap = swap_of(linear, (out, into), family, options, partial(is_zero, linear.kernel.get_value()))
    require_numbers([swap], matrix_of)
    one = fitted(swap, matrix_of(linear), inputs, second_moment)
    layer = build(swap, False, rngs, one)
    if linear.bias is not None:
        value, shift = linear.bias.get_value(), one.shifts.get(NAME) if one else None
        layer.bias = nnx.Param(jax.numpy.array(value) if shift is None else shifted(value, shift))
    return layer


def project_layers(
    model: nnx.Module,
    swaps: Sequence[Swap],
    weight_norm: bool,
    rngs: nnx.Rngs | None,
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
        rngs: The random streams, for layers that start at zero.
        moments: What is known of the layers' inputs, by name.
        calibration: What shows these inputs; see `linops.nn.calibration.Calls.runner`.
        sequential: Whether each layer's are those of a model whose earlier layers are new.
        anchor: Whether outputs are to be near to those that the original model has.
        progress: Whether to print a line for each layer that is done.

    Returns:
        The fits by name, and the names of layers that no input reached.
    """
    require_numbers(swaps, matrix_of)
    run = None if calibration is None else calibrating.CALLS.runner(calibration)
    zeros = {id(swap.found.layer): build(swap, weight_norm, rngs) for swap in swaps if swap.zero_init}
    original = nnx.clone(model) if anchor else None
    undo: list[Callable[[], object]] = []

    def enter(group: Sequence[Swap], fits: Mapping[str, Fit]) -> None:
        for swap in group:
            old, fit = swap.found.layer, fits[group[0].found.name]
            exchange(model, {id(old): build(swap, weight_norm, rngs, fit)}, undo)
            shift = fit.shifts.get(swap.found.name)
            if shift is not None:
                undo.append(partial(old.bias.set_value, old.bias.get_value()))
                old.bias.set_value(shifted(old.bias.get_value(), shift))

    uses = uses_of(model)

    def corrects(found: Found) -> bool:
        return found.bias and uses[id(found.layer.bias)] == 1

    project = Projection(swaps, matrix_of, corrects, enter, progress)
    try:
        if run is None:
            project.by(moments)
        else:
            with calibrating.evaluating(*[one for one in (model, original) if one is not None]):
                project.along(calibrating.watching(model, run, project.found, original), sequential, anchor)
        exchange(model, zeros, undo)
    except BaseException:
        for step in reversed(undo):
            step()
        raise
    return project.fits, [] if run is None else project.unseen
