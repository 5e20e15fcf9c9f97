"""BlockTensorTrain (BTT): a tensor train whose cores also carry the axes that pass by them."""

from __future__ import annotations

from math import prod
from typing import Any

from linops import backends
from linops.checks import admit_all, require_leaves
from linops.declaration import declare, remembered, tree
from linops.operators.planned import Planned
from linops.plan.network import Axes, Graph
from linops.plan.step import Step, copy_step, matmul_step


@declare
class BlockTensorTrain(Planned):
    """A block tensor train (Qiu et al., "Compute Better Spent", ICML 2024), the generalised Monarch matrix.

    With row index (i_1 … i_c) over `out_dims` = (m_1 … m_c) and column index (j_c … j_1) over `in_dims` = (n_c … n_1),

        A[(i_1 … i_c), (j_c … j_1)] = Σ_ρ Π_k G_k[ρ_{k-1}, ρ_k; i_1 … i_k; j_k … j_c].

    Core k is stored as the blocks of one batched product: (B_k, r_k m_k, n_k r_{k-1}) with B_k = (m_1 … m_{k-1}) · (n_c
    … n_{k+1}); in its rows the rank is slower, in its columns the input axis is. With two cores no copy lies between
    the two products:

        A = BlockDiag(cores[1]) @ Permute.axes((n_2·r, m_1), (1, 0)) @ BlockDiag(cores[0]).

    Cost: Σ_k B_k r_k m_k n_k r_{k-1} MACs a vector, as many as parameters.

    Attributes:
        cores: Arrays or specs (B_k, r_k m_k, n_k r_{k-1}), the one that acts first first.
        out_dims: (m_1 … m_c), slowest first; may be left out with two cores.
        in_dims: (n_c … n_1), slowest first; may be left out with two cores.

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If a core is no array, or backends are mixed.

    Example:
        >>> import linops as lo
        >>> A = lo.BlockTensorTrain([lo.spec(4, 2 * 6, 5), lo.spec(6, 7, 4 * 2)])  # rank 2
        >>> A.shape, A.out_dims, A.in_dims, A.ranks
        ((42, 20), (6, 7), (4, 5), (2,))
    """

    cores: Any = tree(axes=3)
    out_dims: tuple[int, ...] = ()
    in_dims: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.cores, (list, tuple)) or not self.cores:
            raise ValueError("BlockTensorTrain: cores must be a list of at least one array (B_k, r_k m_k, n_k r_{k-1})")
        cores: tuple[Any, ...] = admit_all(self, "cores", 3)
        out_dims, in_dims = tuple(self.out_dims), tuple(self.in_dims)
        if not out_dims and not in_dims and len(cores) <= 2:
            first, last = cores[0], cores[-1]  # type: ignore[misc]
            out_dims = (last.shape[0], last.shape[1])[-len(cores) :]
            in_dims = (first.shape[0], first.shape[2])[-len(cores) :]
        if not len(cores) == len(out_dims) == len(in_dims):
            raise ValueError(
                f"BlockTensorTrain: {len(cores)} cores need as many out_dims and in_dims, got {out_dims} and {in_dims}"
            )
        if 0 in out_dims + in_dims:
            raise ValueError(
                f"BlockTensorTrain: out_dims {out_dims} and in_dims {in_dims} must be positive: ranks follow from them"
            )
        object.__setattr__(self, "out_dims", out_dims)
        object.__setattr__(self, "in_dims", in_dims)
        shapes = [core.shape for core in cores]
        expected, rank, done, passing = [], 1, 1, prod(in_dims)
        for shape, m, n in zip(shapes, out_dims, in_dims[::-1]):
            passing //= n
            after = shape[1] // m if len(expected) < len(cores) - 1 else 1
            expected.append((done * passing, after * m, n * rank))
            rank, done = after, done * m
        if shapes != expected:
            raise ValueError(
                f"BlockTensorTrain: cores of shapes {[*map(tuple, shapes)]} do not fit out_dims {out_dims} and "
                f"in_dims {in_dims}; expected {expected}"
            )
        require_leaves(self)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return prod(self.out_dims), prod(self.in_dims)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks r_1 … r_{c-1} between the cores."""
        return tuple(core.shape[1] // m for core, m in zip(self.cores[:-1], self.out_dims))

    @remembered
    def _sizes(self) -> tuple[tuple[int, int], ...]:
        """(B_k, n_k r_{k-1}) of each core: what its product sums over, block by block."""
        return tuple((core.shape[0], core.shape[2]) for core in self.cores)

    @remembered
    def _middles(self) -> tuple[tuple[int, int, int, int], ...]:
        """(M, N, n_k r_{k-1}, m_{k-1}) of each core but the first: its operand's axes as the last core leaves them."""
        count = len(self.cores)
        return tuple(
            (prod(self.out_dims[: k - 1]), prod(self.in_dims[: count - 1 - k]), self._sizes[k][1], self.out_dims[k - 1])
            for k in range(1, count)
        )

    def _natural(self, x: Any) -> Any:
        cores, sizes, batch = self.cores, self._sizes, x.shape[-1]
        blocks, columns = sizes[0]
        x = x.reshape(blocks, columns, batch)
        if len(cores) == 2:  # between them (n_2·ρ, m_1, batch) → (m_1, n_2·ρ, batch), a view
            return backends.crossed_matmul(cores[0], cores[1], x)
        x = backends.block_matmul(cores[0], x)
        for core, middle in zip(cores[1:], self._middles):
            # (M, N, n_k·ρ, m_{k-1}, batch) → (M, m_{k-1}, N, n_k·ρ, batch): in torch a copy
            x = backends.grid_matmul(core, backends.permute(x.reshape(*middle, batch), (0, 3, 1, 2, 4)))
        return x

    def _natural_vector(self, x: Any) -> Any:
        cores = self.cores
        x = backends.block_matvec(cores[0], x)
        if len(cores) == 2:
            rows, middle = self._sizes[1]
            if x.shape != (middle, rows, 1):
                x = x.reshape(middle, rows, 1)
            x = backends.block_matvec(cores[1], x.swapaxes(0, 1))
        else:
            for core, middle in zip(cores[1:], self._middles):
                x = backends.block_matvec(core, backends.permute(x.reshape(*middle), (0, 3, 1, 2)))
        return x.reshape(self.shape[0])

    def _transpose(self) -> BlockTensorTrain:
        # (i, j) swap, and the core that acted last acts first: blocks (M, N, r m, n r') → (N, M, r' n, m r)
        cores, count = [], len(self.cores)
        for k in reversed(range(count)):
            core, m, n = self.cores[k], self.out_dims[k], self.in_dims[-1 - k]
            done, passing = prod(self.out_dims[:k]), prod(self.in_dims[: count - 1 - k])
            after, before = core.shape[1] // m, core.shape[2] // n
            split = core.reshape((done, passing, after, m, n, before))
            swapped = backends.permute(split, (1, 0, 5, 4, 3, 2))
            cores.append(swapped.reshape((passing * done, before * n, m * after)))
        return BlockTensorTrain(tuple(cores), self.in_dims, self.out_dims)

    def _trace(self, graph: Graph, axes: Axes, leaf: int) -> Axes | None:
        passing, done, rank = graph.split(axes, self.in_dims), (), ()
        if passing is None:
            return None
        for k, after in enumerate((*self.ranks, 1)):
            columns, before = passing.pop(), rank
            rank, rows = graph.axes(after), graph.axes(self.out_dims[k])
            graph.add(leaf + k, (*done, *sum(passing, ()), *rank, *rows, *columns, *before))
            done += rows
        return done

    def _natural_steps(self, batch: int) -> tuple[Step, ...]:
        steps = []
        for k, core in enumerate(self.cores):
            done, passing = prod(self.out_dims[: max(k - 1, 0)]), prod(self.in_dims[: len(self.cores) - 1 - k])
            size = core.shape[0] * core.shape[2] * batch
            if k:
                view = done == 1 and passing == 1
                steps.append(
                    Step("view", "middle axes", viewed=size) if view else copy_step("middle axes", inputs=size)
                )
            blocks, rows, columns = core.shape
            steps.append(matmul_step(blocks, rows, columns, batch))
        return tuple(steps)

    def _leaf_fans(self) -> dict[str, tuple[int, int]]:
        return {f"cores_{number}": (core.shape[2], core.shape[1]) for number, core in enumerate(self.cores)}

    def _output_leaves(self) -> tuple[str, ...]:
        return (f"cores_{len(self.cores) - 1}",)

    def _detail(self) -> str:
        return f"{self.out_dims} × {self.in_dims}, ranks {self.ranks}"
