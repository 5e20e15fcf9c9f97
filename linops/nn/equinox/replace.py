"""Structured layers in the place of the dense layers of an Equinox model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any, TypeVar

import equinox as eqx
import jax

from linops.nn.equinox.layer import Linear
from linops.nn.jax import entry_scale, is_zero, projected, raised, shifted
from linops.nn.obstacles import Obstacle, elsewhere
from linops.nn.projected import Fit, check_moments, errors_of, require_no_calibration, warn_of
from linops.nn.report import Report, leftovers
from linops.nn.swap import Found, Swap, plan, report

Model = TypeVar("Model")


def replace_linear(
    model: Model,
    family: Any = None,
    where: Any = None,
    exclude: Any = None,
    weights: str = "init",
    *,
    key: Any = None,
    zero: Any = None,
    weight_norm: bool = False,
    moments: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[Model, Report]:
    """A model with a structured layer in the place of every `equinox.nn.Linear` that `where` selects.

    The rules are those of `lo.nn.replace_linear_` for PyTorch. Models from `equinox.filter_eval_shape` stay abstract,
    and it may be called within that, within `equinox.filter_jit` and within `equinox.filter_vmap`. Biases are kept.

    Args:
        model: The model: any pytree.
        family: The name of a family, or a function ``(out_features, in_features, **options) -> operator``; None only if
            `where` is a dict.
        where: Which layers: a predicate ``(name, layer) -> bool``; a glob or ``"re:"`` pattern over the whole dotted
            name (``"blocks.*.mlp.*"``); a list of those; or a dict of pattern to family, in which the first match wins,
            None leaves the layer, and `family` is for those that match no pattern. None takes all.
        exclude: Which of these to leave: a pattern, predicate or list.
        weights: ``"init"`` draws new weights with structure-aware scale, ``"project"`` starts from the nearest that the
            structure has to those there are (`lo.project`), and is outside of transformations.
        key: A key of `jax.random`; needed where weights are drawn.
        zero: Which layers start at zero, as `exclude`; None takes those that are zero now, which cannot be seen in an
            abstract or traced model.
        weight_norm: Whether the new layers normalise their factors; see `linops.nn.torch.Linear`.
        moments: For ``"project"`` what is known of layers' inputs, a dict of their names to `lo.Moments`, or to second
            moments (n, n): "nearest" is in the mean over inputs then, and a bias makes up for the mean of what is lost,
            where that is known.
        **options: The family's options, as ``rank=2``.

    Returns:
        The new model, and what was replaced with parameters, MACs and fans and what was left, which prints as a table.

    Raises:
        ValueError: If a family refuses a layer's sizes, or a layer that `where` names cannot be replaced.
        TypeError: If an argument is none of the above, or the model is of another framework.

    Warns:
        UserWarning: If no layer was replaced, or one was left alone for a reason.

    Example:
        >>> import equinox as eqx, jax, linops as lo
        >>> model = eqx.nn.MLP(64, 10, 64, 1, key=jax.random.key(0))
        >>> model, report = lo.nn.equinox.replace_linear(model, lo.btt, where="layers.0", key=jax.random.key(1))
        >>> report.old_params, report.new_params
        (4160, 1088)
    """
    if not isinstance(model, eqx.Module) and (way := elsewhere(model)):
        raise TypeError(f"lo.nn.equinox.replace_linear({type(model).__name__}): {way}")
    require_no_calibration(options)
    swaps, skipped = plan(_find(model), family, where, exclude, weights, zero, options)
    known = check_moments(moments, swaps, weights)
    fits = {}
    if weights == "project":
        fits = projected(swaps, lambda layer: layer.weight, known, lambda layer: layer.bias is not None)
        warn_of(fits)
    keys = [None] * len(swaps) if key is None else jax.random.split(key, max(len(swaps), 1))
    new = {
        swap.found.name: _layer(swap, weight_norm, keys[number], fits.get(swap.found.name))
        for number, swap in enumerate(swaps)
    }
    changed = jax.tree_util.tree_map_with_path(lambda path, leaf: new.get(_name(path), leaf), model, is_leaf=_is_linear)
    totals, left = (_count(model), _count(changed)), leftovers(_left(model, swaps, skipped))
    scales = {
        swap.found.name: scale
        for swap in swaps
        if weights == "init" and (scale := entry_scale(swap.found.layer.weight, new[swap.found.name].operator))
    }
    return changed, report(swaps, skipped, scales=scales, errors=errors_of(swaps, fits), left=left, totals=totals)


def _is_parameter(leaf: Any) -> bool:
    return eqx.is_inexact_array(leaf) or (
        isinstance(leaf, jax.ShapeDtypeStruct) and jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact)
    )


def _count(model: Any) -> int:
    """The number of parameters."""
    return sum(prod(leaf.shape) for leaf in jax.tree.leaves(model) if _is_parameter(leaf))


def _left(
    model: Any, swaps: Sequence[Swap], skipped: Mapping[str, Obstacle]
) -> Iterator[tuple[str, str, str, dict[str, int]]]:
    """Every module with arrays that is not replaced; see `leftovers`."""
    replaced = {swap.found.name for swap in swaps}
    sizes: dict[str, dict[str, int]] = {}
    modules: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(model, is_leaf=lambda node: isinstance(node, Linear)):
        if not _is_parameter(leaf):
            continue
        nodes = [model]
        for step in path[:-1]:
            at = getattr(step, "idx", getattr(step, "key", None))
            nodes.append(getattr(nodes[-1], step.name) if hasattr(step, "name") else nodes[-1][at])
        depth = max((place for place, node in enumerate(nodes) if isinstance(node, eqx.Module)), default=0)
        name = _name(path[:depth])
        modules[name] = nodes[depth]
        sizes.setdefault(name, {})[_name(path[depth:])] = prod(leaf.shape)
    for name, own in sizes.items():
        if name not in replaced:
            obstacle = skipped.get(name)
            why = obstacle.kind or obstacle.reason if obstacle else "not selected" if _is_linear(modules[name]) else ""
            yield name, type(modules[name]).__name__, why, own


def _is_linear(node: Any) -> bool:
    return isinstance(node, eqx.nn.Linear)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _find(model: Any) -> Iterator[Found]:
    for path, layer in jax.tree_util.tree_leaves_with_path(model, is_leaf=_is_linear):
        if _is_linear(layer):
            obstacle = _obstacle(layer)
            shape = (0, 0) if obstacle else layer.weight.shape
            yield Found(_name(path), layer, shape, layer.bias is not None, partial(is_zero, layer.weight), obstacle)


def _obstacle(layer: eqx.nn.Linear) -> str | Obstacle | None:
    """Why a layer cannot be replaced."""
    if type(layer) is not eqx.nn.Linear:
        return f"is a {type(layer).__name__}, a subclass of equinox.nn.Linear whose own behaviour would be lost"
    if not (eqx.is_array(layer.weight) or isinstance(layer.weight, jax.ShapeDtypeStruct)):
        return (
            f"has no array as its weight but {type(layer.weight).__name__}: shared with another layer, or filtered out"
        )
    if layer.weight.ndim != 2:
        reason = f"has a weight of shape {layer.weight.shape}, a stack of layers"
        return Obstacle(reason, "replace it before stacking", "a stack of layers")
    return "maps from or to scalars" if "scalar" in (layer.in_features, layer.out_features) else None


def _layer(swap: Swap, weight_norm: bool, key: Any, fit: Fit | None = None) -> Linear:
    old = swap.found.layer
    if fit is not None:
        layer = Linear(fit.operators[0], swap.found.bias, old.weight.dtype, weight_norm=weight_norm)
        if layer.gains is not None:
            layer = eqx.tree_at(lambda one: one.gains, layer, raised(layer.operator, layer.gains))
        shift = fit.shifts.get(swap.found.name)
        bias = old.bias if shift is None else shifted(old.bias, shift)
        return eqx.tree_at(lambda one: one.bias, layer, bias) if swap.found.bias else layer
    make = partial(
        Linear, swap.operators[0], swap.found.bias, old.weight.dtype, zero_init=swap.zero_init, weight_norm=weight_norm
    )
    layer = eqx.filter_eval_shape(make, key=key) if isinstance(old.weight, jax.ShapeDtypeStruct) else make(key=key)
    return eqx.tree_at(lambda one: one.bias, layer, old.bias) if swap.found.bias else layer
