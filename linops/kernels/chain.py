"""Products with few vectors in one compiled call on CPUs, of operators that are chains of tensors (`chain.cpp`).

With few vectors, calls of torch take longer than what they compute: a butterfly of 256 is eight products of blocks, and
as many views. A `Chain` is a network (`linops.plan.network`) whose tensors act on the operand one by one, in tables of
where the numbers of each index stand. It runs where nothing but numbers and their gradients is asked for: no
transformation, no tracing, no mode of torch. The compiled module itself sees to that, as it takes less time there. All
gradients are one call too, those of which gradients are wanted are products of torch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import prod
from string import ascii_letters
from typing import Any, NamedTuple

import torch

from linops.kernels.building import chain_module, measured
from linops.kernels.choosing import Choices, size_class
from linops.kernels.measuring import agree, detached, saves_are_seen, seconds, step, watched
from linops.plan.network import Network

#: up to which there is a chain: vectors, MACs, numbers between two steps, leaves, and numbers of a table
MOST, WORK, BETWEEN, LEAVES, TABLE = 64, 1 << 22, 1 << 18, 63, 1 << 15
#: the letters of axes as `torch.einsum` takes them, and the one of vectors
_AXES, _VECTORS = ascii_letters[:-1], ascii_letters[-1]

#: of this thread the chain that is being measured
_HERE = threading.local()


class Chain:
    """A compiled chain of one network, and what was chosen for it.

    Args:
        case: What is computed, in words.
        made_of: What the compiled module makes it of, at the first product that it can run.
        most: Up to how many vectors it multiplies.
    """

    def __init__(self, case: str, made_of: tuple[Any, ...], most: int) -> None:
        self.case = case
        self.most = most
        self._made_of = made_of
        self._compiled: Any = None
        self._run: Any = None
        self._wanted: Any = None
        self._choices: Choices | None = None
        self._ways: dict[Any, bool] = {}

    def product(self, way: str, operator: Any, leaves: tuple[Any, ...], x: Any, rows: bool) -> Any:
        """The product in one call.

        Args:
            way: ``"auto"`` or ``"compiled"``.
            operator: The operator, which multiplies in other ways too.
            leaves: Its leaves.
            x: A vector (n,), columns (…, k), or rows (k, n).
            rows: Whether x is rows.

        Returns:
            (m,), (m, k), or rows (k, m); None where it is to be computed in another way.
        """
        if getattr(_HERE, "measures", None) is self or (self._compiled is None and not self._is_made(x, leaves)):
            return None
        if way == "compiled":
            return self._run(self._compiled, x, leaves, rows)
        wanted = self._wanted(x, leaves)
        if wanted and saves_are_seen():  # what a checkpoint saves must not change with what is known
            return None
        choices = measured()
        if self._choices is not choices:
            self._choices, self._ways = choices, {}
        shape = x.shape
        key = len(shape), rows, (shape[0] if rows else shape[-1]).bit_length(), x.dtype, torch.get_num_threads(), wanted
        takes = self._ways.get(key)
        if takes is False:
            return None
        y = self._run(self._compiled, x, leaves, rows)
        if y is None or takes or self._decided(choices, key, operator, leaves, x, rows):
            return y
        return None

    def _is_made(self, x: Any, leaves: tuple[Any, ...]) -> bool:
        """Whether it is there: it is compiled where it can run, as far as operands say."""
        if x.dtype not in (torch.float32, torch.float64) or not all(one.is_cpu for one in (x, *leaves)):
            return False
        module = chain_module()
        if module is None:
            self.most = 0
            return False
        self._compiled, self._run, self._wanted = module.make(*self._made_of), module.run, module.wanted
        return True

    def _decided(self, choices: Choices, key: Any, operator: Any, leaves: tuple[Any, ...], x: Any, rows: bool) -> bool:
        """Whether the chain was measured to be faster, with the gradients that are wanted; what is unknown is measured.

        Operands are detached, so that what is wanted of them is what takes time.
        """
        if watched():
            return False
        kind = "vector" if x.ndim == 1 else f"{'rows' if rows else 'columns'} {size_class(x.shape[0 if rows else -1])}"
        names, wanted = ("x", *map(str, range(len(leaves)))), key[-1]
        gradients = ",".join([name for place, name in enumerate(names) if wanted >> place & 1]) or "none"
        case = f"chain {self.case} {str(x.dtype).removeprefix('torch.')} {kind} gradients {gradients} "
        case += f"{torch.get_num_threads()} threads"
        operands = detached((x, *leaves))
        other = operator.with_leaves(operands[1:])
        plain = other._vector if x.ndim == 1 else other._rows if rows else other._columns
        ways = {
            "plain": step(lambda x, *leaves: plain(x), operands),
            "compiled": step(lambda x, *leaves: self._run(self._compiled, x, leaves, rows), operands),
        }
        _HERE.measures = self  # plain products come by here
        try:
            self._ways[key] = choices.choose(case, ways, seconds, _agree) == "compiled"
        finally:
            _HERE.measures = None
        return self._ways[key]


def _agree(found: list[torch.Tensor], expected: list[torch.Tensor]) -> bool:
    """As `agree`, for products whose features may stand in several axes."""
    return agree([found[0].reshape(expected[0].shape), *found[1:]], expected)


def chain_of(network: Network | None, leaves: int) -> Chain | None:
    """The compiled chain of a network.

    Args:
        network: The network, if there is one.
        leaves: How many leaves the operator has.

    Returns:
        The chain; None where there is none.
    """
    if network is None or not network.tensors or leaves > LEAVES:
        return None
    return _chain_of(*network[:4], tuple(network.sizes.items()), leaves)


@lru_cache(maxsize=256)
def _chain_of(
    tensors: tuple[str, ...],
    places: tuple[int, ...],
    into: str,
    out: str,
    sizes: tuple[tuple[str, int], ...],
    leaves: int,
) -> Chain | None:
    size = dict(sizes)

    def shape(axes: Iterable[str]) -> tuple[int, ...]:
        return tuple([size[axis] for axis in axes])

    def count(axes: Iterable[str]) -> int:
        return prod(shape(axes))

    steps = steps_of(tensors, into, out)
    if steps is None or len(size) > len(_AXES) or max(count(group) for step in steps for group in step.groups) > TABLE:
        return None
    macs = sum([count({*step.own, *step.held}) for step in steps])
    most = max(count(axes) for step in steps for axes in (step.held, step.after))
    vectors = min(MOST, WORK // macs, BETWEEN // most)
    if not vectors:
        return None
    ready, letters = [], str.maketrans(dict(zip(size, _AXES)))
    for place, acting in zip(places, steps):
        blocks, rows, columns, rest = acting.groups
        tables = [offsets(group, acting.own, size) for group in (blocks, rows, columns)]
        tables += [offsets(group, acting.held, size) for group in (blocks, columns, rest)]
        tables += [offsets(group, acting.after, size) for group in (blocks, rows, rest)]
        named = [axes.translate(letters) for axes in (acting.own, acting.held + _VECTORS, acting.after + _VECTORS)]
        ready.append((place, count(acting.own), shape(acting.own), *named, *tables))
    case = f"{','.join(tensors)} {into}>{out} {','.join([f'{axis}{number}' for axis, number in sizes])}"
    made_of = count(out), count(into), most, leaves, shape(into), shape(out), tuple(ready)
    return Chain(case, made_of, vectors)


class Acting(NamedTuple):
    """How a tensor acts on an operand.

    Attributes:
        own: Its axes.
        groups: The axes of both that stay, its own rows, those that are summed over, and the operand's others.
        held: The operand's axes as it lies in memory.
        after: The result's.
    """

    own: str
    groups: tuple[str, str, str, str]
    held: str
    after: str


def steps_of(tensors: Sequence[str], into: str, out: str) -> list[Acting] | None:
    """How tensors act on an operand, one by one.

    Args:
        tensors: Their axes.
        into: Those of the operand.
        out: Those of the result.

    Returns:
        A step for each tensor; None where it takes more than these, as a sum over axes that no tensor has.

    Example:
        >>> for step in steps_of(["ba", "dc"], "ac", "bd"):  # a Kronecker product
        ...     print(step.groups, step.held, step.after)
        ('', 'b', 'a', 'c') ac bc
        ('', 'd', 'c', 'b') bc bd
    """
    held, steps = into, []
    for place, own in enumerate(tensors):
        later = out + "".join(tensors[place + 1 :])
        blocks = "".join([axis for axis in own if axis in held and axis in later])
        columns = "".join([axis for axis in own if axis in held and axis not in later])
        rows = "".join([axis for axis in own if axis not in held])
        rest = "".join([axis for axis in held if axis not in own])
        if place == len(tensors) - 1:
            after = out
        elif columns and not blocks and columns in held:
            after = held.replace(columns, rows)
        else:
            after = blocks + rows + rest
        if sorted(after) != sorted(blocks + rows + rest) or len({*own}) < len(own):
            return None
        steps.append(Acting(own, (blocks, rows, columns, rest), held, after))
        held = after
    return steps


def offsets(axes: str, layout: str, size: dict[str, int]) -> tuple[int, ...]:
    """Where the numbers of each index over axes stand in an array that lies in memory as `layout`.

    Args:
        axes: The axes of the index, slowest first.
        layout: All of the array's.
        size: Of each axis.

    Returns:
        A place an index.

    Example:
        >>> offsets("ba", "ab", {"a": 2, "b": 3})
        (0, 3, 1, 4, 2, 5)
    """
    strides, stride = {}, 1
    for axis in reversed(layout):
        strides[axis] = stride
        stride *= size[axis]
    found = [0]
    for axis in axes:
        found = [start + place * strides[axis] for start in found for place in range(size[axis])]
    return tuple(found)
