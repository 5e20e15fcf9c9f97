"""`replace_linear_`: structured layers in the place of a PyTorch model's dense ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from linops.nn.parts import Parts
from linops.nn.report import Report
from linops.nn.swap import Found, Swap, plan, report
from linops.nn.torch import Linear


def replace_linear_(
    model: nn.Module,
    family: Any,
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

    Replaced are `torch.nn.Linear` and Hugging Face's ``Conv1D`` (whose weight is transposed). Nothing is changed if an error is raised.

    * Biases, dtypes, devices, training mode and ``requires_grad`` are kept; hooks on the replaced layers are not.
    * A layer that is all zero stays zero, by the factor nearest its output alone, so that it gets a gradient.
    * Linear layers that share a weight share the new parameters, if all of them are replaced by one family. A weight shared with another
      kind of layer (an embedding) cannot be replaced.
    * `torch.nn.MultiheadAttention` multiplies by its projections' weights itself, so they cannot be replaced. The feedforward layers of
      `torch.nn.TransformerEncoderLayer` can be; it then leaves its fused path, which reads dense weights.

    What cannot be replaced is left alone with a warning, or is an error if `where` selects it.

    Args:
        model: The model; it may live on the meta device.
        family: The name of a family, or a function ``(out_features, in_features, **options) -> operator``; None only if `where` is a dict.
        where: Which layers: a predicate ``(name, module) -> bool``; a glob or ``"re:"`` pattern over the whole name; a list of those; or a
            dict of pattern to family, in which the first match wins, None leaves the layer, and `family` (or None: leave) is for those
            that match no pattern. None takes all.
        exclude: Which of these to leave, as `where`.
        weights: ``"init"`` draws new weights with structure-aware scale.
        zero: Which layers start at zero, as `where`; None takes those that are zero now, which cannot be seen on the meta device.
        parts: For fused projections, a dict of pattern to the number of equal parts of the output, or their sizes: ``{"*.c_attn": 3}``.
            Each part gets its own structure; other layers are structured whole.
        weight_norm: Whether the new layers normalise their factors; see `linops.nn.torch.Linear`.
        **options: The family's options, as ``rank=2``.

    Returns:
        What was replaced, with parameters, MACs and fans; it prints as a table.

    Raises:
        ValueError: If a family refuses a layer's sizes, a layer that `where` selects cannot be replaced, or parts do not fit.
        TypeError: If an argument is none of the above.

    Warns:
        UserWarning: If no layer was replaced, or one was left alone because it cannot be.

    Example:
        >>> import linops as lo, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.GELU(), torch.nn.Linear(64, 10))
        >>> report = lo.nn.replace_linear_(model, "btt", where="0")
        >>> report.old_params, report.new_params
        (4160, 1088)
    """
    swaps, skipped = plan(_find(model), family, where, exclude, weights, zero, options, parts)
    _put(model, swaps, weight_norm)
    return report(swaps, skipped)


# ---------------------------------------------------------------- the dense layers


def _is_conv1d(module: nn.Module) -> bool:
    """Whether a module is Hugging Face's Conv1D: y = x W + b with W (in, out). It is known by its name, as transformers may be absent."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def _find(model: nn.Module) -> Iterator[Found]:
    modules = list(model.named_modules())
    attentions = tuple(f"{name}." for name, module in modules if isinstance(module, nn.MultiheadAttention))
    holders: dict[int, set[str]] = {}
    for name, module in modules:
        for parameter in module._parameters.values():
            holders.setdefault(id(parameter), set()).add(name)
    for name, module in modules:
        if not (isinstance(module, (nn.Linear, nn.MultiheadAttention)) or _is_conv1d(module)):
            continue
        if obstacle := _obstacle(name, module, attentions):
            yield Found(name, module, (0, 0), False, lambda: False, obstacle)
            continue
        dense: Any = module
        out, into = dense.weight.shape[::-1] if _is_conv1d(module) else dense.weight.shape
        tied = frozenset(holders[id(dense.weight)] - {name})
        yield Found(name, module, (out, into), dense.bias is not None, partial(_is_zero, dense.weight), tied=tied)


def _obstacle(name: str, module: nn.Module, attentions: tuple[str, ...]) -> str | None:
    """Why a layer cannot be replaced, whatever becomes of the others."""
    if isinstance(module, nn.MultiheadAttention) or name.startswith(attentions):
        return "belongs to torch.nn.MultiheadAttention, which multiplies by its weights itself"
    if not name:
        return "is the whole model, which cannot be replaced in place; use linops.nn.torch.Linear"
    if type(module) is not nn.Linear and not _is_conv1d(module):
        return f"is a {type(module).__name__}, a subclass of torch.nn.Linear whose behaviour would be lost"
    return None


def _is_zero(weight: torch.Tensor) -> bool:
    return not weight.is_meta and not bool(torch.count_nonzero(weight))


# ---------------------------------------------------------------- the new layers


def _put(model: nn.Module, swaps: Iterable[Swap], weight_norm: bool) -> None:
    """Build all new layers, then put them in the place of the old."""
    layers: dict[str, Any] = {}
    new: dict[int, nn.Module] = {}
    for swap in swaps:
        layers[swap.found.name] = new[id(swap.found.layer)] = layer = _layer(swap, weight_norm)
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
        if isinstance(encoder, nn.TransformerEncoder) and any(isinstance(part, (Linear, Parts)) for part in encoder.modules()):
            encoder.use_nested_tensor = False  # it needs the fused path


def _layer(swap: Swap, weight_norm: bool) -> Any:
    old = swap.found.layer
    options: dict[str, Any] = {"device": old.weight.device, "dtype": old.weight.dtype, "zero_init": swap.zero_init}
    parts = [Linear(operator, False, **options, weight_norm=weight_norm) for operator in swap.operators]
    layer: Any = parts[0] if len(parts) == 1 else Parts(parts)
    layer.requires_grad_(old.weight.requires_grad)
    layer.bias = old.bias
    return layer.train(old.training)
