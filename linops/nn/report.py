"""What `replace_linear_` did: a row for each layer, which prints as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from textwrap import wrap

from linops.nn.obstacles import brief, star, starred
from linops.nn.rows import Rows

WIDTH = 80


@dataclass(frozen=True)
class Row:
    """One replaced layer.

    Attributes:
        name: The layer's path in the model.
        structure: The new operator, in a few words.
        shape: (out_features, in_features).
        old_params: The number of parameters before, with the bias.
        new_params: And after.
        old_macs: Multiply-accumulates an input vector before, without the bias.
        new_macs: And after.
        fans: (fan_in, fan_out) of each new leaf.
        zero_init: Whether the layer was zero, so that the factor nearest the output now is.
        tied_to: The layer whose weights it shares, which counts them, or None.
        scale: The root mean square of the matrix's entries over what it was before, None where it is not known (zeros,
            the meta device) or its numbers are those of before, projected.
        own_scale: The root mean square of the entries of the layer's weight before, over that of such a layer as its
            framework starts it; None where it is not known, or the weight is projected.
        kept_scale: The factor by which the factor nearest the output starts smaller, to keep that; 1 if it was dropped.
        weight_error: Of a projected weight ‖W − Ŵ‖ / ‖W‖; else None.
        activation_error: The root mean square of the change of outputs over that of outputs, both about their means
            where the layer has a bias, in calibration; None without.
    """

    name: str
    structure: str
    shape: tuple[int, int]
    old_params: int
    new_params: int
    old_macs: int
    new_macs: int
    fans: dict[str, tuple[int, int]]
    zero_init: bool = False
    tied_to: str | None = None
    scale: float | None = None
    own_scale: float | None = None
    kept_scale: float = 1.0
    weight_error: float | None = None
    activation_error: float | None = None


@dataclass(frozen=True)
class Left:
    """Parameters that are not those of replaced layers, of one kind of module.

    Attributes:
        kind: The class of the modules, with the names of parameters that are neither weight nor bias.
        why: Why they were left: a clause, or "not selected"; empty for what is no linear layer.
        names: The paths of the modules.
        params: Their number of parameters, each counted once.
    """

    kind: str
    why: str
    names: tuple[str, ...]
    params: int


@dataclass(frozen=True)
class Report(Rows[Row]):
    """The replaced layers in the model's order, and those left alone for a reason.

    Attributes:
        rows: The replaced layers.
        skipped: The path of each layer that was left alone, and why: a clause, as "shares its weight with 'embedding'".
        left: The parameters of the model that are not those of replaced layers.
        totals: The parameters of the whole model before and now, or None if they were not counted.
    """

    rows: tuple[Row, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    left: tuple[Left, ...] = ()
    totals: tuple[int, int] | None = None

    @property
    def old_params(self) -> int:
        """The parameters of the replaced layers before."""
        return sum(row.old_params for row in self.rows)

    @property
    def new_params(self) -> int:
        """The parameters of the replaced layers now."""
        return sum(row.new_params for row in self.rows)

    @property
    def old_macs(self) -> int:
        """The MACs of the replaced layers before, for an input vector to each."""
        return sum(row.old_macs for row in self.rows)

    @property
    def new_macs(self) -> int:
        """The MACs of the replaced layers now, for an input vector to each."""
        return sum(row.new_macs for row in self.rows)

    def __str__(self) -> str:
        groups = _groups(self.rows)
        count = f"{len(self.rows)} layer{'s' * (len(self.rows) != 1)}"
        table = [
            ("layer", "out×in", "parameters", "MACs"),
            *(_cells(name, rows) for name, rows in groups),
            (count, "", *_numbers(self.rows)),
        ]
        if self.totals:
            table.append(("whole model", "", _change(*self.totals), ""))
        rest = [max(len(line[column]) for line in table) for column in (1, 2, 3)]
        first = min(max(len(line[0]) for line in table), max(WIDTH - sum(rest) - 6, len("whole model")))
        below = ["", *(_below(rows) for _, rows in groups), *[""] * (len(table) - 1 - len(groups))]
        lines: list[str] = []
        for line, more in zip(table, below):
            name = line[0]
            if len(name) > first:
                lines.append(name)
                name = ""
            lines.append(
                "  ".join(cell.ljust(width) for cell, width in zip((name, *line[1:]), (first, *rest))).rstrip()
            )
            lines += wrap(
                more,
                WIDTH,
                initial_indent="    ",
                subsequent_indent="    ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        return "\n".join([*lines, *self._rest()])

    def _rest(self) -> Iterator[str]:
        """The lines about what was left."""
        total = self.totals[1] if self.totals else 0
        for one in self.left:
            share = f", {100 * one.params / total:.3g} % of the model" if total else ""
            why = f" ({one.why})" if one.why else ""
            yield from _wrapped(
                f"left: {one.kind}{why}: {_number(one.params)} parameters{share}: {brief(one.names, 4)}"
            )
        told = {name for one in self.left if one.why for name in one.names}
        for name, reason in self.skipped.items():
            if name not in told:
                yield from _wrapped(f"left alone: {name}: {reason}")


def _wrapped(text: str) -> list[str]:
    return wrap(text, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def leftovers(
    modules: Iterable[tuple[str, str, str, dict[str, int]]], usual: tuple[str, ...] = ("weight", "kernel", "bias")
) -> tuple[Left, ...]:
    """What a report says of the parameters that are not those of replaced layers, the most first.

    Args:
        modules: Of each module its path, class, why it was left, and the number of its parameters by name.
        usual: Names of parameters that go without saying.

    Returns:
        A group for each kind.
    """
    kinds: dict[tuple[str, str], tuple[list[str], int]] = {}
    for path, kind, why, sizes in modules:
        unusual = [name for name in sizes if name not in usual]
        if unusual:
            kind += f" [{', '.join(unusual[:4])}{', …' * (len(unusual) > 4)}]"
        names, params = kinds.get((kind, why), ([], 0))
        kinds[kind, why] = [*names, path], params + sum(sizes.values())
    found = [Left(kind, why, tuple(names), params) for (kind, why), (names, params) in kinds.items()]
    return tuple(sorted(found, key=lambda one: -one.params))


def _groups(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    """Rows that differ in the numbers of their names alone, under one name."""
    alike: dict[tuple, list[Row]] = {}
    for row in rows:
        alike.setdefault(
            (star(row.name), row.structure, row.shape, row.new_params, row.zero_init, row.tied_to), []
        ).append(row)
    found = []
    for group in alike.values():
        patterns = starred(row.name for row in group)
        found.append((next(iter(patterns)), group))
    return found


def _cells(name: str, rows: list[Row]) -> tuple[str, ...]:
    times = f"{len(rows)} × " if len(rows) > 1 else ""
    return (name, f"{times}{rows[0].shape[0]}×{rows[0].shape[1]}", *_numbers(rows))


def _numbers(rows: Sequence[Row]) -> tuple[str, str]:
    return (
        _change(sum(row.old_params for row in rows), sum(row.new_params for row in rows)),
        _change(sum(row.old_macs for row in rows), sum(row.new_macs for row in rows)),
    )


def _change(old: int, new: int) -> str:
    return f"{_number(old)} → {_number(new)}"


def _number(value: int) -> str:
    """A number in at most nine characters."""
    for factor, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M")):
        if value >= 10 * factor or (unit != "M" and value >= factor):
            return f"{value / factor:.4g} {unit}"
    return f"{value:,}"


def _below(rows: list[Row]) -> str:
    """What is said of a layer in words."""
    row = rows[0]
    words = [row.structure]
    if row.fans:
        words.append("fans " + ", ".join(f"{name} {fan_in}→{fan_out}" for name, (fan_in, fan_out) in row.fans.items()))
    words += ["zero-init"] if row.zero_init else []
    words += [f"tied to {row.tied_to}"] if row.tied_to else []
    kept = [row.kept_scale if row.kept_scale != 1 else None for row in rows]
    dropped = [_dropped(row) for row in rows]
    words += _range("initial scale ×{}", ".2g", [row.scale for row in rows])
    words += _range("the model's own scale ×{} of the default, kept", ".2g", kept)
    words += _range("the model's own scale ×{} of the default, dropped", ".2g", dropped)
    words += _range("weight error {}", ".3f", [row.weight_error for row in rows])
    words += _range("activation error {}", ".3f", [row.activation_error for row in rows])
    return "; ".join(words)


def _dropped(row: Row) -> float | None:
    """A layer's own scale, if it is another than usual and was not kept."""
    return row.own_scale if row.kept_scale == 1 and row.own_scale and abs(row.own_scale - 1) > 0.2 else None


def _range(words: str, form: str, values: Sequence[float | None]) -> list[str]:
    """The least and largest of the values that there are, in words, and of how many rows, if not of all."""
    known = [value for value in values if value is not None]
    if not known:
        return []
    sign = "×" * ("×" in words)
    low, high = f"{min(known):{form}}", f"{max(known):{form}}"
    said = words.format(low if low == high else f"{low} to {sign}{high}")
    return [said if len(known) == len(values) else f"{said} in {len(known)} of {len(values)}"]
