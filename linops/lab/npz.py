"""Reads arrays of a ``.npz`` file, headers first: unpickles nothing, allocates nothing that the file does not hold."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any
from zipfile import BadZipFile, ZipFile
from zlib import error as ZlibError

import numpy as np
from numpy.lib import format as npy

from linops.lab import memory


def read(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Arrays of numbers.

    Args:
        path: The file.
        names: Of the arrays.

    Returns:
        The arrays, in the order of their names.

    Raises:
        ValueError: If it is no such file, an array is missing, or a member is no array of numbers or shorter than its
            header says.
        MemoryError: If the arrays do not fit this machine's memory.
    """
    try:
        with ZipFile(path) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
            if missing := [name for name in names if name not in members]:
                raise ValueError(f"no array {', '.join(missing)}; it holds {', '.join(members) or 'none'}")
            memory.require(sum(archive.getinfo(members[name]).file_size for name in names), str(path))
            return [_array(archive, name, members[name]) for name in names]
    except BadZipFile:
        raise ValueError("no file that numpy.savez has written") from None
    except (OSError, EOFError, ZlibError, NotImplementedError, RuntimeError, OverflowError) as error:
        # zip's ways to be damaged
        raise ValueError(f"damaged: {error}") from None


def names(path: Path) -> list[str]:
    """The names of a file's arrays.

    Args:
        path: The file.

    Returns:
        The names.

    Raises:
        ValueError: If it is no such file.
        OSError: If it cannot be read.
    """
    try:
        with ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    except (BadZipFile, NotImplementedError, EOFError):
        raise ValueError(f"{path}: no file that numpy.savez has written") from None


def _array(archive: ZipFile, name: str, member: str) -> np.ndarray:
    with archive.open(member) as file:
        try:
            shape, fortran, dtype = _header(file)
        except (ValueError, TypeError, SyntaxError, EOFError, TokenError, RecursionError, MemoryError):
            # Python's parser reads it
            raise ValueError(f"{name} is no array that numpy has written") from None
        if dtype.hasobject:
            raise ValueError(f"{name} is {dtype} of shape {shape}; expected numbers")
        size, held = prod(shape) * dtype.itemsize, archive.getinfo(member).file_size - file.tell()
        if size != held or any(length < 0 for length in shape):
            raise ValueError(
                f"{name} is {dtype} of shape {shape}, {size:,} bytes, by its header, but the file holds {held:,}"
            )
        flat = np.frombuffer(file.read(), dtype) if size else np.zeros(0, dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version: Any = npy.read_magic(file)
    read: Any = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"format {version}")
    return read(file)
