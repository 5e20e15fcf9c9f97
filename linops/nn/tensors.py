"""Safetensors files tensor by tensor: headers are checked before anything is read, and never trusted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

#: bytes of a number by its name in the format
SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2}
SIZES |= {"I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8}
#: floating numbers by their names here
FLOATS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
#: the largest header that the format allows
LONGEST = 100_000_000
#: bytes that are copied at a time
CHUNK = 1 << 24


@dataclass(frozen=True)
class Entry:
    """A tensor of a file.

    Attributes:
        dtype: By the format's name.
        shape: Its shape.
        begin: Where it starts in the file, in bytes.
        end: Where it ends.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Tensors:
    """A file of tensors.

    Attributes:
        path: The file.
        entries: Its tensors by name, in its order.
        metadata: Texts by name.
    """

    path: Path
    entries: dict[str, Entry]
    metadata: dict[str, str]

    def read(self, name: str) -> np.ndarray:
        """A floating tensor, in single precision where it is in half.

        Args:
            name: Its name.

        Returns:
            The array.

        Raises:
            ValueError: If it is none, or the file is shorter than it was.
        """
        one = self.entries[name]
        if one.dtype not in FLOATS:
            raise ValueError(f"{self.path}: tensor {name!r} is {one.dtype}; expected one of {', '.join(FLOATS)}")
        with self.path.open("rb") as file:
            file.seek(one.begin)
            data = file.read(one.end - one.begin)
        if len(data) != one.end - one.begin:
            raise ValueError(f"{self.path}: cut off in tensor {name!r}")
        if one.dtype == "BF16":
            wide = np.frombuffer(data, "<u2").astype(np.uint32) << 16
            return wide.view(np.float32).reshape(one.shape)
        found = np.frombuffer(data, np.dtype(FLOATS[one.dtype]).newbyteorder("<")).reshape(one.shape)
        return found.astype(np.float32 if one.dtype == "F16" else FLOATS[one.dtype])

    def copy(self, name: str, to: BinaryIO) -> None:
        """Copy a tensor's bytes.

        Args:
            name: Its name.
            to: The file.

        Raises:
            ValueError: If the file is shorter than it was.
        """
        one = self.entries[name]
        with self.path.open("rb") as file:
            file.seek(one.begin)
            left = one.end - one.begin
            while left:
                data = file.read(min(left, CHUNK))
                if not data:
                    raise ValueError(f"{self.path}: cut off in tensor {name!r}")
                to.write(data)
                left -= len(data)


def opened(path: str | Path) -> Tensors:
    """What a file says that it holds.

    Args:
        path: The file.

    Returns:
        The tensors, of which none is read.

    Raises:
        ValueError: If it is no such file, or is damaged.
        OSError: If it cannot be read.
    """
    path = Path(path)
    size = path.stat().st_size
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST):
            raise ValueError(f"{path}: no safetensors file, or cut off: its header does not fit into {size:,} bytes")
        text = file.read(length)
    try:
        header = json.loads(text.decode(), object_pairs_hook=_unique)
        if not isinstance(header, dict):
            raise ValueError("it is no object")
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata are no texts")
        entries = {name: _entry(name, one, 8 + length) for name, one in header.items()}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path}: no safetensors file, or damaged: its header is wrong: {error!s:.200}") from None
    end = 8 + length
    for name, one in sorted(entries.items(), key=lambda pair: (pair[1].begin, pair[1].end)):
        if one.begin != end:
            raise ValueError(f"{path}: damaged: tensor {name!r} does not begin where the one before it ends")
        end = one.end
    if end != size:
        raise ValueError(f"{path}: cut off or damaged: it has {size:,} bytes, its header says {end:,}")
    return Tensors(path, entries, metadata)


def write(
    path: Path,
    entries: Mapping[str, tuple[str, tuple[int, ...]]],
    metadata: Mapping[str, str],
    parts: Iterable[Callable[[BinaryIO], object]],
) -> None:
    """Write a file tensor by tensor.

    Args:
        path: The file.
        entries: The dtype and shape of each tensor by name, in the order in which they are written.
        metadata: Texts by name.
        parts: What writes the tensors, one after the other.

    Raises:
        ValueError: If other than the bytes of the entries were written.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape) in entries.items():
        begin, end = end, end + prod(shape) * SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LONGEST:
        raise ValueError(f"{path}: the header would have {len(text):,} bytes; the format allows {LONGEST:,}")
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for part in parts:
            part(file)
        if file.tell() != 8 + len(text) + end:
            raise ValueError(f"{path}: {file.tell() - 8 - len(text):,} bytes were written, not {end:,}")
        file.flush()
        os.fsync(file.fileno())


def encoded(array: np.ndarray, dtype: str) -> bytes:
    """The bytes of an array of floating numbers.

    Args:
        array: The array.
        dtype: By the format's name.

    Returns:
        The bytes.

    Raises:
        ValueError: If a number is too large for it.
    """
    if dtype == "BF16":
        bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
        with np.errstate(over="ignore"):  # to nearest, of two the even one
            found = ((bits + (0x7FFF + ((bits >> 16) & 1)).astype(np.uint32)) >> 16).astype("<u2")
        finite = bool(np.all((found & 0x7F80) != 0x7F80))
    else:
        with np.errstate(over="ignore"):
            found = np.ascontiguousarray(array).astype(np.dtype(FLOATS[dtype]).newbyteorder("<"))
        finite = bool(np.all(np.isfinite(found)))
    if not finite:
        raise ValueError(f"a number is too large for {FLOATS[dtype]}")
    return found.tobytes()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _entry(name: str, given: Any, start: int) -> Entry:
    """A tensor as a header describes it."""
    dtype, shape, offsets = given["dtype"], given["shape"], given["data_offsets"]
    sizes = [*shape, *offsets]
    if not all(type(one) is int and one >= 0 for one in sizes) or len(offsets) != 2 or dtype not in SIZES:
        raise ValueError(f"tensor {name!r:.80} is {dtype!s:.20} of shape {shape!s:.40} at {offsets!s:.60}")
    begin, end = offsets
    if end - begin != prod(shape) * SIZES[dtype]:
        raise ValueError(f"tensor {name!r:.80} of shape {shape!s:.40} does not fill its {end - begin:,} bytes")
    return Entry(dtype, tuple(shape), start + begin, start + end)
