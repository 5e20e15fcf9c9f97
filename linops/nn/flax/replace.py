"""Structured layers in the place of the dense layers of a Flax NNX model."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import jax
from flax import nnx

from linops.nn.flax.general import LinearGeneral
from linops.nn.flax.layer import Linear
from linops.nn.jax import entry_scale, is_zero, projected, raised, shifted
from linops.nn.obstacles import Obstacle, elsewhere
from linops.nn.projected import Fit, check_moments, errors_of, require_no_calibration, warn_of
from linops.nn.report import Report, leftovers
from linops.nn.swap import Found, Swap, plan, report

#: how a dense layer multiplies; one that sets one of these multiplies in its own way
_OWN_WAYS = ("precision", "dot_general", "dot_general_cls", "promote_dtype", "preferred_element_type")
_DENSE = (nnx.Linear, nnx.LinearGeneral)
_DEFAULTS = {
    kind: {name: one.default for name, one in inspect.signature(kind.__init__).parameters.items()} for kind in _DENSE
}


def replace_linear(
    model: nnx.Module,
    family: Any = None,
    where: Any = None,
    exclude: Any = None,
    weights: str = "init",
    *,
    rngs: nnx.Rngs | None = None,
    zero: Any = None,
    weight_norm: bool = False,
    moments: Mapping[str, Any] | None = None,
    **options: Any,
) -> Report:
    """Replace the `nnx.Linear` and `nnx.LinearGeneral` of a model that `where` selects by structured layers, in place.

    The rules are those of `lo.nn.replace_linear_` for PyTorch. A layer that occurs twice in the model is replaced by
    one layer that occurs twice. Nothing is changed if an error is raised. Models from `nnx.eval_shape` stay abstract,
    and it may be called within that, within `nnx.jit` and within `nnx.vmap`. Biases are kept; new parameters have no
    sharding metadata of the old kernel.

    Args:
        model: The model.
        family: The name of a family, or a function ``(out_features, in_features, **options) -> operator``; None only if
            `where` is a dict.
        where: Which layers: a predicate ``(name, layer) -> bool``; a glob or ``"re:"`` pattern over the whole dotted
            name (``"blocks.*.mlp.*"``); a list of those; or a dict of pattern to family, in which the first match wins,
            None leaves the layer, and `family` is for those that match no pattern. None takes all.
        exclude: Which of these to leave: a pattern, predicate or list.
        weights: ``"init"`` draws new weights with structure-aware scale, ``"project"`` starts from the nearest that the
            structure has to those there are (`lo.project`), and is outside of transformations.
        rngs: The random streams, of which ``params`` is used; needed where weights are drawn.
        zero: Which layers start at zero, as `exclude`; None takes those that are zero now, which cannot be seen in an
            abstract or traced model.
        weight_norm: Whether the new layers normalise their factors; see `linops.nn.torch.Linear`.
        moments: For ``"project"`` what is known of layers' inputs, a dict of their names to `lo.Moments`, or to second
            moments (n, n): "nearest" is in the mean over inputs then, and a bias makes up for the mean of what is lost,
            where that is known.
        **options: The family's options, as ``rank=2``.

    Returns:
        What was replaced, with parameters, MACs and fans, and what was left; it prints as a table.

    Raises:
        ValueError: If a family refuses a layer's sizes, or a layer that `where` names cannot be replaced.
        TypeError: If an argument is none of the above, or the model is of another framework or API.

    Warns:
        UserWarning: If no layer was replaced, or one was left alone for a reason.

    Example:
        >>> import linops as lo
        >>> from flax import nnx
        >>> rngs = nnx.Rngs(0)
        >>> model = nnx.Sequential(nnx.Linear(64, 64, rngs=rngs), nnx.gelu, nnx.Linear(64, 10, rngs=rngs))
        >>> report = lo.nn.flax.replace_linear(model, lo.btt, where="layers.0", rngs=rngs)
        >>> report.old_params, report.new_params
        (4160, 1088)
    """
    if not isinstance(model, nnx.Module):
        way = elsewhere(model) or "expected a module of Flax NNX"
        raise TypeError(f"lo.nn.flax.replace_linear({type(model).__name__}): {way}")
    require_no_calibration(options)
    swaps, skipped = plan(_find(model), family, where, exclude, weights, zero, options)
    before, left = _count(model), leftovers(_left(model, swaps, skipped))
    known = check_moments(moments, swaps, weights)
    fits = {}
    if weights == "project":
        uses = _uses(model)
        own = lambda layer: layer.bias is not None and uses[id(layer.bias)] == 1  # noqa: E731
        fits = projected(swaps, _matrix, known, own)
        warn_of(fits)
    new = {id(swap.found.layer): _layer(swap, weight_norm, rngs, fits.get(swap.found.name)) for swap in swaps}
    exchange(model, new)
    for swap in swaps:
        shift = fits[swap.found.name].shifts.get(swap.found.name) if swap.found.name in fits else None
        if shift is not None:
            bias = swap.found.layer.bias
            bias.set_value(shifted(bias.get_value(), shift))
    scales = {}
    for swap in swaps if weights == "init" else ():
        if scale := entry_scale(swap.found.layer.kernel.get_value(), new[id(swap.found.layer)].operator):
            scales[swap.found.name] = scale
    errors, totals = errors_of(swaps, fits), (before, _count(model))
    return report(swaps, skipped, scales=scales, errors=errors, left=left, totals=totals)


def _count(model: nnx.Module) -> int:
    """The number of parameters."""
    return sum(prod(one.shape) for _, one in nnx.iter_graph(model) if isinstance(one, nnx.Param))


def _left(
    model: nnx.Module, swaps: Sequence[Swap], skipped: Mapping[str, Obstacle]
) -> Iterator[tuple[str, str, str, dict[str, int]]]:
    """Every module with parameters that is not replaced; see `leftovers`."""
    nodes = dict(nnx.iter_graph(model))
    replaced = {id(swap.found.layer) for swap in swaps}
    gone = {id(one) for swap in swaps for one in vars(swap.found.layer).values() if isinstance(one, nnx.Param)}
    sizes: dict[tuple, dict[str, int]] = {}
    for path, one in nodes.items():
        if isinstance(one, nnx.Param) and id(one) not in gone:
            at = path[:-1]
            while at and not isinstance(nodes.get(at), nnx.Module):  # in a list or dict of a module
                at = at[:-1]
            sizes.setdefault(at, {})[".".join(map(str, path[len(at) :]))] = prod(one.shape)
    for path, own in sizes.items():
        module, name = nodes.get(path, model), ".".join(map(str, path))
        if id(module) in replaced or isinstance(module, Linear):
            continue
        obstacle = skipped.get(name)
        why = obstacle.kind or obstacle.reason if obstacle else "not selected" if isinstance(module, _DENSE) else ""
        yield name, type(module).__name__, "an einsum of its own" if isinstance(module, nnx.Einsum) else why, own


def _find(model: nnx.Module) -> Iterator[Found]:
    modules = [(".".join(map(str, path)), module) for path, module in nnx.iter_modules(model)]
    uses = _uses(model)
    for name, module in modules:
        if isinstance(module, _DENSE):
            into, out = (prod(sizes) for sizes in _features(module))
            zero = partial(is_zero, module.kernel.get_value())
            yield Found(name, module, (out, into), module.bias is not None, zero, _obstacle(name, module, uses))


def _uses(model: nnx.Module) -> Counter:
    """In how many modules each variable is, by its id."""
    modules = [module for _, module in nnx.iter_modules(model)]
    return Counter(
        id(value) for module in modules for value in vars(module).values() if isinstance(value, nnx.Variable)
    )


def _matrix(layer: Any) -> Any:
    """The kernel as (m, n) numbers; an abstract one as it is."""
    kernel = layer.kernel.get_value()
    into, out = (prod(sizes) for sizes in _features(layer))
    return kernel if isinstance(kernel, jax.ShapeDtypeStruct) else kernel.reshape(into, out).T


def _features(module: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sizes of a dense layer's inputs and outputs."""
    into, out = module.in_features, module.out_features
    return (into if isinstance(into, tuple) else (into,)), (out if isinstance(out, tuple) else (out,))


def _obstacle(name: str, module: Any, uses: Counter) -> str | Obstacle | None:
    """Why a layer cannot be replaced."""
    if not name:
        return "is the whole model, which cannot be replaced in place"
    if type(module) not in _DENSE:
        base = next(kind.__name__ for kind in _DENSE if isinstance(module, kind))
        return f"is a {type(module).__name__}, a subclass of nnx.{base} whose own behaviour would be lost"
    if getattr(module, "batch_axis", None):
        return "has batch axes, each with a kernel of its own"
    if tuple(module.kernel.shape) != sum(_features(module), ()):
        reason = f"has a kernel of shape {module.kernel.shape}, a stack of layers"
        return Obstacle(reason, "replace it before stacking", "a stack of layers")
    if uses[id(module.kernel)] > 1:
        return "shares its kernel with another layer"
    defaults = _DEFAULTS[type(module)]
    own = next((way for way in _OWN_WAYS if getattr(module, way, None) is not defaults.get(way)), None)
    return f"has its own {own}, which would be lost" if own else None


def _layer(swap: Swap, weight_norm: bool, rngs: nnx.Rngs | None, fit: Fit | None = None) -> Linear:
    old = swap.found.layer
    kernel = old.kernel.get_value()

    def build(rngs: nnx.Rngs | None) -> Linear:
        operator, bias = fit.operators[0] if fit else swap.operators[0], swap.found.bias
        options = {
            "dtype": old.dtype,
            "param_dtype": kernel.dtype,
            "zero_init": swap.zero_init,
            "weight_norm": weight_norm,
        }
        if isinstance(old, nnx.LinearGeneral):
            return LinearGeneral(operator, *_features(old), old.axis, bias, **options, rngs=rngs)
        return Linear(operator, bias, **options, rngs=rngs)

    layer = nnx.eval_shape(build, rngs) if isinstance(kernel, jax.ShapeDtypeStruct) else build(rngs)
    if fit and weight_norm:
        gains = {name: getattr(layer, f"{name}_gain", None) for name in layer.leaf_names}
        known = {name: gain.get_value() for name, gain in gains.items() if gain is not None}
        for name, gain in raised(fit.operators[0], known).items():
            getattr(layer, f"{name}_gain").set_value(gain)
    if swap.found.bias:
        layer.bias = old.bias
    return layer


def exchange(model: nnx.Module, new: Mapping[int, Any]) -> None:
    """Put new layers in the place of old ones, wherever they occur.

    Args:
        model: The model.
        new: The new layers by the ids of the old.
    """
    for _, module in list(nnx.iter_modules(model)):
        for key, value in list(vars(module).items()):
            changed = _exchanged(value, new)
            if changed is not value:
                setattr(module, key, changed)


def _exchanged(value: Any, new: Mapping[int, Any]) -> Any:
    """A module's attribute with its layers exchanged, also in lists, tuples, dicts; the same object without any."""
    if id(value) in new:
        return new[id(value)]
    if not isinstance(value, (list, tuple, dict)):
        return value
    changed = jax.tree.map(lambda item: new.get(id(item), item), value, is_leaf=_no_container)
    leaves = zip(jax.tree.leaves(value, is_leaf=_no_container), jax.tree.leaves(changed, is_leaf=_no_container))
    return changed if any(a is not b for a, b in leaves) else value


def _no_container(value: Any) -> bool:
    return not isinstance(value, (list, tuple, dict))
