"""Factors in balance: what trains on should start as if it had been drawn with structure-aware scale."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from linops import backends
from linops.projection.contraction import contract
from linops.projection.nets import Net
from linops.scaling import initial_stds


def balanced(net: Net, tensors: Sequence[Any]) -> list[Any]:
    """The same map by tensors whose root mean squares are in proportion to their initial standard deviations.

    First two tensors that share a bond, an axis that is not open, are scaled along the axes that they share, to the
    same norm; then each tensor by a number, the product of all numbers being one.

    Args:
        net: The net.
        tensors: Of each leaf; those that are not free stay.

    Returns:
        The tensors.
    """
    tensors = list(tensors)
    space: Any = backends.namespace(backends.backend_of(tensors[0]))
    held = {axis: [k for k, axes in enumerate(net.tensors) if axis in axes] for axis in net.sizes}
    free = [k for k in range(len(tensors)) if net.free[k]]
    pairs = {tuple(ks) for axis, ks in held.items() if axis not in net.open and len(ks) == 2}
    for first, second in sorted(pairs):
        if first not in free or second not in free:
            continue
        shared = "".join([axis for axis in net.tensors[first] if held[axis] == [first, second]])
        norms = [
            contract([net.tensors[k]], shared, space.abs(tensors[k]) ** 2) / net.size(net.tensors[k]) * net.size(shared)
            for k in (first, second)
        ]
        whole = (norms[0] > 0) & (norms[1] > 0)
        ones = space.ones_like(norms[0])
        ratio = space.where(whole, norms[1], ones) / space.where(whole, norms[0], ones)
        factor = ratio**0.25
        tensors[first] = _scaled(net, first, tensors[first], shared, factor)
        tensors[second] = _scaled(net, second, tensors[second], shared, 1 / factor)
    if len(free) > 1:
        stds = [*initial_stds(net.target).values()]
        squares = [space.mean(space.abs(tensors[k].reshape(-1)) ** 2, keepdims=True) for k in free]  # arrays (1,)
        sizes = [space.sqrt(square) / (stds[k] or 1.0) for k, square in zip(free, squares)]
        zero = prod(sizes) == 0
        safe = [space.where(zero, space.ones_like(size), size) for size in sizes]
        mean = prod([size ** (1 / len(free)) for size in safe])
        for k, size in zip(free, safe):
            factor = space.astype(mean / size, tensors[k].dtype)
            tensors[k] = tensors[k] * factor.reshape((1,) * len(tensors[k].shape))
    return tensors


def _scaled(net: Net, k: int, tensor: Any, axes: str, factor: Any) -> Any:
    """A tensor scaled along axes."""
    space: Any = backends.namespace(backends.backend_of(tensor))
    factor = contract([axes], "".join([axis for axis in net.tensors[k] if axis in axes]), factor)
    shape = tuple([net.sizes[axis] if axis in axes else 1 for axis in net.tensors[k]])
    return tensor * space.astype(factor.reshape(shape), tensor.dtype)
