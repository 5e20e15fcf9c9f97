"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of another when it is whole and on the disk.

    A fault leaves the old file, and nothing beside it; a kill may leave a hidden file ``.NAME.….partial``.

    Args:
        path: The file; a link is followed.

    Yields:
        The new file, open for bytes.

    Raises:
        OSError: If it cannot be written.
    """
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    partial = path.with_name(f".{path.name:.100}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.chmod(partial, stat.S_IMODE(path.stat().st_mode))
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.errno and error.filename is None:  # a disk that is full says no name
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    with suppress(OSError):  # the folder's names too, where the system can
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
