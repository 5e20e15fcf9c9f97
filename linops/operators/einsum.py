"""Einsum: tensors over named axes that act on the axes of a vector."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Any

from linops import backends
from linops.checks import require_array, require_leaves
from linops.declaration import declare, remembered, tree
from linops.operators.planned import Planned
from linops.plan.contraction import Action, Program, actions, one_by_one
from linops.plan.einsum import cached_order, cached_program, cheapest_order, einsum_program, sizer, terms
from linops.plan.network import Axes, Graph
from linops.plan.step import Step
from linops.running import run
from linops.tags import Tag


@declare(init=False)
class Einsum(Planned):
    """The operator of an einsum: ``A @ x`` is ``numpy.einsum(expression, *tensors, x.reshape(in_dims)).ravel()``.

    Row and column index are those of the result's and the operand's axes, the first axis slowest. So, for example,

        "ir,rj,j->i"            is  LowRank(U, V),
        "ai,bj,ij->ab"          is  Kronecker(A, B),
        "ipr,rij,jrq,jq->ip"    is  BLAST: W_ij = U_i diag(s_ij) V_j  (Lee et al., NeurIPS 2024),
        "φεβγρ,γρφδα,γβα->φεδ"  is  the two-factor family of seven sizes (Potapczynski et al., NeurIPS 2024).

    Tensors act on the vector one after the other, each in one batched matrix product, in the order of fewest MACs (of
    more than eight tensors the last acts first) or in a given one; this order gives each leaf its fans. Where it is
    faster for many vectors, a plan multiplies some tensors with each other first. A product of views needs no copy:
    where the axes that a tensor shares with the operand and keeps, then those it sums over (or these first), then all
    others lie in this order in memory, and the tensor's own are stored as kept, new, summed.

    Cost: Σ over tensors of the product of the sizes of all axes present; a tensor that sums over nothing multiplies
    elementwise.

    Attributes:
        expression: As for `numpy.einsum`, the operand being the last input; axes may be any letters.
        tensors: Arrays or specs, one by one or in a list.
        in_dims: The sizes of the operand's axes; may be left out where every axis is one of a tensor.
        order: Positions of tensors, the one that acts first first; by default the cheapest.

    Raises:
        ValueError: If expression and shapes do not fit.
        TypeError: If a tensor is no array, or backends are mixed.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.Einsum("air,rbj,ij->ab", np.ones((2, 3, 4)), np.ones((4, 5, 6)))  # a tensor train of two cores
        >>> A.shape, A.order
        ((10, 18), (0, 1))
        >>> lo.Einsum("ab,bp->ap", lo.spec(2, 3), in_dims=(3, 5)).shape  # the axis p passes by
        (10, 15)
    """

    expression: str
    tensors: Any = tree(axes=lambda self: [len(axes) for axes in terms(self.expression)[0]])
    in_dims: tuple[int, ...] = field(default=(), kw_only=True)
    order: tuple[int, ...] = field(default=(), kw_only=True)

    def __init__(
        self,
        expression: str,
        *arrays: Any,
        tensors: Any = None,
        in_dims: Any = (),
        order: Any = None,
        assumed: Tag = Tag.NONE,
    ) -> None:
        given = tensors or (arrays[0] if len(arrays) == 1 and isinstance(arrays[0], (list, tuple)) else arrays)
        fields = {
            "expression": expression,
            "tensors": tuple(given),
            "in_dims": in_dims,
            "order": order or (),
            "assumed": assumed,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    def __post_init__(self) -> None:
        if not isinstance(self.expression, str):
            raise TypeError(f"Einsum: expected an expression such as 'ab,b->a', got {type(self.expression).__name__}")
        object.__setattr__(self, "expression", "".join(self.expression.split()))
        for name in ("in_dims", "order"):
            object.__setattr__(self, name, tuple([operator.index(number) for number in getattr(self, name)]))
        names, into, _ = terms(self.expression)
        if len(names) != len(self.tensors):
            raise ValueError(
                f"Einsum({self.expression!r}): {len(names)} tensors and the operand are named, "
                f"got {len(self.tensors)} tensors"
            )
        tensors = [
            require_array("Einsum", f"tensors[{number}], {axes!r} in {self.expression!r},", tensor, len(axes))
            for number, (axes, tensor) in enumerate(zip(names, self.tensors))
        ]
        object.__setattr__(self, "tensors", tuple(tensors))
        require_leaves(self)
        if self.in_dims and len(self.in_dims) != len(into):
            raise ValueError(
                f"Einsum({self.expression!r}): in_dims {self.in_dims} must be the sizes of the operand's axes {into!r}"
            )
        sizes: dict[str, int] = {}
        for axes, shape in [*zip(names, self._shapes), (into, self.in_dims)]:
            for axis, size in zip(axes, shape):
                if sizes.setdefault(axis, size) != size:
                    shapes = ", ".join([str(tuple(shape)) for shape in self._shapes])
                    raise ValueError(
                        f"Einsum({self.expression!r}): axis {axis!r} has sizes {sizes[axis]} and {size}; "
                        f"tensors of shapes {shapes}, in_dims {self.in_dims}"
                    )
        open_axes = [axis for axis in into if axis not in sizes]
        if open_axes:
            raise ValueError(
                f"Einsum({self.expression!r}): no tensor has the axis {open_axes[0]!r}; "
                f"expected in_dims, the sizes of {into!r}"
            )
        if not self.order:
            order = cheapest_order if backends.is_compiling() else cached_order
            object.__setattr__(self, "order", order(self.expression, self.in_dims, self._shapes))
        elif sorted(self.order) != list(range(len(names))):
            raise ValueError(
                f"Einsum({self.expression!r}): order {self.order} must be a permutation of the {len(names)} tensors"
            )

    @property
    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple([tensor.shape for tensor in self.tensors])

    @property
    def _size(self) -> Callable[[Iterable[str]], int]:
        return sizer(self.expression, self.in_dims, self._shapes)

    @remembered
    def _program(self) -> Program:
        order = tuple([operator.index(position) for position in self.order])  # under torch.compile it may hold symbols
        made = einsum_program if backends.is_compiling() else cached_program
        return made(self.expression, order, self.in_dims, self._shapes)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self._program.shape

    def _natural(self, x: Any) -> Any:
        return run(self._program, list(self.tensors), x)

    def _transpose(self) -> Einsum:
        names, into, out = terms(self.expression)
        out_dims = tuple([self._size(axis) for axis in out]) if self.in_dims else ()
        return Einsum(f"{','.join([*names, out])}->{into}", self.tensors, in_dims=out_dims, order=self.order[::-1])

    @property
    def _actions(self) -> tuple[Action, ...]:
        return actions(*terms(self.expression), one_by_one(self.order))

    def _trace(self, graph: Graph, axes: Axes, leaf: int) -> Axes | None:
        names, into, out = terms(self.expression)
        groups = graph.split(axes, [self._size(axis) for axis in into])
        if groups is None:
            return None
        found = dict(zip(into, groups))
        for position in self.order:
            for axis in names[position]:
                found.setdefault(axis, graph.axes(self._size(axis)))
            graph.add(leaf + position, sum([found[axis] for axis in names[position]], ()))
        return sum([found[axis] for axis in out], ())

    def _natural_steps(self, batch: int) -> tuple[Step, ...]:
        size = self._size
        return tuple(step for action in self._actions for step in action.steps(size, batch))

    def _leaf_fans(self) -> dict[str, tuple[int, int]]:
        size = self._size
        fans = {f"tensors_{act.tensor}": (size(act.columns), size(act.rows)) for act in self._actions}
        return {name: fans[name] for name, tensor in self._children() if tensor.shape}  # a number has none

    def _leaf_matrices(self) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
        names = terms(self.expression)[0]
        return {
            f"tensors_{act.tensor}": (
                tuple([names[act.tensor].index(axis) for axis in act.rows]),
                tuple([names[act.tensor].index(axis) for axis in act.columns]),
            )
            for act in self._actions
        }

    def _output_leaves(self) -> tuple[str, ...]:
        return (f"tensors_{self.order[-1]}",)

    def _detail(self) -> str:
        return self.expression
