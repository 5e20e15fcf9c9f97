"""`Plan`: the structure that each layer of a model is to have under one budget, and the loss. Needs no framework."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from linops.nn import pareto
from linops.nn.budget import choose
from linops.nn.obstacles import starred
from linops.nn.report import Report

#: what a budget can count, and how it is called
UNITS = {"params": "parameters", "macs": "MACs"}
#: what errors are, by criterion
ERRORS = {
    "weight": "sum of squared errors of weights",
    "activation": "sum of squared errors of activations",
    "loss": "estimated increase of the loss",
}
WIDTH = 80


@dataclass(frozen=True)
class Option:
    """A structure that a layer could have.

    Attributes:
        family: The family that it was made of, as it was asked for; ``"dense"`` for what the layer is.
        text: The structure, as ``"btt:rank=2"``.
        params: Its parameters, without the bias.
        macs: Its multiply-accumulates an input vector; of layers that share a weight those of all.
        error: What it loses; see `Plan`.
    """

    family: str
    text: str
    params: int
    macs: int
    error: float


@dataclass(frozen=True)
class Choices:
    """A layer, or several that share a weight, and what there is to choose from.

    Attributes:
        names: The paths of the layers.
        shape: (out_features, in_features).
        options: The structures; the first is dense.
    """

    names: tuple[str, ...]
    shape: tuple[int, int]
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Plan:
    """Which structure each layer is to have; it prints as a table of 80 columns.

    Errors are squared: by weight ‖W − Ŵ‖² / ‖W‖², by activation mean ‖(W − Ŵ) x‖² / mean ‖W x‖², about the means where
    a layer has a bias that takes them, by loss an estimate of the loss's increase, in its unit.

    Attributes:
        layers: The layers and their options.
        picks: The position of each layer's option.
        unit: What the budget counts, ``"params"`` or ``"macs"``.
        budget: How much of it there may be, of the layers' weights.
        cost: How much there will be.
        error: The sum of the layers' errors.
        bound: What no other choice within the budget is below.
        criterion: ``"weight"``, ``"activation"`` or ``"loss"``.
        exact: Whether the choice is the optimum of the measured errors.
    """

    layers: tuple[Choices, ...]
    picks: tuple[int, ...]
    unit: str
    budget: float
    cost: int
    error: float
    bound: float
    criterion: str
    exact: bool = False
    _apply: Callable[[Plan], Report] | None = field(default=None, repr=False, compare=False)

    @property
    def dense(self) -> int:
        """What the layers cost dense."""
        return sum([getattr(layer.options[0], self.unit) for layer in self.layers])

    @property
    def chosen(self) -> dict[str, Option]:
        """The option of each layer by name; layers that share a weight have one."""
        return {name: one.options[pick] for one, pick in zip(self.layers, self.picks) for name in one.names}

    @property
    def where(self) -> dict[str, str | None]:
        """What `replace_linear_(where=…)` takes to make the same structures anew: None where a layer stays dense."""
        return {name: None if one.text == "dense" else one.text for name, one in self.chosen.items()}

    def at(self, budget: Any, exact: bool | None = None) -> Plan:
        """Another choice from the same options; nothing is measured anew.

        Args:
            budget: As `compress` takes it.
            exact: Whether to prove the optimum; None for as this plan does.

        Returns:
            The plan.

        Raises:
            TypeError: If the budget is none.
            ValueError: If it is out of range, or less than the cheapest options cost.
        """
        return choice(replace(self, exact=self.exact if exact is None else exact), budget)

    def pareto(self, shares: Sequence[float] | None = None) -> list[pareto.Point]:
        """What is lost at each share of the cost, by this way to choose and by simpler ones.

        Args:
            shares: The budgets; by default 16 from the least to 1.

        Returns:
            Rows of (of, share, error): of ``"chosen"``, of each family by itself beside dense, and of ``"uniform"``,
            where each layer takes the best structure within the same share of its own cost. The share is what is spent.
        """
        return pareto.rows(self.layers, self.unit, self.exact, shares)

    def plot(self, path: str | Path, shares: Sequence[float] | None = None) -> None:
        """Draw what `pareto` gives, with this plan; needs matplotlib.

        Args:
            path: The file; its suffix says the format.
            shares: As for `pareto`.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        here = self.cost / max(self.dense, 1), self.error
        pareto.draw(self.pareto(shares), Path(path), UNITS[self.unit], ERRORS[self.criterion], here)

    def to_json(self) -> str:
        """The plan with all options, as JSON text."""
        names = "unit", "budget", "cost", "dense", "error", "bound", "criterion", "exact"
        layers = [
            {
                "names": one.names,
                "shape": one.shape,
                "pick": pick,
                "options": [asdict(option) for option in one.options],
            }
            for one, pick in zip(self.layers, self.picks)
        ]
        return json.dumps({name: getattr(self, name) for name in names} | {"layers": layers}, indent=1)

    def apply_(self) -> Report:
        """Do it: put the structures with projected weights in the place of the layers.

        Returns:
            What was replaced, with errors; layers that stay dense are not in it.

        Raises:
            RuntimeError: If this plan, or one of the same `compress`, was applied, or the model changed since.
        """
        if self._apply is None:
            raise RuntimeError("plan.apply_(): the plan is of no model")
        return self._apply(self)

    def __str__(self) -> str:
        table = [("layer", "out×in", "choice", UNITS[self.unit], "share", "error"), *self._cells()]
        rest = [max(map(len, column)) for column in list(zip(*table))[1:]]
        first = min(max(len(line[0]) for line in table), max(WIDTH - sum(rest) - 10, 5))
        lines: list[str] = []
        for name, shape, text, *numbers in table:
            if len(name) > first:
                lines.append(name)
                name = ""
            cells = [name.ljust(first), shape.ljust(rest[0]), text.ljust(rest[1])]
            lines.append("  ".join([*cells, *[one.rjust(width) for one, width in zip(numbers, rest[2:])]]).rstrip())
        share = 100 * self.budget / max(self.dense, 1)
        lines.append(f"budget {self.budget:,.0f} {UNITS[self.unit]}, {share:.3g} % of {self.dense:,}")
        lines.append(f"{ERRORS[self.criterion]}: {self.error:.4g}; no choice is below {self.bound:.4g}")
        return "\n".join(lines)

    def _cells(self) -> Iterator[tuple[str, ...]]:
        """A line for each layer, or for those that differ in the numbers of their names alone; and a total."""
        alike: dict[Any, list[tuple[str, Choices, Option]]] = {}
        for one, pick in zip(self.layers, self.picks):
            ((name, _),) = starred(one.names[:1]).items()
            pattern = ".".join(["*" if part.isdigit() and "." in name else part for part in name.split(".")])
            option = one.options[pick]
            alike.setdefault((pattern, one.shape, option.text), []).append((name, one, option))
        for (_, (m, n), text), group in alike.items():
            pattern = next(iter(starred([name for name, _, _ in group])))
            times = f"{len(group)} × " if len(group) > 1 else ""
            tied = f" (+{len(group[0][1].names) - 1} tied)" if len(group[0][1].names) > 1 else ""
            cost = sum([getattr(option, self.unit) for _, _, option in group])
            dense = sum([getattr(one.options[0], self.unit) for _, one, _ in group])
            error = sum([option.error for _, _, option in group])
            yield pattern + tied, f"{times}{m}×{n}", text, f"{cost:,}", f"{cost / max(dense, 1):.3f}", f"{error:.3g}"
        count = f"{len(self.layers)} layer{'s' * (len(self.layers) != 1)}"
        yield count, "", "", f"{self.cost:,}", f"{self.cost / max(self.dense, 1):.3f}", f"{self.error:.3g}"


def choice(plan: Plan, budget: Any) -> Plan:
    """A plan with the choice of least error within a budget.

    Args:
        plan: The plan.
        budget: A share of what the layers cost dense, or a dict of what is counted to a share or number.

    Returns:
        The plan.

    Raises:
        TypeError: If the budget is none.
        ValueError: If it is out of range, or less than the cheapest options cost.
    """
    unit, amount = amount_of(budget)
    plan = replace(plan, unit=unit)
    limit = amount * plan.dense if amount <= 1 else float(amount)
    costs, errors = pareto.table([layer.options for layer in plan.layers], unit)
    try:
        # a share of a product of integers may be a rounding below one
        found = choose(costs, errors, limit * (1 + 1e-12), plan.exact)
    except ValueError as error:
        least = sum([min(row) for row in costs]) / max(plan.dense, 1)
        raise ValueError(f"compress(budget={budget!r}): {error}, {least:.4f} of dense; take more families") from None
    return replace(plan, picks=found.picks, budget=limit, cost=round(found.cost), error=found.error, bound=found.bound)


def amount_of(budget: Any) -> tuple[str, float]:
    """What a budget counts, and a share or number of it.

    Args:
        budget: As `compress` takes it.

    Returns:
        ``"params"`` or ``"macs"``, and the number; at most 1 it is a share.

    Raises:
        TypeError: If it is none.
        ValueError: If it is out of range.
    """
    unit, amount = "params", budget
    if isinstance(budget, Mapping):
        if len(budget) != 1 or next(iter(budget)) not in UNITS:
            raise ValueError(f"compress(budget={budget!r}): expected {{'params': …}} or {{'macs': …}}")
        ((unit, amount),) = budget.items()
    if isinstance(amount, bool) or not isinstance(amount, (int, float)):
        raise TypeError(f"compress(budget={budget!r}): expected a share, {{'params': number}} or {{'macs': number}}")
    if not 0 < amount < float("inf") or (amount > 1 and not isinstance(budget, Mapping)):
        what = "a share of at most 1; for a number of parameters" if amount > 1 else "more than 0, as .5; or"
        raise ValueError(f"compress(budget={budget!r}): expected {what} {{'params': number}}")
    return unit, float(amount)
