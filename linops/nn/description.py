"""What an estimate knows of a model: its layers as shapes, without arrays and without a framework."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from linops.families import dense
from linops.nn.members import build
from linops.nn.patterns import Pattern, choose, matches
from linops.operator import LinearOperator

#: the structure that stands for leaving layers as they are
DENSE = "dense"


@dataclass(frozen=True)
class Part:
    """A layer of a model, or one for each of several blocks. Numbers of activations are those of a token.

    Attributes:
        name: Its dotted name.
        operator: That of a linear layer.
        bias: Whether the linear layer has one.
        shapes: Of its other parameters.
        vectors: How many vectors it multiplies, a token.
        saved: Numbers that are kept for the backward pass beside what the operator keeps.
        singles: The same, always in float32.
        flops: FLOPs forward beside the operator's.
        moved: Numbers read and written forward beside the operator's.
        style: How a linear layer is divided among ranks; see `lo.nn.communication`. Empty: it is not.
        shares: Whether another layer keeps the vectors that the operator multiplies.
        follows: Whether what it computes beside its operator is divided as features are.
        groups: What ranks must divide for that, as heads.
        kept: Numbers that are kept in all, where they were counted; for one rank of the model's axis.
        block: The block that it stands in, or empty.
        sends: The numbers that ranks of the model's axis sum, forward and backward, beside the operator's.
        tied: Whether its weight is another layer's, whose parameters are counted there.
    """

    name: str
    operator: LinearOperator | None = None
    bias: bool = False
    shapes: tuple[tuple[int, ...], ...] = ()
    vectors: float = 1
    saved: int = 0
    singles: int = 0
    flops: float = 0
    moved: float = 0
    style: str = "whole"
    shares: bool = False
    follows: bool = False
    groups: int = 0
    kept: float | None = None
    block: str = ""
    sends: int = 0
    tied: bool = False


@dataclass(frozen=True)
class Description:
    """A model as its layers.

    Attributes:
        name: What it is.
        parts: Its layers; those of a block stand for every block of that name.
        blocks: How many blocks there are, by name.
        carried: The numbers, a token, that enter a block, by name.
        tokens: Of an example.
        unit: What `tokens` counts.
    """

    name: str
    parts: tuple[Part, ...]
    blocks: Mapping[str, int]
    carried: Mapping[str, int]
    tokens: int = 1
    unit: str = "vectors"

    def count(self, part: Part) -> int:
        """How many layers a part stands for."""
        return self.blocks[part.block] if part.block else 1

    def swapped(self, family: Any, where: Pattern | None, exclude: Pattern | None) -> Description:
        """The description with structures in the place of dense layers.

        Args:
            family: A function ``(out_features, in_features) -> operator``.
            where: Which layers; None means all.
            exclude: Which of these to leave.

        Returns:
            The new description.

        Raises:
            ValueError: If no layer is selected, or a family refuses one.
        """
        chosen = [
            part.operator is not None and not part.tied and choose(part.name, None, family, where, exclude)
            for part in self.parts
        ]
        if not any(chosen):
            names = ", ".join([part.name for part in self.parts if part.operator is not None])
            raise ValueError(f"{self.name}: no layer to be replaced is selected by where={where!r}, of {names}")
        parts = [
            replace(part, operator=build(one, *part.operator.shape, {}, part.name)) if one and part.operator else part
            for part, one in zip(self.parts, chosen)
        ]
        return replace(self, parts=tuple(parts))

    def styled(self, styles: Mapping[str, str]) -> Description:
        """The description with other styles of division.

        Args:
            styles: By patterns of names.

        Returns:
            The new description.
        """

        def style(part: Part) -> str:
            return next((one for pattern, one in styles.items() if matches(pattern, part.name)), part.style)

        return replace(self, parts=tuple([replace(part, style=style(part)) for part in self.parts]))


def of_operators(layers: Mapping[str, Any] | Iterable[Any] | LinearOperator) -> Description:
    """A description of linear layers alone.

    Args:
        layers: Operators, or (out_features, in_features) of dense layers; by name, or in a list.

    Returns:
        The description.

    Raises:
        TypeError: If one is neither.
        ValueError: If there is none.
    """
    named = (
        {"0": layers}
        if isinstance(layers, LinearOperator)
        else dict(layers)
        if isinstance(layers, Mapping)
        else {str(number): layer for number, layer in enumerate(layers)}
    )
    if not named:
        raise ValueError("estimate: a list without layers")
    return Description("layers", tuple([Part(name, _operator(name, one)) for name, one in named.items()]), {}, {})


def _operator(name: str, given: Any) -> LinearOperator:
    if isinstance(given, LinearOperator):
        return given
    if isinstance(given, tuple) and len(given) == 2 and all(isinstance(size, int) for size in given):
        return dense(*given)
    raise TypeError(f"layer {name!r}: expected an operator or (out_features, in_features), got {given!r:.60}")
