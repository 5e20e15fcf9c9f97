"""The goals, judged by the rows of the results: goal, measured, met or missed, and the command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

Row = Mapping[str, Any]
#: names of columns that say which case a row is, in the order in which they are written
NAMES = ("backend", "work", "structure", "peer", "who", "what", "case", "size", "d", "rank", "blocks", "batch")


@dataclass(frozen=True)
class Goal:
    """A goal for a number of every row of a kind.

    Attributes:
        what: What it is about.
        benchmark: Whose rows.
        key: The number's column.
        bound: The goal.
        at_least: Whether numbers must reach the bound; otherwise they must not exceed it.
        unit: Written after a number.
        where: Which rows.
        beside: Another column, shown with its range but not judged, and its name.
    """

    what: str
    benchmark: str
    key: str
    bound: float
    at_least: bool = False
    unit: str = "×"
    where: Callable[[Row], bool] = lambda row: True
    beside: tuple[str, str] | None = None


@dataclass(frozen=True)
class Verdict:
    """A judged goal.

    Attributes:
        goal: The goal.
        met: Whether every row meets it; None if none was measured.
        measured: The numbers, as text.
    """

    goal: Goal
    met: bool | None
    measured: str

    @property
    def text(self) -> str:
        """The verdict in a word."""
        return "not measured" if self.met is None else "met" if self.met else "**missed**"


def number(value: float) -> str:
    """A number in three digits, as people write them.

    Args:
        value: The number.

    Returns:
        The text.

    Example:
        >>> number(1234.5), number(1.0), number(0.01234)
        ('1,234', '1.00', '0.0123')
    """
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.3g}"


def case_of(row: Row) -> str:
    """Which case a row is.

    Args:
        row: The row.

    Returns:
        The text.

    Example:
        >>> case_of({"backend": "torch", "d": 256, "batch": 1, "ratio": 2.0})
        'torch, d = 256, batch = 1'
    """
    named = [(name, row[name]) for name in NAMES if row.get(name) is not None]
    return ", ".join(str(value) if isinstance(value, str) else f"{name} = {value}" for name, value in named)


def judge(goal: Goal, rows: Sequence[Row]) -> Verdict:
    """Judges a goal.

    Args:
        goal: The goal.
        rows: The rows of its benchmark.

    Returns:
        The verdict: the goal is met if every row that it is about meets it.
    """
    ours = [row for row in rows if row.get(goal.key) is not None and goal.where(row)]
    if not ours:
        return Verdict(goal, None, "–")
    values = [row[goal.key] for row in ours]
    passed = sum(value >= goal.bound if goal.at_least else value <= goal.bound for value in values)
    worst = (min if goal.at_least else max)(ours, key=lambda row: row[goal.key])
    if len(ours) == 1:
        measured = f"{number(values[0])}{goal.unit}"
    else:
        measured = f"{passed} of {len(ours)} cases meet it; median {number(median(values))}{goal.unit}, "
        measured += f"worst {number(worst[goal.key])}{goal.unit} ({case_of(worst)})"
    if goal.beside:
        key, name = goal.beside
        others = [row[key] for row in ours if row.get(key) is not None]
        measured += f"; {name} {number(min(others))}{goal.unit} – {number(max(others))}{goal.unit}" if others else ""
    return Verdict(goal, passed == len(ours), measured)


def bound_of(goal: Goal) -> str:
    """The bound, as text.

    Args:
        goal: The goal.

    Returns:
        The text.

    Example:
        >>> bound_of(Goal("imports", "imports", "added_s", 0.25, unit=" s"))
        '≤ 0.25 s'
    """
    bound = f"{goal.bound:.3g}" if goal.bound < 1000 else f"{goal.bound:,.0f}"
    return f"{'≥' if goal.at_least else '≤'} {bound}{goal.unit}"


def _large(row: Row) -> bool:
    return row["d"] >= 1024 and row["batch"] >= 256


def _quarter(row: Row) -> bool:
    return row["structure"] != "dense" and row["d"] >= 256 and row["flops_share"] <= 0.25


def _half(row: Row) -> bool:
    return row["d"] >= 256 and row["batch"] >= 16 and 0.25 < row["flops_share"] <= 0.5


def _kronecker(row: Row) -> bool:
    return "kron" in str(row["work"]).lower() and any(
        peer in str(row["peer"]) for peer in ("linear_operator", "pylops", "lazylinop")
    )


def _right_peer(row: Row) -> bool:
    return not str(row["who"]).startswith("linops") and not row["note"]


def _is_library(row: Row) -> bool:
    return str(row["who"]).startswith(("linear_operator", "cola", "lineax"))


def _as_near(row: Row) -> bool:
    """Whether a row is a peer whose error is no larger than linops'."""
    return not str(row["who"]).startswith("linops") and not row["note"]


def _overhead(what: str, bound: float, kernels: int) -> Goal:
    """A goal for microseconds of Python over the bare kernels, of which there are so many."""
    return Goal(what, "overhead", "overhead", bound, unit=" µs", where=lambda row: row["kernels"] == kernels)


def _both(goal: Goal, key: str) -> tuple[Goal, Goal]:
    """A goal for the default mode, and the same for the rows that have numbers with the compiled kernels."""
    what = f"with the compiled kernel, torch: {goal.what}"
    return goal, replace(goal, what=what, key=key, beside=(goal.key, "these cases by default"))


GOALS = (
    Goal(
        "BTT forward, times faster than the paper's formulation, d ≥ 1024, batch ≥ 256",
        "btt",
        "operator_speedup",
        2,
        at_least=True,
        where=_large,
        beside=("layer_speedup", "as a layer"),
    ),
    Goal(
        "BTT forward + backward, the same",
        "btt",
        "training_operator_speedup",
        1.8,
        at_least=True,
        where=_large,
        beside=("training_layer_speedup", "as a layer"),
    ),
    *_both(
        Goal(
            "one vector, any family, over the best plain form",
            "families",
            "plain_ratio",
            1.1,
            where=lambda row: row["batch"] == 1,
        ),
        "compiled_plain_ratio",
    ),
    *_both(
        Goal(
            "the same, d ≥ 1024",
            "families",
            "plain_ratio",
            1.1,
            where=lambda row: row["batch"] == 1 and row["d"] >= 1024,
        ),
        "compiled_plain_ratio",
    ),
    *_both(
        Goal(
            "structures of ≤ 1/4 of dense's FLOPs, forward, over dense, d ≥ 256",
            "families",
            "forward_ratio",
            1,
            where=_quarter,
        ),
        "compiled_ratio",
    ),
    *_both(
        Goal(
            "structures of ≤ 1/4 of dense's FLOPs, training, over dense, d ≥ 256",
            "families",
            "training_ratio",
            1,
            where=_quarter,
        ),
        "compiled_training_ratio",
    ),
    *_both(
        Goal(
            "structures of 1/4 to 1/2 of dense's FLOPs, training, over dense, d ≥ 256, batch ≥ 16",
            "families",
            "training_ratio",
            1,
            where=_half,
        ),
        "compiled_training_ratio",
    ),
    Goal("composed Permute @ BlockDiag @ Permute @ BlockDiag over the hand-written kernel", "composed", "ratio", 1.1),
    Goal("peers, over linops on the same work", "peers", "ratio", 1, at_least=True),
    Goal(
        "Kronecker: linear_operator, pylops, lazylinop over linops",
        "peers",
        "ratio",
        3,
        at_least=True,
        where=_kronecker,
    ),
    Goal(
        "linear algebra: peers whose result is right, over linops on the same work",
        "linalg",
        "ratio",
        1 / 1.1,
        at_least=True,
        where=_right_peer,
    ),
    Goal(
        "linear algebra with Kronecker products: linear_operator, CoLA, lineax over linops",
        "linalg",
        "ratio",
        3,
        at_least=True,
        where=lambda row: _right_peer(row) and "kronecker" in row["work"] and _is_library(row),
    ),
    Goal(
        "projections: peers whose error is no larger, over linops on the same arrays",
        "projection",
        "ratio",
        1,
        at_least=True,
        where=_as_near,
    ),
    Goal("projections: linops' error over that of the best peer, to a thousandth", "projection", "over_best", 1.001),
    Goal(
        "BTT and Monarch matrices, d = 2048: the full SVD over linops",
        "projection",
        "ratio",
        8,
        at_least=True,
        where=lambda row: "_2048" in row["work"] and "full svd" in row["who"],
    ),
    Goal(
        "butterflies: lazylinop, where its error is no larger, over linops",
        "projection",
        "ratio",
        3,
        at_least=True,
        where=lambda row: _as_near(row) and row["who"].startswith("lazylinop"),
    ),
    Goal("overhead of a solve by rule over the bare kernels", "solves", "overhead", 10, unit=" µs"),
    *_both(_overhead("overhead of a product of one kernel", 2, kernels=1), "compiled_overhead"),
    *_both(_overhead("overhead of a product of two kernels", 3, kernels=2), "compiled_overhead"),
    _overhead("building an operator, composing two", 10, kernels=0),
    Goal(
        "planned product over the best of the naive orders",
        "planning",
        "ratio",
        1.1,
        beside=("worst_order_ratio", "over the worst"),
    ),
    Goal("frozen product over the best of the naive orders and dense", "planning", "frozen_ratio", 1.1),
    Goal("planning ten factors", "planning", "planning_ms", 1, unit=" ms"),
    Goal("finding a plan that is there", "planning", "hit_us", 1, unit=" µs"),
    Goal("import linops beyond import numpy", "imports", "added_s", 0.25, unit=" s"),
    Goal("counting an expression of 10¹² parameters: time", "symbolic", "milliseconds", 1, unit=" ms"),
    Goal("counting an expression of 10¹² parameters: memory", "symbolic", "peak_bytes", 1e6, unit=" B"),
)


def verdicts(results: Mapping[str, Mapping[str, Any]], goals: Sequence[Goal] = GOALS) -> list[Verdict]:
    """Judges goals.

    Args:
        results: Results by name of the benchmark.
        goals: The goals.

    Returns:
        A verdict for each.
    """
    return [judge(goal, results.get(goal.benchmark, {}).get("rows", [])) for goal in goals]
