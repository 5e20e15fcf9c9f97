"""`compress`: a plan of which structure each layer of a PyTorch model is to have under one budget."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import nn

from linops.nn.calibration import moments
from linops.nn.compression import Choices, Plan, amount_of, choice
from linops.nn.measuring import Candidate, candidates, families_of, options
from linops.nn.obstacles import brief
from linops.nn.progress import printer
from linops.nn.projected import groups
from linops.nn.report import Report
from linops.nn.spreads import Spread, joint_spread, spread_of
from linops.nn.swap import Swap
from linops.nn.swap import plan as planned
from linops.nn.torch import calibration as calibrating
from linops.nn.torch.dense import find, require_module
from linops.nn.torch.project import corrects, matrix_of, require_numbers
from linops.nn.torch.replace import replace_linear_
from linops.nn.torch.sensitivity import drained, sensitivities
from linops.operators.dense import Dense
from linops.specs import spec

CRITERIA = ("weight", "activation", "loss")


def compress(
    model: nn.Module,
    budget: float | Mapping[str, float] = 0.5,
    families: str | Sequence[str] = ("low_rank", "btt", "monarch"),
    calibration: Any = None,
    criterion: str | None = None,
    where: Any = None,
    exclude: Any = None,
    parts: Mapping[Any, int | Sequence[int]] | None = None,
    *,
    sequential: bool = True,
    anchor: bool = True,
    exact: bool = False,
    progress: bool = False,
    seed: int = 0,
) -> Plan:
    """A plan of which structure each layer of a trained model is to have under one budget; ``apply_()`` does it.

    For each layer the members of the families that cost no more than dense are measured, and dense; then those are
    chosen that lose least together within the budget: Lagrange's price with a bound that no choice goes below. Nothing
    of the model is changed before ``plan.apply_()``, which projects the weights as ``replace_linear_(weights="project",
    calibration=…)`` does. ``plan.at(budget)`` chooses anew at no cost, ``plan.pareto()`` and ``plan.plot(path)`` show
    the trade.

    What is lost is, by `criterion`, summed over layers:

    * ``"weight"``: ‖W − Ŵ‖² / ‖W‖².
    * ``"activation"``: mean ‖(W − Ŵ) x‖² / mean ‖W x‖² over the inputs x that the layer has in the model as it is; with
      a bias, about the mean.
    * ``"loss"``: ½ tr(A E C Eᵀ), E = W − Ŵ, A the second moment of the loss's gradients at the layer's outputs, C that
      of inputs: an estimate of how much the loss grows (K-FAC). Ŵ is the nearest by activation, which `apply_` takes.

    The last two take one pass over the calibration set and the second moments of all layers, n² (and m²) numbers each.
    Structures whose optimum is no truncated SVD are measured by a few sweeps of `lo.project`, applied with many.

    Args:
        model: The model.
        budget: What the weights of the layers that are selected may cost together: a share of their parameters now; or
            ``{"params": …}`` or ``{"macs": …}``, a share where at most 1, else a number. A shared weight counts once in
            parameters.
        families: Names of families, with options (``"btt:rank=2"``, one structure) or without (the members of
            `lo.families.members`: a ladder of ranks, not each).
        calibration: Batches of the model's inputs (a tensor; a tuple or list of arguments; a dict of named ones), or a
            function that takes the model and runs it on them. By ``"loss"`` it returns the loss or yields several, each
            a mean over its vectors; or the model returns it, has it in its output's ``loss``, or in its own.
        criterion: What is to be lost least of; by default ``"activation"`` with calibration, ``"weight"`` without.
        where: Which layers: a predicate ``(name, module) -> bool``, a glob or ``"re:"`` pattern, or a list of those.
            None takes all that are not frozen.
        exclude: Which of these to leave, as `where`.
        parts: For fused projections, a dict of pattern to the number of equal parts of the output, or their sizes. All
            parts of a layer get the same structure, each its own.
        sequential: As for `replace_linear_`, when applied.
        anchor: Likewise, where there is calibration and it is sequential.
        exact: Whether to prove that the choice is the best of the measured, by HiGHS.
        progress: Whether to print a line to stderr for each layer that is measured, and then projected.
        seed: Of torch's random numbers while calibration runs, which are restored.

    Returns:
        The plan; it prints as a table.

    Raises:
        TypeError: If an argument is none of the above.
        ValueError: If the budget is less than the cheapest structures cost, a layer that `where` selects cannot be
            replaced, no layer is left, or a number is not finite.

    Warns:
        UserWarning: If layers are left alone for a reason, or no input reached one.

    Example:
        >>> import linops as lo, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.GELU(), torch.nn.Linear(64, 64))
        >>> plan = lo.nn.compress(model, budget=0.25)
        >>> plan.cost <= 0.25 * plan.dense, type(model[0]).__name__
        (True, 'Linear')
        >>> report = plan.apply_()
        >>> report.new_params - 128 == plan.cost, type(model[0]).__name__  # without biases
        (True, 'Linear')
    """
    require_module("compress", model, "flax.replace_linear", "equinox.replace_linear")
    names = families_of(families)
    criterion = _criterion(criterion, calibration)
    amount_of(budget)  # before anything is measured
    if isinstance(where, Mapping):
        raise TypeError("compress(where=dict): families are chosen by the plan; expected patterns of layers")
    run = None if calibration is None else drained(calibration)
    if run is not None:
        calibrating.CALLS.runner(run)  # refuses what can be read once
    swaps, _ = planned(find(model), _dense, where, exclude, "init", None, {}, parts)
    if not swaps:
        raise ValueError("compress: no layer of the model is selected that can be replaced")
    require_numbers(swaps)
    with _seeded(seed, model):
        spreads, outputs = _spreads(model, swaps, calibration, run, criterion)
    say = printer(len(groups(swaps)), progress)
    layers = []
    for group in groups(swaps):
        start = perf_counter()
        layers.append(_measured(group, names, spreads, outputs))
        say(iter([f"{group[0].found.name:24}  {len(layers[-1].options)} options  {perf_counter() - start:.1f} s"]))
    if all(len(one.options) == 1 for one in layers):
        raise ValueError(f"compress(families={families!r}): no layer has a member that costs no more than dense")
    anchored = anchor and sequential and run is not None
    how: dict[str, Any] = {"parts": parts, "calibration": run, "sequential": sequential, "anchor": anchored}
    applying = _Applying(model, _marks(model), how | {"progress": progress}, seed)
    return choice(Plan(tuple(layers), (), "params", 0.0, 0, 0.0, 0.0, criterion, exact, applying), budget)


@dataclass
class _Applying:
    """Applies plans of one model, once."""

    model: nn.Module
    marks: dict[str, Any]
    options: dict[str, Any]
    seed: int
    done: bool = False

    def __call__(self, plan: Plan) -> Report:
        if self.done:
            raise RuntimeError("plan.apply_(): this plan, or one of the same compress, was applied already")
        now = _marks(self.model)
        if changed := [name for name in {**self.marks, **now} if self.marks.get(name) != now.get(name)]:
            raise RuntimeError(
                f"plan.apply_(): the model has changed since it was measured, as {changed[0]!r}; call compress again"
            )
        chosen = {name: option.text for name, option in plan.chosen.items() if option.family != "dense"}
        self.done = True
        if not chosen:
            return Report()
        where = {f"re:{re.escape(name)}": text for name, text in chosen.items()}
        try:
            with _seeded(self.seed, self.model):
                return replace_linear_(self.model, None, where, weights="project", **self.options)
        except BaseException:
            self.done = False  # the model is what it was
            raise


def _dense(out_features: int, in_features: int) -> Dense:
    """Stands for whatever a layer gets."""
    return Dense(spec(out_features, in_features))


def _criterion(criterion: Any, calibration: Any) -> str:
    if criterion is None:
        return "weight" if calibration is None else "activation"
    if criterion not in CRITERIA:
        raise ValueError(f"compress(criterion={criterion!r}): expected {', '.join(CRITERIA)} or None")
    if criterion != "weight" and calibration is None:
        raise ValueError(f"compress(criterion={criterion!r}): it needs calibration=")
    return criterion


def _spreads(
    model: nn.Module, swaps: Iterable[Swap], calibration: Any, run: Any, criterion: str
) -> tuple[dict[str, Spread], dict[str, Any]]:
    """How inputs of layers are spread in the model as it is, and the second moments of gradients, by name."""
    if criterion == "weight":
        return {}, {}
    every = {swap.found.name: swap.found for swap in swaps if not swap.zero_init}
    gradients: dict[str, Any] = {}
    with calibrating.evaluating(model):
        if criterion == "loss":
            found, gradients = sensitivities(model, calibration, every)
        else:
            watch = calibrating.watching(model, calibrating.CALLS.runner(run), every)
            found = moments(watch, {name: one.shape[1] for name, one in every.items()})
    unseen = [name for name, one in found.items() if not one.count]
    if unseen and criterion == "loss":
        raise ValueError(f"compress(criterion='loss'): no input reached {brief(unseen)}; exclude= leaves it")
    if unseen:
        warnings.warn(
            f"compress: no input of the calibration reached {brief(unseen)}: measured by the weight alone", stacklevel=4
        )
    takes = corrects(model)
    spreads = {name: spread_of(every[name], one, takes(every[name])) for name, one in found.items() if one.count}
    return spreads, {name: one.second_moment for name, one in gradients.items()}


def _measured(
    group: Sequence[Swap], families: Sequence[str], spreads: Mapping[str, Spread], outputs: Mapping[str, Any]
) -> Choices:
    """What there is to choose from for layers that share a weight."""
    first, names = group[0], tuple([swap.found.name for swap in group])
    sizes = [operator.shape[0] for operator in first.operators]
    found: list[Candidate] = list(candidates(families, sizes, first.found.shape[1], names[0]))
    weight = matrix_of(first.found.layer)
    weight = (weight.cpu() if weight.device.type == "mps" else weight).to(_wide(weight.dtype))
    known = [spreads[name] for name in names if name in spreads]
    joint = joint_spread(known)
    metrics = [(outputs[name], spreads[name].second_moment) for name in names if name in outputs]
    try:
        made = options(weight, found, None if joint is None else joint.second_moment, metrics, len(group))
    except ValueError as error:
        m, n = first.found.shape
        raise ValueError(f"layer {names[0]!r} ({m}×{n}): {error}") from error
    return Choices(names, first.found.shape, made)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype.is_complex else torch.float64


def _marks(model: nn.Module) -> dict[str, tuple[Any, ...]]:
    """By which a change of a model is known: of each parameter its shape, dtype and two sums of its numbers."""
    found: dict[str, tuple[Any, ...]] = {}
    for name, parameter in model.named_parameters():
        numbers: Any = parameter.detach()
        if numbers.is_meta or nn.parameter.is_lazy(parameter):
            continue
        numbers = (numbers.cpu() if numbers.device.type == "mps" else numbers).to(_wide(numbers.dtype))
        sums = torch.abs(torch.sum(numbers)), torch.linalg.vector_norm(numbers)
        found[name] = (tuple(numbers.shape), parameter.dtype, *[f"{float(one):.9g}" for one in sums])
    return found


@contextmanager
def _seeded(seed: int, model: nn.Module) -> Iterator[None]:
    """Torch's random numbers from a seed; those of before come after."""
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(seed)
        yield
