"""The plot of ``linops estimate``: time and memory of a step against devices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.ticker import NullLocator

from linops.lab.plots import figure, styles, write
from linops.nn.estimated import Estimate, duration, quantity


def plot(found: Sequence[Estimate], path: Path) -> None:
    """Two panels: the estimated time as a band, and memory beside what a device has.

    Args:
        found: The estimates, of one model on one kind of device.
        path: The file.
    """
    made, (time, memory) = figure(2)
    looks = styles([_family(one.structure) for one in found])
    names = list(dict.fromkeys([one.structure for one in found]))
    for number, name in enumerate(names):
        rows = [one for one in found if one.structure == name]
        look = {**looks[_family(name)], "markersize": 6}
        if _family(name) in [_family(other) for other in names[:number]]:
            look |= {"linestyle": "--", "mfc": "white"}
        devices = [one.devices for one in rows]
        low, high = zip(*[one.seconds for one in rows])
        time.fill_between(devices, low, high, color=look["color"], alpha=0.15, linewidth=0)
        time.plot(devices, high, label=name, **look)
        time.plot(devices, low, color=look["color"], linewidth=0.8, linestyle=":")
        memory.plot(devices, [one.memory.total for one in rows], label=name, **look)
    capacity = found[0].hardware.memory
    memory.axhline(capacity, color="#999999", lw=1)
    memory.annotate(
        f"a device has {quantity(capacity, 'B')}",
        (1, capacity),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        fontsize=8,
        color="#666666",
        xytext=(0, 2),
        textcoords="offset points",
    )
    counts = sorted({one.devices for one in found})
    for axis in (time, memory):
        axis.set(xscale="log", yscale="log", xlabel="devices")
        axis.set_xticks(counts, labels=[f"{count:,}" for count in counts])
        axis.xaxis.set_minor_locator(NullLocator())
    time.set(ylabel="time of a step, estimated")
    time.set_title("bands: sending behind computing (dotted) to one after the other", fontsize=9)
    memory.set(ylabel="memory of a device")
    memory.set_title("parameters, gradients, state, copies, activations", fontsize=9)
    for axis, words in ((time, duration), (memory, lambda size: quantity(size, "B"))):
        low, high = axis.get_ylim()
        shown = [m * 10.0**power for power in range(-9, 16) for m in (1, 2, 5) if low <= m * 10.0**power <= high]
        axis.set_yticks(shown, labels=[words(value) for value in shown])
        axis.yaxis.set_minor_locator(NullLocator())
    memory.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    first = found[0]
    made.suptitle(f"{first.model}, {first.hardware.name}, {first.tokens:,} {first.unit} a data rank")
    write(made, path)


def _family(structure: str) -> str:
    return structure.partition(":")[0]
