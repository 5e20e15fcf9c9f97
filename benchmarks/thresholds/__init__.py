"""The constants of `linops.tuning` on this machine: the way that linops takes beside the other, around each of them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.thresholds.case import Case
from linops.backends import load, to_numpy
from linops.lab.measure import compiler, side_by_side


def cases(backends: tuple[str, ...] = ("numpy", "torch", "jax")) -> list[Case]:
    """What is measured.

    Args:
        backends: Of numpy, torch and jax.

    Returns:
        The cases, those of a backend together.
    """
    found = []
    for backend in backends:
        load(backend)
        found += import_module(f"benchmarks.thresholds.{backend}").CASES
    shared = import_module("benchmarks.thresholds.shared").CASES
    return [*found, *[case for case in shared if case.backend in backends]]


def measure(
    seconds: float = 0.5,
    constants: tuple[str, ...] = (),
    backends: tuple[str, ...] = ("numpy", "torch", "jax"),
    known: tuple[dict[str, Any], ...] = (),
) -> Iterator[dict[str, Any]]:
    """The constants of `linops.tuning`: below and above each, the way that linops takes beside the other.

    Args:
        seconds: About how long to measure each row.
        constants: Names of constants, by default all.
        backends: Of numpy, torch and jax.
        known: Rows that were measured before.

    Yields:
        Rows with microseconds. ``ratio`` is the other way's time over that of the way taken: above 1 on both sides of
        a constant, its choice is right here; below 1 on one side, ways cross on that side.

    Raises:
        ValueError: If there is no constant of a name.
    """
    chosen = [case for case in cases(backends) if not constants or case.constant in constants]
    if missing := set(constants) - {case.constant for case in chosen}:
        names = ", ".join(dict.fromkeys(case.constant for case in cases(backends)))
        raise ValueError(f"thresholds: no constant {min(missing)!r} of these backends; expected some of {names}")
    done = {(row["constant"], row["what"], row["point"]) for row in known}
    for case in chosen:
        for point in case.points:
            if (case.constant, case.what, point) not in done:
                yield _row(case, point, seconds)


def _row(case: Case, point: int, seconds: float) -> dict[str, Any]:
    """Both ways at a point, checked against each other."""
    size, first, second = case.make(point)
    wait = compiler(case.backend)[1]
    if case.same:
        ours, theirs = to_numpy(first()), to_numpy(second())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(ours).max(), err_msg=case.what)
    later = case.best or size > case.value
    functions = {"taken": second, "other": first} if later else {"taken": first, "other": second}
    times = side_by_side(functions, seconds=seconds, rounds=11, least_rounds=3, wait=wait)
    taken, other = case.ways[::-1] if later else case.ways
    return {
        "backend": case.backend,
        "constant": case.constant,
        "value": case.text,
        "what": case.what,
        "point": point,
        "size": size,
        "taken": taken,
        "other": other,
        "taken_us": 1e6 * times["taken"].median,
        "other_us": 1e6 * times["other"].median,
        "ratio": times["other"].ratio(times["taken"]),
    }


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What people read of the rows.

    Args:
        rows: The rows.

    Returns:
        Rows without what only tells them apart.
    """
    names = {"taken_us": "taken, µs", "other_us": "other, µs", "ratio": "other / taken"}
    return [{names.get(key, key): value for key, value in row.items() if key != "point"} for row in rows]
