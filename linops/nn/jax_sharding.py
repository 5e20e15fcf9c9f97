"""`shardings` and `sharded`: operators, layers and models on a mesh of JAX, divided as their structure allows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from math import prod
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from linops.nn.divided import Divided, Row
from linops.nn.jax import one_copy
from linops.nn.jax_division import Parallel, spec_of
from linops.nn.nonlinear import Nonlinear
from linops.nn.obstacles import brief
from linops.nn.patterns import Pattern, astray, matches
from linops.nn.sending import STYLES, ends
from linops.operator import LinearOperator
from linops.sharding import SHARDED
from linops.specs import numpy_dtype

Style = str | Mapping[Pattern, str]


@partial(jax.tree_util.register_dataclass, data_fields=["operator"], meta_fields=["parallel"])
@dataclass(frozen=True, eq=False)
class Sharded:
    """An operator whose products run divided: a pytree, called on rows (…, n) for x @ A.T.

    Attributes:
        operator: The operator, its leaves placed on the mesh.
        parallel: How its products run.
    """

    operator: Any
    parallel: Parallel

    def __call__(self, x: Any) -> Any:
        """X @ A.T over the last axis."""
        return self.parallel(self.operator, x)


def shardings(model: Any, mesh: Any, axis: str = "model", style: Style | None = None) -> Any:
    """Where the leaves of an operator, or the arrays of a model, lie on a mesh, so that products send the least.

    A leaf is split over the axis of the division that `communication` counts; a layer's bias as its outputs are;
    everything else is whole on every device. With leaves that are placed so, XLA itself finds the predicted collectives
    for dense, low-rank, block-diagonal and two-core products; those of `sharded` have them always.

    Args:
        model: An operator, symbolic too; a Flax NNX module; or a pytree with operators or layers of
            `lo.nn.equinox` in it. Models may be abstract.
        mesh: A `jax.sharding.Mesh`, of explicit or automatic axes.
        axis: The name of its axis over which the structure is divided.
        style: What each device has of a layer's vectors, as in `communication`; or a dict of pattern over the layers'
            dotted names to style, in which the first match wins; layers that none matches are ``"whole"``. None is
            ``"sharded"`` for an operator, and ``"whole"`` for a model, which is right anywhere in it.

    Returns:
        Of an operator or pytree the same pytree with a `jax.sharding.NamedSharding` in the place of each array, and of
        a Flax module that of `nnx.state(model)`: what `jax.device_put` and the shardings of `jax.jit` take.

    Raises:
        ValueError: If the mesh has no such axis, there is no such style, or features cannot be shared equally.
        TypeError: If the mesh is none of JAX, or a style is neither a name nor a dict of names.

    Warns:
        UserWarning: If operators or layers stay whole on every device, or a pattern matches no layer.

    Example:
        >>> import jax, linops as lo
        >>> mesh = jax.make_mesh((1,), ("model",))
        >>> A = lo.low_rank(64, 64, rank=8)
        >>> found = lo.nn.shardings(A, mesh)
        >>> {name: one.spec for name, one in found.named_leaves()}
        {'U': P('model',), 'V': P(None, 'model')}
        >>> A = jax.device_put(A.init(seed=0, backend="jax"), found)
    """
    placing = _placing("shardings", model, mesh, axis, style)
    found = _flax(model).shardings(model, placing) if _is_flax(model) else _placed_as(model, placing)
    placing.warn()
    return found


def sharded(model: Any, mesh: Any, axis: str = "model", style: Style | None = None) -> Any:
    """A model that lies on a mesh as `shardings` says, and whose products run divided: they send what is predicted.

    Its layers take vectors as their style says, (…, n) with the first axis split over the other axes of the mesh where
    these divide it; where a model is called on single vectors, write ``jax.vmap(model, spmd_axis_name="data")`` with
    the names of the others. Parameters and their names, and so checkpoints, are those that it had. The model holds the
    mesh, and with it devices, which do not pickle: save its parameters, and call this again where they are loaded.

    Args:
        model: As for `shardings`, with arrays.
        mesh: The same.
        axis: The same.
        style: The same.

    Returns:
        A new model; its operators, which are called for x @ A.T, are `Sharded`.

    Raises:
        ValueError: As `shardings`.
        TypeError: As `shardings`, or if an operator is symbolic.

    Warns:
        UserWarning: As `shardings`.

    Example:
        >>> import jax, linops as lo
        >>> mesh = jax.make_mesh((1, 1), ("data", "model"))
        >>> A = lo.nn.sharded(lo.kronecker(64, 64).init(seed=0, backend="jax"), mesh, style="whole")
        >>> A(jax.numpy.ones((2, 64))).shape
        (2, 64)
    """
    placing = _placing("sharded", model, mesh, axis, style)
    if _is_flax(model):
        found = _flax(model).sharded(model, placing)
    else:
        symbolic = [node for node in jax.tree.leaves(model, is_leaf=_is_layer) if _is_symbolic(node)]
        if symbolic:
            raise TypeError(
                f"sharded({symbolic[0]._short()}): it is symbolic; call A.init(seed=0, backend='jax') first"
            )
        found = jax.tree.map(placing.put, model, _placed_as(model, placing))
        found = _mapped(found, placing.parallel_layer)
    placing.warn()
    return found


def divisions(model: Any, ranks: int, style: Style | None = None) -> Divided:
    """How the layers of a model would be divided among devices.

    Args:
        model: As for `shardings`; it is not changed.
        ranks: Among how many devices.
        style: As for `shardings`.

    Returns:
        The layers; those that are stacked stand there once for each copy.

    Raises:
        ValueError: As `shardings`.
        TypeError: As `shardings`.
    """
    mesh = jax.sharding.AbstractMesh((ranks,), ("model",))
    placing = _placing("communication", model, mesh, "model", style)
    _flax(model).shardings(model, placing) if _is_flax(model) else _placed_as(model, placing)
    return Divided(tuple([row for rows in placing.rows.values() for row in rows]), ranks)


class Placing:
    """Where layers lie, one after the other, and which stay whole.

    Attributes:
        whole: The names of layers that stay whole.
        parallel: How the products of each run, by its name.
        rows: How each is divided, once for each copy of layers that are stacked.
    """

    def __init__(self, where: str, mesh: Any, axis: str, style: Style) -> None:
        self.where, self.mesh, self.axis, self.style = where, mesh, axis, style
        self.ranks = mesh.shape[axis]
        self.whole: list[str] = []
        self.parallel: dict[str, Parallel] = {}
        self.rows: dict[str, list[Row]] = {}

    def at(self, spec: PartitionSpec) -> NamedSharding:
        """A sharding."""
        return NamedSharding(self.mesh, spec)

    @property
    def everywhere(self) -> NamedSharding:
        """The sharding of what is whole."""
        return self.at(PartitionSpec())

    def layer(self, name: str, operator: LinearOperator, layer: Any) -> Callable[[str | None, Any], NamedSharding]:
        """How a layer lies.

        Args:
            name: The dotted name of the layer.
            operator: Its symbolic operator.
            layer: The layer, for predicates.

        Returns:
            A function from the name of a leaf, or None for the bias, and the array to its sharding.
        """
        style = self.style
        if not isinstance(style, str):
            style = next((one for pattern, one in style.items() if matches(pattern, name, layer)), "whole")
        self.parallel[name] = parallel = Parallel(self.mesh, self.axis, style)
        try:
            found = parallel.division(operator)
        except ValueError as error:
            raise ValueError(f"{self.where}{f': layer {name!r}' if name else ''}, style {style!r}: {error}") from None
        if not found.is_split:
            self.whole.append(name or layer._short())
        counts = {leaf: len(spec.shape) for leaf, spec in operator.named_leaves()}
        bias_axes = len(getattr(layer, "out_shape", "m"))
        row = Row(name, style, found, numpy_dtype(operator.dtype or "float32").itemsize)
        self.rows[name] = [row]

        def sharding(leaf: str | None, array: Any) -> NamedSharding:
            lead = array.ndim - (bias_axes if leaf is None else counts[leaf])  # axes of layers that are stacked
            self.rows[name] = [row] * prod(array.shape[:lead])
            if leaf is not None:
                return self.at(spec_of(found.axes[leaf], self.axis, lead))
            splits = found.out == SHARDED and array.shape[lead] % self.ranks == 0
            return self.at(spec_of(0 if splits else None, self.axis, lead))

        return sharding

    def parallel_layer(self, name: str, layer: Any) -> Any:
        """A layer whose products run divided."""
        parallel = self.parallel[name]
        return Sharded(layer, parallel) if isinstance(layer, LinearOperator) else layer._with_parallel(parallel)

    def put(self, array: Any, sharding: Any) -> Any:
        """An array where it is to lie."""
        return jax.device_put(array, sharding) if isinstance(array, jax.Array) else array

    def warn(self) -> None:
        """Say what stays whole, and which patterns match nothing."""
        said = []
        if self.whole and self.ranks > 1:
            said.append(
                f"{brief(self.whole, 4)} stay whole on each of {self.ranks} devices: their leaves are small, or have "
                "no axis that divides among them, or they are no linear maps"
            )
        for pattern in () if isinstance(self.style, str) else self.style:
            said += [f"style has {one}" for one in (astray(pattern, self.parallel, "the layers'"),) if one]
        if said:
            warnings.warn(f"{self.where}: {'; '.join(said)}", UserWarning, stacklevel=3)


def _placing(where: str, model: Any, mesh: Any, axis: str, style: Style | None) -> Placing:
    if not isinstance(mesh, (jax.sharding.Mesh, jax.sharding.AbstractMesh)):
        raise TypeError(f"{where}: expected a jax.sharding.Mesh, as jax.make_mesh makes it, got {type(mesh).__name__}")
    if axis not in mesh.axis_names:
        raise ValueError(
            f"{where}: the mesh has no axis {axis!r}; expected axis= one of {', '.join(map(repr, mesh.axis_names))}"
        )
    if any(kind.__module__.startswith("torch.") for kind in type(model).__mro__):
        raise TypeError(f"{where}({type(model).__name__}): it is a PyTorch module: use lo.nn.parallelize_")
    if style is None:
        style = "sharded" if isinstance(model, LinearOperator) else "whole"
    for one in style.values() if isinstance(style, Mapping) else [style]:
        if not isinstance(one, str):
            raise TypeError(
                f"{where}: expected style= one of {', '.join(STYLES)}, or a dict of pattern to one of these, "
                f"got {style!r}"
            )
        ends(one)
    return Placing(where, mesh, axis, style)


def _is_layer(node: Any) -> bool:
    return isinstance(node, LinearOperator) or hasattr(node, "_with_parallel") or _is_nonlinear(node)


def _is_nonlinear(node: Any) -> bool:
    """Whether a node is a layer that is no linear map, which stays whole."""
    return isinstance(getattr(node, "nonlinear", None), Nonlinear)


def _is_symbolic(node: Any) -> bool:
    return isinstance(node, LinearOperator) and node.is_symbolic


def _mapped(model: Any, function: Callable[[str, Any], Any]) -> Any:
    """A pytree with what a function makes of the name and node of each operator or layer."""

    def one(path: Any, node: Any) -> Any:
        return function(_name_of(path), node) if _is_layer(node) and not _is_nonlinear(node) else node

    return jax.tree_util.tree_map_with_path(one, model, is_leaf=_is_layer)


def _placed_as(model: Any, placing: Placing) -> Any:
    """A pytree with shardings in the place of its arrays, and None in that of what is none."""

    def one(path: Any, node: Any) -> Any:
        if _is_nonlinear(node):
            placing.whole.append(_name_of(path) or type(node).__name__)
            return jax.tree.map(lambda _: placing.everywhere, node)
        if not _is_layer(node):
            return placing.everywhere if hasattr(node, "ndim") else None
        operator: Any = node if isinstance(node, LinearOperator) else node.operator
        sharding = placing.layer(_name_of(path), one_copy(operator), node)
        own = [sharding(name, leaf) for name, leaf in operator.named_leaves()]
        placed = jax.tree.unflatten(jax.tree.structure(operator), own)
        return placed if isinstance(node, LinearOperator) else node._placed_as(placed, sharding, placing.everywhere)

    return jax.tree_util.tree_map_with_path(one, model, is_leaf=_is_layer)


def _name_of(path: Any) -> str:
    return ".".join([str(getattr(step, "name", getattr(step, "key", getattr(step, "idx", "")))) for step in path])


def _is_flax(model: Any) -> bool:
    return any(kind.__module__.partition(".")[0] == "flax" for kind in type(model).__mro__)


def _flax(model: Any) -> Any:
    return import_module("linops.nn.flax.sharding")


__all__ = ["Placing", "Sharded", "divisions", "sharded", "shardings"]
