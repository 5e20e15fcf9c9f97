"""Text as bytes: the Python standard library's own source, or the user's files."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np

#: at most so many bytes are read
MOST = 8_000_000


def load_text(source: str | None = None) -> np.ndarray:
    """The bytes of a text.

    Args:
        source: A file; a folder, whose readable files are joined in order of path; or None for the modules of the
            Python standard library (its packages and tests left out).

    Returns:
        (length,) uint8; at most 8 MB.

    Raises:
        ValueError: If there is no such file or folder, or it holds less than 10,000 bytes.

    Example:
        >>> text = load_text()
        >>> text.dtype.name, len(text) > 10_000
        ('uint8', True)
    """
    if source is None:
        paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    else:
        root = Path(source)
        if not root.exists():
            raise ValueError(f"text {source!r}: no such file or folder")
        paths = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root]
    parts, size = [], 0
    for path in paths:
        content = path.read_bytes()[: MOST - size]
        parts.append(np.frombuffer(content, np.uint8))
        size += len(content)
        if size >= MOST:
            break
    if size < 10_000:
        raise ValueError(f"text {source!r}: {size} bytes; expected at least 10,000")
    return np.concatenate(parts)
