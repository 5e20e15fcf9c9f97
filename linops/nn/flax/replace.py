"""Structured layers in the place of the dense layers of a Flax NNX model."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
from flax import nnx

from linops.nn.flax.layer import Linear
from linops.nn.jax import is_zero
from linops.nn.report import Report
from linops.nn.swap import Found, Swap, plan, report

#: how `nnx.Linear` multiplies; a layer that sets one of these multiplies in its own way
_OWN_WAYS = ("precision", "dot_general", "promote_dtype", "preferred_element_type")
_DEFAULTS = {name: inspect.signature(nnx.Linear.__init__).parameters[name].default for name in _OWN_WAYS}


def replace_linear(
    model: nnx.Module,
    family: Any,
    where: Any = None,
    exclude: Any = None,
    weights: str = "init",
    *,
    rngs: nnx.Rngs,
    zero: Any = None,
    weight_norm: bool = False,
    **options: Any,
) -> Report:
    """Replace every `nnx.Linear` of a model that `where` selects by a structured layer, in place.

    The rules are those of `lo.nn.replace_linear_` for PyTorch. A layer that occurs twice in the model is replaced by one layer that
    occurs twice. Nothing is changed if an error is raised. Models from `nnx.eval_shape` stay abstract. Biases are kept.

    Args:
        model: The model.
        family: The name of a family, or a function ``(out_features, in_features, **options) -> operator``; None only if `where` is a dict.
        where: Which layers: a predicate ``(name, layer) -> bool``; a glob or ``"re:"`` pattern over the whole dotted name
            (``"blocks.*.mlp.*"``); a list of those; or a dict of pattern to family, in which the first match wins, None leaves the layer,
            and `family` is for those that match no pattern. None takes all.
        exclude: Which of these to leave: a pattern, predicate or list.
        weights: ``"init"`` draws new weights with structure-aware scale.
        rngs: The random streams, of which ``params`` is used.
        zero: Which layers start at zero, as `exclude`; None takes those that are zero now, which cannot be seen in an abstract model.
        weight_norm: Whether the new layers normalise their factors; see `linops.nn.torch.Linear`.
        **options: The family's options, as ``rank=2``.

    Returns:
        What was replaced, with parameters, MACs and fans; it prints as a table.

    Raises:
        ValueError: If a family refuses a layer's sizes, or a layer that `where` names cannot be replaced.
        TypeError: If an argument is none of the above.

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
    swaps, skipped = plan(_find(model), family, where, exclude, weights, zero, options)
    new = {id(swap.found.layer): _layer(swap, weight_norm, rngs) for swap in swaps}
    for _, module in list(nnx.iter_modules(model)):
        for key, value in list(vars(module).items()):
            changed = _exchanged(value, new)
            if changed is not value:
                setattr(module, key, changed)
    return report(swaps, skipped)


def _find(model: nnx.Module) -> Iterator[Found]:
    modules = [(".".join(map(str, path)), module) for path, module in nnx.iter_modules(model)]
    uses = Counter(id(value) for _, module in modules for value in vars(module).values() if isinstance(value, nnx.Variable))
    for name, module in modules:
        if isinstance(module, nnx.Linear):
            into, out = module.kernel.shape[-2:]
            zero = partial(is_zero, module.kernel.get_value())
            yield Found(name, module, (out, into), module.bias is not None, zero, _obstacle(name, module, uses))


def _obstacle(name: str, module: nnx.Linear, uses: Counter) -> str | None:
    """Why a layer cannot be replaced."""
    if not name:
        return "is the whole model, which cannot be replaced in place"
    if type(module) is not nnx.Linear:
        return f"is a {type(module).__name__}, a subclass of nnx.Linear whose own behaviour would be lost"
    if len(module.kernel.shape) != 2:
        return f"has a kernel of shape {module.kernel.shape}, a stack of layers; replace it before stacking"
    if uses[id(module.kernel)] > 1:
        return "shares its kernel with another layer"
    own = next((way for way in _OWN_WAYS if getattr(module, way) is not _DEFAULTS[way]), None)
    return f"has its own {own}, which would be lost" if own else None


def _layer(swap: Swap, weight_norm: bool, rngs: nnx.Rngs) -> Linear:
    old = swap.found.layer
    kernel = old.kernel.get_value()

    def build(rngs: nnx.Rngs) -> Linear:
        options = {"zero_init": swap.zero_init, "weight_norm": weight_norm}
        return Linear(swap.operators[0], swap.found.bias, old.dtype, kernel.dtype, **options, rngs=rngs)

    layer = nnx.eval_shape(build, rngs) if isinstance(kernel, jax.ShapeDtypeStruct) else build(rngs)
    if swap.found.bias:
        layer.bias = old.bias
    return layer


def _exchanged(value: Any, new: dict[int, Linear]) -> Any:
    """A module's attribute with its layers exchanged, also in plain lists, tuples and dicts; the same object if there are none."""
    if id(value) in new:
        return new[id(value)]
    if not isinstance(value, (list, tuple, dict)):
        return value
    changed = jax.tree.map(lambda item: new.get(id(item), item), value, is_leaf=_no_container)
    leaves = zip(jax.tree.leaves(value, is_leaf=_no_container), jax.tree.leaves(changed, is_leaf=_no_container))
    return changed if any(a is not b for a, b in leaves) else value


def _no_container(value: Any) -> bool:
    return not isinstance(value, (list, tuple, dict))
