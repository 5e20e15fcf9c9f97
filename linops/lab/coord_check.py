"""The coordinate check (Fig. 2a of the paper): how far a few steps move the features of each width.

Once with naive rates, once with structure-aware ones.

Δh of a layer is the root mean square, over a batch and its features, of (A_t − A_0) x: what the change of the weights
does to the output, on the inputs that the trained model gives the layer. It leaves out the bias and what the layers
before have moved. The check averages it over the structured layers. Well-set rates move every width alike: the slope of
log Δh in log width is near zero, and the level is dense's.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from linops.lab.fits import PowerLaw, power_law
from linops.lab.problems import Problem
from linops.lab.runs import Run, build, parameter_groups
from linops.lab.sweep import Job, Row
from linops.lab.train import Settings, train

#: examples on which the features are compared
PROBE = 256


def jobs(problem: Problem, runs: Sequence[Run], settings: Settings, device: Any = "cpu") -> list[Job]:
    """A job a run.

    Args:
        problem: The problem.
        runs: The runs.
        settings: How to train; without a schedule.
        device: Where.

    Returns:
        The jobs, for `linops.lab.sweep.sweep`; their rows hold `layer_change`, Δh as above, and `feature_change`, that
        of what the head reads.
    """

    def job(run: Run) -> Job:
        identity = {"experiment": "coord-check", **run.row(problem), "steps": settings.steps, "batch": settings.batch}
        return Job(identity, settings.steps, lambda progress: _measure(problem, run, settings, device, progress))

    return [job(run) for run in runs]


def _measure(problem: Problem, run: Run, settings: Settings, device: Any, progress: Any) -> Row:
    model = build(problem, run, device)
    before = deepcopy(model)
    trained = train(model, problem, parameter_groups(problem, run, model), settings, progress=progress)
    probe = problem.batch(settings.steps, PROBE)
    with torch.no_grad():
        features = _rms(problem.features(model, probe) - problem.features(before, probe))
        layers = layer_changes(problem, model, before, probe)
    return {
        "layer_change": sum(layers.values()) / len(layers),
        "feature_change": features,
        "layers": layers,
        "losses": trained.losses,
        "seconds": trained.seconds,
    }


def layer_changes(problem: Problem, model: nn.Module, before: nn.Module, probe: Any) -> dict[str, float]:
    """Δh of every structured layer.

    Args:
        problem: The problem.
        model: The trained model.
        before: The same, untrained.
        probe: A batch.

    Returns:
        The root mean square of (A_t − A_0) x by layer name.
    """
    inputs: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, arguments: inputs.update({name: arguments[0]})

    now: dict[str, Any] = {name: module for name, module in model.named_modules() if problem.structured(name)}
    then: dict[str, Any] = dict(before.named_modules())
    handles = [module.register_forward_pre_hook(keep(name)) for name, module in now.items()]
    problem.features(model, probe)
    for handle in handles:
        handle.remove()
    return {name: _rms(_product(now[name], x) - _product(then[name], x)) for name, x in inputs.items()}


def _product(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """A x, without the bias."""
    return layer(x) if layer.bias is None else functional_call(layer, {"bias": torch.zeros_like(layer.bias)}, (x,))


def _rms(x: torch.Tensor) -> float:
    return x.float().pow(2).mean().sqrt().item()


def slopes(rows: Sequence[Row], field: str = "layer_change") -> dict[str, PowerLaw]:
    """Δh as a power of the width, for each structure over all widths and seeds.

    Args:
        rows: Rows of the check.
        field: Which change.

    Returns:
        Power laws by structure.
    """
    labels = dict.fromkeys(row["structure"] for row in rows)
    chosen = {label: [row for row in rows if row["structure"] == label] for label in labels}
    return {
        label: power_law([row["width"] for row in group], [row[field] for row in group])
        for label, group in chosen.items()
    }


def levels(rows: Sequence[Row], field: str = "layer_change") -> dict[str, tuple[float, float]]:
    """The least and the greatest ratio of Δh to dense's at the same width, means over seeds.

    Args:
        rows: Rows of the check; without dense there are no ratios.
        field: Which change.

    Returns:
        (least, greatest) by structure.
    """

    def mean_change(label: str, width: int) -> float | None:
        values = [row[field] for row in rows if row["structure"] == label and row["width"] == width]
        return sum(values) / len(values) if values else None

    found = {}
    for label in dict.fromkeys(row["structure"] for row in rows):
        pairs = [
            (mean_change(label, width), mean_change("dense", width)) for width in sorted({row["width"] for row in rows})
        ]
        ratios = [ours / dense for ours, dense in pairs if ours is not None and dense is not None]
        if ratios:
            found[label] = (min(ratios), max(ratios))
    return found
