"""`Growth`: what stands in the components that a rank has over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from linops import backends
from linops.scaling import draw


@dataclass(frozen=True)
class Growth:
    """New components: zero in the leaf that acts last, which gets a gradient, and drawn in the others, which feed it.

    Attributes:
        stds: The structure-aware initial std of each leaf.
        random: Where the numbers come from; None for zeros everywhere.
    """

    stds: tuple[float | None, ...]
    random: np.random.Generator | None

    def widened(
        self, tensor: Any, start: int, widths: Sequence[tuple[int, int]], last: Sequence[bool], leaf: int
    ) -> Any:
        """A tensor whose axes from `start` on are made wider.

        Args:
            tensor: The tensor.
            start: Its first axis to widen.
            widths: Of each axis its size before and after.
            last: Of each axis, whether this leaf acts last on it.
            leaf: The number of the leaf.

        Returns:
            The tensor, with zeros, or small random numbers, in what is new.
        """
        if all(before == after for before, after in widths):
            return tensor
        space: Any = backends.namespace(backends.backend_of(tensor))
        for axis, (before, after) in enumerate(widths, start):
            if before < after:
                shape = list(tensor.shape)
                shape[axis] = after - before
                tensor = space.concat([tensor, backends.zeros(tensor, tuple(shape), tensor.dtype)], axis=axis)
        dims = len(tensor.shape)
        drawn, zero = np.zeros((1,) * dims, bool), np.zeros((1,) * dims, bool)
        for axis, ((before, after), is_last) in enumerate(zip(widths, last), start):
            new = (np.arange(after) >= before).reshape([-1 if place == axis else 1 for place in range(dims)])
            drawn, zero = drawn | new, zero | (new & is_last)
        return self.filled(tensor, drawn & ~zero, leaf)

    def filled(self, tensor: Any, new: np.ndarray, leaf: int) -> Any:
        """A tensor with small random numbers where it is new.

        Args:
            tensor: The tensor, which is zero there.
            new: Where it is, of a shape that broadcasts.
            leaf: The number of the leaf.

        Returns:
            The tensor.
        """
        std = self.stds[leaf]
        if self.random is None or not std or not backends.is_inexact(tensor.dtype) or not new.any():
            return tensor
        numbers = draw(self.random, tuple(tensor.shape), std, backends.is_complex(tensor.dtype))
        return tensor + backends.constant(tensor, numbers * new, tensor.dtype)
