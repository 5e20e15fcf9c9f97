"""Measures linops beside peers on one work, in this process: ``python -m benchmarks.linalg.run WORK SECONDS PEER …``.

It prints rows as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.linalg.names import TITLES
from benchmarks.peers.run import short, use_one_core

if TYPE_CHECKING:
    from benchmarks.linalg.cases import Case

#: a name → (once, with what is kept or None), or → why there is none
Functions = dict[str, tuple[Callable[[], Any], Callable[[], Any] | None] | str]


def linops(case: Case, backend: str) -> tuple[Callable[[], Any], Callable[[], Any] | None] | str:
    """How linops is called: once, and with an inverse that is kept; on JAX compiled, where nothing is kept.

    Args:
        case: The case.
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.

    Returns:
        The two functions, or why there are none.
    """
    import linops as lo
    from benchmarks.peers.cases import call

    arrays, b = case.on(backend)
    A = case.work.operator(arrays)
    name, settings = case.work.method or ("", {})
    method = getattr(lo.linalg, name, None) if name else None
    function = getattr(lo.linalg, case.work.task, None)
    if function is None or (name and method is None):
        return f"lo.linalg has no {name if name and method is None else case.work.task} yet"
    options = {"method": method(**settings)} if method else {}
    if case.work.task == "solve":
        inverse = lo.linalg.inv(A, **options)
        return call(backend, lambda A, b: lo.linalg.solve(A, b, **options), A, b), lambda: inverse @ b
    if case.work.task == "eigsh":
        return lambda: lo.linalg.eigsh(A, 10)[0], None
    return call(backend, lambda A: function(A, **options), A), None


def candidates(case: Case, modules: dict[str, Any]) -> tuple[Functions, dict[str, str]]:
    """All that compute a case: linops on each backend of the peers, and those.

    Args:
        case: The case.
        modules: The peers, by name.

    Returns:
        Functions by name; and linops' name on the backend of each peer, by the peer's name.
    """
    found: Functions = {"linops": linops(case, "numpy")}
    for backend in dict.fromkeys(module.BACKEND for module in modules.values() if module.BACKEND != "numpy"):
        try:
            found[_ours(backend)] = linops(case, backend)
        except Exception as error:
            found[_ours(backend)] = short(error)
    beside: dict[str, str] = {}
    for name, module in modules.items():
        try:
            functions = module.functions(case, *case.on(module.BACKEND))
        except Exception as error:
            functions = {name: short(error)}
        found |= functions
        beside |= dict.fromkeys(functions, _ours(module.BACKEND))
    return found, beside


def _ours(backend: str) -> str:
    return "linops" if backend == "numpy" else f"linops, {backend}"


def rows_of(case: Case, modules: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
    """Rows of a case: all take turns, once and then with what they keep.

    Args:
        case: The case.
        modules: The peers, by name.
        seconds: About how long to time each.

    Returns:
        Rows. ``ratio`` says how many times as long it took as ``beside``, which is linops on the backend of a peer, and
        of linops on other backends that on NumPy; ``error`` how far the result is off.
    """
    from linops.lab.measure import side_by_side

    (found, beside), rows = candidates(case, modules), []
    whats = ("once", "kept") if case.work.is_kept else (case.work.task,)
    for place, what in enumerate(whats):
        errors: dict[str, float] = {}
        notes: dict[str, str] = {}
        run: dict[str, Callable[[], Any]] = {}
        for name, functions in found.items():
            if isinstance(functions, str):
                notes[name] = functions
            elif (function := functions[place]) is None:
                notes[name] = "keeps nothing"
            else:
                try:
                    errors[name] = case.error(function())
                    run[name] = function
                except Exception as error:
                    notes[name] = short(error)
        share = seconds * max(len(run), 1)
        times = side_by_side(run, seconds=share, rounds=11, least_rounds=3, wait=_wait) if run else {}
        for name in found:
            row: dict[str, Any] = {"work": case.name, "title": TITLES[case.name], "what": what, "who": name}
            row |= dict.fromkeys(("ms", "ratio", "error"))
            ours = row["beside"] = next((one for one in (beside.get(name), "linops") if one in times), "linops")
            if name in times:
                row |= {"ms": 1e3 * times[name].median, "error": errors[name]}
                row["ratio"] = times[name].ratio(times[ours]) if ours in times else None
            right = errors.get(name, 0) <= case.work.tolerance
            if case.work.method and "Cholesky" in name and name in times:
                notes[name] = "another method"
            row["note"] = notes.get(name, "" if right else f"off by more than {case.work.tolerance:.0e}")
            rows.append(row)
    return rows


def _wait(result: Any) -> None:
    for part in result if isinstance(result, tuple) else (result,):
        if hasattr(part, "block_until_ready"):
            part.block_until_ready()


def main() -> None:
    """The command."""
    warnings.simplefilter("ignore")
    work, seconds, *names = sys.argv[1:]
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    use_one_core(threads)
    out, sys.stdout = sys.stdout, sys.stderr
    modules, failed = {}, {}
    for name in sorted(names):  # cola first
        try:
            modules[name] = import_module(f"benchmarks.linalg.{name}")
        except Exception as error:
            failed[name] = f"cannot be imported: {short(error)}"
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_enable_x64", True)
    from benchmarks.linalg.cases import case

    still: Any = nullcontext()
    if "torch" in sys.modules:
        torch: Any = sys.modules["torch"]
        torch.set_num_threads(threads)
        still = torch.no_grad()
    with still:
        rows = rows_of(case(work), modules, float(seconds))
    rows += [
        {"work": work, "title": TITLES[work], "what": "", "who": name, "note": why} for name, why in failed.items()
    ]
    json.dump([row | {"environment": "cola" if "cola" in names else "common"} for row in rows], out)


if __name__ == "__main__":
    main()
