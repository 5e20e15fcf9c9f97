"""The numbers of machines: measured ones of CPUs, by which products are planned, and datasheets of accelerators.

Of a CPU they are the fit of ``python -m benchmarks calibrate`` on one thread, in float32 (`linops.plan.processors`).
Of an accelerator FLOPs, bandwidth and cache are the vendor's, for dense matrices; the rest is assumed, the same for
all: 4 µs a kernel, half speed where a size is 64, a sixteenth of a microsecond a block, half the bandwidth for a copy
to another order of axes.
Times of an accelerator are estimates, and no product is planned by them.
"""

from __future__ import annotations

from linops.plan.machine import Machine
from linops.plan.processors import processors

#: of backends on a CPU of a kind that was not measured: the first row of the table
MEASURED: dict[str, Machine] = processors()[0].machines


def _accelerator(half: float, single: float, double: float, bandwidth: float, cache: int) -> Machine:
    """An accelerator, from FLOPs a second in bfloat16, float32 and float64, bytes a second, and bytes of its cache."""
    return Machine(
        call=4e-6,
        block=6.25e-8,
        flops=single,
        half=64,
        bandwidth=bandwidth,
        shuffled=bandwidth / 2,
        fourier=single / 8,
        cache=cache,
        rates=((2, half), (4, single), (8, double)),
    )


#: of accelerators: float32 without TF32, which torch does not use unless it is asked to
DATASHEETS: dict[str, tuple[Machine, str, str]] = {
    "a100": (
        _accelerator(312e12, 19.5e12, 19.5e12, 2.039e12, 40 << 20),
        "NVIDIA A100 80 GB SXM",
        "https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/nvidia-a100-datasheet.pdf",
    ),
    "h100": (
        _accelerator(989e12, 67e12, 67e12, 3.35e12, 50 << 20),
        "NVIDIA H100 SXM",
        "https://www.nvidia.com/en-us/data-center/h100/",
    ),
    "h200": (
        _accelerator(989e12, 67e12, 67e12, 4.8e12, 50 << 20),
        "NVIDIA H200 SXM",
        "https://www.nvidia.com/en-us/data-center/h200/",
    ),
    "b200": (
        _accelerator(2250e12, 75e12, 37e12, 8e12, 126 << 20),
        "NVIDIA B200 of HGX",
        "https://www.nvidia.com/en-us/data-center/hgx/",
    ),
    "tpu-v5p": (
        _accelerator(459e12, 459e12 / 6, 459e12 / 60, 2.765e12, 112 << 20),
        "Google TPU v5p",
        # float32 as six products of bfloat16, float64 emulated
        "https://cloud.google.com/tpu/docs/v5p",
    ),
}
