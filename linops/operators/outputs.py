"""Which leaves of a composite act last, from those of its parts; see `LinearOperator._output_leaves`."""

from __future__ import annotations

from collections.abc import Iterable

from linops.operator import LinearOperator

#: operators with the names that the leaves below them are prefixed by
Named = Iterable[tuple[str, LinearOperator]]


def below(name: str, operator: LinearOperator) -> tuple[str, ...]:
    """The output leaves of a part."""
    return tuple([f"{name}_{leaf}" for leaf in operator._output_leaves()])


def first(named: Named) -> tuple[str, ...]:
    """Those of the first part that has some: in a product one zero factor is enough; two would have no gradient."""
    return next((found for name, operator in named if (found := below(name, operator))), ())


def every(named: Named) -> tuple[str, ...]:
    """Those of all parts, or none if one has none."""
    found = [below(name, operator) for name, operator in named]
    return sum(found, ()) if all(found) else ()


def numbered(field: str, operators: Iterable[LinearOperator]) -> list[tuple[str, LinearOperator]]:
    """Operators of a tuple, with their names."""
    return [(f"{field}_{number}", operator) for number, operator in enumerate(operators)]
