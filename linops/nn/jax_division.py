"""Divided products on a mesh of JAX: each device runs its part of a division, and what is sent stands in the program.

`jax.shard_map` runs the chain of `linops.sharding.Division`, a device a rank. Each movement is the collective whose
transpose is that of its gradient, so that JAX's own derivatives send what was predicted. XLA's partitioner, left alone
with sharded leaves, finds the same for dense, low-rank, block-diagonal and two-core products, and gathers vectors for
others, such as Kronecker products.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import jax
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from linops.nn.sending import ends
from linops.operator import LinearOperator
from linops.plan.shares import Movement
from linops.sharding import SHARDED, Division, division


@dataclass(frozen=True)
class Parallel:
    """How products with an operator run on a mesh: divided among the devices along one axis of it.

    Attributes:
        mesh: The mesh.
        axis: The name of the axis; along all others devices have vectors of their own.
        style: ``"whole"``, ``"colwise"``, ``"rowwise"`` or ``"sharded"``; see `lo.nn.communication`.
    """

    mesh: Any
    axis: str
    style: str

    @property
    def explicit(self) -> tuple[str, ...]:
        """The explicit axes of the mesh."""
        kinds = zip(self.mesh.axis_names, self.mesh.axis_types)
        return tuple([name for name, kind in kinds if kind == AxisType.Explicit])

    def division(self, operator: LinearOperator) -> Division:
        """What each device holds and runs.

        Args:
            operator: The operator; symbolic, or over arrays or tracers.

        Returns:
            The division.

        Raises:
            ValueError: If features cannot be shared equally.
        """
        return division(operator, self.mesh.shape[self.axis], *ends(self.style))

    def __call__(self, operator: LinearOperator, x: Any) -> jax.Array:
        """X Aᵀ over the last axis, as layers compute it.

        Args:
            operator: The operator over its leaves, which are placed as `shardings` says.
            x: (…, n). Its first axis is split over the other axes of the mesh, where these divide it; on explicit axes
                it is split as its type says.

        Returns:
            (…, m).

        Raises:
            ValueError: If x has not n features, or explicit axes split them otherwise than the style has it.
        """
        x = jax.numpy.asarray(x)
        if not x.ndim or x.shape[-1] != operator.shape[1]:
            raise ValueError(
                f"layer of {operator._short()}: input of shape {x.shape}; expected (…, {operator.shape[1]})"
            )
        return _multiply(self, operator, x)

    def _specs(self, operator: LinearOperator, x: Any) -> tuple[PartitionSpec, PartitionSpec]:
        """How x is split, and the result."""
        into, out = (self.axis if side == SHARDED else None for side in ends(self.style))
        if self.explicit:
            *lead, features = [*x.aval.sharding.spec, *[None] * (x.ndim - len(x.aval.sharding.spec))]
            if features not in (into, () if into is None else (into,)):
                raise ValueError(
                    f"layer of {operator._short()}, style={self.style!r}: the features of x {x.aval} are split over "
                    f"{features!r}; expected {into!r}, as by jax.sharding.reshard"
                )
        else:
            others = tuple([name for name in self.mesh.axis_names if name != self.axis])
            count = self.mesh.size // self.mesh.shape[self.axis]
            lead = [None] * (x.ndim - 1)
            if lead and others and x.shape[0] % count == 0:
                lead[0] = others
        return PartitionSpec(*lead, into), PartitionSpec(*lead, out)


@partial(jax.jit, static_argnums=0)
def _multiply(parallel: Parallel, operator: LinearOperator, x: Any) -> jax.Array:
    found, structure = parallel.division(operator), operator.structure
    into, out = parallel._specs(operator, x)
    specs = [spec_of(found.axes[name], parallel.axis) for name, _ in operator.named_leaves()]

    def local(x: Any, *leaves: Any) -> Any:
        columns = found.multiply(
            leaves,
            x.reshape(prod(x.shape[:-1]), x.shape[-1]).T,
            lambda y, movement: _moved(y, movement, parallel.axis, found.ranks),
            lambda y: structure.fill(leaves)._columns(y).reshape(operator.shape[0], y.shape[-1]),
        )
        return columns.T.reshape(*x.shape[:-1], columns.shape[0])

    leaves = [leaf for _, leaf in operator.named_leaves()]
    specs_in = into, *specs
    if x.ndim > 1 or not parallel.explicit:
        return jax.shard_map(local, mesh=parallel.mesh, in_specs=specs_in, out_specs=out)(x, *leaves)
    # JAX 0.10 does not batch manual reshapes by an axis of vectors that is explicit
    run: Any = jax.sharding.auto_axes(
        lambda x, *leaves: jax.shard_map(local, in_specs=specs_in, out_specs=out)(x, *leaves),
        axes=parallel.explicit,
        out_sharding=NamedSharding(parallel.mesh, out),
    )
    return run(x, *leaves)


def spec_of(place: int | None, axis: str, lead: int = 0) -> PartitionSpec:
    """The spec of an array.

    Args:
        place: Which of its axes is split, or None.
        axis: The name of the mesh's axis.
        lead: How many axes stand before those.

    Returns:
        The spec.
    """
    return PartitionSpec() if place is None else PartitionSpec(*[None] * (lead + place), axis)


def _moved(y: Any, movement: Movement, axis: str, ranks: int) -> Any:
    """What a device has after a movement."""
    if movement.kind != "slice":
        return _MOVEMENTS[movement.kind](y, axis)
    (left, size, right), count = movement.dims, y.shape[-1]
    cut: Any = _cut.bind(y.reshape(left, size, right * count), axis=axis, ranks=ranks, dim=1)
    return cut.reshape(left * size // ranks * right, count)


def _varying(x: Any, axis: str) -> Any:
    """What is the same on all devices, as what each has of its own: its gradients are summed."""
    return lax.pcast(x, axis, to="varying")


def _share(x: Any, axis: str, ranks: int, dim: int) -> Any:
    """Each device's share of one axis of what is the same on all."""
    size = x.shape[dim] // ranks
    return lax.dynamic_slice_in_dim(_varying(x, axis), lax.axis_index(axis) * size, size, dim)


def _shared_back(slope: Any, x: Any, axis: str, ranks: int, dim: int) -> tuple[Any]:
    """The transpose of `_share`."""
    return (lax.all_gather(slope, axis, axis=dim, tiled=True, to="invarying"),)


def _share_of_batch(xs: Any, lies: Any, axis: str, ranks: int, dim: int) -> tuple[Any, int]:
    """`_share` where `jax.vmap` has one axis more."""
    (x,), (lead,) = xs, lies
    return _cut.bind(x, axis=axis, ranks=ranks, dim=dim + (lead <= dim)), lead


#: `_share` as a linear primitive: the transpose that JAX finds is a sum of padded shares, and not a gather;
#: `jax.custom_vjp` has no forward mode, and `jax.custom_derivatives.linear_call` no `jax.vmap`
_cut = Primitive("linops_cut")
_cut.def_impl(_share)
_cut.def_abstract_eval(lambda x, **how: jax.make_jaxpr(partial(_share, **how))(x).out_avals[0])
mlir.register_lowering(_cut, mlir.lower_fun(_share, multiple_results=False))
ad.deflinear2(_cut, _shared_back)
batching.primitive_batchers[_cut] = _share_of_batch

#: the movements of `linops.plan.transfer` along the slowest axis
_MOVEMENTS = {
    "gather": lambda x, axis: lax.all_gather(x, axis, tiled=True, to="invarying"),
    "gather_enter": lambda x, axis: lax.all_gather(x, axis, tiled=True),
    "exchange": lambda x, axis: lax.all_to_all(x, axis, 0, 0, tiled=True),
    "scatter": lambda x, axis: lax.psum_scatter(x, axis, tiled=True),
    "reduce": lax.psum,
    "enter": _varying,
    "reduce_enter": lambda x, axis: _varying(lax.psum(x, axis), axis),
}
