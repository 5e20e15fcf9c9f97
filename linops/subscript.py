"""Subscripts: which rows and columns ``A[key]`` selects."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from linops import backends
from linops.specs import dtype_name


def selections(key: Any, shape: tuple[int, int], name: Callable[[], str]) -> tuple[Any, Any]:
    """The rows and columns that a key selects: NumPy's rules on either axis, every row with every column selected.

    Args:
        key: What stands in the brackets.
        shape: (m, n).
        name: The operator in a few words, for errors.

    Returns:
        Two of: an integer (the axis goes), a range of positive step, or an array of integers from 0 on, inside of
        torch.compile a tensor.

    Raises:
        IndexError: Where NumPy raises it: too many or unknown keys, numbers out of range, masks of another length.

    Example:
        >>> selections((slice(None, None, 2), [-1, 0]), (5, 3), lambda: "A")
        (range(0, 5, 2), array([2, 0]))
    """
    keys = list(key) if isinstance(key, tuple) else [key]
    dots = [place for place, item in enumerate(keys) if item is Ellipsis]
    missing = 2 - (len(keys) - len(dots))
    if len(dots) > 1 or missing < 0:
        raise IndexError(f"{name()}: too many indices: an operator has 2 axes, got {len(keys)} keys")
    place = dots[0] if dots else len(keys)
    keys[place : place + len(dots)] = [slice(None)] * missing
    return _selection(keys[0], shape[0], 0, name), _selection(keys[1], shape[1], 1, name)


def _selection(key: Any, size: int, axis: int, name: Callable[[], str]) -> Any:
    if isinstance(key, slice):
        return _tidy(range(size)[key])

    def where() -> str:
        return f"{name()}: axis {axis} of size {size}"

    if backends.is_dynamo() and (isinstance(key, (list, tuple, range, np.ndarray)) or backends.is_array(key)):
        return _traced(key, size, where)
    if isinstance(key, (list, tuple, range, np.ndarray)) or backends.backend_of(key) in ("torch", "jax"):
        key = backends.index_array(f"{name()}[…]", key)
    if hasattr(key, "__index__") and not isinstance(key, (bool, np.bool_)):
        try:
            return _in_range(operator.index(key), size, where)
        except TypeError:
            pass
    if not isinstance(key, np.ndarray):
        raise IndexError(
            f"{where()}: expected integers, slices, `...`, or integer or boolean arrays as indices, got {key!r}"
        )
    if key.ndim != 1:
        raise IndexError(f"{where()}: index arrays have 1 axis, got shape {key.shape}")
    if key.dtype == bool:
        if len(key) != size:
            raise IndexError(f"{where()}: a boolean mask of length {len(key)}, expected {size}")
        return _tidy(np.flatnonzero(key))
    if key.dtype.kind not in "iu":
        raise IndexError(f"{where()}: index arrays hold integers or booleans, got dtype {key.dtype}")
    for extreme in (key.min(), key.max()) if len(key) else ():
        _in_range(int(extreme), size, where)
    key = key.astype(np.intp)
    return _tidy(np.where(key < 0, key + size, key))


def _traced(key: Any, size: int, where: Callable[[], str]) -> Any:
    """A selection inside of torch.compile, where lists are known, and arrays are tensors whose numbers are not."""
    if isinstance(key, (list, tuple, range)):
        places = list(key)
        if places and all([isinstance(place, bool) for place in places]):  # noqa: C419  a list, for Dynamo
            if len(places) != size:
                raise IndexError(f"{where()}: a boolean mask of length {len(places)}, expected {size}")
            places = [place for place, chosen in enumerate(places) if chosen]
        return _tidy_places([_in_range(operator.index(place), size, where) for place in places])
    indices = backends.traced_indices(key)
    if indices.ndim != 1:
        raise IndexError(f"{where()}: index arrays have 1 axis, got shape {tuple(indices.shape)}")
    if "int" not in dtype_name(indices.dtype):
        raise IndexError(
            f"{where()}: inside of torch.compile index arrays hold integers, as the numbers of a mask are not known; "
            f"a list of booleans is, and so is what A[mask] gives outside. Got dtype {indices.dtype}"
        )
    return indices + size * (indices < 0)


def _tidy_places(places: list[int]) -> Any:
    """As `_tidy`, of numbers that torch.compile knows."""
    if not places:
        return range(0)
    step = places[1] - places[0] if len(places) > 1 else 1
    rising = range(places[0], places[0] + step * len(places), step) if step > 0 else ()
    return rising if places == list(rising) else backends.traced_indices(places)


def _in_range(index: int, size: int, where: Callable[[], str]) -> int:
    if not -size <= index < size:
        raise IndexError(f"{where()}: index {index} is out of bounds")
    return index % size


def _tidy(selected: Any) -> Any:
    """A selection as a range of positive step if it is known to be one, which needs no gather; else as an array."""
    if isinstance(selected, range) and selected.step > 0:
        return selected
    if backends.backend_of(selected) == "torch":  # whose numbers are not known
        return selected
    if isinstance(selected, range):
        if backends.is_dynamo():
            return _tidy_places(list(selected))
        selected = np.arange(selected.start, selected.stop, selected.step)
    if len(selected) == 0:
        return range(0)
    first, step = int(selected[0]), int(selected[1] - selected[0]) if len(selected) > 1 else 1
    if step > 0 and (np.diff(selected) == step).all():
        return range(first, first + step * len(selected), step)
    return selected


def chained(inner: Any, outer: Any) -> Any:
    """The selection that selects from a selection.

    Args:
        inner: A range of positive step or an array of integers.
        outer: Another, of positions in the first.

    Returns:
        A range of positive step or an array of integers.

    Example:
        >>> chained(range(1, 9, 2), range(1, 3)), chained(np.array([5, 7, 6]), range(0, 3, 2))
        (range(3, 7, 2), range(5, 7))
    """
    if not isinstance(inner, range):
        inner = backends.traced_indices(inner) if backends.is_compiling() else backends.to_numpy(inner)
        return _tidy(inner[outer.start : outer.stop : outer.step] if isinstance(outer, range) else inner[outer])
    if not isinstance(outer, range):
        return _tidy(inner.start + inner.step * outer)
    start, step = inner.start + inner.step * outer.start, inner.step * outer.step
    return range(start, start + step * len(outer), step)
