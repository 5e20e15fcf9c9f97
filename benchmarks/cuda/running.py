"""A run in parts under a budget of time: a case that fails leaves a row that says so, and the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Something to measure or check.

    Attributes:
        key: What names it: columns of its rows.
        run: Gives its rows without those columns.
    """

    key: Mapping[str, Any]
    run: Callable[[], Iterable[Row]]


@dataclass(frozen=True)
class Part:
    """A part of a run.

    Attributes:
        name: Its name.
        cases: Its cases, most important first.
        share: The largest share of all the time that it may take.
    """

    name: str
    cases: Callable[[], Iterable[Case]]
    share: float = 1.0


@dataclass
class Budget:
    """How much time there is.

    Attributes:
        seconds: In all, from when it is made.
        now: The clock.
    """

    seconds: float
    now: Callable[[], float] = monotonic
    start: float = field(init=False)

    def __post_init__(self) -> None:
        self.start = self.now()

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.seconds - (self.now() - self.start)


def run(
    parts: Iterable[Part],
    budget: Budget,
    known: Iterable[Row] = (),
    tell: Callable[[str], Any] = lambda text: None,
    lost: Callable[[], bool] = lambda: False,
) -> Iterator[Row]:
    """Runs parts, one after the other, while there is time.

    A case begins only if as long as the longest case of its part so far is left. What did not begin is counted in a row
    of its part.

    Args:
        parts: The parts, most important first.
        budget: The time.
        known: Rows from before: a case that gave one is not run again, unless it failed.
        tell: Called with what begins.
        lost: Asked after a failure, whether the device is of no more use: nothing is begun then.

    Yields:
        Rows: the part, the case's key, ``"outcome"`` (``"measured"``, ``"right"``, ``"wrong"``, ``"failed"``,
        ``"left out"``), and what the case gives; ``"why"`` where that is not good.
    """
    done = [row for row in known if row.get("outcome") not in ("failed", "left out")]
    gone = False
    for part in parts:
        limit, longest, skipped = min(budget.left, part.share * budget.seconds), 0.0, 0
        end = budget.left - limit
        for case in part.cases():
            key = {"part": part.name, **case.key}
            if any(all(row.get(name) == value for name, value in key.items()) for row in done):
                continue
            if gone or budget.left - longest <= end:
                skipped += 1
                continue
            tell(", ".join(map(str, key.values())))
            before = budget.left
            try:
                for row in case.run():
                    yield {**key, "outcome": "measured", **row}
            except Exception as error:
                yield {**key, "outcome": "failed", "why": short(error)}
                gone = lost()
            longest = max(longest, before - budget.left)
        if skipped:
            why = "the device is lost" if gone else "no time was left"
            yield {"part": part.name, "outcome": "left out", "why": f"{skipped} cases: {why}"}


def short(error: BaseException) -> str:
    """An error in a line.

    Args:
        error: The error.

    Returns:
        Its class and the first line of its message, at most 300 characters.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
