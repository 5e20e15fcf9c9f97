"""Which option each layer takes under one budget: the multiple-choice knapsack problem. Needs no framework.

Minimise Σ_l e_l(o_l) with Σ_l c_l(o_l) ≤ B, one option o_l a layer. For a price λ ≥ 0 each layer takes the option of
least e + λ c by itself, and Σ_l min_o (e + λ c) − λ B is a bound that no choice goes below (Sinha and Zoltners, "The
Multiple-Choice Knapsack Problem", 1979). The price is bisected; what the budget then still holds goes, step by step, to
the layer that gains most for it. `exact=True` solves it by branch and bound, HiGHS by SciPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # whose submodules load when they are first used

#: bisections of the price, which is then known to all digits
STEPS = 200


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        picks: The position of each layer's option.
        cost: Σ c.
        error: Σ e.
        bound: What no choice within the budget goes below.
    """

    picks: tuple[int, ...]
    cost: float
    error: float
    bound: float


def choose(
    costs: Sequence[Sequence[float]], errors: Sequence[Sequence[float]], budget: float, exact: bool = False
) -> Choice:
    """The option of each layer.

    Args:
        costs: Of each layer's options.
        errors: Likewise.
        budget: What all may cost together.
        exact: Whether to prove the optimum (to 1e-6 of it), in seconds to minutes for hundreds of layers.

    Returns:
        The choice.

    Raises:
        ValueError: If the cheapest options cost more than the budget.

    Example:
        >>> choose([[1, 4], [1, 4]], [[9.0, 0.0], [2.0, 0.0]], budget=5)
        Choice(picks=(1, 0), cost=5.0, error=2.0, bound=2.0)
    """
    c, e = ([np.asarray(row, float) for row in rows] for rows in (costs, errors))
    least = float(sum([row.min() for row in c]))
    if least > budget:
        raise ValueError(f"the cheapest options cost {least:,.0f} together, more than the budget of {budget:,.0f}")
    picks, bound = _relaxed(c, e, budget)
    picks = _filled(c, e, picks, budget)
    if exact:
        picks, bound = _exact(c, e, budget, picks)
    cost, error = (float(sum([row[pick] for row, pick in zip(rows, picks)])) for rows in (c, e))
    return Choice(tuple(map(int, picks)), cost, error, min(bound, error))


def _at(c: Sequence[np.ndarray], e: Sequence[np.ndarray], price: float) -> tuple[list[int], float, float]:
    """The options of least e + price · c (of several the cheapest), their cost, and the sum of the minima."""
    picks, cost, least = [], 0.0, 0.0
    for costs, errors in zip(c, e):
        value = errors + price * costs
        best = value.min()
        ties = np.flatnonzero(value <= best + 1e-15 * abs(best))
        pick = int(ties[costs[ties].argmin()])
        picks.append(pick)
        cost += float(costs[pick])
        least += float(best)
    return picks, cost, least


def _relaxed(c: Sequence[np.ndarray], e: Sequence[np.ndarray], budget: float) -> tuple[list[int], float]:
    """Options within the budget at the least price that makes them so, and the best bound that was met."""
    picks, cost, bound = _at(c, e, 0.0)
    if cost <= budget:
        return picks, bound
    low, high = 0.0, 1.0
    scale = max([float(np.ptp(errors)) for errors in e] + [1e-300])
    high = scale
    while (found := _at(c, e, high))[1] > budget and high < 1e300:
        low, high = high, 4 * high
    bound = max(bound, found[2] - high * budget)
    best = found[0] if found[1] <= budget else [int(costs.argmin()) for costs in c]
    for _ in range(STEPS):
        price = (low + high) / 2
        picks, cost, least = _at(c, e, price)
        bound = max(bound, least - price * budget)
        if cost <= budget:
            high, best = price, picks
        else:
            low = price
        if high - low <= 1e-14 * high:
            break
    return best, bound


def _filled(c: Sequence[np.ndarray], e: Sequence[np.ndarray], picks: Sequence[int], budget: float) -> list[int]:
    """Options with what the budget still holds spent, each time where an error falls most for its cost."""
    picks = list(picks)
    left = budget - float(sum([costs[pick] for costs, pick in zip(c, picks)]))
    while True:
        best: tuple[float, int, int] | None = None
        for layer, (costs, errors, pick) in enumerate(zip(c, e, picks)):
            more, gain = costs - costs[pick], errors[pick] - errors
            for option in np.flatnonzero((more <= left) & (gain > 0)):
                rate = float(gain[option] / max(float(more[option]), 1e-12))
                if best is None or rate > best[0]:
                    best = rate, layer, int(option)
        if best is None:
            return picks
        _, layer, option = best
        left -= float(c[layer][option] - c[layer][picks[layer]])
        picks[layer] = option


def _exact(
    c: Sequence[np.ndarray], e: Sequence[np.ndarray], budget: float, known: Sequence[int]
) -> tuple[list[int], float]:
    """The optimum and its bound, by HiGHS; what is known already where that finds nothing better."""
    sizes = [len(costs) for costs in c]
    flat_costs, flat_errors = np.concatenate(c), np.concatenate(e)
    rows = np.repeat(np.arange(len(sizes)), sizes)
    one = scipy.sparse.csr_array((np.ones(len(rows)), (rows, np.arange(len(rows)))))
    scale, unit = max(float(flat_errors.max()), 1e-300), max(float(budget), 1.0)
    result = scipy.optimize.milp(
        flat_errors / scale,
        integrality=np.ones(len(rows)),
        bounds=scipy.optimize.Bounds(0, 1),
        constraints=[
            scipy.optimize.LinearConstraint(one, 1, 1),
            scipy.optimize.LinearConstraint(flat_costs[None] / unit, -np.inf, budget / unit),
        ],
        options={"mip_rel_gap": 1e-6},
    )
    error = float(sum([errors[pick] for errors, pick in zip(e, known)]))
    if result.x is None:
        return list(known), 0.0
    starts = np.cumsum([0, *sizes[:-1]])
    picks = [int(result.x[start : start + size].argmax()) for start, size in zip(starts, sizes)]
    found = float(sum([errors[pick] for errors, pick in zip(e, picks)]))
    within = float(sum([costs[pick] for costs, pick in zip(c, picks)])) <= budget
    bound = float(result.mip_dual_bound) * scale
    return (picks, bound) if within and found <= error else (list(known), bound)
