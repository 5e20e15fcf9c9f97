"""What a family says of itself once, and what follows for every family: checks, defaults, refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from inspect import Signature
from typing import Any

from linops.backends import is_array, stands_for_array
from linops.checks import require_size
from linops.families.knob import Knob
from linops.operator import LinearOperator
from linops.operators import Dense
from linops.plan import natural_order
from linops.specs import spec

#: further options, by name, to try at sizes where no value of the knob alone is as cheap as dense
Instead = Callable[[int, int], Iterable[Mapping[str, Any]]]

#: the options that say nothing of the member's size
_NO_SIZES = ("dtype", "allow_dearer", "seed")


def flops_a_vector(operator: LinearOperator) -> int:
    """The FLOPs of one vector more, in natural order.

    What is done once a product, such as the transform of a parameter, is no vector's.

    Args:
        operator: The operator.

    Returns:
        The number.
    """
    with natural_order():
        return operator.cost(2).flops - operator.cost().flops


def require_count(where: str, name: str, value: Any, least: int = 1, arrays: str = "") -> None:
    """Raise unless a value is an integer, and large enough.

    Args:
        where: The family, with its sizes where these are right.
        name: What the value is.
        value: The value.
        least: The smallest.
        arrays: What makes such an operator of arrays.

    Raises:
        TypeError: If it is no integer.
        ValueError: If it is too small.
    """
    if is_array(value) or stands_for_array(value) or isinstance(value, LinearOperator):
        instead = f", {arrays} one of arrays" if arrays else ""
        raise TypeError(
            f"{where}: {name} must be an integer, got {type(value).__name__}; "
            f"a family makes a symbolic operator of sizes{instead}"
        )
    require_size(where, name, value)
    if value < least:
        raise ValueError(f"{where}: {name} must be at least {least}, got {value}")


@dataclass(frozen=True)
class Declaration:
    """What a family says of itself.

    Attributes:
        name: Its name.
        function: The function that was declared, which takes all sizes as they are.
        knob: Its size parameter, if it has one.
        plain: The options of the member that is one dense matrix, if there is one.
        instead: (m, n) → options to try where no value of the knob is as cheap as dense.
        or_dense: Whether the default is `Dense` at sizes where no member is as cheap.
        arrays: What makes such an operator of arrays, as ``"lo.LowRank(U, V)"``.
        signature: Of the function.
    """

    name: str
    function: Callable[..., LinearOperator]
    knob: Knob | None
    plain: Mapping[str, int]
    instead: Instead
    or_dense: bool
    arrays: str
    signature: Signature

    @property
    def options(self) -> list[str]:
        """The options that are written with a number: the knob, and those annotated with `int`, `bool` or `float`."""
        knob = () if self.knob is None else (self.knob.name,)
        return [name for name in self._parameters if name in knob or self._kinds(name) & {"int", "bool", "float"}]

    @property
    def decimals(self) -> list[str]:
        """The options that may be written with a decimal point: those that are annotated with `float`."""
        return [name for name in self._parameters if "float" in self._kinds(name)]

    @property
    def _allows_dearer(self) -> bool:
        """Whether a dearer member is fine where nothing is said."""
        option = self.signature.parameters.get("allow_dearer")
        return option is not None and bool(option.default)

    @property
    def _parameters(self) -> list[str]:
        """The names of all options."""
        return list(self.signature.parameters)[2:]

    def _kinds(self, option: str) -> set[str]:
        """What an option is annotated with, as written."""
        annotation = self.signature.parameters[option].annotation
        text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
        return {kind.strip() for kind in text.split("|")}

    def member(self, args: tuple[Any, ...], options: Mapping[str, Any], structured: bool = False) -> LinearOperator:
        """The member that is asked for.

        What is given is kept. Of what is left out, the knob takes its usual value, or the next one below at which the
        member costs no more than dense.

        Args:
            args: Positional arguments of the family.
            options: Keyword arguments of the family.
            structured: Whether to refuse what is one dense matrix, or dearer, also where no size is given.

        Returns:
            The member.

        Raises:
            TypeError: If sizes are no integers, or there is no such option.
            ValueError: If a value is out of range, or the member costs more than dense and was asked for.
        """
        m, n, given, others = self._bind(args, options)
        cheapest: tuple[int, LinearOperator, Mapping[str, Any]] | None = None
        for chosen in self._candidates(m, n, given, structured):
            operator = self.function(m, n, **chosen, **others)
            flops = flops_a_vector(operator)
            if flops <= 2 * m * n:
                return operator
            if cheapest is None or flops < cheapest[0]:
                cheapest = flops, operator, chosen
        if cheapest is None:
            written = ", ".join(f"{name}={value}" for name, value in self.plain.items())
            raise ValueError(f"{self.name}({m}, {n}): the member is a dense matrix; use lo.dense, or pass {written}")
        if self.or_dense and not given and not structured:
            return Dense(spec(m, n, **({"dtype": others["dtype"]} if "dtype" in others else {})))
        if others.get("allow_dearer", self._allows_dearer and not structured):
            return cheapest[1]
        raise ValueError(self._too_dear(m, n, *cheapest))

    def any_member(self, m: int, n: int, options: Mapping[str, Any]) -> LinearOperator:
        """The member of these options, whatever it costs.

        Args:
            m: out_features.
            n: in_features.
            options: Options of the family; the knob among them, if it has one.

        Returns:
            The member.

        Raises:
            TypeError: If sizes are no integers, or there is no such option.
            ValueError: If a value is out of range.
        """
        m, n, given, others = self._bind((m, n), options)
        return self.function(m, n, **given, **others)

    def _bind(self, args: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[int, int, dict[str, Any], dict]:
        """The sizes, the options that say something of the member's size, and the others, all checked."""
        try:
            bound = self.signature.bind(*args, **options).arguments
        except TypeError as error:
            raise TypeError(f"{self.name}() {error}") from None
        m, n = (bound.pop(name) for name in list(self.signature.parameters)[:2])
        for name, size in (("out_features", m), ("in_features", n)):
            require_count(self.name, name, size, arrays=self.arrays)
        given = {name: value for name, value in bound.items() if name not in _NO_SIZES and value is not None}
        where = f"{self.name}({m}, {n})"
        for name, value in given.items():
            knob = self.knob if self.knob and self.knob.name == name else None
            if knob or self._kinds(name) <= {"int", "None"}:
                require_count(where, name, value, 0 if knob else 1, self.arrays)
            if knob:
                knob.require(where, m, n, value)
        return m, n, given, {name: bound[name] for name in _NO_SIZES if name in bound}

    def _candidates(self, m: int, n: int, given: Mapping[str, Any], structured: bool) -> Iterator[dict[str, Any]]:
        """The options to try, in order of preference."""
        knob = self.knob
        for more in ({},) if given else ({}, *self.instead(m, n)):
            if knob is None or knob.name in given:
                yield {**more, **given}
                continue
            for value in knob.downward(m, n):
                options = {**more, **given, knob.name: value}
                if not self.is_plain(options) or self.is_plain(given):
                    yield options
        if self.plain and not given and not structured:
            yield dict(self.plain) if knob is None else {knob.name: knob.usual(m, n), **self.plain}

    def is_plain(self, options: Mapping[str, Any]) -> bool:
        """Whether the member of these options is one dense matrix.

        Args:
            options: The options.

        Returns:
            Whether it is.
        """
        return bool(self.plain) and self.plain.items() <= options.items()

    def _too_dear(self, m: int, n: int, flops: int, operator: LinearOperator, chosen: Mapping[str, Any]) -> str:
        """What is said of a member that costs more than dense, in MACs where there is nothing else."""
        with natural_order():
            macs = operator.cost().macs
        ours, dense, unit = (macs, m * n, "MACs") if flops == 2 * macs else (flops, 2 * m * n, "FLOPs")
        ways = [self.knob.advice_at(m, n, chosen[self.knob.name])] if self.knob else []
        ways += ["use lo.dense", "or pass allow_dearer=True" if "allow_dearer" in self.signature.parameters else ""]
        return (
            f"{self.name}({m}, {n}): {ours:,} {unit} a vector are more than dense's {dense:,}; "
            f"{', '.join(filter(None, ways))}"
        )
