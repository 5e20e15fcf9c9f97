"""Runs the code of docs/linalg-uses.md and draws its plots: python docs/draw_linalg_uses.py [folder]."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from linops.lab.plots import COLORS, figure, write

PAGE = Path(__file__).with_name("linalg-uses.md")


def computed() -> dict[str, Any]:
    """What the page's code computes, by name."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for code in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        exec(code, names)
    return names


def gaussian_process(names: dict[str, Any]) -> Any:
    """Measurements, the mean of the fitted process, and the function that was measured."""
    made, axes = figure(3, 3.6, 3.4)
    shape = len(names["space"]), len(names["time"])
    panels = {"measured": names["measured"], "predicted": names["mean"], "true": names["clean"]}
    limit = float(names["clean"].abs().max())
    image = None
    for axis, (title, numbers) in zip(axes, panels.items()):
        image = axis.imshow(
            numbers.reshape(shape).T, origin="lower", extent=(0, 1, 0, 1), cmap="RdBu_r", vmin=-limit, vmax=limit
        )
        axis.set(title=title, xlabel="space")
        axis.grid(False)
    axes[0].set_ylabel("time")
    made.colorbar(image, ax=axes, shrink=0.8)
    return made


def poisson(names: dict[str, Any]) -> Any:
    """The potential of two charges."""
    made, (axis,) = figure(1, 5.4, 4.4)
    potential = names["potential"]
    limit = float(np.abs(potential).max()) / 2
    image = axis.imshow(potential, origin="lower", extent=(0, 1, 0, 1), cmap="RdBu_r", vmin=-limit, vmax=limit)
    axis.contour(
        potential, levels=limit * np.linspace(-1, 1, 17), extent=(0, 1, 0, 1), colors="black", linewidths=0.5, alpha=0.6
    )
    axis.set(title="potential of two charges", xlabel="y", ylabel="x")
    axis.grid(False)
    made.colorbar(image, ax=axis, extend="both")
    return made


def flow(names: dict[str, Any]) -> Any:
    """Loss and log-determinant over the steps of training."""
    made, (loss, logarithm) = figure(2, 4.8, 3.8)
    for name, (losses, determinants) in names["curves"].items():
        loss.plot(losses, color=COLORS[name], label=name)
        logarithm.plot(determinants, color=COLORS[name], label=name)
    loss.axhline(names["entropy"], color="gray", linestyle="--", label="entropy of the samples")
    loss.set(xlabel="step", ylabel="negative log-likelihood (nats)", ylim=(30, 130))
    logarithm.set(xlabel="step", ylabel="log |det W|")
    loss.legend(frameon=False)
    logarithm.legend(frameon=False)
    return made


def norms(names: dict[str, Any]) -> Any:
    """The spectral norm of each layer, at the start and after training."""
    made, (axis,) = figure(1, 6.4, 3.6)
    width = 0.38
    for place, ((when, found), color) in enumerate(zip(names["norms"].items(), ("#BBBBBB", COLORS["monarch"]))):
        axis.bar(np.arange(len(found)) + (place - 0.5) * width, list(found.values()), width, label=when, color=color)
    axis.set_xticks(range(len(found)), [name.replace(": ", "\n") for name in found], fontsize=9)
    axis.set(ylabel="spectral norm", xlabel="layer")
    axis.grid(False, axis="x")
    axis.legend(frameon=False)
    return made


DRAWN = {"gaussian_process": gaussian_process, "poisson": poisson, "flow": flow, "norms": norms}


def main() -> None:
    """Draw all."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE.parent / "images"
    names = computed()
    for name, draw in DRAWN.items():
        write(draw(names), folder / f"linalg_{name}.png")
        print(folder / f"linalg_{name}.png")


if __name__ == "__main__":
    main()
