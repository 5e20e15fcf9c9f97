"""`load_compressed`: the operators that ``linops compress`` wrote in the place of a file's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from linops.encoding import from_json
from linops.operator import LinearOperator
from linops.safetensors import FLOATS, Tensors, opened

#: before the names of weights in the metadata
PREFIX = "linops.structure:"
#: what says who wrote a file
MARK = "linops.compressed"


def load_compressed(path: str | Path) -> dict[str, LinearOperator]:
    """The operators in a file that ``linops compress`` wrote.

    Args:
        path: The file, or the folder that it is in.

    Returns:
        Operators on NumPy by the names of the weights that they stand for, in the weights' dtype; those of half
        precision in single, which NumPy multiplies in. Tensors that were copied are not among them.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no such file, or is damaged.

    Example:
        >>> import linops as lo
        >>> for name, operator in lo.nn.load_compressed("compressed").items():  # doctest: +SKIP
        ...     print(name, operator.shape)
    """
    path = Path(path)
    file = opened(path / "compressed.safetensors" if path.is_dir() else path)
    if MARK not in file.metadata:
        raise ValueError(f"{file.path}: linops compress did not write it")
    names = [name.removeprefix(PREFIX) for name in file.metadata if name.startswith(PREFIX)]
    return {name: _operator(file, name) for name in names}


def _operator(file: Tensors, name: str) -> LinearOperator:
    try:
        structure = from_json(file.metadata[PREFIX + name])
        leaves: list[np.ndarray] = []
        for leaf, spec in structure.operator.named_leaves():
            full = f"{name}.{leaf}"
            if full not in file.entries:
                raise ValueError(f"its leaf {leaf!r} is missing")
            one = file.entries[full]
            if one.shape != tuple(spec.shape) or one.dtype not in FLOATS:
                raise ValueError(f"its leaf {leaf!r} is {one.dtype} of shape {one.shape}, expected {spec.shape}")
            leaves.append(file.read(full))
        return structure.fill(leaves)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file.path}: damaged: weight {name!r}: {error}") from None
