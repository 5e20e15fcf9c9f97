"""`replace_linear_`: structured layers in the place of a PyTorch model's dense ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from linops.nn.calibration import check_calibration
from linops.nn.obstacles import Obstacle
from linops.nn.projected import check_moments, errors_of, warn_of
from linops.nn.report import Report, leftovers
from linops.nn.swap import Swap, plan, report
from linops.nn.torch.dense import find, is_dense, require_module
from linops.nn.torch.nonlinear import Nonlinear
from linops.nn.torch.placing import put, retire
from linops.nn.torch.project import project_layers
from linops.nn.torch.structured import Swapped


def replace_linear_(
    model: nn.Module,
    family: Any = None,
    where: Any = None,
    exclude: Any = None,
    weights: str = "init",
    *,
    zero: Any = None,
    parts: Mapping[Any, int | Sequence[int]] | None = None,
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
    """Replace the dense layers of a model by structured ones, in place.

    Replaced are `torch.nn.Linear` and Hugging Face's ``Conv1D`` (whose weight is transposed). Nothing is changed if an
    error is raised.

    * Biases, dtypes, devices, training mode, ``requires_grad`` and forward and backward hooks are kept.
    * A layer that is all zero stays zero, by the factor nearest its output alone, so that it gets a gradient. Otherwise
      drawn weights have their structure's own scale, and keep what the model has made smaller on purpose (`scale`);
      the report says so, and by what factor entries differ. Of projected ones it has the errors.
    * Linear layers that share a weight share the new parameters, if all of them are replaced by one family.
    * ``layer.weight`` of a new layer can be read, and not written; see `linops.nn.torch.Linear`.
    * A subclass of `torch.nn.Linear` is replaced if it has no methods of its own but ``__init__`` and
      ``reset_parameters``.

    Some layers cannot be replaced: those whose weight is shared with another kind of layer (an embedding), sharded,
    quantised, or computed (weight norm, pruning, parametrizations); those inside `torch.nn.MultiheadAttention`, which
    multiplies by their weights itself, or an adapter; subclasses with a forward of their own; and those whose sizes the
    family refuses. Such a layer is an error if `where` selects it, by name or pattern; with ``where=None`` it is left
    alone, with one warning for all of a kind. In a sharded model it is always an error. With ``where=None`` frozen
    layers are left alone too, unless their weights are projected; the new ones are frozen then.

    ``weights="project"`` starts from the trained weights: the nearest that the structure has (`lo.project`). With
    `calibration`, "nearest" is in the mean over what each layer is given (`lo.Moments`), in the order of the forward
    pass, when the layers before it are new already; a bias makes up for the mean of what is lost. That takes a pass
    over the calibration set a layer, and the moments of one layer at a time. The model runs in evaluation mode, without
    gradients. Layers that share a weight are projected together, where the first of them is reached.

    Args:
        model: The model; it may live on the meta device.
        family: A family's name, with options or without (``"btt:rank=2"``), or a function ``(out_features, in_features,
            **options) -> operator``; also what is no linear map, ``"chain"`` (`lo.nn.chain`) and ``"btt_mixture"``
            (`lo.nn.btt_mixture`). None only if `where` is a dict.
        where: Which layers: a predicate ``(name, module) -> bool``; a glob or ``"re:"`` pattern over the whole name; a
            list of those; or a dict of pattern to family, in which the first match wins, None leaves the layer, and
            `family` (or None: leave) is for those that match no pattern. None takes all.
        exclude: Which of these to leave, as `where`.
        weights: ``"init"`` draws new weights with structure-aware scale, ``"project"`` starts from those there are.
        zero: Which layers start at zero, as `where`; None takes those that are zero now, which cannot be seen on the
            meta device.
        parts: For fused projections, a dict of pattern to the number of equal parts of the output, or their sizes:
            ``{"*.c_attn": 3}``. Each part gets its own structure; other layers are structured whole.
        weight_norm: Whether the new layers normalise their factors; see `linops.nn.torch.Linear`.
        scale: Of drawn weights: ``"keep"`` keeps it where the model has made a layer smaller on purpose, as GPT-2 its
            residual projections: a weight below 0.8 times what its framework starts such a layer with (torch's 1/√(3
            in), ``Conv1D``'s 0.02, for models of transformers their ``initializer_range``) and below 0.8 times the
            structure's rule for a dense layer. The factor nearest the output then starts smaller by what the weight is
            of the former. ``"structure"`` takes the structure's own. Either way the report says what was done.
        scheme: How weights are drawn, now and by ``layer.reset_parameters()``: ``"mup"``, ``"spectral"`` or
            ``"orthogonal"``, as in `LinearOperator.init`. Projected weights do not depend on it: with
            ``weights="project"`` it is only how ``reset_parameters()`` draws later.
        calibration: For ``weights="project"``, batches of the model's inputs (a tensor; a tuple or list of arguments; a
            dict of named ones), where the model is, or a function that takes the model and runs it on them.
        sequential: False takes the inputs of all layers from one pass of the model as it is, and needs the moments of
            all at a time.
        anchor: Whether each layer's outputs are to be near to those that it had in the original model, of which a copy
            runs along, and not to those of its old weight in the model as it is then.
        moments: Instead of calibration what is known of layers' inputs: a dict of their names to `lo.Moments`, or to
            second moments (n, n). Other layers are projected by their weight alone.
        progress: Whether to print a line to stderr for each layer that is projected.
        **options: The family's options, as ``rank=2``.

    Returns:
        What was replaced, with parameters, MACs, fans and errors, and what was left; it prints as a table of 80
        columns.

    Raises:
        ValueError: If a layer that `where` selects cannot be replaced, the family refuses all, the model is sharded, or
            parts do not fit. Of a projection: if a weight or an input holds NaN or infinity, a weight is on the meta
            device, calibration is empty, or options contradict each other.
        TypeError: If an argument is none of the above.

    Warns:
        UserWarning: If no layer was replaced, some were left alone because they cannot be, or a pattern matches none.
            Of a projection: if no input reached a layer, fewer did than it has features, or an iteration stopped before
            it converged.

    Example:
        >>> import linops as lo, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.GELU(), torch.nn.Linear(64, 10))
        >>> report = lo.nn.replace_linear_(model, "btt", where="0")
        >>> report.old_params, report.new_params
        (4160, 1088)
    """
    require_module("replace_linear_", model, "flax.replace_linear", "equinox.replace_linear")
    swaps, skipped = plan(
        find(model), family, where, exclude, weights, zero, options, parts, scale, scheme, weight_norm
    )
    known = check_moments(moments, swaps, weights)
    check_calibration(weights, calibration, sequential, anchor, moments)
    before, left = _count(model), leftovers(_left(model, swaps, skipped), ("weight", "bias"))
    if weights == "init":
        layers = put(model, swaps, weight_norm)
        retire(model, [swap.found.layer for swap in swaps], "replace_linear_")
        pairs = [(swap.found.name, swap.found.layer, layers[swap.found.name]) for swap in swaps]
        scales = {name: grown for name, old, new in pairs if (grown := _scale(old, new))}
        return report(swaps, skipped, scales=scales, left=left, totals=(before, _count(model)))
    fits, unseen = project_layers(model, swaps, weight_norm, known, calibration, sequential, anchor, progress)
    retire(model, [swap.found.layer for swap in swaps], "replace_linear_")
    warn_of(fits, unseen)
    return report(swaps, skipped, errors=errors_of(swaps, fits), left=left, totals=(before, _count(model)))


# ---------------------------------------------------------------- what is said of it


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if not nn.parameter.is_lazy(parameter))


def _left(
    model: nn.Module, swaps: Iterable[Swap], skipped: Mapping[str, Obstacle]
) -> Iterator[tuple[str, str, str, dict[str, int]]]:
    """Every module with parameters that is not replaced; see `leftovers`."""
    replaced = {id(swap.found.layer): swap for swap in swaps}
    seen = {id(parameter) for swap in replaced.values() for parameter in swap.found.layer._parameters.values()}
    for name, module in model.named_modules():
        own = {
            key: one
            for key, one in module._parameters.items()
            if one is not None and not nn.parameter.is_lazy(one) and id(one) not in seen
        }
        if id(module) in replaced or not own or isinstance(module, Swapped):
            continue
        seen |= {id(one) for one in own.values()}
        obstacle = skipped.get(name)
        why = obstacle.kind or obstacle.reason if obstacle else "not selected" if is_dense(module) else ""
        yield name, type(module).__name__, why, {key: one.numel() for key, one in own.items()}


@torch.no_grad()
def _scale(old: Any, new: Any) -> float | None:
    """The root mean square of a layer's entries, by 64 random vectors, over that of the layer it replaces.

    Of what is no linear map it is that of outputs for normal inputs.
    """
    weight = old.weight.detach()
    wide = torch.promote_types(weight.dtype, torch.float32)  # which transforms have on every device
    if weight.is_meta or not (before := float(torch.linalg.vector_norm(weight, dtype=wide)) / weight.numel() ** 0.5):
        return None
    x = torch.randn(64, new.in_features, generator=torch.Generator().manual_seed(0)).to(weight.device, wide)
    if isinstance(new, Nonlinear):
        y = new._mapped(x.to(weight.dtype)).to(wide)
    else:
        y = new.operator.to(dtype=wide)._linear(x)
    norm = torch.linalg.vector_norm(y) / torch.linalg.vector_norm(x)
    return float(norm) / new.out_features**0.5 / before or None
