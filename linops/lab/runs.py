"""One run: a problem's model with a structure, trained and scored; and the widths at which structures cost the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from linops.lab import memory, rates
from linops.lab.keeping import TIMES
from linops.lab.macs import macs
from linops.lab.parsing import Structured, parse
from linops.lab.problems import Problem
from linops.lab.train import Progress, Settings, train
from linops.nn.torch.replace import replace_linear_

DENSE = parse("dense")
LR = 3e-3
WIDEST = 8192


@dataclass(frozen=True)
class Run:
    """What is trained.

    Attributes:
        structure: Of the layers that are to be structured.
        width: Of the model.
        depth: Of the model.
        seed: Of its initial weights.
        lr: The rate at the base width.
        factor: On the rates of structured weights.
        rule: By which structured weights get their rates: one of `linops.lab.rates`.
        optimizer: ``"adam"`` or ``"muon"``, of structured weights; Adam steps all others.
        base_depth: That of the model that was tuned: branches and ε follow CompleteP; None: they do not.
    """

    structure: Structured
    width: int
    depth: int = 2
    seed: int = 0
    lr: float = LR
    factor: float = 1.0
    rule: str = rates.STATIC
    optimizer: str = rates.ADAM
    base_depth: int | None = None

    @property
    def label(self) -> str:
        """The structure, and the rule of its rates where they are not structure-aware and static."""
        return self._ruled(self.structure.text)

    def _ruled(self, name: str) -> str:
        return name if self.rule == rates.STATIC else f"{name} ({self.rule})"

    @property
    def tuned(self) -> str:
        """Its name among the factors of a problem."""
        name = self._ruled(self.structure.family)
        return name if self.optimizer == rates.ADAM else f"{self.optimizer} {name}"

    @property
    def slug(self) -> str:
        """A name for files."""
        rule = "" if self.rule == rates.STATIC else f"-{self.rule}"
        optimizer = "" if self.optimizer == rates.ADAM else f"-{self.optimizer}"
        tuned = "" if self.base_depth is None else f"-b{self.base_depth}"
        name = self.structure.text.replace(":", "-").replace("=", "")
        return f"{name}{rule}{optimizer}-w{self.width}-d{self.depth}{tuned}-c{self.factor:g}-s{self.seed}"

    def row(self, problem: Problem) -> dict[str, Any]:
        """What tells this run from others, under the names of results.json."""
        fields = {
            "data": problem.name,
            "digest": problem.digest,
            "structure": self.label,
            "width": self.width,
            "depth": self.depth,
        }
        tuned = {} if self.base_depth is None else {"base_depth": self.base_depth}
        fields |= {"optimizer": self.optimizer, "seed": self.seed, "lr": self.lr, "lr_factor": self.factor}
        return fields | tuned


def with_factor(problem: Problem, run: Run) -> Run:
    """The run with the factor that was tuned for its structure on this problem.

    Args:
        problem: The problem.
        run: The run.

    Returns:
        The run.
    """
    others = problem.factor if run.optimizer == rates.ADAM else problem.factors[run.optimizer]
    return replace(run, factor=problem.factors.get(run.tuned, others))


def build(problem: Problem, run: Run, device: Any = "cpu") -> nn.Module:
    """The model of a run, newly initialised by its seed.

    Args:
        problem: The problem.
        run: The run.
        device: Where the model goes; it is drawn on the CPU, so that every device gets the same numbers.

    Returns:
        The model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        model = _structured(problem, run, problem.model(run.width, run.depth, run.base_depth))
    return model.to(device)


def parameter_groups(problem: Problem, run: Run, model: nn.Module) -> list[dict[str, Any]]:
    """The parameter groups of a run's model.

    Args:
        problem: The problem.
        run: The run.
        model: The model, from `build`.

    Returns:
        Groups for `linops.lab.train.train`.
    """
    with torch.device("meta"):
        base = problem.model(problem.base_width, run.depth)
    depth = None if run.base_depth is None else run.depth / run.base_depth
    how: dict[str, Any] = {"factor": run.factor, "rule": run.rule, "optimizer": run.optimizer, "depth": depth}
    return rates.groups(model, base, run.lr, problem.structured, **how)


def execute(
    problem: Problem,
    run: Run,
    settings: Settings,
    *,
    device: Any = "cpu",
    folder: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[float]]:
    """Trains and scores one run.

    Args:
        problem: The problem.
        run: The run.
        settings: How to train.
        device: Where.
        folder: For its log and checkpoint; None writes nothing.
        resume: Whether to go on from the checkpoint.
        progress: As for `train`.

    Returns:
        A row for results.json, and the loss at every step. MACs and FLOPs are those of one example's forward pass, in
        products.
    """
    model = build(problem, run, device)
    trained = train(
        model,
        problem,
        parameter_groups(problem, run, model),
        settings,
        folder=folder,
        identity=identity(problem, run, settings),
        resume=resume,
        progress=progress,
    )
    scores = problem.evaluate(model)
    cost = macs(model, problem.example())
    row = identity(problem, run, settings) | {
        "num_params": sum(parameter.numel() for parameter in model.parameters()),
        "macs": cost,
        "flops": 2 * cost,
        **scores,
        **dict(zip(TIMES, (trained.seconds, trained.cpu_seconds))),
    }
    return row, trained.losses


def identity(problem: Problem, run: Run, settings: Settings) -> dict[str, Any]:
    """What tells a trained run from all others, under the names of results.json.

    Args:
        problem: The problem.
        run: The run.
        settings: How it is trained.

    Returns:
        Plain data.
    """
    return run.row(problem) | {name: getattr(settings, name) for name in ("steps", "batch", "clip", "bf16")}


def require_members(problem: Problem, runs: Iterable[Run]) -> None:
    """Sees that every run's structure has a member at its width.

    Args:
        problem: The problem.
        runs: The runs.

    Raises:
        ValueError: If one has none; the message says why.
    """
    for structure, width, depth in dict.fromkeys((run.structure.text, run.width, run.depth) for run in runs):
        try:
            without_numbers(problem, Run(parse(structure), width, depth))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{structure} at width {width}: {error}") from None


def require_memory(problem: Problem, run: Run, settings: Settings) -> None:
    """Sees that the dense model of a run, its gradients, Adam's moments and a batch fit this machine's memory.

    Args:
        problem: The problem.
        run: The run.
        settings: How it is trained.

    Raises:
        MemoryError: If they do not.
    """
    one, two = (
        sum(p.numel() for p in without_numbers(problem, Run(DENSE, run.width, depth)).parameters()) for depth in (1, 2)
    )
    numbers = one + (run.depth - 1) * (two - one)
    features = problem.example().numel() + run.depth * run.width
    memory.require(
        4 * (4 * numbers + settings.batch * features), f"width {run.width}, depth {run.depth}, batch {settings.batch}"
    )


def count(problem: Problem, run: Run) -> int | None:
    """MACs of a run's model for one example, without building it in memory; None if the structure refuses the width.

    Args:
        problem: The problem.
        run: The run.

    Returns:
        The number of MACs, or None.
    """
    with torch.device("meta"):
        model = problem.model(run.width, run.depth, run.base_depth)
        try:
            _structured(problem, run, model)
        except ValueError:
            return None
    return macs(model, problem.example())


def without_numbers(problem: Problem, run: Run) -> nn.Module:
    """The model of a run without its numbers.

    Args:
        problem: The problem.
        run: The run.

    Returns:
        The model on the meta device.
    """
    with torch.device("meta"):
        return _structured(problem, run, problem.model(run.width, run.depth, run.base_depth))


def _structured(problem: Problem, run: Run, model: nn.Module) -> nn.Module:
    if run.structure.family != "dense":
        replace_linear_(model, run.structure, where=lambda name, _: problem.structured(name))
    return model


def matched(problem: Problem, run: Run, budget: int) -> Run:
    """The run at the largest width that costs at most so many MACs an example.

    Args:
        problem: The problem; widths are multiples of its `width_step`.
        run: The run at any width.
        budget: MACs.

    Returns:
        The run at that width.

    Raises:
        ValueError: If there is none.
    """
    step = problem.width_step

    @cache
    def cost(width: int) -> float:
        found = count(problem, replace(run, width=width))
        return float("inf") if found is None else found

    top = step
    while top < WIDEST and not budget < cost(top) < float("inf"):
        top *= 2
    for width in range(top, 0, -step):  # padding makes the cost uneven: a width above one too dear may fit
        if cost(width) <= budget:
            return replace(run, width=width)
    raise ValueError(
        f"{run.structure.text}: no width of {problem.name}'s model costs at most {budget:,} MACs an example"
    )
