"""Safetensors files tensor by tensor: headers are checked before anything is read, and never trusted.

The format is 8 bytes of the header's length, the header (a JSON object of dtypes, shapes and offsets, and of texts by
name), and the numbers, little-endian in C order. See https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from linops import strict_json
from linops.replacing import replacing
from linops.specs import numpy_dtype

#: bytes of a number by its name in the format
SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2}
SIZES |= {"I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8}
#: dtypes by their names in the format
DTYPES = {"BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "F16": "float16"}
DTYPES |= {"BF16": "bfloat16", "I32": "int32", "U32": "uint32", "F32": "float32", "I64": "int64", "U64": "uint64"}
DTYPES |= {"F64": "float64", "C64": "complex64"}
#: floating numbers by their names here
FLOATS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
#: axes of a tensor, and tensors of a file, that are read
MOST_AXES, MOST_TENSORS = 32, 100_000
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


@dataclass(frozen=True, eq=False)
class Tensors:
    """A file of tensors.

    Attributes:
        path: The file.
        entries: Its tensors by name, in its order.
        metadata: Texts by name.
        file: It, open, so that all is of one file, also if another takes its name.
    """

    path: Path
    entries: dict[str, Entry]
    metadata: dict[str, str]
    file: BinaryIO

    def __post_init__(self) -> None:
        weakref.finalize(self, self.file.close)

    def _bytes(self, begin: int, count: int) -> bytes:
        """Bytes of the file, fewer if it has become shorter."""
        self.file.seek(begin)
        return self.file.read(count)

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
        data = self._bytes(one.begin, one.end - one.begin)
        if len(data) != one.end - one.begin:
            raise ValueError(f"{self.path}: cut off in tensor {name!r}")
        if one.dtype == "BF16":
            wide = np.frombuffer(data, "<u2").astype(np.uint32) << 16
            return wide.view(np.float32).reshape(one.shape)
        found = np.frombuffer(data, np.dtype(FLOATS[one.dtype]).newbyteorder("<")).reshape(one.shape)
        return found.astype(np.float32 if one.dtype == "F16" else FLOATS[one.dtype])

    def map(self, name: str) -> np.ndarray:
        """A tensor in its own dtype, mapped into memory: its pages are read when they are first used.

        Args:
            name: Its name.

        Returns:
            The array, which may be written to; the file stays as it is.

        Raises:
            ValueError: If NumPy has no such dtype.
            TypeError: If it is bfloat16 and the package ml_dtypes is not installed.
        """
        one = self.entries[name]
        if one.dtype not in DTYPES:
            raise ValueError(f"{self.path}: tensor {name!r} is {one.dtype}; expected one of {', '.join(DTYPES)}")
        dtype = numpy_dtype(DTYPES[one.dtype])
        if one.begin == one.end:
            return np.empty(one.shape, dtype)
        bytes_ = np.memmap(self.file, np.uint8, "c", one.begin, (one.end - one.begin,)).view(np.ndarray)
        array = bytes_.view(dtype).reshape(one.shape)
        if sys.byteorder == "big" and dtype.itemsize > 1:
            return array.byteswap()
        return array if array.flags.aligned else array.copy()

    def copy(self, name: str, to: BinaryIO) -> None:
        """Copy a tensor's bytes.

        Args:
            name: Its name.
            to: The file.

        Raises:
            ValueError: If the file is shorter than it was.
        """
        one = self.entries[name]
        for begin in range(one.begin, one.end, CHUNK):
            data = self._bytes(begin, min(CHUNK, one.end - begin))
            if len(data) < min(CHUNK, one.end - begin):
                raise ValueError(f"{self.path}: cut off in tensor {name!r}")
            to.write(data)


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
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is {'a folder' if path.is_dir() else 'no file'}; name a safetensors file")
    file = path.open("rb")
    try:
        return _read(path, file)
    except BaseException:
        file.close()
        raise


def _read(path: Path, file: BinaryIO) -> Tensors:
    """The tensors of an open file."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise ValueError(f"{path}: no safetensors file, or cut off: its header does not fit into {size:,} bytes")
    if length > strict_json.LONGEST:
        raise ValueError(f"{path}: a header of {length:,} bytes; at most {strict_json.LONGEST:,} are read")
    text = file.read(length)
    try:
        header = strict_json.loads(text.decode())
        if not isinstance(header, dict):
            raise ValueError("it is no object")
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata are no texts")
        if len(header) > MOST_TENSORS:
            raise ValueError(f"it has {len(header):,} tensors; at most {MOST_TENSORS:,} are read")
        entries = {name: _entry(name, one, 8 + length) for name, one in header.items()}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: no safetensors file, or damaged: its header is wrong: {error!s:.200}") from None
    end = 8 + length
    for name, one in sorted(entries.items(), key=lambda pair: (pair[1].begin, pair[1].end)):
        if one.begin != end:
            raise ValueError(f"{path}: damaged: tensor {name!r} does not begin where the one before it ends")
        end = one.end
    if end != size:
        raise ValueError(f"{path}: cut off or damaged: it has {size:,} bytes, its header says {end:,}")
    return Tensors(path, entries, metadata, file)


def write(
    path: str | Path,
    entries: Mapping[str, tuple[str, tuple[int, ...]]],
    metadata: Mapping[str, str],
    parts: Iterable[Callable[[BinaryIO], object]],
) -> None:
    """Write a file tensor by tensor, whole or not at all: a file of this name stays until the new one is on the disk.

    Args:
        path: The file; a link is followed.
        entries: The dtype and shape of each tensor by name, in the order in which they are written.
        metadata: Texts by name.
        parts: What writes the tensors, one after the other.

    Raises:
        ValueError: If other than the bytes of the entries were written, or the header is longer than is read.
        OSError: If it cannot be written.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, (dtype, shape) in entries.items():
        begin, end = end, end + prod(shape) * SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if "__metadata__" in entries:
        raise ValueError(f"{path}: a tensor cannot be called '__metadata__', which the format keeps for texts")
    if len(entries) > MOST_TENSORS:
        raise ValueError(f"{path}: {len(entries):,} tensors; at most {MOST_TENSORS:,} are read: write several files")
    for one in (text, *metadata.values()):
        try:
            strict_json.require_short(one)
        except ValueError as error:
            raise ValueError(f"{path}: what says the structure is {error}: write several files") from None
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for part in parts:
            part(file)
        if file.tell() != 8 + len(text) + end:
            raise ValueError(f"{path}: {file.tell() - 8 - len(text):,} bytes were written, not {end:,}")


def stored(array: np.ndarray) -> Callable[[BinaryIO], object]:
    """What writes an array's numbers.

    Args:
        array: The array.

    Returns:
        A function of the file.
    """

    def store(to: BinaryIO) -> None:
        order = array.dtype.newbyteorder("<") if array.dtype.kind in "iufc" else array.dtype
        for start in range(0, max(1, len(flat := np.ascontiguousarray(array).reshape(-1))), CHUNK):
            to.write(flat[start : start + CHUNK].astype(order, copy=False).view(np.uint8).data)

    return store


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


def _entry(name: str, given: Any, start: int) -> Entry:
    """A tensor as a header describes it."""
    dtype, shape, offsets = given["dtype"], given["shape"], given["data_offsets"]
    sizes = [*shape, *offsets]
    right = isinstance(shape, list) and len(shape) <= MOST_AXES and len(offsets) == 2 and dtype in SIZES
    if not right or not all(type(one) is int and 0 <= one < 2**63 for one in sizes):
        raise ValueError(f"tensor {name!r:.80} is {dtype!s:.20} of shape {shape!s:.40} at {offsets!s:.60}")
    begin, end = offsets
    if end - begin != prod(shape) * SIZES[dtype]:
        raise ValueError(f"tensor {name!r:.80} of shape {shape!s:.40} does not fill its {end - begin:,} bytes")
    return Entry(dtype, tuple(shape), start + begin, start + end)
