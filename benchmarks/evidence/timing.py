"""CPU times of training steps: what stands at one budget takes turns, so that a busy machine hits all alike."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from time import process_time
from typing import Any

from linops.lab.measure import side_by_side
from linops.lab.problems import Problem
from linops.lab.rates import MUON, stepper
from linops.lab.runs import Run, build, parameter_groups
from linops.lab.sweep import Job, Row
from linops.lab.train import Settings
from linops.nn.renormalizing import SETTLED

EXPERIMENT = "step times"
#: about how long steps at one budget are timed
SECONDS = 20.0


def job(problem: Problem, runs: Sequence[Run], budget: int, settings: Settings) -> Job:
    """The job that times a step of each of several runs.

    Args:
        problem: The problem.
        runs: The runs, of one optimiser.
        budget: MACs that all of them keep to.
        settings: Its batch is that of a step.

    Returns:
        The job. Its row has `step_ms`, the median over rounds of the CPU time of a step, and `to_dense`, that of the
        ratio to dense in a round, both by structure.
    """
    identity = {"experiment": EXPERIMENT, "data": problem.name, "optimizer": runs[0].optimizer, "budget": budget}
    identity |= {"structures": [run.label for run in runs], "widths": [run.width for run in runs]}
    return Job(identity | {"batch": settings.batch}, 1, lambda _: _measure(problem, runs, settings))


def _measure(problem: Problem, runs: Sequence[Run], settings: Settings) -> Row:
    timings = side_by_side(
        {run.label: _step(problem, run, settings) for run in runs}, seconds=SECONDS, rounds=15, sample=_sample
    )
    dense = timings.get("dense")
    return {
        "step_ms": {label: float(f"{1e3 * timing.median:.4g}") for label, timing in timings.items()},
        "to_dense": {label: float(f"{timing.ratio(dense):.4g}") for label, timing in timings.items()} if dense else {},
    }


def _sample(function: Any, calls: int) -> float:
    """Seconds of CPU a call, after one more, so that a candidate finds its own data in the caches."""
    function()
    start = process_time()
    for _ in range(calls):
        function()
    return (process_time() - start) / calls


def _step(problem: Problem, run: Run, settings: Settings) -> Any:
    """A function that trains a model of a run by one step, after those at which Muon measures every layer.

    Each step has a batch of its own: gradients of one that is memorised become subnormal numbers, which take longer.
    """
    model = build(problem, run)
    optimizer = stepper(parameter_groups(problem, run, model), next(model.parameters()).device)
    steps = count()

    def step() -> None:
        loss = problem.loss(model, problem.batch(next(steps), settings.batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(SETTLED if run.optimizer == MUON else 1):
        step()
    return step
