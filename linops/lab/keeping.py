"""What a folder holds of earlier runs, and whether a command may go on with it: results are never replaced unasked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from linops.replacing import replacing

Row = dict[str, Any]
#: the fields of a row that differ between two runs of the same
TIMES = ("seconds", "cpu_seconds")


def kept_rows(path: Path, identities: Sequence[Row], resume: bool = True) -> list[Row | None]:
    """The rows of finished runs that need not run again.

    Args:
        path: The results.json of earlier runs; it may not be there.
        identities: What tells each run that was asked for from all others; all of it is in its row.
        resume: Whether to go on with earlier runs; otherwise they may be replaced.

    Returns:
        A row or None for each identity.

    Raises:
        ValueError: If the file is no list of rows, or holds runs that were not asked for.
    """
    if not resume or not path.exists():
        return [None] * len(identities)
    rows = _read(path)
    for row in rows:
        if not any(is_of(row, identity) for identity in identities):
            raise ValueError(
                f"{path} holds other runs ({_difference(row, identities)}): "
                "take another --out, or --force to replace them"
            )
    return [next((row for row in rows if is_of(row, identity)), None) for identity in identities]


def is_of(row: Row, identity: Row) -> bool:
    """Whether a row is of the run with this identity.

    Args:
        row: The row.
        identity: The identity.

    Returns:
        Whether all of the identity is in the row.
    """
    return all(name in row and row[name] == value for name, value in identity.items())


def write_rows(path: Path, rows: Sequence[Row], kept: Sequence[Row | None]) -> None:
    """Writes the rows so far and those kept rows that are still to come, so that a killed command loses none.

    Args:
        path: The file.
        rows: The rows of the first runs.
        kept: From `kept_rows`, for all runs.
    """
    write_json(path, [*rows, *(row for row in kept[len(rows) :] if row is not None)])


def write_json(path: Path, value: Any) -> None:
    """Writes JSON; a process killed while writing leaves the previous file.

    Args:
        path: The file.
        value: Plain data.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write((json.dumps(value, indent=1) + "\n").encode())


def _read(path: Path) -> list[Row]:
    try:
        rows = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): take another --out, or --force to replace it") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} holds no list of runs: take another --out, or --force to replace it")
    return rows


def _difference(row: Row, identities: Sequence[Row]) -> str:
    """What tells a row from the nearest of the runs that were asked for."""
    differing = [
        [name for name, value in identity.items() if name not in row or row[name] != value] for identity in identities
    ]
    names, nearest = min(zip(differing, identities), key=lambda pair: len(pair[0]))
    return ", ".join(
        f"{name} {row[name]!r}, now {nearest[name]!r}" if name in row else f"without {name}" for name in names
    )
