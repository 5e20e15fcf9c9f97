"""Members of families for the layers of a model, with errors that name the layer. Needs no framework."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from linops.families import FAMILIES
from linops.families.choice import structured
from linops.families.text import parse
from linops.nn import nonlinear_text
from linops.nn.nonlinear import Nonlinear
from linops.operator import LinearOperator


def named(family: Any, others: tuple[str, ...] = ()) -> Any:
    """Families in the place of their names.

    Args:
        family: A name, with options or without (``"btt"``, ``"btt:rank=2"``), also of what is no linear map
            (``"chain"``), a function, None, or a dict with such values.
        others: As of `linops.families.text.parse`.

    Returns:
        The same with functions for names.

    Raises:
        ValueError: If there is no family of that name, or an option is malformed.

    Example:
        >>> named({"*.head": None, "*": "btt:rank=2"})["*"]
        Variant(text='btt:rank=2', family='btt', options={'rank': 2})
    """
    if isinstance(family, Mapping):
        return {key: named(value, others) for key, value in family.items()}
    if not isinstance(family, str):
        return family
    if nonlinear_text.is_nonlinear(family):
        return nonlinear_text.parse(family)
    found = parse(family, others)
    return found if ":" in family else FAMILIES[found.family]


def require_operator(layer: str, operator: Any, bias: Any = True) -> None:
    """Raise unless a layer is given an operator, and whether it has a bias.

    Args:
        layer: The layer's class.
        operator: What it was given.
        bias: Whether it has a bias.

    Raises:
        TypeError: If it is no operator, or the bias neither True nor False.
    """
    if not isinstance(operator, LinearOperator):
        raise TypeError(
            f"{layer}({operator!r:.40}): expected an operator, as in {layer}(lo.btt(out_features, in_features))"
        )
    if not isinstance(bias, (bool, np.bool_)):
        raise TypeError(
            f"{layer}(bias={type(bias).__name__}): expected True or False; copy a bias that there is into layer.bias"
        )


def build(family: Any, out_features: int, in_features: int, options: Mapping[str, Any], name: str) -> LinearOperator:
    """The operator of a family for one layer.

    Args:
        family: A function ``(out_features, in_features, **options) -> symbolic operator``. One of `linops.families`
            must have a member that costs no more than dense and is not one dense matrix itself.
        out_features: m.
        in_features: n.
        options: The family's options.
        name: The layer's path, for errors.

    Returns:
        An operator of shape (m, n).

    Raises:
        ValueError: If the family refuses the sizes, or its operator has another shape.
        TypeError: If the family does not take the options, or returns no operator, but what is no linear map.

    Example:
        >>> build(named("low_rank"), 8, 4, {"rank": 1}, "fc").num_params
        12
    """
    operator = build_any(family, out_features, in_features, options, name)
    if isinstance(operator, Nonlinear):
        raise TypeError(
            f"layer {name!r}: {operator.kind} is no linear map, and this needs an operator; lo.nn.replace_linear_ "
            "makes layers of it, with weights that are drawn"
        )
    return operator


def build_any(
    family: Any, out_features: int, in_features: int, options: Mapping[str, Any], name: str
) -> LinearOperator | Nonlinear:
    """What a family, or a function of sizes that makes what is no linear map, has for one layer.

    Args:
        family: As for `build`, or a function ``(out_features, in_features, **options) -> Nonlinear``.
        out_features: m.
        in_features: n.
        options: The family's options.
        name: The layer's path, for errors.

    Returns:
        An operator of shape (m, n), or what is none.

    Raises:
        ValueError: As `build`.
        TypeError: If the family does not take the options, or returns neither.
    """
    try:
        operator = structured(family, out_features, in_features, **options)
    except (TypeError, ValueError) as error:
        raise type(error)(f"layer {name!r} ({out_features}×{in_features}): {error}") from error
    if not isinstance(operator, LinearOperator | Nonlinear):
        raise TypeError(f"layer {name!r}: the family returned {operator!r}, which is no operator")
    if operator.shape != (out_features, in_features):
        what = operator if isinstance(operator, Nonlinear) else operator._short()
        raise ValueError(f"layer {name!r}: the family returned {what}, expected {out_features}×{in_features}")
    return operator
