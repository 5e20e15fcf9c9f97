"""Which tests run by default."""

import pytest


class Item:
    """What the choice asks of a test."""

    def __init__(self, name, parameters, *marks):
        self.nodeid, self.function, self.marks = (
            name,
            name.partition("[")[0],
            [pytest.mark.parametrize] * len(parameters) + list(marks),
        )
        if parameters:
            self.callspec = type("Call", (), {"params": parameters})

    def iter_markers(self, name):
        return [mark for mark in self.marks if mark.name == name]

    def get_closest_marker(self, name):
        return next(iter(self.iter_markers(name)), None)


@pytest.mark.parametrize("size", [3])
def test_all_run_that_are_no_product_and_a_sample_of_products(request, size):
    sample = next(one._sample for one in request.config.pluginmanager.get_plugins() if hasattr(one, "_sample"))
    plain = [
        Item("plain", {}),
        Item("a doctest", {}),
        *[Item(f"one[{number}]", {"a": number}) for number in range(size)],
    ]
    product = [Item(f"two[{a}-{b}]", {"a": a, "b": b}) for a in range(size) for b in range(size)]
    found = sample([*plain, *product, Item("long", {}, pytest.mark.full)])
    assert found > set(plain)
    assert size <= len(found - set(plain)) < len(product)
