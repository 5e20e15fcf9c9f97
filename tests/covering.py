"""A covering sample of combinations: few tests of a product of parameters, in which every value of each still occurs.

Tests over tables are products (case × backend × dtype × …) of thousands. By default pytest runs a sample of them; the
others are marked `full`, and `pytest -m full` runs all.
"""

import zlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

Test = TypeVar("Test", bound=Hashable)


def covering(
    tests: Sequence[Test],
    features: Callable[[Test], Iterable[Hashable]],
    cost: Callable[[Test], float] = lambda test: 1.0,
) -> list[Test]:
    """A sample of tests that has every feature that any of them has.

    It is greedy, in an order that is arbitrary but the same each time, so that the values of one parameter meet
    different ones of others.

    Args:
        tests: The tests; the text of each is unlike the others'.
        features: What a test covers.
        cost: What a test costs: those that cost k times as much come k times less often where others would do.

    Returns:
        The sample, in the order of the tests.
    """
    missing = {feature for test in tests for feature in features(test)}
    chosen = set()
    for test in sorted(tests, key=lambda test: cost(test) * zlib.crc32(str(test).encode())):
        if new := missing.intersection(features(test)):
            missing -= new
            chosen.add(test)
    return [test for test in tests if test in chosen]
