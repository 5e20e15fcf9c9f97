"""Where index arrays live: integers that say which numbers go where, the structure of an operator.

An operator's index arrays are its own, of one axis, and stand where its leaves are gathered by them: beside torch's
tensors as tensors on their device, beside arrays of NumPy and JAX and beside specs as NumPy's. So a product copies
none, and their numbers are known where an operator is made.
"""

from __future__ import annotations

from typing import Any

from linops.backends.dtypes import asarray
from linops.backends.foreign import index_array
from linops.backends.modes import is_dynamo
from linops.backends.primitives import copy, outside, own_indices, to_numpy
from linops.backends.registry import backend_of, namespace
from linops.specs import dtype_name


def kept_indices(where: str, given: Any) -> Any:
    """The index array that an operator keeps of what it is given: a copy; tensors of torch stay on their device.

    Args:
        where: What they are given to, for errors.
        given: An array of any framework, or a list of integers.

    Returns:
        A tensor of torch, or a NumPy array.

    Raises:
        ValueError: If it has not one axis.
        TypeError: If it holds no integers, is no array, or is traced by JAX.
    """
    if backend_of(given) == "torch":
        indices = given
    else:
        indices = traced_indices(given) if is_dynamo() else index_array(where, given)
    if len(indices.shape) != 1:
        raise ValueError(f"{where} must have 1 axis, got shape {tuple(indices.shape)}")
    if "int" not in dtype_name(indices.dtype):
        raise TypeError(f"{where} must be integers, got dtype {indices.dtype}")
    return own_indices(indices)


def traced_indices(given: Any) -> Any:
    """An index array inside of torch.compile, where NumPy's arrays are traced as tensors and have no numbers.

    Args:
        given: An array of NumPy or torch, or a sequence of integers, which become constants.

    Returns:
        A tensor of torch.
    """
    torch = namespace("torch")
    if isinstance(given, (list, tuple, range)):
        return torch.asarray(list(given), dtype=None if len(given) else torch.int64)
    return torch.asarray(given)


def check_positions(where: str, indices: Any, size: int) -> None:
    """Raise unless the numbers of an index array are positions along an axis; unchecked where they are not at hand.

    Args:
        where: What they are given to, for errors.
        indices: A tensor of torch, or a NumPy array.
        size: The length of the axis.

    Raises:
        ValueError: If a number is negative, or not less than the size.
    """
    if outside(indices, size):
        raise ValueError(f"{where} must be within 0 … {size - 1}, got {indices.min()} … {indices.max()}")


def moved_indices(indices: Any, origin: str | None, backend: str | None, device: Any) -> Any:
    """An index array of an operator that moves to another backend or device.

    Args:
        indices: A tensor of torch, or a NumPy array.
        origin: The operator's backend.
        backend: That which it moves to.
        device: Where it moves to in torch, or None.

    Returns:
        The array where the operator's leaves will be; on another backend a copy.
    """
    if backend == "torch" or (backend is None and device is not None and backend_of(indices) == "torch"):
        return asarray(indices, "torch", None, device)
    if backend not in ("numpy", "jax"):
        return indices
    return to_numpy(indices) if backend == origin else copy(to_numpy(indices))
