"""TensorTrain: a matrix product operator with any number of cores."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from linops import backends
from linops.checks import admit_all, require_leaves
from linops.declaration import declare, remembered, tree
from linops.operators.planned import Planned
from linops.plan.network import Axes, Graph
from linops.plan.step import Step, matmul_step


@declare
class TensorTrain(Planned):
    """A tensor train, also known as a matrix product operator.

        A[(i_1 … i_c), (j_1 … j_c)] = Σ_ρ Π_k cores[k][ρ_{k-1}, i_k, j_k, ρ_k]

    The cores contract one after the other from the end that costs fewer MACs (Oseledets, 2011).

    Attributes:
        cores: Arrays or specs (r_{k-1}, m_k, n_k, r_k), with r_0 = r_c = 1.

    Raises:
        ValueError: If the shapes do not chain.
        TypeError: If a core is no array, or backends are mixed.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.TensorTrain([np.ones((1, 2, 3, 4)), np.ones((4, 5, 6, 1))])
        >>> A.shape, A.num_params
        ((10, 18), 144)
    """

    cores: Any = tree(axes=4)

    def __post_init__(self) -> None:
        if not isinstance(self.cores, (list, tuple)) or not self.cores:
            raise ValueError("TensorTrain: cores must be a list of at least one array (r_{k-1}, m_k, n_k, r_k)")
        admit_all(self, "cores", 4)
        ranks = [1, *(core.shape[3] for core in self.cores)]
        if [core.shape[0] for core in self.cores] != ranks[:-1] or ranks[-1] != 1:
            shapes = ", ".join(str(tuple(core.shape)) for core in self.cores)
            raise ValueError(
                f"TensorTrain: cores of shapes {shapes} do not chain; "
                f"expected (r_{{k-1}}, m_k, n_k, r_k) with r_0 = r_c = 1"
            )
        require_leaves(self)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return prod([core.shape[1] for core in self.cores]), prod([core.shape[2] for core in self.cores])

    def _sweep(self, forward: bool) -> Iterator[tuple[int, int, int]]:
        """Of each core in the order in which it acts: its position, the size left of its axis and the size right of it.

        Going forward the operand is (M_{k-1}, r_{k-1}, n_k, N_{k+1}); backward it is (N_{k-1}, n_k, r_k, M_{k+1}).
        """
        out, into = [core.shape[1] for core in self.cores], [core.shape[2] for core in self.cores]
        count = len(self.cores)
        for k in range(count) if forward else reversed(range(count)):
            yield k, prod((out if forward else into)[:k]), prod((into if forward else out)[k + 1 :])

    def _macs(self, forward: bool) -> int:
        return sum([prod(self.cores[k].shape) * left * right for k, left, right in self._sweep(forward)])

    def _forward(self) -> bool:
        return self._macs(True) < self._macs(False)  # backward, cores are read as they lie

    @remembered
    def _acting(self) -> tuple[tuple[int, tuple[int, ...], tuple[int, int], int, int], ...]:
        """Of each core, as they act: position, order of its axes and shape as a matrix, sizes left and right of it."""
        forward, found = self._forward(), []
        for k, left, right in self._sweep(forward):
            before, m, n, after = self.cores[k].shape
            order = (1, 3, 0, 2) if forward else ()
            found.append((k, order, (m * after, before * n) if forward else (before * m, n * after), left, right))
        return tuple(found)

    def _swept(self, x: Any, batch: Any) -> Any:
        """A x of the numbers of a features-first x with so many vectors, in any shape; the result's, in any shape."""
        for k, order, (rows, columns), left, right in self._acting:
            matrix = (backends.permute(self.cores[k], order) if order else self.cores[k]).reshape(rows, columns)
            right *= batch
            if right == 1:
                x = (x if x.shape == (left, columns) else x.reshape(left, columns)) @ matrix.T
            else:
                x = (
                    matrix @ x.reshape(columns, right)
                    if left == 1
                    else backends.shared_matmul(matrix, x.reshape(left, columns, right))
                )
        return x

    def _natural(self, x: Any) -> Any:
        batch = x.shape[-1]
        return self._swept(x, batch).reshape(self.shape[0], batch)

    def _natural_vector(self, x: Any) -> Any:
        return self._swept(x, 1).reshape(self.shape[0])

    def _transpose(self) -> TensorTrain:
        return TensorTrain(tuple(backends.permute(core, (0, 2, 1, 3)) for core in self.cores))

    def _trace(self, graph: Graph, axes: Axes, leaf: int) -> Axes | None:
        groups = graph.split(axes, [core.shape[2] for core in self.cores])
        if groups is None:
            return None
        out = [graph.axes(core.shape[1]) for core in self.cores]
        ranks = [(), *[graph.axes(core.shape[3]) for core in self.cores[:-1]], ()]
        for k, *_ in self._acting:
            graph.add(leaf + k, (*ranks[k], *out[k], *groups[k], *ranks[k + 1]))
        return sum(out, ())

    def _natural_steps(self, batch: int) -> tuple[Step, ...]:
        return tuple(
            matmul_step(left, rows, columns, right * batch, weights=rows * columns)
            for _, _, (rows, columns), left, right in self._acting
        )

    def _leaf_fans(self) -> dict[str, tuple[int, int]]:
        fans = {}
        for number, core in enumerate(self.cores):
            before, m, n, after = core.shape
            fans[f"cores_{number}"] = (n * before, m * after)
        return fans

    def _leaf_matrices(self) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
        return {f"cores_{number}": ((1, 3), (0, 2)) for number in range(len(self.cores))}

    def _output_leaves(self) -> tuple[str, ...]:
        return (f"cores_{len(self.cores) - 1 if self._forward() else 0}",)

    def _detail(self) -> str:
        out, into = tuple(core.shape[1] for core in self.cores), tuple(core.shape[2] for core in self.cores)
        return f"{out} × {into}, ranks {tuple(core.shape[3] for core in self.cores[:-1])}"
