"""How families split sizes into dims: balanced, padded where nothing divides, of fewest MACs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod

from linops.operator import LinearOperator
from linops.operators import Pad
from linops.plan import natural_order

#: a split is balanced if its largest dim is at most this many times its smallest
BALANCE = 2
#: how many sizes to look at where padding is needed
NEARBY = 3


def padded(core: LinearOperator, m: int, n: int) -> LinearOperator:
    """An operator of at least (m, n), cropped to (m, n): zeros are appended to the input, the end of the output is dropped.

    Args:
        core: The operator.
        m: out_features.
        n: in_features.

    Returns:
        The operator between pads, or itself where nothing is to be padded.
    """
    operator = core
    if core.shape[1] != n:
        operator = operator @ Pad(core.shape[1], n)
    if core.shape[0] != m:
        operator = Pad(m, core.shape[0]) @ operator
    return operator


@lru_cache(maxsize=4096)
def _factorizations(size: int, count: int, least: int = 1) -> tuple[tuple[int, ...], ...]:
    """The ways to write a size as a product of `count` ascending factors, the first at least `least`."""
    if count == 1:
        return ((size,),) if size >= least else ()
    found = []
    for factor in range(least, round(size ** (1 / count)) + 2):
        if factor**count <= size and size % factor == 0:
            found += [(factor, *rest) for rest in _factorizations(size // factor, count - 1, factor)]
    return tuple(found)


@lru_cache(maxsize=4096)
def balanced_splits(size: int, count: int) -> tuple[tuple[int, ...], ...]:
    """The balanced splits of a size: the largest dim is at most twice the smallest.

    Primes (67, 50257) and sizes such as 2 · prime have none; they get those of the next few sizes that have some, to be padded to: at most
    three, and at most a quarter above, but for the first.

    Args:
        size: The size to split.
        count: Into how many dims.

    Returns:
        Splits in ascending order of dims, by their product, which is `size` wherever that has a balanced split.

    Example:
        >>> balanced_splits(768, 2), balanced_splits(67, 2)
        (((24, 32),), ((7, 10), (6, 12), (8, 9), (7, 11)))
    """
    splits: list[tuple[int, ...]] = []
    sizes = 0
    for candidate in itertools.count(size):
        if splits and candidate > size + size // 4:
            break
        found = [split for split in _factorizations(candidate, count) if split[-1] <= BALANCE * split[0]]
        splits += found
        sizes += bool(found)
        if sizes == NEARBY or (found and candidate == size):
            break
    return tuple(splits)


def _given(family: str, name: str, dims: Sequence[int] | None, size: int, count: int) -> tuple[tuple[int, ...], ...] | None:
    if dims is None:
        return None
    dims = tuple(dims)
    if len(dims) != count or any(not isinstance(dim, int) or dim < 1 for dim in dims):
        raise ValueError(f"{family}: {name} must be {count} positive integers, got {dims}")
    if prod(dims) < size:
        raise ValueError(f"{family}: {name} {dims} have product {prod(dims)}, which is less than the {size} features")
    return (dims,)


def choose_dims(
    family: str,
    m: int,
    n: int,
    count: int,
    out_dims: Sequence[int] | None,
    in_dims: Sequence[int] | None,
    build: Callable[[tuple[int, ...], tuple[int, ...]], LinearOperator],
) -> LinearOperator:
    """The member of fewest MACs over the balanced splits, ascending and descending, of both sides; explicit dims are kept.

    Args:
        family: The family's name, for errors.
        m: out_features.
        n: in_features.
        count: Into how many dims.
        out_dims: Explicit dims of the output, or None.
        in_dims: Explicit dims of the input, or None.
        build: A function (out_dims, in_dims) → member of the family.

    Returns:
        The member, padded to (m, n).

    Raises:
        ValueError: If explicit dims are not `count` positive integers whose product is at least the size.
    """

    def candidates(size: int) -> list[tuple[int, ...]]:
        return [order for split in balanced_splits(size, count) for order in (split, split[::-1])]

    outs = _given(family, "out_dims", out_dims, m, count) or candidates(m)
    ins = _given(family, "in_dims", in_dims, n, count) or candidates(n)
    members = (build(out, into) for out in dict.fromkeys(outs) for into in dict.fromkeys(ins))
    with natural_order():
        return padded(min(members, key=lambda member: member.cost().macs), m, n)
