"""The recipe of a PyTorch model, and a model by a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from linops.nn.projected import Fit
from linops.nn.recipe import Layer
from linops.nn.stored import is_same, require_fit
from linops.nn.swap import Found, Swap
from linops.nn.torch.dense import find
from linops.nn.torch.nonlinear import Nonlinear
from linops.nn.torch.parts import Parts
from linops.nn.torch.placing import put
from linops.nn.torch.structured import Swapped


def recipe_of(model: nn.Module) -> dict[str, Layer]:
    """The structured layers of a model.

    Args:
        model: The model.

    Returns:
        The layers by name, without parts of others; a layer that occurs twice by its first name.
    """
    layers: dict[str, Layer] = {}
    owners: dict[tuple[int, ...], str] = {}
    inside: set[int] = set()
    for name, module in model.named_modules():
        if not isinstance(module, Swapped) or id(module) in inside:
            continue
        parts = _parts_of(module)
        inside |= set(map(id, parts))
        leaves = tuple(id(leaf) for part in parts for leaf in part._leaves())
        tied_to = owners.get(leaves) if leaves else None
        scheme, starts = _drawn(parts)
        if isinstance(module, Nonlinear):
            one = module._described()
            layers[name] = Layer((one.structure,), tied_to=tied_to, scheme=scheme, nonlinear=one, starts=starts)
        else:
            structures = tuple(part.structure for part in parts)
            is_capped = any(part.weight_norm for part in parts)
            layers[name] = Layer(structures, isinstance(module, Parts), is_capped, tied_to, scheme, starts=starts)
        owners.setdefault(leaves, name)
    return layers


def rebuild_(
    model: nn.Module,
    layers: Mapping[str, Layer],
    operators: Callable[[str, int], Any],
    undo: list[Callable[[], object]],
) -> None:
    """Put structured layers in the place of a model's, by a recipe; those that are so stay, and get its schemes.

    Args:
        model: The model.
        layers: The recipe.
        operators: Gives the operator of a layer's name and the number of its part, with arrays.
        undo: Takes functions which, called last first, make the model what it was.

    Raises:
        ValueError: If the model has no such layer, one of another shape, or one that cannot be replaced.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    found = {one.name: one for one in find(model)}
    there = recipe_of(model)
    chosen: dict[bool, list[Swap]] = {False: [], True: []}
    fits: dict[str, Fit] = {}
    for name, layer in layers.items():
        module: Any = modules.get(name)
        if name in there and is_same(there[name], layer):
            parts = _parts_of(module)
            undo.append(partial(_draw_by, parts, *_drawn(parts)))
            _draw_by(parts, layer.scheme, layer.starts)
            continue
        if isinstance(module, Swapped):
            shape = (module.out_features, module.in_features)
            found[name] = Found(name, module, shape, module.bias is not None, lambda: False)
        one = require_fit(name, layer, found)
        chosen[layer.weight_norm].append(Swap(one, layer.operators, False, layer.tied_to, scheme=layer.scheme))
        if layer.tied_to is None:
            places = () if layer.nonlinear else range(len(layer.structures))
            built = tuple(operators(name, place) for place in places)
            fits[name] = Fit(built, ())
    for weight_norm, swaps in chosen.items():
        for name, new in put(model, swaps, weight_norm, fits, undo).items():
            _draw_by(_parts_of(new), layers[name].scheme, layers[name].starts)


def _parts_of(layer: Any) -> list[Any]:
    """The structured layers that one dense layer has become."""
    return list(layer) if isinstance(layer, Parts) else [layer]


def _drawn(parts: Sequence[Any]) -> tuple[str, tuple[dict[str, float], ...]]:
    """How the parts of a layer are drawn: the scheme, and factors on the scale of leaves if there are any."""
    starts = tuple(dict(part._starts) for part in parts)
    return next((part.scheme for part in parts), "mup"), starts if any(starts) else ()


def _draw_by(parts: Sequence[Any], scheme: str, starts: Sequence[dict[str, float]]) -> None:
    """Let the parts of a layer be drawn so from now on."""
    for part, factors in zip(parts, starts or [{}] * len(parts)):
        part.scheme, part._starts = scheme, dict(factors)
