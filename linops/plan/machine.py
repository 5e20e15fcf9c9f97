"""What steps take: a model of a machine in a few numbers.

A step takes a fixed time for its call and for each block, and then as long as the slower of arithmetic and memory:

    seconds = call + blocks · block + max(2 · MACs / (flops · u(rows) u(columns) u(batch)), bytes / bandwidth),

where u(d) = d / (d + h), and products that stay in a core's cache have `cached` times the bandwidth. The numbers of a
backend are the least-squares fit of log seconds to measured products of one thread in float32; `call` is that of a step
in a chain of tiny ones, with its views (``python -m benchmarks calibrate``). Only ratios of times are used to choose,
so that they need not be those of the machine at hand.
In training arithmetic and memory do not overlap where numbers leave the cache, as what is kept for the backward pass,
and what that makes, is in other memory than the last product's: the sum of the two counts. `linops.plan.processors` has
the numbers of CPUs, `linops.plan.machines` those of accelerators.

Blocks of few MACs are multiplied by plain loops in torch, by XLA, and for one vector by einsum in NumPy. A block then
takes `looped` seconds a MAC, and as long as `LOOPED_BLOCK` MACs for itself.

To multiply small tensors of many short axes with each other takes longer than that, for the views around the kernel
and for loops over short axes: `merging` times a call, twice that where they share axes, for a copy, and a `short`-th of
the bandwidth. On an Intel Xeon (Sapphire Rapids) that was within a factor of 2 of what merges without sums took, of
factors of butterflies (256 to 4096) and Kronecker products (2×2 to 8×8); merges of a train's cores that sum over ranks
took up to 3 times as long.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from linops.plan.step import Step

#: MACs that a block takes as long as, beside its own, where plain loops multiply it
LOOPED_BLOCK = 6


@dataclass(frozen=True)
class Machine:
    """A backend on a device: on one thread of a CPU, or on an accelerator.

    Attributes:
        call: Seconds of a call, with the views around it.
        block: Seconds of a block of a batched product.
        flops: FLOPs a second of a large product in float32.
        half: h, the size at which a product runs at half speed on account of one of its sizes.
        bandwidth: Bytes a second, read and written.
        shuffled: Bytes a second, read and written, of a copy to another order of axes.
        fourier: FLOPs a second of Fourier transforms, beside such a copy.
        looped: Seconds a MAC of blocks of fewer than `loops` MACs, if they are multiplied by plain loops; as
            butterflies of 2×2 blocks take.
        loops: MACs of a block from which it is multiplied by a kernel.
        cache: Bytes of a product that stay in a core's cache.
        cached: How many times as fast they are read and written there.
        merging: Calls that it takes to multiply two small tensors with each other.
        short: By how much moving them is slower, on account of their short axes.
        turned: Bytes a second, read and written, of an operand whose axes are exchanged for a product; 0 where products
            read it as it lies, through a view.
        rates: (bytes of a number, FLOPs a second) where these are not in proportion to `flops`: of matrix units.
    """

    call: float
    block: float
    flops: float
    half: float
    bandwidth: float
    shuffled: float
    fourier: float
    looped: float = 0.0
    loops: int = 0
    cache: int = 1 << 20
    cached: float = 3.0
    merging: float = 1.5
    short: float = 2.0
    turned: float = 0.0
    rates: tuple[tuple[int, float], ...] = ()

    def rate(self, itemsize: int) -> float:
        """FLOPs a second of a large product.

        Args:
            itemsize: Bytes of a number.

        Returns:
            FLOPs a second; of a size that `rates` does not list in proportion to `flops`, that of 4 bytes.
        """
        for size, flops in self.rates:
            if size == itemsize:
                return flops
        return 4 * self.flops / itemsize

    def matmul(self, blocks: int, rows: int, columns: int, batch: int, itemsize: int, kept: bool = False) -> float:
        """Seconds of a batched matrix product: blocks × (rows, columns) @ (columns, batch).

        Args:
            blocks: Number of products.
            rows: Rows of each left operand.
            columns: Columns of each left operand.
            batch: Columns of each right operand.
            itemsize: Bytes of a number.
            kept: Whether its numbers are kept for a backward pass, or are of one: then they find no memory that is at
                hand.

        Returns:
            Seconds.
        """
        h, outer = self.half, rows * batch
        # 2 MACs / (u u u), the sizes cancelled; doubles are half as many in a register
        moved = blocks * (rows * columns + columns * batch + outer) * itemsize
        memory = moved / (self.bandwidth if moved > self.cache else self.cached * self.bandwidth)
        if blocks > 1 and columns * outer < self.loops:
            arithmetic, started = blocks * (LOOPED_BLOCK + columns * outer) * self.looped, self.call
        else:
            arithmetic = blocks * 2 * (rows + h) * (columns + h) * (batch + h) / self.rate(itemsize)
            started = self.call + blocks * self.block
        if kept and moved > self.cache:
            return started + arithmetic + memory
        return started + (arithmetic if arithmetic > memory else memory)

    def scale(self, moved: int) -> float:
        """Seconds of an elementwise step.

        Args:
            moved: Bytes read and written.

        Returns:
            Seconds.
        """
        return self.call + moved / self.bandwidth

    def copy(self, moved: float) -> float:
        """Seconds of a copy to another order of axes.

        Args:
            moved: Bytes read and written.

        Returns:
            Seconds.
        """
        return self.call + moved / self.shuffled

    def view(self, moved: int) -> float:
        """Seconds of a view whose axes are exchanged, beside the product that reads it.

        Args:
            moved: Bytes that a copy would read and write.

        Returns:
            Seconds.
        """
        return moved / self.turned if self.turned else 0.0

    def merge(self, blocks: int, rows: int, columns: int, batch: int, itemsize: int) -> float:
        """Seconds of multiplying two tensors with each other.

        Args:
            blocks: Number of products.
            rows: Rows of each left operand.
            columns: Columns of each left operand; 0 where nothing is summed over.
            batch: Columns of each right operand.
            itemsize: Bytes of a number.

        Returns:
            Seconds.
        """
        if columns:
            return (self.merging - 1) * self.call + self.matmul(blocks, rows, columns, batch, itemsize)
        return self._outer(itemsize * blocks * (rows + batch + rows * batch), blocks > 1)

    def _outer(self, moved: int, shares: bool) -> float:
        """Seconds of multiplying two tensors elementwise; those that share axes are turned to lie side by side."""
        return (1 + shares) * self.merging * self.call + self.short * moved / self.bandwidth

    def seconds(self, step: Step, itemsize: int, kept: bool = False) -> float:
        """Seconds of a step.

        Args:
            step: The step.
            itemsize: Bytes of a number.
            kept: As of `matmul`.

        Returns:
            Seconds; views cost nothing beside the call of the step that reads them, or a copy (`turned`).
        """
        moved = itemsize * (step.inputs + step.weights + step.outputs)
        if step.merges:
            if step.kind == "copy":
                return self.copy(self.short * moved)
            if step.kind == "scale":
                return self._outer(moved, step.outputs < step.weights * step.inputs)
            if step.blocks:
                return self.merge(step.blocks, step.rows, step.columns, step.batch, itemsize)
            return self._outer(moved, False) if step.kind == "sum" else 0.0
        if step.blocks:
            return self.matmul(step.blocks, step.rows, step.columns, step.batch, itemsize, kept)
        if step.kind == "view":
            return self.view(2 * itemsize * step.viewed)
        if step.kind in ("copy", "tile", "gather", "scatter"):
            return self.copy(moved)
        if step.kind in ("fft", "rfft", "ifft", "irfft"):
            return self.copy(moved) + step.other_flops * itemsize / (4 * self.fourier)
        arithmetic = 2 * step.macs / self.rate(itemsize)  # of a factorisation, as if it were a matrix product
        return max(arithmetic, self.scale(moved)) if moved else arithmetic

    def total(self, steps: Iterable[Step], itemsize: int, kept: bool = False) -> float:
        """Seconds of steps.

        Args:
            steps: The steps.
            itemsize: Bytes of a number.
            kept: As of `matmul`.

        Returns:
            Seconds.
        """
        return sum([self.seconds(step, itemsize, kept) for step in steps])
