"""Over which axis data ranks cut a parameter. Needs no framework."""

from __future__ import annotations

from math import ceil, prod

#: the share of zeros that axis 0 may be padded with before another axis is cut, which FSDP2 copies more for
_PADDING = 1 / 32


def cut_axis(shape: tuple[int, ...], ranks: int) -> int:
    """The axis over which a parameter is cut.

    Args:
        shape: Of the parameter, which is no scalar.
        ranks: Over how many.

    Returns:
        Axis 0 where that adds at most 1/32 of padding; else the first axis whose length the ranks divide; else axis 0.

    Example:
        >>> cut_axis((4, 64, 6), 4), cut_axis((4, 64, 6), 8), cut_axis((4, 7), 8), cut_axis((1000, 8), 8)
        (0, 1, 0, 0)
    """
    if -shape[0] % ranks <= _PADDING * shape[0]:
        return 0
    return next((axis for axis, size in enumerate(shape) if size and size % ranks == 0), 0)


def most_of(shape: tuple[int, ...], ranks: int) -> int:
    """The numbers of a parameter on the rank that has most of it.

    Args:
        shape: Of the parameter.
        ranks: How many share it.

    Returns:
        Numbers.

    Example:
        >>> most_of((4, 64), 8), most_of((3,), 2), most_of((), 2)
        (32, 2, 1)
    """
    if not prod(shape) or not shape:
        return prod(shape)
    size = shape[cut_axis(shape, ranks)]
    return prod(shape) // size * ceil(size / ranks)
