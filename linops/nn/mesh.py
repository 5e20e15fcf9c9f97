"""How many devices a mesh has along the axes of data and of the model."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

AXES = ("data", "model")
#: what axes of meshes are called elsewhere
ALIASES = {
    "data": ("data", "dp", "fsdp", "ddp", "replica", "dp_replicate", "dp_shard", "batch"),
    "model": ("model", "tp", "tensor", "mp"),
}
MOST = 1 << 20


def mesh_of(mesh: Any) -> dict[str, int]:
    """The sizes of a mesh's axes.

    Args:
        mesh: A number of data ranks, a mapping of names to sizes, or a mesh of torch or JAX whose axes have names.

    Returns:
        The sizes of ``"data"`` and ``"model"``; axes of one kind are multiplied.

    Raises:
        ValueError: If an axis has another name, or a size is no number of devices.
        TypeError: If it is no mesh.

    Example:
        >>> mesh_of(8), mesh_of({"dp": 2, "tp": 4})
        ({'data': 8, 'model': 1}, {'data': 2, 'model': 4})
    """
    given: Any = mesh
    if isinstance(mesh, int) and not isinstance(mesh, bool):
        sizes: Mapping[str, Any] = {"data": mesh}
    elif isinstance(mesh, Mapping):
        sizes = mesh
    elif (names := getattr(given, "mesh_dim_names", None)) is not None:  # of torch
        sizes = dict(zip(names, given.shape))
    elif isinstance(getattr(given, "shape", None), Mapping):  # of JAX
        sizes = given.shape
    else:
        raise TypeError(
            f"mesh {mesh!r:.60}: expected a number of devices, sizes by name such as {{'data': 8, 'model': 4}}, or a "
            "mesh of torch or JAX whose axes have names"
        )
    for name, size in sizes.items():
        if not any(name in known for known in ALIASES.values()):
            raise ValueError(f"mesh axis {name!r}: expected {' or '.join(AXES)}")
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= MOST:
            raise ValueError(f"mesh axis {name!r}: expected a whole number of devices from 1 to {MOST:,}, got {size!r}")
    return {axis: prod([size for name, size in sizes.items() if name in ALIASES[axis]]) for axis in AXES}
