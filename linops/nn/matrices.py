"""Which arrays of a model are matrices, and of what shape: the one place that says so, for every framework. Needs none.

An array is described by its *layout*, the names of its axes: ``"out in"`` is the weight of a `torch.nn.Linear`,
``"in out"`` the kernel of Flax, ``"out in in"`` that of a convolution over one axis. An output sums over the axes
``in``, and an input reaches the axes ``out``. Axes of any other name count copies: ``"expert out in"`` is a batch of
matrices, ``"position out"`` one of vectors. Axes before those of the layout count copies too, as of layers stacked for
`jax.lax.scan`. An array with no ``in`` is a vector, or a scalar: it gets the rate of vectors, no decay, and never Muon;
except that ``"token out"``, an embedding, is decayed.

The layouts of arrays in a framework's own modules are with that framework. Arrays in other modules are known by their
names, if at all; what is left is unknown: rates treat it as a vector, and say so once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from linops.nn.patterns import matches

VECTOR, EMBEDDING = "out", "token out"

#: the last words of the names of arrays that multiply no activations, whatever their axes: biases, scales, learned
#: tokens, positions
_VECTORS = re.compile(
    "bias(es)?|scales?|gains?|gamma|beta|alpha|temperature|tokens?|query|queries|latents?|prompts?|probe|registers?"
    "|pos|positions?|rel|emb(ed|eds|edding|eddings)?|enc|encoding|logs?"
)
#: words that may follow those
_AFTER = re.compile("table|const|param|parameter|win|window|spatial|temporal|[xyhwuvkq]?")
_EXPERTS = re.compile(r"expert|moe|mixture", re.IGNORECASE)
_ROUTERS = re.compile(r"router|gate$", re.IGNORECASE)


def by_name(path: str, key: str, layer: Any, size: tuple[int, ...], experts: str = "expert out in") -> str | None:
    """The layout of an array of a module that is not a framework's own, as far as its names and shape tell.

    Args:
        path: The dotted name of its layer.
        key: Its name there.
        layer: The layer, whose attributes ``in_features`` and ``out_features``, or ``is_transposed``, are heeded.
        size: Its shape.
        experts: The layout of batches of matrices, one an expert.

    Returns:
        A layout, or None if it is unknown.

    Example:
        >>> by_name("blocks.0", "pos_embed", None, (1, 17, 64)), by_name("moe.experts", "up", None, (8, 64, 16))
        ('out', 'expert out in')
        >>> by_name("mixer", "A_log", None, (64, 16)), by_name("mixer", "kernel_2", None, (64, 16))
        ('out', None)
    """
    lengths = [length for length in size if length != 1]
    if len(lengths) < 2 or (size[0] == 1 and len(size) > 2):  # (64, 1, 1) and (1, 17, 64) are broadcast
        return VECTOR
    words = [word.rstrip("0123456789") for word in key.lower().split("_")]
    while len(words) > 1 and _AFTER.fullmatch(words[-1]):
        words.pop()
    if _VECTORS.fullmatch(words[-1]):
        return VECTOR
    sizes = getattr(layer, "out_features", None), getattr(layer, "in_features", None)
    if size[-2:] in (sizes, sizes[::-1]):
        return "out in" if size[-2:] == sizes else "in out"
    kind = type(layer).__name__
    if len(size) == 3 and _EXPERTS.search(f"{path}.{key}.{kind}"):
        return "expert in out" if getattr(layer, "is_transposed", kind == "Llama4TextExperts") else experts
    if len(size) == 2 and key == "weight" and _ROUTERS.search(kind):
        return "out in"
    return None


def told(matrices: Mapping[Any, str | None] | None, name: str, layer: Any, size: tuple[int, ...]) -> str | None:
    """What the caller says of an array.

    Args:
        matrices: A dict of patterns over the names of arrays to layouts, of which the first match wins; None for what
            is no matrix.
        name: The dotted name of the array.
        layer: Its layer, for predicates.
        size: Its shape.

    Returns:
        A layout, or None if no pattern matches.

    Raises:
        TypeError: If a layout is no string.
        ValueError: If the array has fewer axes.

    Example:
        >>> matrices = {"*.w1": "expert in out", "*.table": None}
        >>> told(matrices, "moe.w1", None, (4, 8, 8)), told(matrices, "moe.table", None, (8, 8))
        ('expert in out', 'out')
        >>> told(matrices, "up", None, (8, 8))  # no pattern matches
    """
    for pattern, layout in (matrices or {}).items():
        if matches(pattern, name, layer):
            if not (layout is None or isinstance(layout, str)):
                raise TypeError(
                    f"matrices={{{pattern!r}: {layout!r}}}: expected the names of axes, such as 'out in', or None"
                )
            if layout and len(layout.split()) > len(size):
                raise ValueError(f"matrices={{{pattern!r}: {layout!r}}}: {name} {size} has too few axes")
            return layout or vector(size)
    return None


def vector(size: tuple[int, ...]) -> str:
    """The layout of a vector, or of a scalar.

    Args:
        size: Its shape.

    Returns:
        A layout.
    """
    return VECTOR if size else ""


def axes(layout: str, size: tuple[int, ...]) -> dict[str, int]:
    """How many numbers there are along the axes of each name.

    Args:
        layout: The names of the last axes.
        size: The shape.

    Returns:
        A dict from names to sizes.

    Example:
        >>> axes("out in in", (8, 3, 5, 5))  # eight copies
        {'out': 3, 'in': 25}
    """
    names = layout.split()
    found: dict[str, int] = {}
    for name, length in zip(names, size[len(size) - len(names) :]):
        found[name] = found.get(name, 1) * length
    return found


def is_matrix(layout: str) -> bool:
    """Whether the last two axes of an array are a matrix, which Muon can orthogonalise, and the rest are copies.

    Args:
        layout: The names of its last axes.

    Returns:
        True or False.

    Example:
        >>> is_matrix("expert in out"), is_matrix("out in in")
        (True, False)
    """
    names = layout.split()
    return sorted(names[-2:]) == ["in", "out"] and not {"in", "out"} & set(names[:-2])
