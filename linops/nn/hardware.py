"""What an estimate knows of a machine: what a device computes, holds and moves, and how devices are joined.

FLOPs and memory bandwidth of accelerators are those of `linops.plan.machines`, the vendors' for dense matrices; a TOML
or JSON file has the numbers of any other::

    name = "mine"
    flops = {bfloat16 = 2e14, tf32 = 1e14, float32 = 2e13}   # of dense matrices, a second
    memory = 48e9                                            # bytes
    bandwidth = 8.64e11                                      # of the memory, bytes a second
    link = 3.2e10          # bytes a second that a device sends to others of its node
    node = 4               # devices of a node
    network = 2.5e10       # bytes a second that a device sends to other nodes
    efficiency = 0.45      # of flops that products reach
    reach = 0.8            # of bandwidth, link and network that is reached
"""

from __future__ import annotations

import json
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from linops.plan.machines import DATASHEETS

#: shares of the datasheet's numbers that are reached unless it is said otherwise: by products, and by what moves bytes
EFFICIENCY, REACH = 0.45, 0.8


@dataclass(frozen=True)
class Hardware:
    """A device, and the links between devices. Bandwidths are bytes a second; links' are of one direction.

    Attributes:
        name: What it is.
        flops: FLOPs a second of dense matrix products, by ``"bfloat16"``, ``"tf32"`` and ``"float32"``.
        memory: Bytes of a device.
        bandwidth: Of its memory, read and written.
        link: What a device sends to others of its node.
        node: Devices of a node.
        network: What a device sends to other nodes.
        efficiency: The share of `flops` that products reach.
        reach: The share of `bandwidth`, `link` and `network` that is reached.
        sources: Where numbers are from.
    """

    name: str
    flops: Mapping[str, float]
    memory: float
    bandwidth: float
    link: float
    node: int
    network: float
    efficiency: float = EFFICIENCY
    reach: float = REACH
    sources: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        numbers = {"memory": self.memory, "bandwidth": self.bandwidth, "link": self.link, "network": self.network}
        numbers |= {"efficiency": self.efficiency, "reach": self.reach, "node": self.node}
        numbers |= {f"flops of {kind}": value for kind, value in self.flops.items()}
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ValueError(f"hardware {self.name!r}: {name} must be a positive number, got {value!r}")
        for name in ("efficiency", "reach"):
            if numbers[name] > 1:
                raise ValueError(f"hardware {self.name!r}: {name} is a share of at most 1, got {numbers[name]}")
        if not isinstance(self.node, int):
            raise ValueError(f"hardware {self.name!r}: node must be a whole number of devices, got {self.node!r}")

    def rate(self, kind: str) -> float:
        """FLOPs a second that products reach.

        Args:
            kind: ``"bfloat16"``, ``"tf32"`` or ``"float32"``.

        Returns:
            FLOPs a second.

        Raises:
            ValueError: If no number is known of the kind.
        """
        if kind not in self.flops:
            raise ValueError(f"hardware {self.name!r} has no {kind}; it has {', '.join(self.flops)}")
        return self.efficiency * self.flops[kind]

    def sending(self, ranks: int, inner: int, collective: str) -> float:
        """Bytes a second that a rank sends in a collective.

        Devices are numbered so that an axis's neighbours are `inner` devices apart. A ring that spans nodes uses the
        network of all its ranks of a node; an all-to-all sends through each rank's own.

        Args:
            ranks: How many take part.
            inner: How many devices lie between two of them, and one.
            collective: Its name.

        Returns:
            Bytes a second.
        """
        if ranks * inner <= self.node:
            return self.reach * self.link
        near = max(self.node // inner, 1)
        return self.reach * (self.network if collective == "all_to_all" else min(self.link, near * self.network))


#: of accelerators: bytes of memory; bytes a second to the node, its devices, and to other nodes, in one direction;
#: FLOPs a second in TF32, or none; sources beside those of `linops.plan.machines`
_JOINED: dict[str, tuple[float, float, int, float, float, str]] = {
    "a100": (80e9, 300e9, 8, 25e9, 156e12, "NVIDIA A100 and DGX A100 datasheets, 2021: NVLink 600 GB/s, 200 Gb/s"),
    "h100": (80e9, 450e9, 8, 50e9, 494e12, "NVIDIA H100 and DGX H100 datasheets, 2023: NVLink 900 GB/s, 400 Gb/s"),
    "h200": (141e9, 450e9, 8, 50e9, 494e12, "NVIDIA H200 and DGX H200 datasheets, 2024: NVLink 900 GB/s, 400 Gb/s"),
    "b200": (180e9, 900e9, 8, 50e9, 1100e12, "NVIDIA HGX B200 and DGX B200 pages, 2024: NVLink 1.8 TB/s, 400 Gb/s"),
    "tpu-v5p": (95e9, 600e9, 8960, 6.25e9, 0, "Google Cloud TPU v5p page, 2025: ICI 1200 GB/s both ways, DCN 50 Gb/s"),
}
#: what products reach, where it is not `EFFICIENCY`; both are what brings Llama 3 8B to torchtitan's throughput
#: (H100: end of 2024, A100: 2024)
_EFFICIENCIES = {"a100": 0.65}


def _accelerator(name: str) -> Hardware:
    machine, words, source = DATASHEETS[name]
    memory, link, node, network, tf32, more = _JOINED[name]
    flops = {"bfloat16": machine.rate(2)} | ({"tf32": tf32} if tf32 else {}) | {"float32": machine.rate(4)}
    efficiency = _EFFICIENCIES.get(name, EFFICIENCY)
    links = link, node, network
    return Hardware(words, flops, memory, machine.bandwidth, *links, efficiency, sources=(source, more))


#: the accelerators that there are numbers of
HARDWARE: dict[str, Hardware] = {name: _accelerator(name) for name in _JOINED}


def hardware(given: str | Path | Hardware) -> Hardware:
    """The numbers of a machine.

    Args:
        given: ``"a100"`` (80 GB SXM), ``"h100"`` (SXM), ``"h200"``, ``"b200"``, ``"tpu-v5p"``; ``"cpu"``, this machine,
            measured in about a second; a ``.toml`` or ``.json`` file; or `Hardware`.

    Returns:
        The numbers.

    Raises:
        ValueError: If there is none of that name, or the file has no numbers of a machine.
        OSError: If the file cannot be read.

    Example:
        >>> h100 = hardware("h100")
        >>> h100.flops["bfloat16"], h100.memory, h100.sending(8, 1, "all_reduce"), h100.sending(16, 8, "all_reduce")
        (989000000000000.0, 80000000000.0, 360000000000.0, 40000000000.0)
    """
    if isinstance(given, Hardware):
        return given
    if isinstance(given, Path) or (isinstance(given, str) and given.lower().endswith((".toml", ".json"))):
        return read(Path(given))
    if given == "cpu":
        return measured()
    if given not in HARDWARE:
        raise ValueError(
            f"hardware {given!r}: expected one of {', '.join(HARDWARE)}, cpu (this machine, measured), "
            "or a .toml or .json file with its numbers"
        )
    return HARDWARE[given]


def read(path: Path) -> Hardware:
    """The numbers of a machine from a file; the module's docstring shows one.

    Args:
        path: A ``.toml`` or ``.json`` file.

    Returns:
        The numbers.

    Raises:
        ValueError: If numbers are missing, unknown or not positive.
        OSError: If it cannot be read.
    """
    text = path.read_text()
    try:
        found: Any = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"hardware {str(path)!r} cannot be read: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("flops"), dict) or not found["flops"]:
        raise ValueError(f"hardware {str(path)!r}: expected a table of numbers with one of flops, as bfloat16 = 2e14")
    known = set(Hardware.__dataclass_fields__) - {"sources"}
    if strange := sorted(found.keys() - known):
        raise ValueError(f"hardware {str(path)!r}: no number {strange[0]!r}; it may have {', '.join(sorted(known))}")
    if strange := sorted(found["flops"].keys() - {"bfloat16", "tf32", "float32"}):
        raise ValueError(f"hardware {str(path)!r}: flops of {strange[0]!r}; expected bfloat16, tf32 or float32")
    if missing := sorted(known - found.keys() - {"name", "efficiency", "reach"}):
        raise ValueError(f"hardware {str(path)!r} has no {missing[0]}")
    numbers: dict[str, Any] = {"name": path.stem} | found
    return Hardware(**numbers, sources=(str(path),))


def measured() -> Hardware:
    """This machine, by NumPy: the best of a few products of 1024² matrices in float32, and of copies of 64 MiB.

    Returns:
        The numbers; processes send each other what they copy twice, and all of them are on one node.
    """
    a = np.random.default_rng(0).standard_normal((1024, 1024)).astype(np.float32)
    here, there = np.ones(1 << 24, np.float32), np.empty(1 << 24, np.float32)
    flops = 2 * 1024**3 / min([_seconds(a.__matmul__, a) for _ in range(5)])
    bandwidth = 2 * here.nbytes / min([_seconds(np.copyto, there, here) for _ in range(5)])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 16e9
    kinds: dict[str, float] = {"bfloat16": flops, "float32": flops}
    here_alone: dict[str, Any] = {
        "node": 1 << 20,
        "efficiency": 1.0,
        "reach": 1.0,
        "sources": ("measured now, by NumPy",),
    }
    return Hardware("this CPU", kinds, memory, bandwidth, bandwidth / 4, network=bandwidth / 4, **here_alone)


def _seconds(function: Any, *arguments: Any) -> float:
    start = perf_counter()
    function(*arguments)
    return perf_counter() - start
