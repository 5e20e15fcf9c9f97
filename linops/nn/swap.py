"""What `replace_linear` does in every framework: choose layers, build their operators, report. Needs no framework."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from linops.families.text import NONLINEAR
from linops.nn.members import build_any, named
from linops.nn.nonlinear import Nonlinear
from linops.nn.obstacles import Obstacle, brief, refuse, warn
from linops.nn.patterns import choose, matches, selects, warn_of_astray
from linops.nn.report import Left, Report, Row
from linops.operator import LinearOperator
from linops.plan import natural_order
from linops.scaling import fans, initial_std, require_scheme

#: what becomes of weights: drawn anew, or the nearest to those that are there
WEIGHTS = ("init", "project")
#: what becomes of a layer's own initial scale
SCALES = ("keep", "structure")
#: a weight below this share of the usual initial ones is small on purpose
REDUCED = 0.8


@dataclass(frozen=True)
class Found:
    """A dense layer in a model.

    Attributes:
        name: Its dotted path.
        layer: The layer.
        shape: (out_features, in_features); unused if there is an obstacle.
        bias: Whether it has one.
        is_zero: Says whether its weight is all zero.
        obstacle: Why it cannot be replaced, or the reason alone, as "has its own precision, which would be lost"; or
            None.
        tied: The names of the other layers that hold its weight, where they can share the new parameters.
        stds: Says the root mean square of its weight, and that of such a layer as its framework starts it; None where
            numbers cannot be seen.
    """

    name: str
    layer: Any
    shape: tuple[int, int]
    bias: bool
    is_zero: Callable[[], bool]
    obstacle: Obstacle | str | None = None
    tied: frozenset[str] = frozenset()
    stds: Callable[[], tuple[float, float] | None] = lambda: None


@dataclass(frozen=True)
class Swap:
    """A layer to be replaced, and the symbolic operators that it gets, or what is no linear map.

    Attributes:
        found: The layer.
        operators: The operators, one for each part of the output; or one `Nonlinear`.
        zero_init: Whether the new layer starts at zero.
        tied_to: The first layer replaced that holds the same weight, if this is not the first.
        own_scale: The root mean square of the layer's weight over the framework's usual one, where a new one is drawn.
        start: The factor on the initial scale of the leaves nearest the output, by which the layer's own is kept.
        scheme: How the new layer is drawn; see `LinearOperator.init`.
    """

    found: Found
    operators: tuple[Any, ...]
    zero_init: bool
    tied_to: str | None = None
    own_scale: float | None = None
    start: float = 1.0
    scheme: str = "mup"

    def starts(self, operator: LinearOperator | Nonlinear) -> dict[str, float]:
        """The factors on the initial scale of leaves of one of the operators."""
        return dict.fromkeys(operator._output_leaves(), self.start) if self.start != 1 else {}


def plan(
    layers: Iterable[Found],
    family: Any,
    where: Any,
    exclude: Any,
    weights: str,
    zero: Any,
    options: Mapping[str, Any],
    parts: Mapping[Any, Any] | None = None,
    scale: str = "structure",
    scheme: str = "mup",
    weight_norm: bool = False,
) -> tuple[list[Swap], dict[str, Obstacle]]:
    """What `replace_linear` is to do with the dense layers of a model.

    Args:
        layers: The dense layers.
        family: A family, its name, or None if `where` is a dict.
        where: Which layers; see `linops.nn.patterns`.
        exclude: Which of these to leave.
        weights: ``"init"`` or ``"project"``.
        zero: Which layers start at zero; None takes those that are zero.
        options: The family's options.
        parts: Patterns to the number of equal parts of a layer's output, or their sizes.
        scale: ``"keep"`` or ``"structure"``, where weights are drawn.
        scheme: How they are drawn, and are whenever layers are drawn anew; see `LinearOperator.init`.
        weight_norm: Whether the new layers are to normalise their factors.

    Returns:
        The swaps, and why layers were left alone by name.

    Raises:
        ValueError: If a family refuses a layer that `where` selects, or all; such a layer has another obstacle, or any
            has one that is fatal; or parts do not fit.
        TypeError: If a pattern or family is of no such kind.

    Warns:
        UserWarning: If layers are left alone for a reason, once for each kind of reason; if there is nothing to
        replace; if those of `exclude` or `zero` match no layer, or one of a dict does.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"replace_linear(weights={weights!r}): expected {' or '.join(map(repr, WEIGHTS))}")
    if scale not in SCALES:
        raise ValueError(f"replace_linear(scale={scale!r}): expected {' or '.join(map(repr, SCALES))}")
    require_scheme("replace_linear", scheme)
    if parts is not None and not isinstance(parts, Mapping):
        raise TypeError(
            f"replace_linear(parts={parts!r}): expected a dict of pattern to a number or sizes, as in {{'*.c_attn': 3}}"
        )
    family, given = named(family, NONLINEAR), where
    where = named(where, NONLINEAR) if isinstance(where, Mapping) else where
    found = {layer.name: layer for layer in layers}
    wanted = {
        name: choice for name, one in found.items() if (choice := choose(name, one.layer, family, where, exclude))
    }
    selected = {name for name in wanted if selects(where, name, found[name].layer)}
    sizes: dict[str, list[int]] = {}
    for name in wanted:
        if any(found[name].shape):
            sizes[name] = _sizes(parts or {}, name, found[name].layer, found[name].shape[0])
    allowed = wanted if weights == "project" else selected
    skipped = {
        name: one
        for name in wanted
        if (one := _obstacle(found[name], found, wanted, sizes)) and not (one.soft and name in allowed)
    }
    refuse(skipped, selected)
    swaps: list[Swap] = []
    refusal: ValueError | None = None
    for name in (name for name in wanted if name not in skipped):
        layer, into = found[name].layer, found[name].shape[1]
        try:
            operators = tuple(build_any(wanted[name], size, into, options, name) for size in sizes[name])
        except ValueError as error:
            if name in selected or error.__cause__ is None:
                raise
            skipped[name] = Obstacle(f"is refused by its family: {error.__cause__}", kind="refused by its family")
            refusal = refusal or error
            continue
        _require_possible(name, operators, weights, weight_norm, scheme)
        zero_init = found[name].is_zero() if zero is None else matches(zero, name, layer)
        tied_to = next((swap.found.name for swap in swaps if swap.found.name in found[name].tied), None)
        swap = Swap(found[name], operators, zero_init, tied_to, scheme=scheme)
        swaps.append(_scaled(swap, scale) if weights == "init" and not zero_init else swap)
    if refusal and not swaps:
        raise refusal
    # an attention speaks for its projections
    warn({name: one for name, one in skipped.items() if name.rpartition(".")[0] not in skipped}, stacklevel=3)
    if not swaps:
        _warn_of_nothing(given, found, wanted)
    else:
        warn_of_astray("replace_linear", found, "left no layer", stacklevel=3, exclude=exclude)
        rest = {"zero": zero, "parts": parts, "where": _families(given)}
        warn_of_astray("replace_linear", found, "met no layer", stacklevel=3, **rest)
    return swaps, skipped


def _require_possible(name: str, operators: Sequence[Any], weights: str, weight_norm: bool, scheme: str) -> None:
    """Raise where a structure that is no linear map is asked for what needs an operator."""
    one = next((one for one in operators if isinstance(one, Nonlinear)), None)
    asked = {"weights='project'": weights == "project", "parts=": len(operators) > 1, "weight_norm=True": weight_norm}
    asked[f"scheme={scheme!r}"] = scheme != "mup"
    if one is not None and any(asked.values()):
        what = next(name for name, is_asked in asked.items() if is_asked)
        raise ValueError(f"layer {name!r}: {one.kind} is no linear map, which {what} needs; replace it without")


def _scaled(swap: Swap, scale: str) -> Swap:
    """The swap with the scale that its layer has, relative to how its framework starts it, and what is kept of it."""
    own, usual = swap.found.stds() or (0.0, 0.0)
    if not (own and usual):
        return swap
    # clearly smaller than that, and than the structures' rule has a dense layer
    reduced = own < REDUCED * min(usual, initial_std(*swap.found.shape[::-1]))
    keeps = reduced and scale == "keep" and all(operator._output_leaves() for operator in swap.operators)
    return replace(swap, own_scale=own / usual, start=own / usual if keeps else 1.0)


def _families(where: Any) -> dict[Any, Any]:
    """The patterns of a dict that give a family."""
    return {pattern: one for pattern, one in where.items() if one is not None} if isinstance(where, Mapping) else {}


def _warn_of_nothing(where: Any, found: Mapping[str, Found], wanted: Mapping[str, Any]) -> None:
    """Warn that no layer is replaced, with the names that could have been meant."""
    if not found:
        why = "the model has no linear layer"
    elif wanted:
        why = f"the {len(wanted)} that are selected cannot be"
    else:
        patterns = (
            where if isinstance(where, (str, list, tuple, set)) else list(where) if isinstance(where, Mapping) else None
        )
        chosen = "none is selected" if patterns is None else f"where={patterns!r} matches none"
        why = f"{chosen} of the model's {len(found)}, {brief(found)}; patterns are globs over the whole path"
    warnings.warn(f"replace_linear replaced no layer: {why}", stacklevel=4)


def _obstacle(
    one: Found, found: Mapping[str, Found], wanted: Mapping[str, Any], sizes: Mapping[str, Any]
) -> Obstacle | None:
    """Why a layer that is wanted cannot be replaced."""
    if one.obstacle:
        return Obstacle(one.obstacle) if isinstance(one.obstacle, str) else one.obstacle

    def differs(other: str) -> bool:
        alike = wanted.get(other) == wanted[one.name] and sizes.get(other) == sizes[one.name]
        return not alike or found[other].shape != one.shape

    if any(map(differs, one.tied)):
        names = ", ".join(map(repr, sorted(one.tied)))
        return Obstacle(
            f"shares its weight with {names}, which would not be replaced in the same way", kind="shared weights"
        )
    return None


def _sizes(parts: Mapping[Any, Any], name: str, layer: Any, out: int) -> list[int]:
    """The sizes of a layer's parts along its output."""
    given = next((value for pattern, value in parts.items() if matches(pattern, name, layer)), 1)
    if isinstance(given, int):
        if given < 1 or out % given:
            raise ValueError(f"layer {name!r}: {out} outputs do not divide into {given} equal parts; give their sizes")
        return [out // given] * given
    if sum(given) != out:
        raise ValueError(f"layer {name!r}: parts of sizes {tuple(given)} do not add up to {out} outputs")
    return list(given)


def report(
    swaps: Iterable[Swap],
    skipped: Mapping[str, Obstacle],
    *,
    scales: Mapping[str, float] | None = None,
    errors: Mapping[str, Sequence[tuple[float, float | None]]] | None = None,
    left: Sequence[Left] = (),
    totals: tuple[int, int] | None = None,
) -> Report:
    """The report of what was done.

    Args:
        swaps: The layers replaced.
        skipped: Why others were left alone, by name.
        scales: By what factor the entries of the layers' matrices have grown.
        errors: Of projected layers, the errors of weight and activations of each part.
        left: The other parameters of the model.
        totals: The parameters of the whole model before and now.

    Returns:
        The report.
    """
    rows = tuple(
        row
        for swap in swaps
        for row in _rows(swap, (scales or {}).get(swap.found.name), (errors or {}).get(swap.found.name, ()))
    )
    return Report(rows, {name: one.reason for name, one in skipped.items()}, tuple(left), totals)


def _rows(swap: Swap, scale: float | None, errors: Sequence[tuple[float, float | None]]) -> Iterator[Row]:
    for number, operator in enumerate(swap.operators):
        m, n = operator.shape
        biases = m if swap.found.bias else 0
        old, new = (0, 0) if swap.tied_to else (m * n, operator.num_params)
        what, macs, its_fans = _said(operator)
        weight_error, activation_error = errors[number] if errors else (None, None)
        yield Row(
            name=swap.found.name if len(swap.operators) == 1 else f"{swap.found.name}.{number}",
            structure=what,
            shape=(m, n),
            old_params=old + biases,
            new_params=new + biases,
            old_macs=m * n,
            new_macs=macs,
            fans=its_fans,
            zero_init=swap.zero_init,
            tied_to=swap.tied_to,
            scale=scale,
            own_scale=swap.own_scale,
            kept_scale=swap.start,
            weight_error=weight_error,
            activation_error=activation_error,
        )


def _said(operator: LinearOperator | Nonlinear) -> tuple[str, int, dict[str, tuple[int, int]]]:
    """The words, MACs and fans of a structure."""
    if isinstance(operator, Nonlinear):
        return str(operator), operator.macs, operator.fans
    with natural_order():
        return f"{type(operator).__name__}({operator._detail()})", operator.cost().macs, fans(operator)
