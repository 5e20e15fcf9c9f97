"""What a divided operator sends in a step, known before anything runs: bytes a rank, by collective."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from operator import index
from typing import Any

from linops.nn.columns import aligned
from linops.operator import LinearOperator
from linops.sharding import SHARDED, WHOLE, Division, division
from linops.specs import numpy_dtype

STYLES = {
    "whole": (WHOLE, WHOLE),
    "colwise": (WHOLE, SHARDED),
    "rowwise": (SHARDED, WHOLE),
    "sharded": (SHARDED, SHARDED),
}


@dataclass(frozen=True, eq=False)
class Communication(Mapping[str, int]):
    """Bytes that a rank sends in a step, by collective, as ring algorithms do; forward and backward together.

    Attributes:
        forward: Those of the forward pass.
        backward: Those of the backward pass, in which the operand has a gradient too.
    """

    forward: Mapping[str, int] = field(default_factory=dict)
    backward: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, collective: str) -> int:
        if collective not in self.forward and collective not in self.backward:
            raise KeyError(collective)
        return self.forward.get(collective, 0) + self.backward.get(collective, 0)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self.forward, *self.backward}))

    def __len__(self) -> int:
        return len({*self.forward, *self.backward})

    @property
    def total(self) -> int:
        """All bytes."""
        return sum(self.values())

    def __add__(self, other: Communication) -> Communication:
        forward, backward = Counter(self.forward), Counter(self.backward)
        forward.update(other.forward)
        backward.update(other.backward)
        return Communication(dict(forward), dict(backward))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Communication):
            return self.forward == other.forward and self.backward == other.backward
        return dict(self) == other

    __hash__ = None

    def __str__(self) -> str:
        lines = [("collective", "forward", "backward")]
        lines += [(name, f"{self.forward.get(name, 0):,}", f"{self.backward.get(name, 0):,}") for name in self]
        lines.append(("bytes a rank", f"{sum(self.forward.values()):,}", f"{sum(self.backward.values()):,}"))
        return aligned(lines)


def communication(operator: Any, ranks: Any, batch: int = 1, *, style: Any = None, dtype: Any = None) -> Communication:
    """The bytes that each rank sends for a product with an operator that is divided among ranks, and its gradients.

    Args:
        operator: Any operator; a PyTorch model with structured layers, as it is or divided; or a model of Flax or
            Equinox, whose layers that are stacked count once a copy.
        ranks: How many ranks, or a mesh of one axis.
        batch: How many vectors are multiplied, all ranks together; of a model, how many reach each layer.
        style: What each rank has of the vectors that go in and come out: ``"whole"`` (all features of both),
            ``"colwise"`` (all, then its share), ``"rowwise"`` (its share, then all) or ``"sharded"`` (its share of
            both). None is ``"whole"``; of a model it may be what `lo.nn.parallelize_` or `lo.nn.shardings` takes.
        dtype: That of an operator's vectors; None takes that of the operator. Layers have that of their parameters.

    Returns:
        Bytes by collective; nothing, for an operator that each rank holds and runs whole.

    Raises:
        TypeError: If it is neither operator nor model.
        ValueError: If there is no such style, or features cannot be shared equally.

    Example:
        >>> import linops as lo
        >>> print(communication(lo.btt(4096, 4096), 8, batch=1024, style="sharded"))
        collective      forward   backward
        all_to_all    1,835,008  1,835,008
        bytes a rank  1,835,008  1,835,008
    """
    count = size_of(ranks)
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 0:
        raise ValueError(f"communication(batch={batch!r}): expected how many vectors there are")
    if not isinstance(operator, LinearOperator):
        found = _divisions(operator, count, style)
        if not len(found):
            got = type(operator).__name__
            raise TypeError(f"communication({got}): expected an operator, or a model with structured layers")
        return found.communication(batch)
    found = division(operator, count, *ends("whole" if style is None else style))
    return of_division(found, batch, numpy_dtype(dtype or operator.dtype or "float32").itemsize)


def _divisions(model: Any, ranks: int, style: Any) -> Any:
    """How the layers of a model are divided."""
    if hasattr(model, "named_modules"):
        return import_module("linops.nn.torch.parallel").divisions(model, ranks, style)
    return import_module("linops.nn.jax_sharding").divisions(model, ranks, style) if "jax" in sys.modules else ()


def of_division(found: Division, batch: int, itemsize: int) -> Communication:
    """The bytes of a division.

    Args:
        found: The division.
        batch: How many vectors are multiplied.
        itemsize: The bytes of a number.

    Returns:
        Bytes by collective.
    """
    counted: dict[str, Counter[str]] = {"forward": Counter(), "backward": Counter()}
    for when, collective, numbers in found.sent(batch):
        counted[when][collective] += round(numbers * itemsize)
    return Communication(dict(counted["forward"]), dict(counted["backward"]))


def ends(style: str) -> tuple[str, str]:
    """What a style says of the vectors that go in, and come out.

    Args:
        style: Its name.

    Returns:
        ``"whole"`` or ``"sharded"``, twice.

    Raises:
        TypeError: If it is no name.
        ValueError: If there is none of that name.
    """
    if not isinstance(style, str):
        got = type(style).__name__
        raise TypeError(f"style: expected one of {', '.join(STYLES)}, got {got}; patterns are for models")
    if style not in STYLES:
        raise ValueError(f"style {style!r}: expected one of {', '.join(STYLES)}")
    return STYLES[style]


def size_of(ranks: Any) -> int:
    """How many ranks there are.

    Args:
        ranks: A number, or a mesh of torch or JAX.

    Returns:
        The number.

    Raises:
        TypeError: If it is none of these.
        ValueError: If there is not one at least, or a mesh has several axes.
    """
    if isinstance(ranks, bool):
        raise TypeError("ranks: expected a number or a mesh, got bool")
    try:
        size = index(ranks)
    except TypeError:
        size = _size_of_mesh(ranks)
    if size < 1:
        raise ValueError(f"ranks: expected at least one, got {size}")
    return size


def _size_of_mesh(mesh: Any) -> int:
    names = getattr(mesh, "mesh_dim_names", None) or getattr(mesh, "axis_names", ())
    if len(names) > 1:
        raise ValueError(
            f"ranks: the mesh has the axes {tuple(names)}; give the size of the one that divides the structure"
        )
    size = getattr(mesh, "size", None)  # of a mesh of torch it is a method, of JAX a number
    size = size() if callable(size) else size
    if not isinstance(size, int):
        raise TypeError(f"ranks: expected a number or a mesh, got {type(mesh).__name__}")
    return size
