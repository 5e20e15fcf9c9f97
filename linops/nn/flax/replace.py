"""Structured layers in the place of the dense layers of a Flax NNX model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import jax
from flax import nnx
from jax.core import Tracer

from linops.nn.calibration import check_calibration
from linops.nn.flax.dense import DENSE, find
from linops.nn.flax.layer import Linear
from linops.nn.flax.nonlinear import Nonlinear
from linops.nn.flax.placing import build, exchange
from linops.nn.flax.project import project_layers
from linops.nn.jax import entry_scale, output_scale
from linops.nn.jax_nonlinear import mapped
from linops.nn.obstacles import Obstacle, elsewhere
from linops.nn.projected import check_moments, errors_of, warn_of
from linops.nn.report import Report, leftovers
from linops.nn.swap import Swap, plan, report


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
    scale: str = "keep",
    scheme: str = "mup",
    calibration: Any = None,
    sequential: bool = True,
    anchor: bool = False,
    moments: Mapping[str, Any] | None = None,
    progress: bool = False,
    **options: Any,
) -> Report:
    """Replace the `nnx.Linear` and `nnx.LinearGeneral` of a model that `where` selects by structured layers, in place.

    The rules are those of `lo.nn.replace_linear_` for PyTorch, of calibration too: the model runs in evaluation mode,
    and what layers are given is summed by the host in float64, also from within `nnx.jit`. A layer that occurs twice in
    the model is replaced by one layer that occurs twice. Nothing is changed if an error is raised. Models from
    `nnx.eval_shape` stay abstract, and it may be called within that, within `nnx.jit` and within `nnx.vmap`. Biases are
    kept; new parameters have no sharding metadata of the old kernel.

    Args:
        model: The model.
        family: The name of a family, or a function ``(out_features, in_features, **options) -> operator``; also what is
            no linear map, ``"chain"`` and ``"btt_mixture"``. None only if `where` is a dict.
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
        scale: Of drawn weights: ``"keep"`` keeps it where the model has made a layer smaller on purpose, as for
            PyTorch, relative to 1/√in, `nnx.Linear`'s; ``"structure"`` takes the structure's own.
        scheme: How weights are drawn: ``"mup"``, ``"spectral"`` or ``"orthogonal"``, as in `LinearOperator.init`.
            Projected weights do not depend on it; files keep it, for the ``reset_parameters()`` of PyTorch.
        calibration: For ``"project"`` batches of the model's inputs (an array; a tuple or list of arguments; a dict of
            named ones), or a function that takes the model and runs it on them: "nearest" is in the mean over what
            each layer is given then, and a bias makes up for the mean of what is lost.
        sequential: False takes the inputs of all layers from one pass of the model as it is, and needs the moments of
            all at a time; True those of each from a pass in which the layers before it are new.
        anchor: Whether each layer's outputs are to be near to those that it had in the original model, of which a copy
            runs along.
        moments: Instead of calibration what is known of layers' inputs, a dict of their names to
            `lo.Moments`, or to second moments (n, n).
        progress: Whether to print a line to stderr for each layer that is projected.
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
    swaps, skipped = plan(
        find(model), family, where, exclude, weights, zero, options, None, scale, scheme, weight_norm=weight_norm
    )
    known = check_moments(moments, swaps, weights)
    check_calibration(weights, calibration, sequential, anchor, moments)
    before, left = _count(model), leftovers(_left(model, swaps, skipped))
    if weights == "init":
        new = {id(swap.found.layer): build(swap, weight_norm, rngs) for swap in swaps}
        exchange(model, new)
        pairs = [(swap.found.name, swap.found.layer) for swap in swaps]
        found = [(name, _scale(old, new[id(old)])) for name, old in pairs]
        scales = {name: grown for name, grown in found if grown}
        return report(swaps, skipped, scales=scales, left=left, totals=(before, _count(model)))
    fits, unseen = project_layers(model, swaps, weight_norm, rngs, known, calibration, sequential, anchor, progress)
    warn_of(fits, unseen)
    return report(swaps, skipped, errors=errors_of(swaps, fits), left=left, totals=(before, _count(model)))


def _scale(old: Any, new: Any) -> float | None:
    kernel = old.kernel.get_value()
    if not isinstance(new, Nonlinear):
        return entry_scale(kernel, new.operator)
    leaves = {name: getattr(new, name).get_value() for name in new.leaf_names}
    if any(isinstance(leaf, jax.ShapeDtypeStruct | Tracer) for leaf in leaves.values()):
        return None
    return output_scale(kernel, lambda x: mapped(new.nonlinear, leaves, x.astype(kernel.dtype))[0], new.in_features)


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
        if id(module) in replaced or isinstance(module, (Linear, Nonlinear)):
            continue
        obstacle = skipped.get(name)
        why = obstacle.kind or obstacle.reason if obstacle else "not selected" if isinstance(module, DENSE) else ""
        yield name, type(module).__name__, "an einsum of its own" if isinstance(module, nnx.Einsum) else why, own
