"""Which layers of a model are structured, and how: what is saved beside weights, so that they can be put back.

A recipe as plain data::

    {"version": 1, "structures": [{…}, …],
     "layers": {"blocks.0.fc": {"structures": [0]},
                "blocks.0.qkv": {"structures": [1, 1, 1], "parts": true},
                 "head": {"structures": [0], "weight_norm": true, "tied_to": "blocks.0.fc", "scheme": "orthogonal"},
                 "blocks.1.fc": {"structures": [2], "nonlinear": {"kind": "chain", "activation": "silu"}},
                 "blocks.1.proj": {"structures": [2], "starts": [{"U": 0.5}]}}}

Structures are as `linops.encoding` has them, each once. A scheme is one of `linops.scaling.SCHEMES`, by which the layer
is drawn anew; ``"mup"`` is left out. Starts are factors on the scale of leaves that are drawn, for each part: 0 of what
starts at zero. A recipe with layers that are no linear maps (`linops.nn.nonlinear`) is of version 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from sys import float_info
from typing import Any

import numpy as np

from linops.encoding import document, from_document
from linops.nn import nonlinear
from linops.nn.nonlinear import Nonlinear
from linops.scaling import SCHEMES
from linops.structure import Structure

VERSION = 2
_KEYS = {"structures", "parts", "weight_norm", "tied_to", "scheme", "nonlinear", "starts"}


@dataclass(frozen=True)
class Layer:
    """A structured layer.

    Attributes:
        structures: Those of its parts.
        parts: Whether it consists of parts; otherwise it has one structure.
        weight_norm: Whether it normalises its factors.
        tied_to: The layer before it that it shares its parameters with, or None.
        scheme: How it is drawn; see `LinearOperator.init`.
        nonlinear: What it computes over its one structure, if it is no linear map.
        starts: Of each part, factors on the scale of its leaves where they are drawn anew; nothing if all are 1.
    """

    structures: tuple[Structure, ...]
    parts: bool = False
    weight_norm: bool = False
    tied_to: str | None = None
    scheme: str = "mup"
    nonlinear: Nonlinear | None = None
    starts: tuple[dict[str, float], ...] = ()

    @property
    def operators(self) -> tuple[Any, ...]:
        """The symbolic operators of its parts; or what it computes, if it is no linear map."""
        return (self.nonlinear,) if self.nonlinear else tuple(one.operator for one in self.structures)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        shapes = [structure.operator.shape for structure in self.structures]
        return sum(m for m, _ in shapes), shapes[0][1]

    def __str__(self) -> str:
        if self.nonlinear is not None:
            return f"{self.nonlinear} {self.shape[0]}×{self.shape[1]}"
        return " over ".join(
            f"{type(one.operator).__name__}({one.operator._detail()}) {one.operator.shape[0]}×{one.operator.shape[1]}"
            for one in self.structures
        )


def as_document(
    layers: Mapping[str, Layer], keep: Callable[[np.ndarray], str | None] = lambda _: None
) -> dict[str, Any]:
    """A recipe as plain data.

    Args:
        layers: The layers by name.
        keep: Takes an index array, and says by which name it is kept elsewhere; None leaves it in there.

    Returns:
        Dicts, lists, texts and numbers.

    Raises:
        TypeError: If a structure holds a callable; the message names the layer.
    """
    places: dict[Structure, int] = {}
    structures: list[Any] = []
    records: dict[str, Any] = {}
    for name, layer in layers.items():
        for structure in layer.structures:
            if structure not in places:
                try:
                    structures.append(document(structure, keep))
                except TypeError as error:
                    raise TypeError(f"layer {name!r} cannot be saved: {error}") from None
                places[structure] = len(structures) - 1
        records[name] = {"structures": [places[structure] for structure in layer.structures]}
        records[name] |= {"parts": True} if layer.parts else {}
        records[name] |= {"weight_norm": True} if layer.weight_norm else {}
        records[name] |= {"tied_to": layer.tied_to} if layer.tied_to else {}
        records[name] |= {"scheme": layer.scheme} if layer.scheme != "mup" else {}
        records[name] |= {"starts": list(layer.starts)} if any(layer.starts) else {}
        if layer.nonlinear is not None:
            try:
                records[name]["nonlinear"] = {"kind": layer.nonlinear.kind, **layer.nonlinear.plain}
            except TypeError as error:
                raise TypeError(f"layer {name!r} cannot be saved: {error}") from None
    version = VERSION if any(layer.nonlinear for layer in layers.values()) else 1
    return {"version": version, "structures": structures, "layers": records}


def from_plain(given: Any, kept: Callable[[str], np.ndarray] | None = None) -> dict[str, Layer]:
    """The layers that plain data say.

    Args:
        given: From `as_document`, or from anyone: it is not trusted.
        kept: Gives the index arrays that are kept elsewhere, by name.

    Returns:
        The layers by name.

    Raises:
        ValueError: If it is no recipe.
    """
    version = given.get("version") if isinstance(given, dict) else None
    if type(version) is not int or not 1 <= version <= VERSION:
        raise ValueError(f"a recipe of version {version!r:.60}; this linops reads 1 to {VERSION}: install a newer one")
    documents, records = given.get("structures"), given.get("layers")
    if not isinstance(documents, list) or not isinstance(records, dict):
        raise ValueError("a recipe without structures or layers")
    structures = [from_document(one, kept) for one in documents]
    layers: dict[str, Layer] = {}
    for name, record in records.items():
        try:
            layers[name] = _layer(record, structures, layers)
        except (ValueError, TypeError) as error:
            raise ValueError(f"layer {name!r:.200} of the recipe: {error}") from None
    return layers


def _layer(record: Any, structures: list[Structure], before: Mapping[str, Layer]) -> Layer:
    if not isinstance(record, dict) or not record.keys() <= _KEYS:
        raise ValueError(f"{record!r:.100} says no layer")
    places, tied_to = record.get("structures"), record.get("tied_to")
    if not isinstance(places, list) or not places:
        raise ValueError("it has no structures")
    if not all(type(place) is int and 0 <= place < len(structures) for place in places):
        raise ValueError(f"structures {places!r:.60} are not among the {len(structures)}")
    parts, weight_norm = record.get("parts", False), record.get("weight_norm", False)
    scheme = record.get("scheme", "mup")
    if type(parts) is not bool or type(weight_norm) is not bool or (len(places) > 1 and not parts):
        raise ValueError(f"{record!r:.100} says no layer")
    if scheme not in SCHEMES:
        raise ValueError(f"scheme {scheme!r:.60} is none of {', '.join(map(repr, SCHEMES))}")
    said = record.get("nonlinear")
    found = None if said is None else nonlinear.from_plain(said, structures[places[0]])
    if found is not None and (parts or weight_norm):
        raise ValueError(f"{record!r:.100} says no layer")
    own = tuple(structures[place] for place in places)
    layer = Layer(own, parts, weight_norm, tied_to, scheme, found, _starts(record.get("starts", []), own))
    if parts and not all(one.operator.shape[0] for one in layer.structures):
        raise ValueError("it has parts without outputs")
    if len({one.operator.shape[1] for one in layer.structures}) > 1:
        raise ValueError(f"parts of {layer} have inputs of several sizes")
    if tied_to is not None and (not isinstance(tied_to, str) or tied_to not in before):
        raise ValueError(f"it is tied to {tied_to!r:.100}, which does not stand before it")
    other = layer if tied_to is None else before[tied_to]
    if (other.structures, other.nonlinear) != (layer.structures, layer.nonlinear):
        raise ValueError(f"it is tied to {tied_to!r:.100}, which has another structure")
    return layer


def _starts(given: Any, structures: tuple[Structure, ...]) -> tuple[dict[str, float], ...]:
    """The factors on the scale of leaves that plain data say, of each part."""
    if given == []:
        return ()
    if not isinstance(given, list) or len(given) != len(structures):
        raise ValueError(f"starts {given!r:.100} are not of {len(structures)} parts")
    for one, structure in zip(given, structures):
        if not isinstance(one, dict) or not one.keys() <= set(structure.names):
            raise ValueError(f"starts {one!r:.100} are not of leaves {', '.join(structure.names)}")
        if not all(type(factor) in (int, float) and 0 <= factor <= float_info.max for factor in one.values()):
            raise ValueError(f"starts {one!r:.100} are no factors")
    return tuple({name: float(factor) for name, factor in one.items()} for one in given)
