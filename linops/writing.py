"""What is to be written to a file of linops: operators and arrays, by name.

    metadata["linops"]                  {"version": 1, "holds": "operator", "tensors": {…}}
    metadata["linops.structure:<name>"] the structure of the operator of this name ("" if it is the only one)
    tensors                             "<name>.<leaf>", or "<leaf>" of the only one

Under ``tensors`` stands what the format cannot say of a tensor: ``{"same": other, "axes": order, "conj": true}`` of an
array that is there already, its axes in this order and conjugated, as in A @ A.T; ``{"pairs": true}`` of complex128 as
pairs of float64; ``{"spec": true}`` of a leaf without numbers. Index arrays that are too long for the text are tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from linops import backends
from linops.encoding import to_json
from linops.operator import LinearOperator
from linops.safetensors import DTYPES, SIZES, opened, stored, write
from linops.specs import Spec, dtype_name
from linops.structure import Structure

VERSION = 1
#: metadata by name: of the file, and before the name of an operator
DOCUMENT, STRUCTURE = "linops", "linops.structure:"
#: bytes of an index array that stands in the text
INLINE = 1 << 16
_CODES = {name: code for code, name in DTYPES.items()}


class Contents:
    """What is to be written to a file.

    Attributes:
        metadata: Texts by name.
    """

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}
        self._arrays: dict[str, tuple[str, tuple[int, ...], Any]] = {}
        self._notes: dict[str, dict[str, Any]] = {}
        self._kept = 0
        self._seen: dict[Any, tuple[str, tuple[int, ...], bool]] = {}

    def add(self, name: str, value: Any) -> None:
        """Add an operator or an array.

        Args:
            name: Its name.
            value: The operator or array.

        Raises:
            TypeError: If it is none, or cannot be held.
            ValueError: If the name is there already, or there are no numbers.
        """
        if not isinstance(value, LinearOperator):
            return self.add_array(name, value)
        self.add_structure(name, value.structure)
        for leaf, array in value.named_leaves():
            self.add_array(f"{name}.{leaf}" if name else leaf, array)

    def add_structure(self, name: str, structure: Structure) -> None:
        """Add a structure, and those of its index arrays that are long.

        Args:
            name: The operator's name.
            structure: The structure.

        Raises:
            TypeError: If it holds a callable.
        """
        if STRUCTURE + name in self.metadata:
            raise ValueError(f"two operators are called {name!r}")
        try:
            self.metadata[STRUCTURE + name] = to_json(structure, partial(self.keep, name=name and f"{name}."))
        except TypeError as error:
            what = f"operator {name!r}" if name else "the operator"
            raise TypeError(f"{what} cannot be saved: {error}; save the arrays that it is made of") from None

    def add_array(self, name: str, array: Any) -> None:
        """Add an array.

        Args:
            name: Its name.
            array: An array of any backend, or a spec.

        Raises:
            TypeError: If it is none, or of a dtype that the format has not.
            ValueError: If the name is there already, or it has no numbers.
        """
        if name in self._arrays or name in self._notes:
            raise ValueError(f"two tensors are called {name!r}")
        if isinstance(array, Spec):
            self._notes[name] = {"spec": True}
            return
        backend = backends.backend_of(array)
        if backend is None and type(array) is not np.memmap:
            raise TypeError(f"{name!r} is a {type(array).__name__}; operators and arrays are saved")
        layout = str(getattr(array, "layout", "")) if backend == "torch" else ""
        if layout not in ("", "torch.strided"):
            raise TypeError(f"tensor {name!r} is {layout}: save lo.aslinearoperator of it, or its dense numbers")
        if getattr(array, "is_meta", False) or backends.is_traced(array):
            raise ValueError(f"tensor {name!r} has no numbers: it is on the meta device, or traced")
        if same := self._same(name, array):
            self._notes[name] = same
            return
        dtype, shape = dtype_name(array.dtype), tuple(array.shape)
        if dtype == "complex128":
            self._notes[name] = {"pairs": True}
            dtype, shape = "float64", (*shape, 2)
        if dtype not in _CODES:
            raise TypeError(f"tensor {name!r} is {dtype}, which safetensors files cannot hold; convert it first")
        self._arrays[name] = _CODES[dtype], shape, array

    def _same(self, name: str, array: Any) -> dict[str, Any] | None:
        """The note of an array whose numbers are there already; remembers one whose are not."""
        if 0 in array.shape:
            return None
        key, strides, conj = backends.memory(array)
        axes = sorted(range(len(strides)), key=lambda axis: (-strides[axis], array.shape[axis]))
        key = key, tuple((strides[axis], array.shape[axis]) for axis in axes)
        if key not in self._seen:
            self._seen[key] = name, tuple(axes), conj
            return None
        first, before, conjugated = self._seen[key]
        order = [before[axes.index(axis)] for axis in range(len(axes))]
        note: dict[str, Any] = {"same": first}
        note |= {} if order == sorted(order) else {"axes": order}
        return note | ({} if conj == conjugated else {"conj": True})

    def keep(self, array: np.ndarray, name: str) -> str | None:
        """Add an index array that is too long for the text.

        Args:
            array: The array.
            name: A prefix of the name that it gets.

        Returns:
            The name; None if it is to stand in the text.
        """
        if array.nbytes <= INLINE:
            return None
        self._kept += 1
        kept = f"{name}index.{self._kept - 1}"
        self.add_array(kept, array)
        return kept

    def write(self, path: str | Path, holds: str, more: Mapping[str, Any] | None = None) -> None:
        """Write the file.

        Args:
            path: The file.
            holds: ``"operator"``, ``"dict"`` or ``"model"``.
            more: What else its document says.

        Raises:
            FileExistsError: If the file is there and is none of linops.
            OSError: If it cannot be written.
        """
        require_own(Path(path))
        document = {"version": VERSION, "holds": holds, "tensors": self._notes, **(more or {})}
        order = sorted(self._arrays.items(), key=lambda item: -SIZES[item[1][0]])  # so that each is aligned
        entries = {name: (code, shape) for name, (code, shape, _) in order}
        metadata = self.metadata | {DOCUMENT: json.dumps(document, allow_nan=False)}
        write(path, entries, metadata, [partial(_store, array) for _, (_, _, array) in order])


def _store(array: Any, to: BinaryIO) -> None:
    numbers = np.ascontiguousarray(backends.to_numpy(array)).reshape(-1)
    stored(numbers.view(np.float64) if numbers.dtype == np.complex128 else numbers)(to)


def require_own(path: Path) -> None:
    """Refuse to write over a file that is none of linops.

    Args:
        path: The file.

    Raises:
        FileExistsError: If it is there, and is none.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file in it")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{path} is no regular file: take another path")
    if not path.exists() or not path.stat().st_size:
        return
    try:
        own = DOCUMENT in opened(path).metadata
    except (OSError, ValueError):
        own = False
    if not own:
        raise FileExistsError(f"{path} is there, and linops did not save it: take another path, or delete it first")
