"""A file as what is loaded into a model: its recipe, and its tensors by the names of the model's state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from linops import backends
from linops.nn.recipe import Layer, as_document, from_plain
from linops.nn.swap import Found
from linops.reading import Reader
from linops.specs import dtype_name
from linops.structure import Structure
from linops.writing import STRUCTURE, Contents

#: what BatchNorm of PyTorch counts in, and others do not
COUNTER = ".num_batches_tracked"
#: what ``linops compress`` has behind the names of layers
WEIGHT = ".weight"


def write_model(
    path: str | Path, layers: Mapping[str, Layer], state: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a model's file.

    Args:
        path: The file.
        layers: Its structured layers by name.
        state: Its arrays by name.
        metadata: Other texts by name.

    Raises:
        TypeError: If a structure holds a callable, or an array a dtype that the format has not.
        ValueError: If an array has no numbers.
        FileExistsError: If the file is there and is none of linops.
        OSError: If it cannot be written.
    """
    contents = Contents()
    recipe = as_document(layers, partial(contents.keep, name="linops."))
    for name, array in state.items():
        contents.add_array(name, array)
    contents.metadata |= metadata or {}
    contents.write(path, "model", {"recipe": recipe})


class Stored:
    """What a file says of a model.

    Attributes:
        layers: The structured layers by name.
        is_compressed: Whether ``linops compress`` wrote it, without knowing the model.
        tensors: The shape and dtype of each tensor by its name in the model's state.

    Args:
        reader: The file.

    Raises:
        ValueError: If it holds no model, or is damaged.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._names: dict[str, str] = {}
        self.is_compressed = reader.holds == "dict"
        if reader.holds == "model":
            self.layers = from_plain(reader.document.get("recipe"), reader.index)
        elif reader.holds == "dict":
            self.layers = self._compressed()
        else:
            raise ValueError("it holds one operator and no model; lo.load reads it")
        theirs = {old: new for new, old in self._names.items()}
        self._names = {theirs.get(name, name): name for name in reader.names}
        self.tensors = {name: reader.describe(old) for name, old in self._names.items()}

    def operator(self, name: str, part: int) -> Any:
        """An operator of a layer, with arrays.

        Args:
            name: The layer's name.
            part: The number of its part.

        Returns:
            The operator.

        Raises:
            ValueError: If a leaf is missing or not as the structure says.
        """
        layer = self.layers[name]
        within = ".".join([*([name] if name else []), *([str(part)] if layer.parts else [])])
        structure = layer.structures[part]
        names = [f"{within}.{leaf}" if within else leaf for leaf in structure.names]
        if missing := [one for one in names if one not in self._names]:
            raise ValueError(f"tensor {missing[0]!r} is missing")
        return self._reader.filled(structure, [self._names[one] for one in names])

    def require_leaves(self) -> None:
        """Raise unless the file has the parameters of its layers that are no linear maps, in their shapes.

        So no more memory is taken for them than the file holds.

        Raises:
            ValueError: If one is missing or of another shape.
        """
        for name, layer in self.layers.items():
            for leaf, shape in (layer.nonlinear.leaves if layer.nonlinear else {}).items():
                full = f"{name}.{leaf}" if name else leaf
                if full not in self.tensors:
                    raise ValueError(f"tensor {full!r} is missing")
                if self.tensors[full][0] != shape:
                    raise ValueError(
                        f"tensor {full!r} has shape {self.tensors[full][0]}; {layer.nonlinear} has one of {shape}"
                    )

    def array(self, name: str) -> Any:
        """A tensor.

        Args:
            name: Its name in the model's state.

        Returns:
            The array.
        """
        return self._reader.array(self._names[name])

    def alias(self, name: str, other: str) -> None:
        """Say that a name of the model's state stands for a tensor of another name.

        Args:
            name: The name.
            other: The name that is there.
        """
        self._names[name], self.tensors[name] = self._names[other], self.tensors[other]

    def is_same(self, name: str, other: str) -> bool:
        """Whether two tensors hold the same numbers.

        Args:
            name: The name of one.
            other: The name of the other.

        Returns:
            True or False.
        """
        one, two = self.array(name), self.array(other)
        return one is two or backends.to_numpy(one).tobytes() == backends.to_numpy(two).tobytes()

    def without_counters(self, names: Iterable[str]) -> dict[str, tuple[tuple[int, ...], str]]:
        """The shapes and dtypes without BatchNorm's counters that a model has not.

        Args:
            names: Of the model's state.

        Returns:
            Shapes and dtypes by name.
        """
        own = set(names)
        return {name: what for name, what in self.tensors.items() if name in own or not name.endswith(COUNTER)}

    def _compressed(self) -> dict[str, Layer]:
        """The layers whose weights ``linops compress`` has replaced."""
        layers: dict[str, Layer] = {}
        for key in self._reader.file.metadata:
            weight = key.removeprefix(STRUCTURE)
            if weight == key:
                continue
            if not weight.endswith(WEIGHT):
                raise ValueError(f"operator {weight!r:.200} is no weight of a layer; lo.load reads the file")
            name = weight.removesuffix(WEIGHT)
            layers[name] = Layer((self._reader.structure(weight),))
            self._names |= {f"{name}.{leaf}": f"{weight}.{leaf}" for leaf in layers[name].structures[0].names}
        return layers


def require_same(
    model: Mapping[str, tuple[tuple[int, ...], str]], file: Mapping[str, tuple[tuple[int, ...], str]]
) -> None:
    """Raise unless a model's state is what a file holds.

    Args:
        model: Shapes and dtypes by name.
        file: The same of the file.

    Raises:
        ValueError: With the first differences.
    """
    missing, unexpected = [name for name in model if name not in file], [name for name in file if name not in model]
    if missing or unexpected:
        said = [f"{what} {_few(names)}" for what, names in (("lacks", missing), ("has beside it", unexpected)) if names]
        raise ValueError(f"its tensors are not those of the model; the file {' and '.join(said)}")
    for name, (shape, dtype) in model.items():
        theirs, other = file[name]
        if shape != theirs:
            raise ValueError(f"{name!r} has shape {shape} in the model and {theirs} in the file")
        if dtype != other:
            raise ValueError(f"{name!r} is {dtype} in the model and {other} in the file: convert the model first")


def require_fit(name: str, layer: Layer, dense: Mapping[str, Found], there: Layer | None = None) -> Found:
    """The layer of a model that a structured layer takes the place of.

    Args:
        name: The layer's name.
        layer: The structured layer.
        dense: The dense layers of the model by name.
        there: The structured layer of that name, if there is one.

    Returns:
        The dense layer.

    Raises:
        ValueError: If there is none, it is of another shape, cannot be replaced, or the layer is of parts.
    """
    found = dense.get(name)
    if found is None and there is not None:
        raise ValueError(
            f"layer {name!r} is {there} in the model and {layer} in the file: build the model as it was before its "
            "layers were replaced"
        )
    if found is None:
        raise ValueError(
            f"the model has no dense layer {name!r}: build the same model as was saved, with modules of the same names "
            f"(this one's dense layers: {_few(list(dense)) if dense else 'none'}); an embedding cannot be structured: "
            "leave it out with linops compress --exclude"
        )
    if found.obstacle is not None and not getattr(found.obstacle, "soft", False):
        raise ValueError(f"layer {name!r} cannot be replaced: it {found.obstacle}")
    if found.shape != layer.shape:
        raise ValueError(
            f"layer {name!r} is {found.shape[0]}×{found.shape[1]} in the model and {layer.shape[0]}×{layer.shape[1]} "
            f"in the file, {layer}"
        )
    return found


def require_whole(name: str, layer: Layer) -> None:
    """Raise if a layer consists of parts, which frameworks of JAX have no layer for.

    Args:
        name: The layer's name.
        layer: The layer.

    Raises:
        ValueError: If it does.
    """
    if layer.parts:
        raise ValueError(f"layer {name!r} consists of parts, for which JAX's frameworks have no layer; use PyTorch")


def is_same(one: Layer, other: Layer) -> bool:
    """Whether two layers differ in dtypes, ties and how they are drawn at most.

    Args:
        one: The one.
        other: The other.

    Returns:
        True or False.
    """
    if one.nonlinear and other.nonlinear:
        return one.nonlinear.of_dtype("float32") == other.nonlinear.of_dtype("float32")
    told = [(layer.nonlinear, layer.parts, layer.weight_norm, len(layer.structures)) for layer in (one, other)]
    if told[0] != told[1]:
        return False
    return all(a == b or _untyped(a) == _untyped(b) for a, b in zip(one.structures, other.structures))


def _untyped(structure: Structure) -> Structure:
    return structure.operator.to(dtype="float32").structure


def described(array: Any) -> tuple[tuple[int, ...], str]:
    """The shape and the name of the dtype of an array."""
    return tuple(array.shape), dtype_name(array.dtype)


def _few(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
