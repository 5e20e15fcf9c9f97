"""Whether a command can write where it was told to, asked before anything is computed."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile

from rich.console import Console

#: what plots are written as, by the suffix of the file
FORMATS = (".png", ".pdf", ".svg", ".jpg")


def require_folder(path: Path) -> None:
    """Sees that a folder is there, or can be made, and that files can be written to it; makes nothing.

    Args:
        path: The folder.

    Raises:
        ValueError: If it or one above it is a file, or it cannot be made or written to.
    """
    try:
        nearest = next(folder for folder in (path, *path.parents) if folder.exists())
        if not nearest.is_dir():
            raise ValueError(f"folder {str(path)!r}: {str(nearest)!r} is a file; name a folder")
        with TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise ValueError(f"folder {str(path)!r} cannot be written to: {error.strerror or error}") from None


def require_plot(path: Path) -> None:
    """Sees that a plot can be written to a file: its suffix is a format, its folder is there or can be made.

    Args:
        path: The file.

    Raises:
        ValueError: If not.
    """
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"plot {str(path)!r}: its suffix says no format; expected one of {', '.join(FORMATS)}")
    if path.is_dir():
        raise ValueError(f"plot {str(path)!r} is a folder; name a file")
    require_folder(path.parent)
    if path.exists() and not os.access(path, os.W_OK):
        raise ValueError(f"plot {str(path)!r} is there and cannot be written to")


def say_files(console: Console, folder: Path, *names: str) -> None:
    """Prints which files were written.

    Args:
        console: Where to print.
        folder: Their folder.
        *names: Their names.
    """
    console.print(", ".join(str(folder / name) for name in names), highlight=False, markup=False, soft_wrap=True)
