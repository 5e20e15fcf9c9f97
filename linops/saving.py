"""`save` and `load`: operators in safetensors files, numbers and structure.

A file holds the leaves as tensors by their names in `LinearOperator.named_leaves`, and the structure as text in its
metadata (`linops.encoding`). So any reader of safetensors finds the numbers, and `load` gives the operator. Nothing in
a file is ever run: it is no pickle, and is read within bounds of memory and time, whoever wrote it.

    metadata["linops"]                  {"version": 1, "holds": "operator", "tensors": {…}}
    metadata["linops.structure:<name>"] the structure of the operator of this name ("" if it is the only one)
    tensors                             "<name>.<leaf>", or "<leaf>" of the only one

Under ``tensors`` stands what the format cannot say of a tensor: ``{"same": other, "axes": order, "conj": true}`` of an
array that is there already, its axes in this order and conjugated, as in A @ A.T; ``{"pairs": true}`` of complex128 as
pairs of float64; ``{"spec": true}`` of a leaf without numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from linops import backends, strict_json
from linops.encoding import from_json, to_json
from linops.operator import LinearOperator
from linops.safetensors import DTYPES, SIZES, Tensors, opened, stored, write
from linops.specs import Spec, dtype_name
from linops.structure import Structure

VERSION = 1
#: metadata by name: of the file, and before the name of an operator
DOCUMENT, STRUCTURE = "linops", "linops.structure:"
#: bytes of an index array that stands in the text
INLINE = 1 << 16
_CODES = {name: code for code, name in DTYPES.items()}


def save(path: str | Path, value: Any) -> None:
    """Write an operator, or operators and arrays by name, to a safetensors file.

    The file is written beside the old one of this name and put in its place when it is whole and on the disk, so a
    fault or a full disk leaves the old one. Leaves are written one after the other, each by way of one copy in host
    memory at most. A leaf that stands in several places is written once.

    Args:
        path: The file; ``.safetensors`` is the usual suffix. One that holds something else than operators of linops is
            not replaced.
        value: An operator of any backend, which may be symbolic; or a dict of names to operators and arrays.

    Raises:
        TypeError: If an operator holds a callable, as `Function` does, or a dtype that the format has not.
        ValueError: If two tensors would have one name, or a tensor has no numbers.
        FileExistsError: If the file is there and is none of linops.
        OSError: If it cannot be written.

    Cost: one pass over the numbers.

    Example:
        >>> import linops as lo, tempfile, os
        >>> A = lo.btt(64, 16).init(seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     lo.save(os.path.join(folder, "a.safetensors"), A)
        ...     B = lo.load(os.path.join(folder, "a.safetensors"))
        >>> B.structure == A.structure, bool((A.to_dense() == B.to_dense()).all())
        (True, True)
    """
    single = isinstance(value, LinearOperator)
    if not single and not isinstance(value, Mapping):
        raise TypeError(
            f"lo.save({str(path)!r}, …): expected an operator or a dict of them, got {type(value).__name__}"
        )
    contents = Contents()
    for name, item in [("", value)] if single else value.items():
        if not isinstance(name, str):
            raise TypeError(f"lo.save({str(path)!r}, …): names are texts, got {name!r:.60}")
        contents.add(name, item)
    contents.write(path, "operator" if single else "dict")


def load(path: str | Path, backend: str = "numpy", device: Any = None) -> Any:
    """The operator, or the operators and arrays by name, that a file holds.

    On NumPy and on torch's CPU numbers are mapped into memory: pages are read when they are first used, and copied when
    they are written to; the file stays as it is.

    Args:
        path: A file from `save`, `lo.nn.save` or ``linops compress``; it need not be trusted.
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.
        device: A device of the framework; None takes its default.

    Returns:
        What was saved, with its dtypes and tags: an operator, or a dict. A model's file gives a dict of the operators
        of its structured layers by the layers' names, and of all other arrays.

    Raises:
        ValueError: If it is no such file, is damaged, or of a newer version.
        TypeError: If the backend cannot hold a dtype, as JAX without x64 cannot hold float64.
        OSError: If it cannot be read.
    """
    backends.load(backend)
    file = opened(path)
    try:
        found = dict(Reader(file, backend, device).items())
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{file.path}: damaged, or no file of linops: {error!s:.500}") from None
    return found[""] if set(found) == {""} else found


class Contents:
    """What is to be written to a file.

    Attributes:
        metadata: Texts by name.
    """

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}
        self._arrays: dict[str, tuple[str, tuple[int, ...], Any]] = {}
        self._notes: dict[str, dict[str, Any]] = {}
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
        count = 0

        def keep(array: np.ndarray) -> str | None:
            nonlocal count
            if array.nbytes <= INLINE:
                return None
            kept = f"{name}.index.{count}" if name else f"index.{count}"
            self.add_array(kept, array)
            count += 1
            return kept

        if STRUCTURE + name in self.metadata:
            raise ValueError(f"two operators are called {name!r}")
        try:
            self.metadata[STRUCTURE + name] = to_json(structure, keep)
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
        if backend is None and not isinstance(array, np.ndarray):
            raise TypeError(f"{name!r} is a {type(array).__name__}; operators and arrays are saved")
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
    if not path.exists():
        return
    try:
        own = DOCUMENT in opened(path).metadata
    except (OSError, ValueError):
        own = False
    if not own:
        raise FileExistsError(f"{path} is there, and linops did not save it: take another path, or delete it first")


class Reader:
    """What a file holds, on a backend.

    Attributes:
        file: The file.
        document: What it says of itself.

    Args:
        file: The file.
        backend: The backend.
        device: A device of it, or None.

    Raises:
        ValueError: If linops did not write it, or a newer one.
    """

    def __init__(self, file: Tensors, backend: str, device: Any = None) -> None:
        if DOCUMENT not in file.metadata:
            raise ValueError("linops did not save it: its metadata say no structure; read its tensors with safetensors")
        self.file, self.document = file, strict_json.loads(file.metadata[DOCUMENT])
        self._backend, self._device = backend, device
        version = self.document.get("version") if isinstance(self.document, dict) else None
        if type(version) is not int or not 1 <= version <= VERSION:
            raise ValueError(f"it is of version {version!r:.60}; this linops reads 1 to {VERSION}: install a newer one")
        self._notes = self.document.get("tensors", {})
        if not isinstance(self._notes, dict) or not all(isinstance(note, dict) for note in self._notes.values()):
            raise ValueError("its document is wrong")
        self._arrays: dict[str, Any] = {}
        self._used: set[str] = set()

    def items(self) -> Iterator[tuple[str, Any]]:
        """All operators, then the other arrays, with their names."""
        for key in self.file.metadata:
            if key.startswith(STRUCTURE):
                name = key.removeprefix(STRUCTURE)
                yield name, self.operator(name)
        for name in [*self.file.entries, *self._notes]:
            if name not in self._used:
                yield name, self.array(name)

    def structure(self, name: str) -> Structure:
        """An operator's structure.

        Args:
            name: The operator's name.

        Returns:
            The structure.

        Raises:
            ValueError: If it is damaged.
        """
        return from_json(self.file.metadata[STRUCTURE + name], self._index)

    def operator(self, name: str) -> Any:
        """An operator.

        Args:
            name: Its name.

        Returns:
            The operator.

        Raises:
            ValueError: If its structure is damaged, or a leaf is missing or is not as the structure says.
        """
        try:
            structure = self.structure(name)
            leaves = [
                self._leaf(f"{name}.{leaf}" if name else leaf, spec) for leaf, spec in structure.operator.named_leaves()
            ]
        except (ValueError, KeyError) as error:
            raise ValueError(f"operator {name!r}: {error}" if name else str(error)) from None
        operator = structure.fill(leaves)
        return operator if operator.is_symbolic else operator.to(backend=self._backend, device=self._device)

    def array(self, name: str) -> Any:
        """An array.

        Args:
            name: Its name.

        Returns:
            The array; a spec where it has no numbers.

        Raises:
            ValueError: If it is not there.
        """
        self._used.add(name)
        note = self._notes.get(name, {})
        if "same" not in note:
            if name not in self._arrays:
                self._arrays[name] = backends.asarray(self._numbers(name), self._backend, device=self._device)
            return self._arrays[name]
        if not isinstance(note["same"], str) or "same" in self._notes.get(note["same"], {}):
            raise ValueError(f"tensor {name!r:.200} is the same as one that is none")
        array, order = self.array(note["same"]), note.get("axes")
        if order is not None:
            if not isinstance(order, list) or sorted(order) != list(range(len(array.shape))):
                raise ValueError(f"tensor {name!r:.200} has axes in the order {order!r:.60}, which is none")
            array = backends.namespace(self._backend).permute_dims(array, tuple(order))
        return backends.conj(array) if note.get("conj") else array

    def _numbers(self, name: str) -> np.ndarray:
        """A tensor as it is in the file."""
        if name not in self.file.entries:
            raise ValueError(f"tensor {name!r:.200} is missing")
        array = self.file.map(name)
        if not self._notes.get(name, {}).get("pairs"):
            return array
        if array.dtype != np.float64 or array.shape[-1:] != (2,):
            raise ValueError(f"tensor {name!r:.200} is {array.dtype} {array.shape}: no pairs of float64")
        return array.view(np.complex128)[..., 0]

    def _leaf(self, name: str, spec: Spec) -> Any:
        """A leaf, which is as the structure says."""
        if self._notes.get(name, {}).get("spec"):
            self._used.add(name)
            return spec
        array = self.array(name)
        if tuple(array.shape) != spec.shape or dtype_name(array.dtype) != dtype_name(spec.dtype):
            raise ValueError(
                f"tensor {name!r:.200} is {dtype_name(array.dtype)} {tuple(array.shape)}, expected "
                f"{dtype_name(spec.dtype)} {spec.shape}"
            )
        return array

    def _index(self, name: Any) -> np.ndarray:
        """An index array that is kept beside the text."""
        if not isinstance(name, str):
            raise ValueError(f"no index array {name!r:.60}")
        self._used.add(name)
        array = self._numbers(name)
        if array.dtype.kind not in "iu":
            raise ValueError(f"index array {name!r:.200} is {array.dtype}")
        return array.copy()
