"""Measures `lo.project` beside peers on one work: ``python -m benchmarks.projection.run WORK SECONDS FULL PEER …``.

It prints rows as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.peers.run import short, use_one_core
from benchmarks.projection.names import TITLES

if TYPE_CHECKING:
    from benchmarks.projection.cases import Case

#: shares up to which errors count as the same, and errors that single precision makes of none, in all and at the least
SAME, ROUNDING, ROUNDED = 1e-3, 1e-5, 1e-6
#: and where the optimum is known, which linops finds: what is further off has done less
AT_OPTIMUM = 1e-5
#: of times, and from how many seconds on a call is not repeated so often
ROUNDS, SLOW = 7, 1.0
BACKENDS = ("numpy", "torch")

#: (what is timed, what makes the matrix of its result; None where it is none)
Functions = tuple[Callable[[], Any], Callable[[Any], Any] | None]


def linops(case: Case, W: Any, C: Any) -> dict[str, Functions]:
    """How linops is called.

    Args:
        case: The case.
        W: The matrix, on some backend.
        C: The second moment of inputs, or None.

    Returns:
        Functions by name.
    """
    import linops as lo
    from linops import backends

    def dense(A: Any) -> Any:
        return backends.to_numpy(A.to_dense())

    return {
        name: (partial(lo.project, W, case.work.target, second_moment=C, **options), dense)
        for name, options in case.work.variants.items()
    }


def rows_of(
    case: Case,
    modules: Mapping[str, Any],
    seconds: float,
    full: int = 0,
    backends: tuple[str, ...] = BACKENDS,
) -> list[dict[str, Any]]:
    """Rows of a case: all take turns on the same arrays.

    Args:
        case: The case.
        modules: The peers, by name.
        seconds: About how long to time each.
        full: The largest size of which the SVD of the whole matrix is taken beside that of blocks.
        backends: Where the arrays are.

    Returns:
        Rows. ``ratio`` says how many times as long as linops on the same backend it took; ``over_optimum`` its error
        over the least there is; ``over_best``, of linops, its error over that of the best peer.
    """
    from linops.lab.measure import side_by_side

    found: dict[tuple[str, str], Functions] = {}
    notes: dict[tuple[str, str], str] = {}
    for backend in backends:
        W, C = case.on(backend)
        found |= {(backend, name): functions for name, functions in linops(case, W, C).items()}
        for name, module in modules.items():
            if backend in module.BACKENDS:
                try:
                    own = module.functions(case, W, C, backend, case.work.size <= full)
                    found |= {(backend, who): functions for who, functions in own.items()}
                except Exception as error:
                    notes[backend, name] = short(error)
    errors: dict[tuple[str, str], float | None] = {}
    for key, (function, dense) in found.items():
        try:
            errors[key] = None if dense is None else case.error(dense(function()))
        except Exception as error:
            notes[key] = short(error)
    run = {key: function for key, (function, _) in found.items() if key in errors}
    times = _times(side_by_side, run, seconds)
    first = next(iter(case.work.variants))
    optimum = case.optimum()
    theirs = [error for (_, who), error in errors.items() if error is not None and not who.startswith("linops")]
    rows = []
    for key in [*found, *(key for key in notes if key not in found)]:
        backend, who = key
        row = {"work": case.name, "title": TITLES.get(case.name, case.name), "backend": backend, "who": who}
        row |= dict.fromkeys(("ms", "ratio", "error", "over_optimum", "over_best"))
        timed = [each for each in times if key in each]
        if timed:
            error, ours = errors[key], errors.get((backend, first))
            row |= {"ms": 1e3 * timed[0][key].median, "error": error}
            both = [each for each in timed if (backend, first) in each]
            row["ratio"] = both[0][key].ratio(both[0][backend, first]) if both else None
            row["over_optimum"] = error / optimum if error is not None and optimum else None
            if not who.startswith("linops"):
                notes.setdefault(key, _judged(error, ours, SAME if optimum is None else AT_OPTIMUM))
            elif theirs and error is not None:
                row["over_best"] = max(error, ROUNDED) / max(min(theirs), ROUNDED)
        rows.append(row | {"note": notes.get(key, "")})
    return rows


def _judged(error: float | None, ours: float | None, more: float) -> str:
    """Why a peer's time does not count."""
    if error is None:
        return "another result, for scale"
    return "" if ours is None or error <= (1 + more) * ours + ROUNDING else "larger error"


def _times(side_by_side: Callable[..., Any], run: Mapping[Any, Callable[[], Any]], seconds: float) -> list[Any]:
    """Timings of all, in few rounds where some take long, after those of the others, in more rounds."""
    if not run:
        return [{}]
    times = side_by_side(run, seconds=seconds * len(run), rounds=ROUNDS, least_rounds=1)
    quick = {key: function for key, function in run.items() if times[key].median < SLOW}
    if not quick or len(quick) == len(run):
        return [times]
    return [side_by_side(quick, seconds=seconds * len(quick), rounds=ROUNDS), times]


def main() -> None:
    """The command."""
    warnings.simplefilter("ignore")
    work, seconds, full, *names = sys.argv[1:]
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    use_one_core(threads)
    out, sys.stdout = sys.stdout, sys.stderr
    modules, failed = {}, {}
    for name in names:
        try:
            modules[name] = import_module(f"benchmarks.projection.{name}")
        except Exception as error:
            failed[name] = f"cannot be imported: {short(error)}"
    from benchmarks.projection.cases import case

    still: Any = nullcontext()
    if "torch" in sys.modules:
        torch: Any = sys.modules["torch"]
        torch.set_num_threads(threads)
        still = torch.no_grad()
    with still:
        rows = rows_of(case(work), modules, float(seconds), int(full))
    rows += [without_numbers(work, name, why) for name, why in failed.items()]
    json.dump(rows, out, allow_nan=False)


def without_numbers(work: str, who: str, note: str) -> dict[str, Any]:
    """A row of what could not be measured.

    Args:
        work: The work.
        who: Who.
        note: Why.

    Returns:
        The row.
    """
    blank = dict.fromkeys(("ms", "ratio", "error", "over_optimum", "over_best"))
    return {"work": work, "title": TITLES[work], "backend": "", "who": who, **blank, "note": note}


if __name__ == "__main__":
    main()
