"""Power: an operator applied again and again, or its power once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from linops import backends
from linops.declaration import declare, remembered, tree
from linops.operator import LinearOperator
from linops.operators.squaring import as_matrix, matrix_power, powered
from linops.plan.network import Axes, Graph
from linops.plan.step import Step, matmul_step
from linops.tags import Knowledge, Tag
from linops.tuning import POWER_PRODUCTS


@declare
class Power(LinearOperator):
    """The power A ** k of a square operator, made by ``**``; its parameters are those of A, once.

    Up to k = 8 A is applied k times. Above, its power is applied once where there is a closed form (permutations,
    diagonals, circulants, blocks, Kronecker products, low rank, reflections, Hadamard and Fourier transforms, and
    multiples of those), or where squaring the matrix again and again costs fewer FLOPs.

    Cost: k times that of A; or that of A and, once a product, of at most 2 log2 k products of its arrays.

    Attributes:
        base: A, square.
        exponent: k ≥ 2.

    Raises:
        ValueError: If A is not square or the exponent is below 2 (the algebra makes A ** 1 and A ** 0 without this
            class).

    Example:
        >>> import linops as lo, numpy as np
        >>> (lo.Diagonal(np.array([2., 3.])) ** 3) @ np.ones(2)
        array([ 8., 27.])
    """

    base: LinearOperator = tree()
    exponent: int = 2

    def __post_init__(self) -> None:
        if self.base.shape[0] != self.base.shape[1]:
            raise ValueError(f"{self.base._short()} ** {self.exponent}: powers need a square operator")
        if self.exponent < 2:
            raise ValueError(f"Power({self.base._short()}, {self.exponent}): the exponent must be at least 2")

    @property
    def _repeats(self) -> int:
        return self.exponent

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.base.shape

    @remembered
    def _aliases(self) -> bool:
        return self.base._aliases

    @property
    def _prefers_rows(self) -> bool:
        return self.base._prefers_rows

    def _columns(self, x: Any) -> Any:
        once = self._once(x)
        if once is not None:
            return once._columns(x)
        for _ in range(self.exponent):
            x = self.base._columns(x)
        return x

    def _rows(self, x: Any) -> Any:
        once = self._once(x)
        if once is not None:
            return once._rows(x)
        for _ in range(self.exponent):
            x = self.base._rows(x)
        return x

    def _once(self, x: Any) -> Any:
        """The power as one operator, its arrays as wide as its product with x; None where A is applied repeatedly."""
        if self.exponent <= POWER_PRODUCTS:
            return None
        base, backend = self.base, self.backend
        if backends.promotes(backend) and x.dtype != self.dtype:
            astype = backends.namespace(backend).astype
            base = base._map(lambda leaf: astype(leaf, backends.result_type(backend, leaf.dtype, x.dtype)))
        found = powered(base, self.exponent, x)
        return matrix_power(base, self.exponent) if found is None else found

    def _transpose(self) -> Power:
        return Power(self.base.T, self.exponent)

    def _conj(self) -> Power:
        return Power(self.base.conj(), self.exponent)

    def _trace(self, graph: Graph, axes: Axes, leaf: int) -> Axes | None:
        if self.exponent > POWER_PRODUCTS:
            return None
        found: Axes | None = axes
        for _ in range(self.exponent):
            found = None if found is None else self.base._trace(graph, found, leaf)
        return found

    def _lower(self, batch: int) -> tuple[Step, ...]:
        k, n, steps = self.exponent, self.shape[0], self.base._lower(batch)
        if k <= POWER_PRODUCTS:
            return steps * k
        rounds = 2 * k.bit_length()
        if powered.resolver.method(self.base) is not _ANY:
            numbers = max(self.num_params, 1)
            return Step(
                "power", f"exponent {k}", other_flops=rounds * numbers, weights=numbers, outputs=numbers
            ), *steps
        if as_matrix(self.base, k):
            squares = matmul_step(1, n, n, n * rounds)
            return squares, matmul_step(1, n, n, batch)
        return tuple([_repeated(step, k) for step in steps])

    def _knowledge(self) -> Knowledge:
        known = self.base.tags
        kept = Tag.SYMMETRIC | Tag.HERMITIAN | Tag.ORTHOGONAL | Tag.INVERTIBLE | Tag.DIAGONAL
        kept |= Tag.LOWER_TRIANGULAR | Tag.UPPER_TRIANGULAR | Tag.POSITIVE_SEMIDEFINITE | Tag.POSITIVE_DEFINITE
        yes = known.yes & kept
        if self.exponent % 2 == 0 and Tag.HERMITIAN in yes:
            yes |= Tag.POSITIVE_SEMIDEFINITE | (Tag.POSITIVE_DEFINITE if Tag.INVERTIBLE in yes else Tag.NONE)
        return Knowledge(yes, known.no & Tag.INVERTIBLE)

    def _detail(self) -> str:
        return f"exponent {self.exponent}"


_ANY = powered.resolver.method(LinearOperator())  # which knows no closed form


def _repeated(step: Step, count: int) -> Step:
    """A step that runs so many times, as one."""
    counts = ("macs", "other_flops", "inputs", "weights", "outputs", "gradient_macs", "blocks")
    return replace(
        step, detail=f"{step.detail}, {count} times", **{name: count * getattr(step, name) for name in counts}
    )
