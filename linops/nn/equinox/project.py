"""Trained weights of Equinox's layers in structures: one layer, or those of a model as it runs on calibration data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import equinox as eqx

from linops.nn.equinox import calibration as calibrating
from linops.nn.equinox.dense import exchanged, is_linear, obstacle_of
from linops.nn.equinox.layer import Linear
from linops.nn.equinox.placing import build
from linops.nn.jax import is_zero, require_numbers
from linops.nn.obstacles import elsewhere
from linops.nn.projected import Fit
from linops.nn.projecting import Projection
from linops.nn.single import fitted, swap_of
from linops.nn.swap import Swap

#: what does for a layer of Flax, Equinox and PyTorch what `from_linear` does
_FUNCTIONS = ("flax.from_linear", "equinox.from_linear", "from_linear")


def from_linear(
    linear: eqx.nn.Linear,
    family: Any,
    *,
    inputs: Any = None,
    second_moment: Any = None,
    key: Any = None,
    **options: Any,
) -> Linear:
    """A structured layer that starts from a trained dense one: its weight is the nearest that the structure has.

    With inputs "nearest" is in the mean over them, and if the layer has a bias, the new one makes up for the mean of
    what is lost. A weight of zeros stays zero, by the factor nearest the output alone, so that it gets a gradient.
    ``layer.to_dense()`` is the way back.

    Args:
        linear: An `equinox.nn.Linear`.
        family: A family's name, with options or without (``"btt:rank=2"``), a function ``(out_features, in_features,
            **options) -> operator``, or a symbolic operator.
        inputs: What the layer is given: rows (…, n), an iterable of batches of them, or `lo.Moments`.
        second_moment: Instead of inputs C = mean of x xᴴ, (n, n); the bias is kept then, as the mean is not known.
        key: A key of `jax.random`; needed of a weight of zeros.
        **options: The family's options, as ``rank=2``.

    Returns:
        The layer, in the dtype of `linear`.

    Raises:
        TypeError: If an argument is none of the above.
        ValueError: If the layer maps from or to scalars, or is a stack of layers, abstract or traced, shapes do not
            fit, numbers are not finite, or the family refuses the sizes.

    Warns:
        UserWarning: If there are fewer inputs than features, or an iteration stopped before it converged.

    Example:
        >>> import equinox as eqx, jax, linops as lo
        >>> linear = eqx.nn.Linear(64, 64, key=jax.random.key(0))
        >>> layer = lo.nn.equinox.from_linear(linear, "low_rank", rank=32)
        >>> layer.operator.num_params
        4096
        >>> layer.to_dense().weight.shape
        (64, 64)
    """
    if not is_linear(linear):
        way = None if isinstance(linear, eqx.Module) else elsewhere(linear, _FUNCTIONS)
        raise TypeError(f"lo.nn.equinox.from_linear({type(linear).__name__}): {way or 'expected an equinox.nn.Linear'}")
    if obstacle := obstacle_of(linear):
        raise ValueError(f"from_linear: the layer {obstacle}")
    m, n = linear.weight.shape
    swap = swap_of(linear, (m, n), family, options, partial(is_zero, linear.weight))
    require_numbers([swap], _matrix)
    return build(swap, False, key, fitted(swap, linear.weight, inputs, second_moment))


def project_layers(
    model: Any,
    swaps: Sequence[Swap],
    weight_norm: bool,
    keys: Sequence[Any],
    moments: Mapping[str, Any],
    calibration: Any = None,
    sequential: bool = True,
    anchor: bool = False,
    progress: bool = False,
) -> tuple[Any, dict[str, Fit], list[str]]:
    """A model with layers of projected weights in the place of its own.

    Args:
        model: The model.
        swaps: The layers.
        weight_norm: Whether the new layers normalise their factors.
        keys: Of random numbers, one for each layer, for those that start at zero.
        moments: What is known of the layers' inputs, by name.
        calibration: What shows these inputs; see `linops.nn.calibration.Calls.runner`.
        sequential: Whether each layer's are those of a model whose earlier layers are new.
        anchor: Whether outputs are to be near to those that the original model has.
        progress: Whether to print a line for each layer that is done.

    Returns:
        The model, the fits by name, and the names of layers that no input reached.
    """
    require_numbers(swaps, _matrix)
    run = None if calibration is None else calibrating.CALLS.runner(calibration)
    new = {swap.found.name: build(swap, weight_norm, key) for swap, key in zip(swaps, keys) if swap.zero_init}

    def enter(group: Sequence[Swap], fits: Mapping[str, Fit]) -> None:
        for swap in group:
            new[swap.found.name] = build(swap, weight_norm, None, fits[swap.found.name])

    project = Projection(swaps, _matrix, lambda found: found.bias, enter, progress)
    if run is None:
        project.by(moments)
    else:
        project.along(calibrating.watching(lambda: exchanged(model, new.get), run), sequential, anchor)
    return exchanged(model, new.get), project.fits, [] if run is None else project.unseen


def _matrix(layer: Any) -> Any:
    return layer.weight
