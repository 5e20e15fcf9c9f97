"""What there is to choose from: a family's size parameter, its members at a shape, and what is worth having."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from linops.families.declaration import Declaration, flops_a_vector
from linops.families.knob import Knob
from linops.families.registry import declaration_of
from linops.families.text import Variant, parse
from linops.operator import LinearOperator


def knob_of(family: str | Callable[..., LinearOperator]) -> Knob | None:
    """The size parameter of a family: its name, its range, and whether members grow with it.

    Args:
        family: The family, or its name.

    Returns:
        The parameter, or None if the family has a single member of each shape.

    Raises:
        ValueError: If it is no family.

    Example:
        >>> knob = knob_of("monarch")
        >>> knob.name, knob.least, knob.most(64, 48), knob.usual(64, 48), knob.grows
        ('blocks', 1, 48, 4, False)
    """
    return _declared(family).knob


def members(family: str, out_features: int, in_features: int) -> list[Variant]:
    """The members of a family at a shape that are worth a look, from the cheapest to the dearest.

    The family's size parameter takes the values 1, 2, 3, 4, 6, 8, 12 … and the ends of its range, but for those at
    which padding costs more than is won. None of the members costs more than dense, and none is one dense matrix. At
    sizes of a few numbers, where no value is as cheap as that, the family's default may still be, by other options.

    Args:
        family: Its name, with other options or without, as in ``"btt:cores=3"``.
        out_features: m.
        in_features: n.

    Returns:
        Structures: each has its ``text``, such as ``"btt:rank=2"``, and makes the operator of any shape, as a family
        does. The only one of a family without such a parameter; none if all cost more than dense.

    Raises:
        ValueError: If it is no family, has no such option, or an option or a size is out of range.

    Example:
        >>> [member.text for member in members("btt", 64, 64)]
        ['btt:rank=1', 'btt:rank=2', 'btt:rank=3', 'btt:rank=4']
        >>> [(member.text, member(8, 8).num_params) for member in members("monarch", 8, 8)]
        [('monarch:blocks=8', 16), ('monarch:blocks=4', 32), ('monarch:blocks=3', 54), ('monarch:blocks=2', 64)]
    """
    structure = parse(family)
    declared = _declared(structure.family)
    found = [
        one
        for flops, one in _climb(declared, structure, out_features, in_features)
        if flops <= 2 * out_features * in_features and not declared.is_plain(one.options)
    ]
    plain = declared.is_plain(structure.options)
    if not found and declared.knob is not None and declared.knob.name not in structure.options and not plain:
        with suppress(ValueError):  # the default adapts its other options too
            structured(structure, out_features, in_features)
            return [structure]
    return found if declared.knob is None or declared.knob.grows else found[::-1]


def _climb(declared: Declaration, structure: Variant, m: int, n: int) -> Iterator[tuple[int, Variant]]:
    """The structures of the knob's values that are worth a look, in ascending order, with their FLOPs a vector."""
    knob, last = declared.knob, None
    if knob is None or knob.name in structure.options:
        yield flops_a_vector(declared.any_member(m, n, structure.options)), structure
        return
    for value in knob.ladder(m, n):
        one = Variant(
            f"{structure.text}:{knob.name}={value}", structure.family, {**structure.options, knob.name: value}
        )
        flops = flops_a_vector(declared.any_member(m, n, one.options))
        if knob.grows and flops > 2 * m * n:
            return
        if last is None or (flops > last if knob.grows else flops < last):
            yield flops, one
            last = flops
        elif knob.most is None:
            return  # larger values change nothing more


def structured(family: Any, out_features: int, in_features: int, **options: Any) -> Any:
    """A member that is worth having in the place of a dense matrix.

    Args:
        family: A family, a structure, or any function ``(out_features, in_features, **options)``.
        out_features: m.
        in_features: n.
        **options: The family's options.

    Returns:
        What the function returns.

    Raises:
        TypeError: If an option is unknown or given twice.
        ValueError: If a family has no member there that costs as little as dense and is not one dense matrix itself.

    Example:
        >>> import linops as lo
        >>> structured(lo.block_diag, 3, 64).num_params
        66
        >>> structured(lo.block_diag, 1, 64)
        Traceback (most recent call last):
        ...
        ValueError: block_diag(1, 64): the member is a dense matrix; use lo.dense, or pass blocks=1
    """
    if isinstance(family, Variant):
        if twice := family.options.keys() & options.keys():
            raise TypeError(f"structure {family.text!r}: got {', '.join(sorted(twice))} as an option too")
        family, options = family.family, {**family.options, **options}
    declared = declaration_of(family)
    if declared is None:
        return family(out_features, in_features, **options)
    return declared.member((out_features, in_features), options, structured=True)


def _declared(family: Any) -> Declaration:
    """The declaration of what must be a family."""
    declared = declaration_of(parse(family).family if isinstance(family, str) else family)
    if declared is None:
        raise ValueError(f"knob_of({family!r}): no family; make it one by lo.families.family")
    return declared
