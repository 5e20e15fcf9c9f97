"""Checkpoints that a killed run resumes from exactly, and logs that a resumed run continues."""

from __future__ import annotations

import json
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from linops.replacing import replacing


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes a checkpoint; a run killed while writing leaves the previous one.

    Args:
        path: The file.
        state: Tensors, numbers, strings, lists and dicts.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(path) as file:
            torch.save(state, file)
    except RuntimeError as error:  # torch's own, which does not say why
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise OSError(f"{path} cannot be written: {error}") from None


def load(path: Path, device: Any = "cpu") -> dict[str, Any] | None:
    """Reads a checkpoint.

    Args:
        path: The file.
        device: Where its tensors go.

    Returns:
        The state, or None if there is no such file.

    Raises:
        ValueError: If it is no checkpoint.
    """
    if not path.is_file():
        return None
    try:
        return dict(torch.load(path, map_location=device, weights_only=True))
    except (RuntimeError, ValueError, TypeError, LookupError, EOFError, OSError, UnpicklingError) as error:
        # torch's own advice is to read what is not trusted
        reason = "" if isinstance(error, UnpicklingError) else f" ({' '.join(str(error).split()):.100})"
        raise ValueError(f"{path} is damaged{reason}: take another --out, or --force to train anew") from None


class Log:
    """A file of JSON lines, one a step.

    Args:
        path: The file, or None to write nothing.
        step: Keep the lines of earlier steps, drop the rest: where a resumed run goes on.
    """

    def __init__(self, path: Path | None, step: int = 0) -> None:
        self.path = path
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [line for line in read_lines(path) if line["step"] < step] if step else []
        with replacing(path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines).encode())

    def write(self, lines: list[dict[str, Any]]) -> None:
        """Appends lines.

        Args:
            lines: One dict a line.
        """
        if self.path is not None:
            with self.path.open("a") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; one that a killed run did not finish is left out.

    Args:
        path: The file.

    Returns:
        One dict a line; none if there is no such file.
    """
    if not path.is_file():
        return []
    lines = path.read_text().split("\n")[:-1]  # what follows the last newline was not finished
    return [json.loads(line) for line in lines]
