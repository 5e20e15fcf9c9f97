"""`replace_linear_`: structured layers in the place of a PyTorch model's dense ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from linops.nn.obstacles import Obstacle
from linops.nn.report import Report, leftovers
from linops.nn.swap import Swap, plan, report
from linops.nn.torch.dense import find, is_conv1d, is_dense, require_module
from linops.nn.torch.layer import Linear
from linops.nn.torch.parts import Parts
from linops.nn.torch.structured import Structured

#: the hooks that a layer keeps; the dicts themselves move, so that handles still remove
_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_is_full_backward_hook",
)


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
    **options: Any,
) -> Report:
    """Replace the dense layers of a model by structured ones, in place.

    Replaced are `torch.nn.Linear` and Hugging Face's ``Conv1D`` (whose weight is transposed). Nothing is changed if an
    error is raised.

    * Biases, dtypes, devices, training mode, ``requires_grad`` and forward and backward hooks are kept.
    * A layer that is all zero stays zero, by the factor nearest its output alone, so that it gets a gradient. Otherwise
      the new weights have their structure's own scale, which replaces the model's; the report says by what factor they
      differ.
    * Linear layers that share a weight share the new parameters, if all of them are replaced by one family.
    * ``layer.weight`` of a new layer can be read, and not written; see `linops.nn.torch.Linear`.
    * A subclass of `torch.nn.Linear` is replaced if it has no methods of its own but ``__init__`` and
      ``reset_parameters``.

    Some layers cannot be replaced: those whose weight is shared with another kind of layer (an embedding), sharded,
    quantised, or computed (weight norm, pruning, parametrizations); those inside `torch.nn.MultiheadAttention`, which
    multiplies by their weights itself, or an adapter; subclasses with a forward of their own; and those whose sizes the
    family refuses. Such a layer is an error if `where` selects it, by name or pattern; with ``where=None`` it is left
    alone, with one warning for all of a kind. In a sharded model it is always an error. With ``where=None`` frozen
    layers are left alone too.

    Args:
        model: The model; it may live on the meta device.
        family: A family's name, with options or without (``"btt:rank=2"``), or a function ``(out_features, in_features,
            **options) -> operator``; None only if `where` is a dict.
        where: Which layers: a predicate ``(name, module) -> bool``; a glob or ``"re:"`` pattern over the whole name; a
            list of those; or a dict of pattern to family, in which the first match wins, None leaves the layer, and
            `family` (or None: leave) is for those that match no pattern. None takes all.
        exclude: Which of these to leave, as `where`.
        weights: ``"init"`` draws new weights with structure-aware scale.
        zero: Which layers start at zero, as `where`; None takes those that are zero now, which cannot be seen on the
            meta device.
        parts: For fused projections, a dict of pattern to the number of equal parts of the output, or their sizes:
            ``{"*.c_attn": 3}``. Each part gets its own structure; other layers are structured whole.
        weight_norm: Whether the new layers normalise their factors; see `linops.nn.torch.Linear`.
        **options: The family's options, as ``rank=2``.

    Returns:
        What was replaced, with parameters, MACs and fans, and what was left; it prints as a table of 80 columns.

    Raises:
        ValueError: If a layer that `where` selects cannot be replaced, the family refuses all, the model is sharded, or
            parts do not fit.
        TypeError: If an argument is none of the above.

    Warns:
        UserWarning: If no layer was replaced, some were left alone because they cannot be, or `exclude` matches none.

    Example:
        >>> import linops as lo, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.GELU(), torch.nn.Linear(64, 10))
        >>> report = lo.nn.replace_linear_(model, "btt", where="0")
        >>> report.old_params, report.new_params
        (4160, 1088)
    """
    require_module("replace_linear_", model, "flax.replace_linear", "equinox.replace_linear")
    swaps, skipped = plan(find(model), family, where, exclude, weights, zero, options, parts)
    before, left = _count(model), leftovers(_left(model, swaps, skipped), ("weight", "bias"))
    layers = _put(model, swaps, weight_norm)
    scales = {name: scale for name, (old, new) in layers.items() if (scale := _scale(old, new))}
    return report(swaps, skipped, scales=scales, left=left, totals=(before, _count(model)))


# ---------------------------------------------------------------- the new layers


def _put(model: nn.Module, swaps: Iterable[Swap], weight_norm: bool) -> dict[str, tuple[Any, Any]]:
    """Build all new layers, then put them in the place of the old; both by name."""
    pairs: dict[str, tuple[Any, Any]] = {}
    layers: dict[str, Any] = {}
    new: dict[int, nn.Module] = {}
    for swap in swaps:
        layers[swap.found.name] = new[id(swap.found.layer)] = layer = _layer(swap, weight_norm)
        pairs[swap.found.name] = swap.found.layer, layer
        if swap.tied_to is not None:
            for name, parameter in list(layers[swap.tied_to].named_parameters()):
                if name != "bias":
                    path, _, leaf = name.rpartition(".")
                    layer.get_submodule(path).register_parameter(leaf, parameter)
    for parent in list(model.modules()):
        changed = [(key, new[id(child)]) for key, child in parent._modules.items() if id(child) in new]
        for key, layer in changed:
            setattr(parent, key, layer)
        if isinstance(parent, nn.TransformerEncoderLayer) and changed:
            parent.activation_relu_or_gelu = 0  # torch's own sign against the fused path
    for encoder in model.modules():
        if isinstance(encoder, nn.TransformerEncoder) and any(
            isinstance(part, (Linear, Parts)) for part in encoder.modules()
        ):
            encoder.use_nested_tensor = False  # it needs the fused path
    return pairs


def _layer(swap: Swap, weight_norm: bool) -> Any:
    old = swap.found.layer
    options: dict[str, Any] = {"device": old.weight.device, "dtype": old.weight.dtype, "zero_init": swap.zero_init}
    parts = [Linear(operator, False, **options, weight_norm=weight_norm) for operator in swap.operators]
    layer: Any = parts[0] if len(parts) == 1 else Parts(parts)
    layer.requires_grad_(old.weight.requires_grad)
    layer.bias = old.bias
    layer._transposed, layer._path = is_conv1d(old), swap.found.name
    for name in _HOOKS:
        setattr(layer, name, getattr(old, name))
    # what the model keeps on its layers, such as a mark for its own initialisation
    for name, value in vars(old).items():
        if not name.startswith("_") and not hasattr(layer, name):
            setattr(layer, name, value)
    return layer.train(old.training)


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
        if id(module) in replaced or not own or isinstance(module, Structured):
            continue
        seen |= {id(one) for one in own.values()}
        obstacle = skipped.get(name)
        why = obstacle.kind or obstacle.reason if obstacle else "not selected" if is_dense(module) else ""
        yield name, type(module).__name__, why, {key: one.numel() for key, one in own.items()}


@torch.no_grad()
def _scale(old: Any, new: Any) -> float | None:
    """The root mean square of a layer's entries, by a few random vectors, over that of the layer it replaces."""
    weight = old.weight.detach()
    wide = torch.promote_types(weight.dtype, torch.float32)  # which transforms have on every device
    if weight.is_meta or not (before := float(torch.linalg.vector_norm(weight, dtype=wide)) / weight.numel() ** 0.5):
        return None
    x = torch.randn(4, new.in_features, generator=torch.Generator().manual_seed(0)).to(weight.device, wide)
    norm = torch.linalg.vector_norm(new.operator.to(dtype=wide)._linear(x)) / torch.linalg.vector_norm(x)
    return float(norm) / new.out_features**0.5 / before or None
