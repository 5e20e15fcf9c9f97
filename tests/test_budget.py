"""The choice of options under a budget: within it, near the optimum, with a bound that holds."""

from itertools import product

import numpy as np
import pytest

from linops.nn.budget import choose


def random(seed, layers, options):
    rng = np.random.default_rng(seed)
    costs = [np.sort(rng.integers(1, 100, options)) for _ in range(layers)]
    errors = [np.sort(rng.random(options))[::-1] * rng.random() * 10 for _ in range(layers)]
    return costs, errors


def optimum(costs, errors, budget):
    found = np.inf
    for picks in product(*[range(len(row)) for row in costs]):
        if sum(row[pick] for row, pick in zip(costs, picks)) <= budget:
            found = min(found, sum(row[pick] for row, pick in zip(errors, picks)))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_choices_are_near_the_optimum_and_bounds_hold(seed):
    costs, errors = random(seed, 5, 4)
    least, most = sum(row[0] for row in costs), sum(row[-1] for row in costs)
    for budget in np.linspace(least, most, 7):
        best = optimum(costs, errors, budget)
        fast, exact = choose(costs, errors, budget), choose(costs, errors, budget, exact=True)
        for one in (fast, exact):
            assert one.cost <= budget
            assert one.bound <= best * (1 + 1e-9) + 1e-12 <= one.error * (1 + 1e-6) + 1e-9
            assert one.error == pytest.approx(sum(row[pick] for row, pick in zip(errors, one.picks)))
        assert exact.error == pytest.approx(best, rel=1e-5)


def test_many_layers_are_within_a_few_percent_of_the_bound():
    costs, errors = random(0, 300, 30)
    found = choose(costs, errors, 0.4 * sum(row[-1] for row in costs))
    assert found.error <= 1.03 * found.bound


def test_a_budget_for_all_takes_the_best_of_each():
    costs, errors = random(1, 4, 3)
    found = choose(costs, errors, 10**6)
    assert found.picks == tuple(int(row.argmin()) for row in errors)
    assert found.error == found.bound


def test_budgets_below_the_cheapest_say_so():
    with pytest.raises(ValueError, match="the cheapest options cost 5 together, more than the budget of 4"):
        choose([[2, 9], [3, 9]], [[1, 0], [1, 0]], 4)


def test_options_of_no_cost_and_no_error():
    assert choose([[0, 0]], [[1.0, 0.0]], 0).picks == (1,)
    assert choose([], [], 0).picks == ()
