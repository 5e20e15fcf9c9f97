"""Permute: a permutation, by an index array or by an order of axes."""

from __future__ import annotations

import operator
from math import prod
from typing import Any

import numpy as np

from linops import backends
from linops.checks import generator, require_size
from linops.declaration import declare, index
from linops.operator import LinearOperator, flat
from linops.plan.network import Axes, Graph
from linops.plan.step import Step
from linops.specs import dtype_name
from linops.tags import Knowledge, Tag


@declare
class Permute(LinearOperator):
    """A permutation: (A x)[i] = x[indices[i]].

    A permutation of axes, `Permute.axes`, needs no index array and is a strided view, free of cost where the next
    operator can read it.

    Attributes:
        indices: (n,) integers, a permutation of 0 … n - 1; None for a permutation of axes.
        dims: For a permutation of axes, the axes of x (row-major).
        order: For a permutation of axes, the new order of the axes.

    Raises:
        ValueError: If the indices are no permutation, or the order is none of the axes.
        TypeError: If the indices are no integers.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.Permute([2, 0, 1]) @ np.array([10., 11., 12.])
        array([12., 10., 11.])
    """

    indices: Any = index(default=None)
    dims: tuple[int, ...] = ()
    order: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.indices is None:
            dims, order = (tuple([operator.index(item) for item in value]) for value in (self.dims, self.order))
            if sorted(order) != list(range(len(dims))) or any(size < 0 for size in dims):
                raise ValueError(f"Permute.axes({dims}, {order}): order must be a permutation of the {len(dims)} axes")
            object.__setattr__(self, "dims", dims)
            object.__setattr__(self, "order", order)
            return
        if self.dims or self.order:
            raise ValueError("Permute: give indices, or dims and order by Permute.axes, not both")
        if backends.backend_of(self.indices) != "torch":
            if backends.is_placeholder(self.indices):
                return
            object.__setattr__(self, "indices", backends.index_array("Permute: indices", self.indices))
        if len(self.indices.shape) != 1:
            raise ValueError(f"Permute: indices must have 1 axis, got shape {tuple(self.indices.shape)}")
        if "int" not in dtype_name(self.indices.dtype):
            raise TypeError(f"Permute: indices must be integers, got dtype {self.indices.dtype}")
        # a copy that torch reads too: any integers, any strides, not writable
        if backends.backend_of(self.indices) == "numpy":
            object.__setattr__(self, "indices", np.array(self.indices, dtype=np.intp))
        elif str(self.indices.dtype) not in ("torch.int32", "torch.int64"):
            object.__setattr__(self, "indices", backends.asarray(self.indices, "torch", "int64"))
        else:
            object.__setattr__(self, "indices", backends.copy(self.indices))
        backends.check_permutation(self.indices)

    @classmethod
    def axes(cls, dims: Any, order: Any) -> Permute:
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
        return cls(None, tuple(dims), tuple(order))

    @classmethod
    def random(cls, n: int, seed: Any = 0) -> Permute:
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
        return cls(generator("Permute.random", seed).permutation(n))

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        n = prod(self.dims) if self.indices is None else self.indices.shape[0]
        return n, n

    @property
    def _aliases(self) -> bool:
        return self.indices is None

    def _columns(self, x: Any) -> Any:
        if self.indices is not None:
            return backends.gather(flat(x), self.indices)
        dims, shape = self.dims, x.shape
        if shape != (*dims, shape[-1]):
            x = x.reshape(*dims, shape[-1])
        return x.swapaxes(0, 1) if self.order == (1, 0) else backends.permute(x, (*self.order, len(dims)))

    def _transpose(self) -> Permute:
        if self.indices is not None:
            return Permute._unchecked(indices=backends.inverse_permutation(self.indices))
        inverse = [0] * len(self.order)
        for place, axis in enumerate(self.order):
            inverse[axis] = place
        return Permute._unchecked(
            indices=None, dims=tuple([self.dims[axis] for axis in self.order]), order=tuple(inverse)
        )

    def _trace(self, graph: Graph, axes: Axes, leaf: int) -> Axes | None:
        groups = None if self.indices is not None else graph.split(axes, self.dims)
        return None if groups is None else sum([groups[axis] for axis in self.order], ())

    def _lower(self, batch: int) -> tuple[Step, ...]:
        n = self.shape[0]
        if self.indices is None:
            return (Step("view", f"axes {self.dims} in order {self.order}"),)
        return (Step("gather", f"({n}, {batch})", inputs=n * batch, outputs=n * batch),)

    def _knowledge(self) -> Knowledge:
        return Knowledge(Tag.ORTHOGONAL)

    def _detail(self) -> str:
        return f"axes={self.dims}, order={self.order}" if self.indices is None else f"{self.shape[0]} indices"
