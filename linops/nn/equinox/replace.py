"""Structured layers in the place of the dense layers of an Equinox model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any, TypeVar

import equinox as eqx
import jax
from jax.core import Tracer

from linops.nn.calibration import check_calibration
from linops.nn.equinox.dense import exchanged, find, is_linear, name_of
from linops.nn.equinox.nonlinear import Nonlinear
from linops.nn.equinox.placing import build
from linops.nn.equinox.project import project_layers
from linops.nn.equinox.structured import is_parameter, is_structured
from linops.nn.jax import entry_scale, output_scale
from linops.nn.jax_nonlinear import mapped
from linops.nn.obstacles import Obstacle, elsewhere
from linops.nn.projected import check_moments, errors_of, warn_of
from linops.nn.report import Report, leftovers
from linops.nn.swap import Swap, plan, report

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
    scale: str = "keep",
    scheme: str = "mup",
    calibration: Any = None,
    sequential: bool = True,
    anchor: bool = False,
    moments: Mapping[str, Any] | None = None,
    progress: bool = False,
    **options: Any,
) -> tuple[Model, Report]:
    """A model with a structured layer in the place of every `equinox.nn.Linear` that `where` selects.

    The rules are those of `lo.nn.replace_linear_` for PyTorch, of calibration too: the model runs in inference mode,
    and what layers are given is summed by the host in float64, also from within `equinox.filter_jit`. Models from
    `equinox.filter_eval_shape` stay abstract, and it may be called within that, within `equinox.filter_jit` and within
    `equinox.filter_vmap`. Biases are kept.

    Args:
        model: The model: any pytree.
        family: The name of a family, or a function ``(out_features, in_features, **options) -> operator``; also what is
            no linear map, ``"chain"`` and ``"btt_mixture"``. None only if `where` is a dict.
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
        scale: Of drawn weights: ``"keep"`` keeps it where the model has made a layer smaller on purpose, as for
            PyTorch, relative to 1/√(3 in), `equinox.nn.Linear`'s; ``"structure"`` takes the structure's own.
        scheme: How weights are drawn: ``"mup"``, ``"spectral"`` or ``"orthogonal"``, as in `LinearOperator.init`.
            Projected weights do not depend on it; files keep it, for the ``reset_parameters()`` of PyTorch.
        calibration: For ``"project"`` batches of the model's inputs (an array; a tuple or list of arguments; a dict of
            named ones), each run by `jax.vmap` over the first axis of its arrays; or a function that takes the model
            and runs it as it likes: "nearest" is in the mean over what each layer is given then, and a bias makes up
            for the mean of what is lost.
        sequential: False takes the inputs of all layers from one pass of the model as it is, and needs the moments of
            all at a time; True those of each from a pass in which the layers before it are new.
        anchor: Whether each layer's outputs are to be near to those that it had in the original model, which runs
            along.
        moments: Instead of calibration what is known of layers' inputs, a dict of their names to
            `lo.Moments`, or to second moments (n, n).
        progress: Whether to print a line to stderr for each layer that is projected.
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
    swaps, skipped = plan(
        find(model), family, where, exclude, weights, zero, options, None, scale, scheme, weight_norm=weight_norm
    )
    known = check_moments(moments, swaps, weights)
    check_calibration(weights, calibration, sequential, anchor, moments)
    left = leftovers(_left(model, swaps, skipped))
    keys: list[Any] = [None] * len(swaps) if key is None else list(jax.random.split(key, max(len(swaps), 1)))
    if weights == "init":
        new = {swap.found.name: build(swap, weight_norm, one) for swap, one in zip(swaps, keys)}
        changed = exchanged(model, new.get)
        layers = [(swap.found.name, swap.found.layer) for swap in swaps]
        pairs = [(name, _scale(old, new[name])) for name, old in layers]
        scales = {name: grown for name, grown in pairs if grown}
        return changed, report(swaps, skipped, scales=scales, left=left, totals=(_count(model), _count(changed)))
    changed, fits, unseen = project_layers(
        model, swaps, weight_norm, keys, known, calibration, sequential, anchor, progress
    )
    warn_of(fits, unseen)
    totals = _count(model), _count(changed)
    return changed, report(swaps, skipped, errors=errors_of(swaps, fits), left=left, totals=totals)


def _scale(old: Any, new: Any) -> float | None:
    if not isinstance(new, Nonlinear):
        return entry_scale(old.weight, new.operator)
    if any(isinstance(leaf, jax.ShapeDtypeStruct | Tracer) for leaf in new.leaves.values()):
        return None
    dtype = old.weight.dtype
    return output_scale(old.weight, lambda x: mapped(new.nonlinear, new.leaves, x.astype(dtype))[0], new.in_features)


def _count(model: Any) -> int:
    """The number of parameters."""
    return sum(prod(leaf.shape) for leaf in jax.tree.leaves(model) if is_parameter(leaf))


def _left(
    model: Any, swaps: Sequence[Swap], skipped: Mapping[str, Obstacle]
) -> Iterator[tuple[str, str, str, dict[str, int]]]:
    """Every module with arrays that is not replaced; see `leftovers`."""
    replaced = {swap.found.name for swap in swaps}
    sizes: dict[str, dict[str, int]] = {}
    modules: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(model, is_leaf=is_structured):
        if not is_parameter(leaf):
            continue
        nodes = [model]
        for step in path[:-1]:
            at = getattr(step, "idx", getattr(step, "key", None))
            nodes.append(getattr(nodes[-1], step.name) if hasattr(step, "name") else nodes[-1][at])
        depth = max((place for place, node in enumerate(nodes) if isinstance(node, eqx.Module)), default=0)
        name = name_of(path[:depth])
        modules[name] = nodes[depth]
        sizes.setdefault(name, {})[name_of(path[depth:])] = prod(leaf.shape)
    for name, own in sizes.items():
        if name not in replaced:
            obstacle = skipped.get(name)
            why = obstacle.kind or obstacle.reason if obstacle else "not selected" if is_linear(modules[name]) else ""
            yield name, type(modules[name]).__name__, why, own
