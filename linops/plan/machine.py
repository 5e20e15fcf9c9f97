"""What steps take: a model of a machine in a few numbers.

A step takes a fixed time for its call and for each block, and then as long as the slower of arithmetic and memory:

    seconds = call + blocks · block + max(2 · MACs / (flops · u(rows) u(columns) u(batch)), bytes / bandwidth),

where u(d) = d / (d + h), and products that stay in a core's cache have CACHED times the bandwidth. The numbers of a
backend are the least-squares fit of log seconds to measured products of one thread in float32; `call` is that of a step
in a chain of tiny ones, with its views (``python -m benchmarks calibrate``, on an Intel Xeon with AVX-512). Only ratios
of times are used to choose, so that they need not be those of the machine at hand.

To multiply small tensors of many short axes with each other takes far longer than that, for the views around the kernel
and for loops over short axes: measured on products of Kronecker and butterfly factors, MERGING times a call, and a
SHORT-th of the bandwidth.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from linops.plan.step import Step

MERGING, SHORT = 5, 10
#: bytes of a product that stay in a core's cache, and how many times as fast they are read and written there
CACHE, CACHED = 1 << 20, 3
#: torch multiplies blocks of fewer MACs by plain loops, as `bmm` of many vectors
LOOPED = 400


@dataclass(frozen=True)
class Machine:
    """A backend on one thread of a CPU.

    Attributes:
        call: Seconds of a call, with the views around it.
        block: Seconds of a block of a batched product.
        flops: FLOPs a second of a large product in float32.
        half: h, the size at which a product runs at half speed on account of one of its sizes.
        bandwidth: Bytes a second, read and written.
        shuffled: Bytes a second, read and written, of a copy to another order of axes.
        fourier: FLOPs a second of Fourier transforms, beside such a copy.
        looped: Seconds a MAC of blocks of fewer than LOOPED MACs, if they are multiplied by plain loops; as butterflies
            of 2×2 blocks take.
    """

    call: float
    block: float
    flops: float
    half: float
    bandwidth: float
    shuffled: float
    fourier: float
    looped: float = 0.0

    def matmul(self, blocks: int, rows: int, columns: int, batch: int, itemsize: int) -> float:
        """Seconds of a batched matrix product: blocks × (rows, columns) @ (columns, batch).

        Args:
            blocks: Number of products.
            rows: Rows of each left operand.
            columns: Columns of each left operand.
            batch: Columns of each right operand.
            itemsize: Bytes of a number.

        Returns:
            Seconds.
        """
        h, outer = self.half, rows * batch
        # 2 MACs / (u u u), the sizes cancelled; doubles are half as many in a register
        arithmetic = blocks * 2 * (rows + h) * (columns + h) * (batch + h) * itemsize / (4 * self.flops)
        moved = blocks * (rows * columns + columns * batch + outer) * itemsize
        memory = moved / (self.bandwidth if moved > CACHE else CACHED * self.bandwidth)
        if self.looped and blocks > 1 and batch > 1 and columns * outer < LOOPED:
            arithmetic = blocks * columns * outer * self.looped
        return self.call + blocks * self.block + (arithmetic if arithmetic > memory else memory)

    def scale(self, moved: int) -> float:
        """Seconds of an elementwise step.

        Args:
            moved: Bytes read and written.

        Returns:
            Seconds.
        """
        return self.call + moved / self.bandwidth

    def copy(self, moved: int) -> float:
        """Seconds of a copy to another order of axes.

        Args:
            moved: Bytes read and written.

        Returns:
            Seconds.
        """
        return self.call + moved / self.shuffled

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
            return (MERGING - 1) * self.call + self.matmul(blocks, rows, columns, batch, itemsize)
        return self._outer(itemsize * blocks * (rows + batch + rows * batch))

    def _outer(self, moved: int) -> float:
        """Seconds of multiplying two tensors with each other elementwise."""
        return MERGING * self.call + SHORT * moved / self.bandwidth

    def seconds(self, step: Step, itemsize: int) -> float:
        """Seconds of a step.

        Args:
            step: The step.
            itemsize: Bytes of a number.

        Returns:
            Seconds; views cost nothing beside the call of the step that reads them.
        """
        moved = itemsize * (step.inputs + step.weights + step.outputs)
        if step.merges:
            if step.kind == "copy":
                return self.copy(SHORT * moved)
            if step.kind == "scale":
                return self._outer(moved)
            return self.merge(step.blocks, step.rows, step.columns, step.batch, itemsize) if step.blocks else 0.0
        if step.blocks:
            return self.matmul(step.blocks, step.rows, step.columns, step.batch, itemsize)
        if step.kind in ("copy", "tile", "gather", "scatter"):
            return self.copy(moved)
        if step.kind in ("fft", "rfft", "ifft", "irfft"):
            return self.copy(moved) + itemsize / 4 * step.other_flops / self.fourier
        return self.scale(moved) if moved else 0.0

    def total(self, steps: Iterable[Step], itemsize: int) -> float:
        """Seconds of steps.

        Args:
            steps: The steps.
            itemsize: Bytes of a number.

        Returns:
            Seconds.
        """
        return sum([self.seconds(step, itemsize) for step in steps])


#: of the backends; operators without arrays are planned as if torch ran them
MACHINES = {
    "numpy": Machine(call=2.9e-6, block=2.5e-8, flops=1.2e11, half=3.9, bandwidth=2.6e10, shuffled=2.1e10, fourier=9e9),
    "torch": Machine(
        call=6.2e-6,
        block=2.1e-8,
        flops=1.8e11,
        half=7.6,
        bandwidth=2.1e10,
        shuffled=1.8e10,
        fourier=1.5e10,
        looped=2e-9,
    ),
    "jax": Machine(call=1.4e-6, block=1.8e-8, flops=1.4e11, half=8.5, bandwidth=3.3e10, shuffled=1.7e10, fourier=1e10),
}


def machine_of(backend: str | None) -> Machine:
    """The model of a backend.

    Args:
        backend: Its name, ``"spec"`` or None.

    Returns:
        The model.
    """
    return MACHINES.get(backend or "torch", MACHINES["torch"])
