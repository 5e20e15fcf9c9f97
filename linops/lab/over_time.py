"""The coordinate check over time: how far each step moves a layer, all along training, by optimiser and rule.

At some steps of a run, and for every structured layer: ‖ΔW‖₂ of this one step over lr, ‖W‖₂, and the root mean square
of ΔW x over lr on a probe batch. Rates that hold keep their first level along training and over widths, as those of a
dense layer under Muon do. The rate is constant, so that nothing but the weights changes. Spectral norms depend on width
as sqrt(out / in) alone, which is one for all widths of a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import nn

from linops.lab.coord_check import PROBE, layer_changes
from linops.lab.problems import Problem
from linops.lab.rates import MUON_LR, RENORMALIZED, STATIC
from linops.lab.runs import LR, Run, build
from linops.lab.sweep import Job, Row
from linops.lab.train import Settings
from linops.nn.torch.muon import Muon
from linops.nn.torch.rates import param_groups
from linops.nn.torch.watching import watch

#: rates for each optimiser where none are given; all but structured weights of Muon's models have AdamW's
RATES = {"muon": MUON_LR, "adamw": LR, "sgd": 0.1}
RULES = {"muon": (STATIC, RENORMALIZED), "adamw": (STATIC, RENORMALIZED), "sgd": (STATIC,)}
#: what is seen of a layer: ‖ΔW‖₂ / lr of a step, ‖W‖₂, and the root mean square of ΔW x over lr
FIELDS = ("change", "norm", "output")
#: the step from which on levels are compared: layers that start at zero first grow one factor
SETTLED = 20


@dataclass(frozen=True)
class Way:
    """How a run is stepped.

    Attributes:
        optimizer: ``"muon"``, ``"adamw"`` or ``"sgd"``.
        rule: `STATIC` or `RENORMALIZED`.
        lr: The rate.
    """

    optimizer: str
    rule: str
    lr: float


def ways(optimizers: Iterable[str], rates: Sequence[float]) -> list[Way]:
    """All optimisers by all their rules.

    Args:
        optimizers: Their names.
        rates: For each; empty takes `RATES`.

    Returns:
        The ways.
    """
    return [Way(name, rule, lr) for name in optimizers for lr in (rates or (RATES[name],)) for rule in RULES[name]]


def jobs(problem: Problem, runs: Sequence[tuple[Run, Way]], settings: Settings, device: Any = "cpu") -> list[Job]:
    """A job a run.

    Args:
        problem: The problem.
        runs: What is trained, and how it is stepped.
        settings: Steps and batch.
        device: Where.

    Returns:
        The jobs; their rows hold `looks`, the steps looked at, and of each layer the three curves over them. The
            `train_loss` of a run that diverged is None, and its looks end there.
    """

    def job(run: Run, way: Way) -> Job:
        identity = {"experiment": "coord-check over time", **run.row(problem), "lr": way.lr}
        identity |= {"optimizer": way.optimizer, "rule": way.rule, "steps": settings.steps, "batch": settings.batch}
        return Job(identity, settings.steps, lambda progress: _measure(problem, run, way, settings, device, progress))

    return [job(run, way) for run, way in runs]


def looks(steps: int) -> list[int]:
    """The steps that are looked at: the first few, and then every thirtieth part.

    Args:
        steps: How many there are.

    Returns:
        Numbers from 0.

    Example:
        >>> looks(5), len(looks(300))
        ([0, 1, 2, 3, 4], 32)
    """
    return sorted({0, min(1, steps - 1), *range(0, steps, max(steps // 30, 1)), steps - 1})


def _measure(problem: Problem, run: Run, way: Way, settings: Settings, device: Any, progress: Any) -> Row:
    model = build(problem, run, device)
    optimizer = _optimizer(problem, run, way, model)
    probe, wanted = problem.batch(settings.steps, PROBE), looks(settings.steps)
    layers: dict[str, dict[str, list[float]]] = {}
    started = perf_counter()
    for step in range(settings.steps):
        loss = problem.loss(model, problem.batch(step, settings.batch))
        if not torch.isfinite(loss):
            break
        optimizer.zero_grad()
        loss.backward()
        if step not in wanted:
            optimizer.step()
            continue
        before, watched = deepcopy(model), watch(model)
        optimizer.step()
        with torch.no_grad():
            outputs = layer_changes(problem, model, before, probe)
        for row in watched.look(way.lr):
            if row.name in outputs:
                curves = layers.setdefault(row.name, {field: [] for field in FIELDS})
                for field, value in zip(FIELDS, (row.change, row.norm, outputs[row.name] / way.lr)):
                    curves[field].append(value)
        progress(step + 1, loss.item())
    else:
        return {"looks": wanted, "layers": layers, **problem.evaluate(model), "seconds": perf_counter() - started}
    seen = [look for look in wanted if look < step]
    layers = {name: {field: curves[field][: len(seen)] for field in FIELDS} for name, curves in layers.items()}
    return {"looks": seen, "layers": layers, "train_loss": None, "seconds": perf_counter() - started}


def _optimizer(problem: Problem, run: Run, way: Way, model: nn.Module) -> Any:
    with torch.device("meta"):
        base = problem.model(problem.base_width, run.depth)
    options: dict[str, Any] = {"optimizer": way.optimizer, "base": base, "renormalize": way.rule == RENORMALIZED}
    if run.base_depth is not None and way.optimizer != "sgd":
        options["depth"] = {"*blocks.*": run.depth / run.base_depth}
    if way.optimizer == "muon":
        options |= {"adamw": lambda name, _: not problem.structured(name), "adamw_lr": RATES["adamw"]}
    groups = param_groups(model, way.lr, **options)
    if way.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9)
    return Muon([{"algorithm": "adamw"} | group for group in groups], betas=(0.9, 0.95))  # AdamW's the same everywhere


def curve(rows: Sequence[Row], field: str = "change") -> list[float]:
    """A curve over the steps looked at, the mean over rows and layers; as long as the shortest, where one diverged.

    Args:
        rows: Rows of one kind of run.
        field: One of `FIELDS`.

    Returns:
        A number a look.
    """
    curves = [layer[field] for row in rows for layer in row["layers"].values()]
    return [sum(values) / len(curves) for values in zip(*curves)]


def drift(steps: Sequence[int], values: Sequence[float]) -> float:
    """The greatest over the least value from step `SETTLED` on, or of the second half of fewer steps.

    Args:
        steps: The steps looked at.
        values: A number for each.

    Returns:
        At least 1.

    Example:
        >>> drift([0, 20, 40], [9.0, 1.0, 1.5])
        1.5
    """
    return _ratio(_settled(steps, values))


def level_drift(steps: Sequence[int], values: Sequence[float]) -> float:
    """The drift of means over three equal parts of what `drift` compares: without the scatter of single steps.

    Args:
        steps: The steps looked at.
        values: A number for each.

    Returns:
        At least 1; the drift itself of less than three steps.

    Example:
        >>> level_drift([0, 20, 40, 60, 80, 100, 120], [9.0, 1.0, 1.5, 1.5, 1.0, 1.25, 1.25])
        1.0
    """
    settled = _settled(steps, values)
    parts = [settled[len(settled) * part // 3 : len(settled) * (part + 1) // 3] for part in range(3)]
    return _ratio([sum(part) / len(part) for part in parts] if all(parts) else settled)


def greatest(rows: Sequence[Row], of: Callable[[Sequence[int], Sequence[float]], float]) -> float:
    """The greatest drift of a single layer in a single run, of ‖ΔW‖₂ / lr.

    Args:
        rows: Rows of one kind of run.
        of: `drift` or `level_drift`.

    Returns:
        At least 1.

    Example:
        >>> rows = [{"looks": [0, 20, 40], "layers": {"up": {"change": [9.0, 1.0, last]}}} for last in (1.5, 2.0)]
        >>> greatest(rows, drift)
        2.0
    """
    return max(of(row["looks"], layer["change"]) for row in rows for layer in row["layers"].values())


def grouped(rows: Sequence[Row]) -> dict[tuple[str, float, str, str, int], list[Row]]:
    """Rows of all seeds by (optimizer, lr, structure, rule, width), in their order.

    Args:
        rows: Rows of the check.

    Returns:
        The rows.
    """
    found: dict[tuple[str, float, str, str, int], list[Row]] = {}
    for row in rows:
        key = (row["optimizer"], row["lr"], row["structure"], row["rule"], row["width"])
        found.setdefault(key, []).append(row)
    return found


def _settled(steps: Sequence[int], values: Sequence[float]) -> list[float]:
    """The values from step `SETTLED` on."""
    return [value for step, value in zip(steps, values) if step >= min(SETTLED, steps[-1] // 2)]


def _ratio(values: Sequence[float]) -> float:
    """The greatest over the least."""
    return max(values) / min(values) if min(values) > 0 else float("inf")
