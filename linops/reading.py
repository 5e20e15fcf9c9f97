"""What a file of linops holds: operators and arrays, by name. A file is never trusted; see `linops.writing`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from linops import backends, strict_json
from linops.encoding import from_json
from linops.safetensors import DTYPES, Tensors
from linops.specs import Spec, dtype_name
from linops.structure import Structure
from linops.writing import DOCUMENT, STRUCTURE, VERSION


class Reader:
    """What a file holds, on a backend.

    Attributes:
        file: The file.
        document: What it says of itself.
        holds: ``"operator"``, ``"dict"`` or ``"model"``.

    Args:
        file: The file.
        backend: The backend.
        device: A device of it, or None.

    Raises:
        ValueError: If linops did not write it, or a newer one.
    """

    def __init__(self, file: Tensors, backend: str, device: Any = None) -> None:
        if DOCUMENT not in file.metadata:
            raise ValueError(
                "linops did not save it: its metadata say no structure; safetensors reads its tensors, from_pretrained "
                "a model of Hugging Face"
            )
        self.file, self.document = file, strict_json.loads(file.metadata[DOCUMENT])
        self._backend, self._device = backend, device
        version = self.document.get("version") if isinstance(self.document, dict) else None
        if type(version) is not int or not 1 <= version <= VERSION:
            raise ValueError(f"it is of version {version!r:.60}; this linops reads 1 to {VERSION}: install a newer one")
        self.holds = self.document.get("holds")
        if self.holds not in ("operator", "dict", "model"):
            raise ValueError(f"it holds {self.holds!r:.60}, which this linops does not know")
        self._notes = self.document.get("tensors", {})
        if not isinstance(self._notes, dict) or not all(isinstance(note, dict) for note in self._notes.values()):
            raise ValueError("its document is wrong")
        self._arrays: dict[str, Any] = {}
        self._used: set[str] = set()

    @property
    def names(self) -> list[str]:
        """The tensors that belong to no operator asked for so far."""
        return [name for name in dict.fromkeys([*self.file.entries, *self._notes]) if name not in self._used]

    def items(self) -> Iterator[tuple[str, Any]]:
        """All operators, then the other arrays, with their names."""
        for key in self.file.metadata:
            if key.startswith(STRUCTURE):
                name = key.removeprefix(STRUCTURE)
                yield name, self.operator(name)
        for name in self.names:
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
        return from_json(self.file.metadata[STRUCTURE + name], self.index)

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
            return self.filled(structure, [f"{name}.{leaf}" if name else leaf for leaf in structure.names])
        except (ValueError, KeyError) as error:
            raise ValueError(f"operator {name!r}: {error}" if name else str(error)) from None

    def filled(self, structure: Structure, names: Iterable[str]) -> Any:
        """The operator of a structure and of its leaves' tensors.

        Args:
            structure: The structure.
            names: The tensors' names, in the order of the leaves.

        Returns:
            The operator.

        Raises:
            ValueError: If a leaf is missing or is not as the structure says.
        """
        specs = (spec for _, spec in structure.operator.named_leaves())
        operator = structure.fill([self._leaf(name, spec) for name, spec in zip(names, specs, strict=True)])
        return operator if operator.is_symbolic else operator.to(backend=self._backend, device=self._device)

    def describe(self, name: str) -> tuple[tuple[int, ...], str]:
        """The shape and dtype of a tensor, which is not read.

        Args:
            name: Its name.

        Returns:
            The shape and the dtype's name.

        Raises:
            ValueError: If it is not there.
        """
        note = self._notes.get(name, {})
        if "same" in note:
            first, order = self._same(name)
            shape, dtype = self.describe(first)
            return (shape if order is None else tuple(shape[axis] for axis in order)), dtype
        if name not in self.file.entries:
            raise ValueError(f"tensor {name!r:.200} is missing")
        one = self.file.entries[name]
        if note.get("pairs"):
            if one.dtype != "F64" or one.shape[-1:] != (2,):
                raise ValueError(f"tensor {name!r:.200} is {one.dtype} {one.shape}: no pairs of float64")
            return one.shape[:-1], "complex128"
        return one.shape, DTYPES.get(one.dtype, one.dtype)

    def _same(self, name: str) -> tuple[str, tuple[int, ...] | None]:
        """The tensor that another is the same as, and in which order its axes are."""
        note = self._notes[name]
        first, order = note["same"], note.get("axes")
        if not isinstance(first, str) or "same" in self._notes.get(first, {}):
            raise ValueError(f"tensor {name!r:.200} is the same as one that is none")
        if order is None:
            return first, None
        axes = len(self.describe(first)[0])
        if not isinstance(order, list) or not all(type(one) is int for one in order) or sorted(order) != [*range(axes)]:
            raise ValueError(f"tensor {name!r:.200} has axes in the order {order!r:.60}, which is none")
        return first, tuple(order)

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
        first, order = self._same(name)
        array = self.array(first)
        if order is not None:
            array = backends.namespace(self._backend).permute_dims(array, order)
        return backends.conj(array) if note.get("conj") else array

    def _numbers(self, name: str) -> np.ndarray:
        """A tensor as it is in the file."""
        self.describe(name)  # which checks
        array = self.file.map(name)
        return array.view(np.complex128)[..., 0] if self._notes.get(name, {}).get("pairs") else array

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

    def index(self, name: Any) -> np.ndarray:
        """An index array that is kept beside the text.

        Args:
            name: Its name.

        Returns:
            The array.

        Raises:
            ValueError: If it is none.
        """
        if not isinstance(name, str):
            raise ValueError(f"no index array {name!r:.60}")
        self._used.add(name)
        array = self._numbers(name)
        if array.dtype.kind not in "iu":
            raise ValueError(f"index array {name!r:.200} is {array.dtype}")
        return array
