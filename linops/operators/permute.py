"""Permute: a permutation by an index array."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.checks import generator, require_size
from linops.declaration import declare, index
from linops.operator import flat
from linops.operators.permutation import Permutation
from linops.operators.permute_axes import PermuteAxes
from linops.plan.step import Step


@declare
class Permute(Permutation):
    """A permutation: (A x)[i] = x[indices[i]].

    A permutation of axes, `Permute.axes`, needs no index array and is a strided view, free of cost where the next
    operator can read it.

    Cost: a gather.

    Attributes:
        indices: (n,) integers, a permutation of 0 … n - 1.

    Raises:
        ValueError: If the indices are no permutation.
        TypeError: If the indices are no integers.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.Permute([2, 0, 1]) @ np.array([10., 11., 12.])
        array([12., 10., 11.])
    """

    indices: Any = index()

    def __post_init__(self) -> None:
        object.__setattr__(self, "indices", backends.kept_indices("Permute: indices", self.indices))
        backends.check_permutation(self.indices)

    @staticmethod
    def axes(dims: Any, order: Any) -> PermuteAxes:
        """The permutation y = x.reshape(dims).transpose(order).ravel(): no index array.

        Args:
            dims: The axes of x, row-major.
            order: The new order of the axes.

        Returns:
            The operator, of size prod(dims).

        Raises:
            ValueError: If `order` is no permutation of the axes.

        Example:
            >>> import linops as lo, numpy as np
            >>> lo.Permute.axes((2, 3), (1, 0)) @ np.arange(6.)
            array([0., 3., 1., 4., 2., 5.])
        """
        return PermuteAxes(tuple(dims), tuple(order))

    @staticmethod
    def random(n: int, seed: Any = 0) -> Permute:
        """A uniformly random permutation.

        Args:
            n: Its size.
            seed: An integer or a `numpy.random.Generator`.

        Returns:
            The operator.

        Raises:
            ValueError: If n is negative.
            TypeError: If n is no integer.

        Example:
            >>> import linops as lo
            >>> lo.Permute.random(4, seed=0).shape
            (4, 4)
        """
        require_size("Permute.random", "n", n)
        return Permute(generator("Permute.random", seed).permutation(n))

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        n = self.indices.shape[0]
        return n, n

    def _columns(self, x: Any) -> Any:
        return backends.gather(flat(x), self.indices)

    def _transpose(self) -> Permute:
        return Permute._unchecked(indices=backends.inverse_permutation(self.indices))

    def _lower(self, batch: int) -> tuple[Step, ...]:
        n = self.shape[0]
        return (Step("gather", f"({n}, {batch})", inputs=n * batch, outputs=n * batch),)

    def _detail(self) -> str:
        return f"{self.shape[0]} indices"
