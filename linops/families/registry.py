"""The families by name, and how a function becomes one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from inspect import Parameter, signature
from typing import Any, TypeVar, cast

from linops.families.declaration import Declaration, Instead
from linops.families.knob import Knob
from linops.operator import LinearOperator

Family = TypeVar("Family", bound=Callable[..., LinearOperator])

#: the families by name, for command lines and tables; `family` adds to them
FAMILIES: dict[str, Callable[..., LinearOperator]] = {}


def family(
    knob: Knob | None = None,
    *,
    plain: Mapping[str, int] | None = None,
    instead: Instead = lambda m, n: (),
    or_dense: bool = False,
    arrays: str = "",
) -> Callable[[Family], Family]:
    """Makes a function ``(out_features, in_features, **options) -> symbolic operator`` a family.

    The function is known by its name from then on: ``"mine:rank=2"`` is a structure, for `replace_linear_`, `members`
    and lists of structures. It gets sizes that are checked, the knob always as a number, and need check neither ranges
    nor cost. It names its options; those of whole numbers are annotated with `int`.

    A member that costs more than dense is refused, unless ``allow_dearer=True`` is among the options and given. Where
    nothing is asked for, the usual value is lowered until the member costs no more than dense; at sizes of a few
    numbers then come the members of `instead`, of `plain`, and dense.

    Args:
        knob: The option by which members are smaller or larger, if there is one.
        plain: The options of the member that is one dense matrix, if there is one.
        instead: (m, n) → further options to try where no value of the knob alone is as cheap as dense.
        or_dense: Whether a dense matrix is made at sizes where no member is as cheap and nothing is asked for.
        arrays: For errors: what makes such an operator of arrays.

    Returns:
        The decorator, which keeps the function's signature and types.

    Raises:
        TypeError: If the function takes no two sizes, has no option of the knob's name, or takes any options.
        ValueError: If another family has its name.

    Example:
        >>> import linops as lo
        >>> @family(Knob("rank", advice="lower the rank"))
        ... def thin(out_features: int, in_features: int, rank: int = 1, *, dtype="float32"):
        ...     return lo.low_rank(out_features, in_features, rank, dtype=dtype, allow_dearer=True)
        >>> thin(8, 8).num_params, [member.text for member in lo.families.members("thin", 8, 8)]
        (16, ['thin:rank=1', 'thin:rank=2', 'thin:rank=3', 'thin:rank=4'])
        >>> del FAMILIES["thin"]
    """

    def declare(function: Family) -> Family:
        declared = _declaration(function, knob, plain or {}, instead, or_dense, arrays)

        @wraps(function)
        def made(*args: Any, **options: Any) -> LinearOperator:
            return declared.member(args, options)

        other = FAMILIES.get(declared.name)
        if other is not None and (other.__module__, other.__qualname__) != (made.__module__, made.__qualname__):
            raise ValueError(f"family {declared.name!r}: {other.__module__}.{other.__qualname__} has that name")
        setattr(made, "declaration", declared)
        FAMILIES[declared.name] = made
        return cast(Family, made)

    return declare


def _declaration(
    function: Callable[..., LinearOperator],
    knob: Knob | None,
    plain: Mapping[str, int],
    instead: Instead,
    or_dense: bool,
    arrays: str,
) -> Declaration:
    """The declaration of a function, whose signature has a place for all that is declared."""
    name, found = function.__name__, signature(function)
    parameters = list(found.parameters.values())
    if any(one.kind in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL) for one in parameters):
        raise TypeError(f"family {name!r}: options must be named in the signature, got {found}")
    if len(parameters) < 2 or any(one.default is Parameter.empty for one in parameters[2:]):
        raise TypeError(f"family {name!r}: expected two sizes and options with defaults, got {found}")
    if knob is not None:
        if knob.name not in list(found.parameters)[2:]:
            raise TypeError(f"family {name!r}: no option {knob.name!r} in {found}")
        default = found.parameters[knob.name].default
        if knob.default is None and default is not None:
            knob = replace(knob, default=lambda m, n: default)
    return Declaration(name, function, knob, dict(plain), instead, or_dense, arrays, found)


def declaration_of(family: Any) -> Declaration | None:
    """What a family says of itself.

    Args:
        family: Its name, or what may be a family.

    Returns:
        The declaration, or None if it is no family.
    """
    return getattr(FAMILIES.get(family) if isinstance(family, str) else family, "declaration", None)
