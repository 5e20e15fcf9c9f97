"""How families split sizes into dims and blocks: balanced, padded where nothing divides, of fewest MACs."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from math import prod

import numpy as np

from linops.operator import LinearOperator
from linops.operators import BlockDiag, Identity, Kronecker, Pad
from linops.plan import natural_order

#: a split is balanced if its largest dim is at most this many times its smallest
BALANCE = 2
#: how many sizes to look at where padding is needed
NEARBY = 3
#: from which size on not all is looked for: trial division up to PRIMES, in TRIES sizes, and FEW splits of each
LARGE, PRIMES, TRIES, FEW = 1_000_000, 1000, 8, 2


def padded(core: LinearOperator, m: int, n: int) -> LinearOperator:
    """An operator of at least (m, n), cropped to (m, n): the input is padded by zeros, the output cut at its end.

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


def spread(size: int, blocks: int) -> LinearOperator:
    """Embeds numbers into equal parts so that each part lacks at most one: part sizes are those of `numpy.array_split`.

    Args:
        size: How many numbers.
        blocks: Into how many parts.

    Returns:
        The operator.
    """
    part = -(-size // blocks)
    short = part * blocks - size  # the last `short` parts hold one number less
    if not short:
        return Identity(size)
    full = part * (blocks - short)
    tail = Kronecker(Identity(short), Pad(part, part - 1))
    return BlockDiag((Identity(full), tail)) if full else tail


@lru_cache(maxsize=4096)
def _divisors(size: int) -> tuple[int, ...]:
    """The divisors of a size, ascending; of a large one those of primes below PRIMES, times what is left or not."""
    found, rest, prime = [1], size, 2
    while prime <= PRIMES and prime * prime <= rest:
        power = 1
        layer = found
        while rest % prime == 0:
            rest //= prime
            power *= prime
            found = found + [divisor * power for divisor in layer]
        prime += 1 if prime == 2 else 2
    return tuple(sorted(found + [divisor * rest for divisor in found] if rest > 1 else found))


def _splits(size: int, count: int, divisors: tuple[int, ...], least: int, most: int) -> list[tuple[int, ...]]:
    """The ways to write a size as a product of `count` ascending factors among divisors, from `least` to `most`."""
    if count == 1:
        return [(size,)] if least <= size <= most else []
    found = []
    for factor in divisors[bisect_left(divisors, least) :]:
        if factor > most or factor**count > size:
            break
        if size % factor == 0 and factor * most ** (count - 1) >= size:
            found += [(factor, *rest) for rest in _splits(size // factor, count - 1, divisors, factor, most)]
    return found


def _balanced(size: int, count: int) -> list[tuple[int, ...]]:
    """The balanced splits of one size; of a large one the few that are closest to equal."""
    found, divisors = [], _divisors(size)
    for least in divisors[bisect_left(divisors, _root(-(-size // BALANCE ** (count - 1)), count)) :]:
        if least**count > size:
            break
        if count == 1:
            found += [(size,)] if least == size else []
        else:
            found += [(least, *rest) for rest in _splits(size // least, count - 1, divisors, least, BALANCE * least)]
    if size <= LARGE:
        return found
    return sorted(sorted(found, key=lambda split: split[-1] - split[0])[:FEW])


def _root(size: int, count: int) -> int:
    """The least integer whose power `count` is at least a size: Newton's method on integers, as floats have 53 bits."""
    if size <= 1:
        return size
    low = 1 << -(-size.bit_length() // count)
    while True:  # from above, to the floor of the root
        lower = ((count - 1) * low + size // low ** (count - 1)) // count
        if lower >= low:
            return low if low**count >= size else low + 1
        low = lower


def _nearly_equal(size: int, count: int) -> tuple[int, ...]:
    """Factors as equal as can be whose product is at least a size, ascending."""
    dims = []
    for left in range(count, 0, -1):
        dims.append(_root(size, left))
        size = -(-size // dims[-1])
    return tuple(sorted(dims))


@lru_cache(maxsize=4096)
def balanced_splits(size: int, count: int) -> tuple[tuple[int, ...], ...]:
    """The balanced splits of a size: the largest dim is at most twice the smallest.

    Primes (67, 50257) and sizes such as 2 · prime have none; they get those of the next few sizes that have some, to be
    padded to: at most three, and at most a quarter above, but for the first. Of sizes above a million only small prime
    factors are looked for, in a few sizes; where these have no balanced split, dims are as equal as can be, which pads
    a share of about one over the smallest.

    Args:
        size: The size to split.
        count: Into how many dims.

    Returns:
        Splits in ascending order of dims, by their product, which is `size` wherever that has a balanced split.

    Example:
        >>> balanced_splits(768, 2), balanced_splits(67, 2)
        (((24, 32),), ((7, 10), (6, 12), (8, 9), (7, 11)))
        >>> balanced_splits(10**30, 3)[-1], balanced_splits(10**30 + 57, 2)
        ((10000000000, 10000000000, 10000000000), ((1000000000000000, 1000000000000001),))
    """
    if count == 1:
        return ((size,),)
    splits: list[tuple[int, ...]] = []
    sizes = 0
    for candidate in itertools.count(size):
        if splits and candidate > size + size // 4:
            break
        if size > LARGE and candidate == size + TRIES:
            return tuple(splits) or (_nearly_equal(size, count),)
        found = _balanced(candidate, count)
        splits += found
        sizes += bool(found)
        if sizes == NEARBY or (found and candidate == size):
            break
    return tuple(splits)


def _given(
    family: str, name: str, dims: Sequence[int] | None, size: int, count: int
) -> tuple[tuple[int, ...], ...] | None:
    if dims is None:
        return None
    if not isinstance(dims, Iterable):
        raise TypeError(f"{family}: {name} must be {count} positive integers, got {dims!r}")
    dims = tuple([int(dim) if isinstance(dim, np.integer) else dim for dim in dims])
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
    """The member of fewest MACs over both sides' balanced splits, ascending and descending; explicit dims are kept.

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
