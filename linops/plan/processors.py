"""The numbers of CPUs, by which products are planned: a row of ``processors.json`` for each kind that was measured.

Vendor and vector instructions decide which row holds for a CPU: libraries choose their kernels by them, and virtual
machines hide the model. It is the row of that vendor whose features the CPU all has, of several the one of most
features; the first row where there is none, as on an ARM. ``python -m benchmarks calibrate --row`` measures the CPU at
hand and writes its row into the table of the checkout.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from linops.plan.machine import Machine
from linops.plan.machine_file import machine_of

TABLE = Path(__file__).with_name("processors.json")
#: what rows tell CPUs apart by, least first, and what they are called
FEATURES = {"avx2": "AVX2", "avx512f": "AVX-512", "amx_tile": "AMX"}
VENDORS = {"GenuineIntel": "Intel Xeon", "AuthenticAMD": "AMD EPYC"}


@dataclass(frozen=True)
class Processor:
    """A kind of CPU.

    Attributes:
        name: What it is called.
        vendor: As the CPU names it.
        features: Instructions that it has, by the names of Linux.
        measured: When and how its numbers were measured.
        machines: The numbers by backend, of one thread.
    """

    name: str
    vendor: str
    features: tuple[str, ...]
    measured: str
    machines: dict[str, Machine]


@lru_cache(maxsize=1)
def processors() -> tuple[Processor, ...]:
    """The rows of the table.

    Returns:
        The kinds of CPUs that were measured; the first one stands for those that were not.
    """
    return tuple([_processor(row) for row in json.loads(TABLE.read_text(encoding="utf-8"))])


def _processor(row: dict[str, Any]) -> Processor:
    machines = {backend: machine_of(backend, numbers) for backend, numbers in row["machines"].items()}
    return Processor(row["name"], row["vendor"], tuple(row["features"]), row["measured"], machines)


def described() -> tuple[str, frozenset[str]]:
    """Vendor and features of the CPU at hand, as Linux tells them; empty elsewhere.

    Returns:
        The vendor, and all features.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0].splitlines()
    except OSError:
        return "", frozenset()
    said = {key.strip(): value.strip() for key, _, value in [line.partition(":") for line in lines]}
    return said.get("vendor_id", ""), frozenset(said.get("flags", "").split())


def matching(rows: tuple[Processor, ...], vendor: str, features: frozenset[str]) -> Processor:
    """The row that holds for a CPU.

    Args:
        rows: The rows.
        vendor: The CPU's vendor.
        features: Its features.

    Returns:
        Of the rows of the vendor whose features the CPU has, the one of most; the first row if there is none.

    Example:
        >>> matching(processors(), "another vendor", frozenset()).name
        'Intel Xeon with AVX-512'
    """
    fitting = [row for row in rows if row.vendor == vendor and features.issuperset(row.features)]
    return max(fitting, key=lambda row: len(row.features)) if fitting else rows[0]


def write_row(vendor: str, features: frozenset[str], measured: str, machines: dict[str, dict[str, Any]]) -> str:
    """Write the row of a kind of CPU into the table; one of the same vendor and features is replaced.

    Args:
        vendor: The CPU's vendor.
        features: Its features.
        measured: When and how the numbers were measured.
        machines: The numbers by backend, as of `Machine`.

    Returns:
        The name of the row.
    """
    kept = [name for name in FEATURES if name in features]
    widest = [FEATURES[name] for name in kept[-2:] if name != "avx2" or len(kept) == 1]
    name = f"{VENDORS.get(vendor, vendor or 'CPU')} with {' and '.join(widest) or 'no AVX2'}"
    row = {"name": name, "vendor": vendor, "features": kept, "measured": measured, "machines": machines}
    rows = json.loads(TABLE.read_text(encoding="utf-8"))
    same = [place for place, one in enumerate(rows) if (one["vendor"], one["features"]) == (vendor, kept)]
    if same:
        rows[same[0]] = row
    else:
        rows.append(row)
    TABLE.write_text(_text(rows), encoding="utf-8")
    processors.cache_clear()
    return name


def _text(rows: list[dict[str, Any]]) -> str:
    """The table, a line for each backend of a row."""
    parts = []
    for row in rows:
        machines = ",\n".join(f"      {json.dumps(name)}: {_line(one)}" for name, one in row["machines"].items())
        said = ",\n".join(f"    {json.dumps(key)}: {json.dumps(row[key])}" for key in row if key != "machines")
        parts.append(f'  {{\n{said},\n    "machines": {{\n{machines}\n    }}\n  }}')
    return "[\n" + ",\n".join(parts) + "\n]\n"


def _line(numbers: dict[str, Any]) -> str:
    """The numbers of a machine as an object of JSON in one line, without their zeros."""
    pairs = (
        f"{json.dumps(key)}: {f'{value:g}' if isinstance(value, float) else json.dumps(value)}"
        for key, value in numbers.items()
    )
    return "{" + ", ".join(pairs) + "}"
