"""Results of more than one machine: how machines are called, and what stands beside what."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.goals import NAMES

#: rows and conditions of a benchmark, as a JSON file has them
Result = Mapping[str, Any]
#: results by name of the benchmark
Results = Mapping[str, Result]
Rows = Sequence[Mapping[str, Any]]


def name_of(conditions: Mapping[str, Any]) -> str:
    """What a machine is called; results of one name are of one machine.

    Args:
        conditions: Those of a result.

    Returns:
        The device, or the processor and how many cores there are.

    Example:
        >>> name_of({"processor": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "cores": 2})
        'Intel Xeon Platinum 8481C, 2 cores'
        >>> name_of({"processor": "AMD EPYC", "cores": 2, "device": "NVIDIA H200"})
        'NVIDIA H200'
    """
    if device := conditions.get("device"):
        return device
    words = re.sub(r"\((?:R|TM)\)|\b(?:CPU|Processor)\b|@.*", " ", conditions["processor"], flags=re.IGNORECASE)
    return f"{' '.join(words.split()) or 'CPU'}, {conditions['cores']} cores"


def folder_of(conditions: Mapping[str, Any]) -> str:
    """The folder of a machine among those of earlier ones.

    Args:
        conditions: Those of a result.

    Returns:
        The machine's name in small letters and hyphens.

    Example:
        >>> folder_of({"processor": "Intel(R) Xeon(R) Processor", "cores": 2})
        'intel-xeon-2-cores'
    """
    return re.sub(r"[^a-z0-9]+", "-", name_of(conditions).lower()).strip("-")


def dated(conditions: Mapping[str, Any]) -> str:
    """Machine and date.

    Args:
        conditions: Those of a result.

    Returns:
        The text.

    Example:
        >>> dated({"processor": "AMD EPYC", "cores": 2, "date": "2026-11-30"})
        'AMD EPYC, 2 cores, 2026-11-30'
    """
    return f"{name_of(conditions)}, {conditions['date']}"


def of_each(benchmark: str, results: Results, earlier: Iterable[Results]) -> list[Result]:
    """What there is of a benchmark, that of the machine at hand first, and one result of each machine.

    Args:
        benchmark: Its name.
        results: Those of the machine at hand.
        earlier: Those of each machine before it.

    Returns:
        The results that have rows, later ones first among those of earlier machines.
    """
    found = [each[benchmark] for each in earlier if benchmark in each]
    found.sort(key=lambda result: result["conditions"]["date"], reverse=True)
    if benchmark in results:
        found.insert(0, results[benchmark])
    known: dict[str, Result] = {}
    for result in found:
        if result["rows"]:
            known.setdefault(name_of(result["conditions"]), result)
    return list(known.values())


def by_machine(benchmarks: Iterable[str], results: Results, earlier: Sequence[Results]) -> dict[str, dict[str, Result]]:
    """Results of each machine.

    Args:
        benchmarks: Of which benchmarks.
        results: Those of the machine at hand.
        earlier: Those of each machine before it.

    Returns:
        Results by name of the machine and of the benchmark, the machine of the latest result first.
    """
    found: dict[str, dict[str, Result]] = {}
    for benchmark in dict.fromkeys(benchmarks):
        for result in of_each(benchmark, results, earlier):
            found.setdefault(name_of(result["conditions"]), {})[benchmark] = result
    latest = {name: max(result["conditions"]["date"] for result in of.values()) for name, of in found.items()}
    return {name: found[name] for name in sorted(found, key=latest.__getitem__, reverse=True)}


def compared(found: Sequence[Result]) -> Rows:
    """Rows of all machines, those of one case one after the other, each with the column ``machine``.

    Cores are left out of its names where those tell the machines apart without.

    Args:
        found: A result of each machine.

    Returns:
        The rows; as they are where there is one machine.
    """
    if len(found) == 1:
        return found[0]["rows"]
    cases: dict[frozenset[Any], list[dict[str, Any]]] = {}
    names = [name_of(result["conditions"]) for result in found]
    short = [name.partition(",")[0] for name in names]
    for machine, result in zip(short if len(set(short)) == len(names) else names, found):
        for row in result["rows"]:
            case = {name: value for name, value in row.items() if name in NAMES}
            cases.setdefault(frozenset(case.items()), []).append({**case, "machine": machine, **row})
    return [row for rows in cases.values() for row in rows]


def plotted(name: str, result: Result) -> str:
    """The file of a plot of an earlier machine.

    Args:
        name: The file of that of the machine at hand.
        result: What is plotted.

    Returns:
        The name.

    Example:
        >>> conditions = {"processor": "Intel(R) Xeon(R) Processor", "cores": 2}
        >>> plotted("bench_growth.png", {"conditions": conditions, "rows": []})
        'bench_growth_intel-xeon-2-cores.png'
    """
    stem, _, kind = name.rpartition(".")
    return f"{stem}_{folder_of(result['conditions'])}.{kind}"
