"""`Node`: an expression as it is drawn; `Draw`: where its sizes, numbers and arrays come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from . import arrays, twin
from .arrays import Array, dtype_of
from .twin import Twin


@dataclass(frozen=True)
class Node:
    """An expression.

    Attributes:
        code: Python that makes the operator, with ``{0}``, ``{1}`` … where its parts stand and ``{name}`` where an
            array does.
        parts: Expressions in it.
        arrays: Arrays in it.
        matrix: What it stands for: takes the twins of the parts, and those of the arrays by name.
    """

    code: str
    parts: tuple[Node, ...] = ()
    arrays: dict[str, Array] = field(default_factory=dict)
    matrix: Callable[..., Twin] = lambda *parts: parts[0]

    def twin(self) -> Twin:
        """The matrix it stands for."""
        return self.matrix(
            *[part.twin() for part in self.parts], **{name: twin.of_array(a.values) for name, a in self.arrays.items()}
        )

    def text(self, named: dict[str, Array]) -> str:
        """Python that makes the operator; the arrays get names, in the dict."""
        parts = [part.text(named) for part in self.parts]
        names = {}
        for name, array in self.arrays.items():
            known = next((key for key, other in named.items() if other is array), None)
            names[name] = known or f"a{len(named)}"  # what stands in two places is one array
            named[names[name]] = array
        return self.code.format(*parts, **names)

    def nodes(self) -> Iterator[Node]:
        """The expression and all in it."""
        yield self
        for part in self.parts:
            yield from part.nodes()


class Draw:
    """Sizes, numbers, arrays and keys of one expression, drawn from a NumPy generator.

    Attributes:
        random: The generator.
        backend: Where the expression is to run.
        dtypes: What its arrays may have.
        large: Whether integers may be so large that sums and products of them wrap around.
        leaf: The dtype of most arrays of the leaf that is being drawn.
        least: The least number of rows or columns of the parts that something is cut into.
        matrices: Whether `np.matrix` may stand for an array.
        callables: Whether there may be callables of one framework.
        leaves: Kinds of leaves beside those of `leaves.py`.
    """

    least = 0
    matrices = callables = True
    leaves: ClassVar[dict[str, tuple[Callable[..., Any], bool]]] = {}

    def __init__(self, random: np.random.Generator, backend: str) -> None:
        self.random, self.backend = random, backend
        real, whole = arrays.REAL[backend], arrays.INTEGER[backend]
        families = [
            real[:1],
            real,
            arrays.COMPLEX[backend] + real[:2],
            whole,
            whole,
            whole + real,
            whole + real + arrays.COMPLEX[backend],
        ]
        families += [bools + kinds for bools in (arrays.BOOL[backend],) for kinds in ((), whole, real) if bools]
        self.dtypes = self.pick(families)
        if backend == "torch" or self.chance(0.4):  # torch mixes no dtypes
            self.dtypes = (self.pick(self.dtypes),)
        self.large = self.chance(0.5)
        self.leaf = self.pick(self.dtypes)

    # ------------------------------------------------------------ choices

    def chance(self, probability: float) -> bool:
        """True with a probability."""
        return bool(self.random.random() < probability)

    def integer(self, least: int, most: int) -> int:
        """An integer, both ends included."""
        return int(self.random.integers(least, most + 1))

    def pick(self, choices: Sequence[Any]) -> Any:
        """One of several."""
        return choices[int(self.random.integers(len(choices)))]

    def size(self) -> int:
        """A number of rows or columns."""
        return self.pick(
            (0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 6) if self.backend != "jax" else (0, 1, 1, 2, 2, 2, 3, 3, 4)
        )

    def cut(self, n: int) -> int | None:
        """Where something is cut in two, or None if it is too short."""
        return None if n < 2 * self.least else self.integer(self.least, n - self.least)

    def divisor(self, n: int) -> int:
        """A number that divides another; of 0, any."""
        return self.pick([size for size in range(1, max(n, 1) + 1) if n % size == 0])

    def inexact(self) -> bool:
        """Whether arrays of this expression may be floating, and makes the next one so."""
        floating = [name for name in self.dtypes if dtype_of(name).kind not in "iub"]
        if floating:
            self.leaf = self.pick(floating)
        return bool(floating)

    def has(self, kinds: str) -> bool:
        """Whether a dtype of this expression is of one of NumPy's kinds."""
        return any(dtype_of(name).kind in kinds for name in self.dtypes)

    # ------------------------------------------------------------ arrays

    def dtype(self) -> str:
        """The dtype of the next array: mostly that of the leaf."""
        return self.leaf if self.chance(0.8) else self.pick(self.dtypes)

    def values(self, shape: tuple[int, ...], name: str) -> np.ndarray:
        """Numbers of a dtype."""
        dtype, random = dtype_of(name), self.random
        if dtype.kind == "b":
            return np.asarray(random.random(shape) < 0.5)
        if dtype.kind in "iu":
            bounds = np.iinfo(dtype)
            if not self.large:
                return np.asarray(random.integers(-3 if dtype.kind == "i" else 0, 4, shape)).astype(dtype)
            if self.chance(0.5):
                return np.asarray(
                    random.integers(bounds.min, bounds.max, shape, dtype.newbyteorder("="), endpoint=True)
                ).astype(dtype)
            return np.full(shape, bounds.max - self.integer(0, bounds.max // 2), dtype)
        numbers = random.standard_normal(shape)
        if dtype.kind == "c":
            numbers = numbers + 1j * random.standard_normal(shape)
        return np.asarray(numbers).astype(dtype)

    def array(
        self,
        *shape: int,
        name: str | None = None,
        layouts: Sequence[str] = ("C", "C", "C", "F", "reversed", "strided", "frozen"),
    ) -> Array:
        """An array of the leaf that is being drawn."""
        return Array(self.values(shape, name or self.dtype()), self.pick(layouts))

    def same(self, *shapes: tuple[int, ...]) -> list[Array]:
        """Arrays of one dtype, as what stores them in one needs."""
        return [self.array(*shape, name=self.leaf) for shape in shapes]

    def number(self) -> tuple[str, Any]:
        """A number to multiply by, as Python and as it is."""
        texts = ["2", "-1", "3", "-3", "0"]
        if self.backend != "torch" or not self.has("iub"):  # of torch's integers they would make another dtype
            texts += ["0.5", "-3.0", "0.1", "np.float32(3)", "np.float64(0.1)"]
        texts += ["np.int8(3)", "np.int64(-2)"]
        if self.has("c") or (self.backend != "torch" and self.chance(0.2)):
            texts += ["1j", "(1 - 2j)", "np.complex64(1 + 2j)"]
        text = self.pick(texts)
        return text, eval(text, {"np": np})

    # ------------------------------------------------------------ selections

    def key(self, size: int) -> tuple[str, Any, int]:
        """(A key as Python, the key, the axis's length): it selects `size` indices, also negative ones and repeats."""
        kind, start, step, more = (
            self.pick(["slice", "reversed", "indices", "mask"]),
            self.integer(0, 2),
            self.integer(1, 2),
            self.integer(0, 2),
        )
        total = start + step * max(size - 1, 0) + 1 + more
        if kind == "slice" or (kind == "reversed" and not size):
            key: Any = slice(start, start + step * (size - 1) + 1 if size else start, step)
            return f"{key.start}:{key.stop}:{step}", key, total
        if kind == "reversed":
            stop = start - 1 if start else None
            return (
                f"{start + step * (size - 1)}:{'' if stop is None else stop}:{-step}",
                slice(start + step * (size - 1), stop, -step),
                total,
            )
        if kind == "mask":
            mask = np.isin(np.arange(total), self.random.choice(total, size, replace=False))
            return f"np.array({mask.tolist()})", mask, total
        indices = self.random.integers(-total, total, size)
        return f"np.array({indices.tolist()}, dtype=int)", indices, total
