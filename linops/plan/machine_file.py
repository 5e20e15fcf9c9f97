"""The user's own machine file, which ``python -m benchmarks calibrate --save`` writes.

It is JSON, in the platform's folder for configuration, or where the environment variable LINOPS_MACHINE says; set to
nothing, no file is read, and plans are those of the first row of `linops.plan.processors` on every CPU::

    {"format": "linops.machine", "version": 1, "name": "AMD EPYC, 1 thread",
     "machines": {"torch/cpu": {"call": 6.2e-06, …, "rates": [[2, 1e12]]}}}
"""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from dataclasses import asdict, fields
from pathlib import Path
from typing import TypeGuard

from linops.plan.machine import Machine

FORMAT, VERSION, VARIABLE = "linops.machine", 1, "LINOPS_MACHINE"


def machine_file() -> Path | None:
    """Where the user's machine file is, or would be.

    Returns:
        The path; None if the environment variable is set to nothing.
    """
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE]).expanduser() if os.environ[VARIABLE] else None
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return base / "linops" / "machine.json"


def save(path: Path, name: str, machines: dict[tuple[str, str], Machine]) -> None:
    """Write a machine file; one that is there is replaced once the new one is whole.

    Args:
        path: Where to.
        name: What the numbers are of.
        machines: The numbers by backend and kind of device.
    """
    listed = {f"{backend}/{device}": asdict(machine) for (backend, device), machine in machines.items()}
    document = {"format": FORMAT, "version": VERSION, "name": name, "machines": listed}
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(document, indent=2) + "\n")
    new.replace(path)


def load(path: Path) -> tuple[str, dict[tuple[str, str], Machine]]:
    """What a machine file says.

    Args:
        path: The file.

    Returns:
        What the numbers are of, and the numbers by backend and kind of device.

    Raises:
        ValueError: If it is no machine file; the message says why.
        OSError: If it cannot be read.
    """
    try:
        document = json.loads(path.read_text())
        if document["format"] != FORMAT or document["version"] != VERSION:
            raise ValueError(f"expected format {FORMAT!r} of version {VERSION}")
        found = {}
        for key, numbers in document["machines"].items():
            backend, _, device = key.partition("/")
            found[backend, device] = machine_of(key, numbers)
        return str(document["name"]), found
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is no machine file ({type(error).__name__}: {error}); "
            "python -m benchmarks calibrate --save writes one"
        ) from None


def machine_of(key: str, numbers: dict[str, object]) -> Machine:
    """A machine from its numbers, as they stand in files.

    Args:
        key: What errors call it.
        numbers: The numbers by name.

    Returns:
        The machine.

    Raises:
        ValueError: If one has no such name, or cannot be.
    """
    known = {field.name: field for field in fields(Machine)}
    if strange := numbers.keys() - known.keys():
        raise ValueError(f"{key}: no number {min(strange)!r}")
    values = {name: value for name, value in numbers.items() if name != "rates"}
    rates = tuple((int(size), rate) for size, rate in numbers.get("rates", ()))  # type: ignore[attr-defined]
    for name, value in [*values.items(), *(("rates", rate) for _, rate in rates)]:
        least = 0 if name in ("looped", "loops", "turned") else 1e-30
        if not (_is_number(value) and least <= value < math.inf):
            raise ValueError(f"{key}: {name} must be a positive number, got {value!r}")
    return Machine(**values, rates=rates)  # type: ignore[arg-type]


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def own() -> tuple[str, dict[tuple[str, str], Machine]]:
    """What the user's machine file says; nothing where there is none, and with a warning where it cannot be used."""
    try:
        path = machine_file()
    except RuntimeError:  # a user without a home
        path = None
    if path is None or not os.path.isfile(path):  # in a folder that cannot be read there is none
        if path is not None and VARIABLE in os.environ:
            _warn(
                f"{VARIABLE} names {path}, where there is no file; python -m benchmarks calibrate --save writes one "
                "there; set to nothing, the variable asks for none"
            )
        return "", {}
    try:
        return load(path)
    except (ValueError, OSError) as error:
        _warn(str(error))
        return "", {}


def _warn(why: str) -> None:
    warnings.warn(f"the numbers that linops has are used instead: {why}", RuntimeWarning, stacklevel=3)
