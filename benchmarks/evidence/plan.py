"""The plan: parts in order, the most informative first, each of the lab's own runs of rate transfer or scaling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.evidence import timing
from linops.lab import lr_sweep, scaling_laws
from linops.lab.experiments import MUON_POWERS, POWERS, TOKENS
from linops.lab.parsing import parse, parse_label, parse_list
from linops.lab.problems import Problem, make
from linops.lab.rates import ADAM, MUON, NAIVE, RENORMALIZED, STATIC
from linops.lab.runs import Run, count, with_factor, without_numbers
from linops.lab.sweep import Job
from linops.lab.train import Settings

TRANSFER, SCALING, TIMES = "rate transfer", "scaling", timing.EXPERIMENT
FAMILIES = "btt,low_rank,kronecker,monarch"
ALL = f"dense,{FAMILIES}"
BOTH = (STATIC, RENORMALIZED)
#: dense widths whose MACs are budgets: 69k, 269k, 1.06M; with some between and below; and above, to 4.2M
FEW = (64, 128, 256)
SEVEN, NINE = (32, 48, 64, 96, 128, 192, 256), (32, 48, 64, 96, 128, 192, 256, 384, 512)
#: widths over 16 times
SIXTEEN = (64, 256, 1024)
#: of the sweeps of rates
FACTORS: dict[str, tuple[float, ...]] = {ADAM: POWERS[2:], MUON: MUON_POWERS}
#: dense widths of transformers, as in `linops scaling`
TOKEN_WIDTHS = (32, 64, 128)


@dataclass(frozen=True)
class Part:
    """Runs of one kind.

    Attributes:
        name: What the command line calls it.
        kind: `TRANSFER`, at each width every factor; `SCALING`, at the MACs of dense at each width its tuned factor;
            or `TIMES` of the steps of what is scaled.
        optimizer: Of structured weights.
        structures: With commas; dense has one rule.
        rules: Of their rates.
        widths: Of the models, or of the dense models whose MACs are the budgets.
        seeds: Of weights, batches and generated data.
        factors: For `TRANSFER`.
        model: ``"mlp"``, ``"vit"`` or ``"gpt"``.
        steps: Of training.
        user: Whether it needs the user's data.
    """

    name: str
    kind: str
    optimizer: str
    structures: str
    rules: tuple[str, ...]
    widths: tuple[int, ...]
    seeds: tuple[int, ...] = (0,)
    factors: tuple[float, ...] = ()
    model: str = "mlp"
    steps: int = 1000
    user: bool = False

    @property
    def says(self) -> str:
        """What it runs."""
        parts = [
            f"{self.kind} of {self.model}" + (" on the user's images" if self.user else ""),
            self.optimizer,
            self.structures.replace(",", ", "),
            ", ".join(self.rules),
            f"width{'s' if self.widths[1:] else ''} {', '.join(map(str, self.widths))}",
        ]
        return "; ".join([*parts, f"seed{'s' if self.seeds[1:] else ''} {', '.join(map(str, self.seeds))}"])

    @property
    def size(self) -> int:
        """How many runs it has, at most: structures may have no member within a budget."""
        if self.kind == TIMES:
            return len(self.widths)
        ruled = [1 if name == "dense" else len(self.rules) for name in self.structures.split(",")]
        return sum(ruled) * len(self.widths) * len(self.seeds) * (len(self.factors) or 1)

    @property
    def settings(self) -> Settings:
        """How runs are trained."""
        return Settings(self.steps, TOKENS.get(self.model, 128))


def _sweep(
    name: str, optimizer: str, structures: str, rules: tuple[str, ...], widths: tuple[int, ...], **rest: Any
) -> Part:
    how: dict[str, Any] = {"steps": 300, "factors": FACTORS[optimizer]} | rest
    return Part(name, TRANSFER, optimizer, structures, rules, widths, **how)


def _transformer(name: str, model: str, seeds: tuple[int, ...], user: bool = False) -> list[Part]:
    shared: dict[str, Any] = {"model": model, "seeds": seeds, "user": user}
    kinds = [("", "dense,btt,monarch,low_rank", (STATIC,)), ("-naive", "btt", (NAIVE,))]
    return [Part(name + more, SCALING, ADAM, ours, rules, TOKEN_WIDTHS, **shared) for more, ours, rules in kinds]


LATER = (1, 2)
PLAN: tuple[Part, ...] = (
    _sweep("b-muon-btt", MUON, "btt", BOTH, SIXTEEN),
    _sweep("b-muon-low_rank", MUON, "low_rank", BOTH, SIXTEEN[:2]),
    _sweep("b-muon-monarch", MUON, "monarch", BOTH, SIXTEEN[:2]),
    _sweep("b-muon-kronecker", MUON, "kronecker", BOTH, SIXTEEN[:2]),
    Part("c-muon", SCALING, MUON, "dense,btt", BOTH, FEW),
    _sweep("b-muon-wide", MUON, "low_rank,kronecker", BOTH, SIXTEEN[2:]),
    _sweep("b-adam-btt", ADAM, "btt", (STATIC, RENORMALIZED), SIXTEEN),
    _sweep("b-muon-64", MUON, FAMILIES, BOTH, (64,), seeds=LATER),
    Part("c-adam", SCALING, ADAM, "dense,btt", (STATIC,), NINE),
    *_transformer("gpt", "gpt", (0,)),
    *_transformer("vit", "vit", (0,)),
    Part("c-adam-1", SCALING, ADAM, "dense,btt", (STATIC,), NINE, LATER),
    *_transformer("gpt-1", "gpt", LATER),
    *_transformer("vit-1", "vit", LATER),
    _sweep("b-adam", ADAM, "low_rank,kronecker,monarch", (STATIC, RENORMALIZED), SIXTEEN),
    _sweep("b-adam-naive", ADAM, FAMILIES, (NAIVE,), SIXTEEN),
    _sweep("b-muon-256", MUON, FAMILIES, BOTH, (256,), seeds=LATER),
    _sweep("b-muon-1024", MUON, "btt,low_rank,kronecker", BOTH, (1024,), seeds=LATER),
    _sweep("b-muon-wide-monarch", MUON, "monarch", BOTH, SIXTEEN[2:]),
    Part("c-muon-others", SCALING, MUON, "monarch,kronecker,low_rank", BOTH, FEW),
    Part("c-muon-1", SCALING, MUON, ALL, BOTH, FEW, LATER),
    Part("c-adam-others", SCALING, ADAM, "monarch,kronecker,low_rank", (STATIC,), SEVEN, (0, *LATER)),
    Part("c-adam-renormalized", SCALING, ADAM, FAMILIES, (RENORMALIZED,), SEVEN),
    Part("c-adam-naive", SCALING, ADAM, "btt", (NAIVE,), NINE, (0, *LATER)),
    _sweep("b-muon-naive", MUON, FAMILIES, (NAIVE,), SIXTEEN[:2]),
    _sweep("b-muon-dense", MUON, "dense", (STATIC,), (32, 64, 128, 256)),
    _sweep("b-gpt-muon", MUON, "dense,btt", BOTH, (64,), model="gpt"),
    _sweep("b-gpt-muon-wide", MUON, "dense,btt", BOTH, (128,), model="gpt"),
    _sweep("b-vit-muon", MUON, "dense,btt", BOTH, (64, 128), model="vit"),
    *_transformer("images", "vit", (0, *LATER), user=True),
    Part("times-adam", TIMES, ADAM, ALL, (STATIC,), (64, 128, 256, 512)),
    Part("times-muon", TIMES, MUON, ALL, BOTH, FEW),
    Part("times-gpt", TIMES, ADAM, "dense,btt,monarch,low_rank", (STATIC,), TOKEN_WIDTHS, model="gpt"),
    Part("times-vit", TIMES, ADAM, "dense,btt,monarch,low_rank", (STATIC,), TOKEN_WIDTHS, model="vit"),
)


def rule_of(label: str) -> str:
    """The rule of a label in rows; that of rows of a rule that linops has no more is none of the lab's.

    Args:
        label: As in ``"btt (naive)"``.

    Returns:
        The rule.

    Example:
        >>> rule_of("btt (naive)"), rule_of("btt"), rule_of("btt (renormalized before 5b36aed)")
        ('naive', 'static', 'renormalized before 5b36aed')
    """
    return parse_label(label)[1] or STATIC


def finished(parts: Sequence[Part], rows: Iterable[Mapping[str, Any]]) -> list[tuple[Part, int]]:
    """The parts, and how many of their runs are there.

    Args:
        parts: Of the plan.
        rows: Of finished runs.

    Returns:
        (part, finished runs) of each; those of a rule that linops has no more do not count.
    """
    rules = {part.name: part.rules for part in parts}
    done = Counter(row["part"] for row in rows if rule_of(row.get("structure", "")) in rules.get(row["part"], ()))
    return [(part, done[part.name]) for part in parts]


def listed(counted: Iterable[tuple[Part, int]]) -> list[tuple[str, str, str]]:
    """Parts as people read them.

    Args:
        counted: As `finished` counts them.

    Returns:
        (name, what it runs, finished runs) of each.
    """
    return [(part.name, part.says, f"{done} of {part.size}") for part, done in counted]


@cache
def problem(model: str, seed: int, data: str | None = None, text: str | None = None) -> Problem:
    """A problem on the CPU.

    Args:
        model: ``"mlp"``, ``"vit"`` or ``"gpt"``.
        seed: Of generated data and of the batches.
        data: As for `linops.lab.data.load`.
        text: As for `linops.lab.text.load_text`.

    Returns:
        The problem.
    """
    return make(model, data, text, seed, "cpu")


@dataclass(frozen=True)
class Planned:
    """A run of a part.

    Attributes:
        part: The part's name.
        job: The run; its identity is what tells its row from all others.
        cost: About the MACs of its training, the optimiser's included.
        folder: Of its checkpoint.
    """

    part: str
    job: Job
    cost: float
    folder: Path


def planned(part: Part, folder: Path, data: str | None = None, text: str | None = None) -> list[Planned]:
    """The runs of a part.

    Args:
        part: The part.
        folder: For checkpoints.
        data: For parts on the user's data.
        text: For GPT, instead of the standard library.

    Returns:
        The runs, in order: for scaling, seed by seed, the least budget first.
    """
    given = (data if part.user else None, text if part.model == "gpt" else None)
    first, own = problem(part.model, part.seeds[0], *given), folder / part.name
    runs = [
        Run(structure, first.base_width, rule=rule, optimizer=part.optimizer)
        for structure in parse_list(part.structures)
        for rule in (part.rules if structure.family != "dense" else part.rules[:1])
    ]
    if part.kind == TIMES:
        return _times(part, first, runs, own)
    fitted = _swept(runs, part) if part.kind == TRANSFER else _fitted(first, runs, part.widths)
    found = []
    for seed in part.seeds:
        ours = problem(part.model, seed, *given)
        for run, budget in fitted:
            run = replace(run, seed=seed)
            (job,) = (
                lr_sweep.jobs(ours, [run], part.settings, folder=own)
                if part.kind == TRANSFER
                else scaling_laws.jobs(ours, [(run, budget)], part.settings, folder=own)
            )
            cost = part.steps * _step_cost(ours, run, part.settings.batch)
            found.append(Planned(part.name, job, cost, own / run.slug))
    return found


def _swept(runs: Sequence[Run], part: Part) -> list[tuple[Run, int]]:
    pairs = [(width, factor) for width in part.widths for factor in part.factors]
    return [(replace(run, width=width, factor=factor), 0) for run in runs for width, factor in pairs]


def _fitted(first: Problem, runs: Sequence[Run], widths: Sequence[int]) -> list[tuple[Run, int]]:
    """Each run with its tuned factor at the MACs of dense at each width, the least first."""
    found = []
    for dense in widths:
        for run in runs:
            for width, budget in _width(first, run.structure.text, dense):
                found.append((replace(with_factor(first, run), width=width), budget))
    return found


@cache
def _width(ours: Problem, structure: str, dense: int) -> list[tuple[int, int]]:
    """The width of a structure at the MACs of dense at a width, and those; empty if there is none."""
    pairs = scaling_laws.matched_runs(ours, [Run(parse(structure), ours.base_width)], [dense])
    return [(run.width, budget) for run, budget in pairs]


def _times(part: Part, first: Problem, runs: Sequence[Run], own: Path) -> list[Planned]:
    budgets: dict[int, list[Run]] = {}
    for run, budget in _fitted(first, runs, part.widths):
        budgets.setdefault(budget, []).append(run)
    found = []
    for budget, ours in budgets.items():
        cost = 40 * sum(_step_cost(first, run, part.settings.batch) for run in ours)
        found.append(Planned(part.name, timing.job(first, ours, budget, part.settings), cost, own / str(budget)))
    return found


def _step_cost(ours: Problem, run: Run, batch: int) -> float:
    """About the MACs of a step, with a constant for what is no product."""
    products, orthogonal = _costs(ours, run.structure.text, run.width, run.depth, run.optimizer)
    return 1e8 + 3 * batch * products + orthogonal


@cache
def _costs(ours: Problem, structure: str, width: int, depth: int, optimizer: str) -> tuple[int, int]:
    """MACs of a forward pass, and of Newton and Schulz's five iterations for Muon."""
    run, orthogonal = Run(parse(structure), width, depth), 0
    if optimizer == MUON:
        for name, parameter in without_numbers(ours, run).named_parameters():
            if parameter.ndim >= 2 and ours.structured(name.rpartition(".")[0]):
                *blocks, p, q = parameter.shape
                least, most = sorted((p, q))
                orthogonal += 5 * torch.Size(blocks).numel() * least**2 * (2 * most + least)
    return count(ours, run) or 0, orthogonal
