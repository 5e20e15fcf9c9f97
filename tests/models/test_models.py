"""Each model of `zoo.py` is swapped, and passes each check of `checks.py`."""

import pytest
from checks import CHECKS
from page import PAGE, with_table
from zoo import ZOO

#: torch.compile takes seconds a model: these by default, all with `-m full`
COMPILED = ("timm_beit",)


CELLS = [
    pytest.param(name, check, marks=pytest.mark.full if check == "compile" and name not in COMPILED else ())
    for name in ZOO
    for check in CHECKS
]


@pytest.mark.parametrize(("name", "check"), CELLS)
def test_swapped_model(name, check):
    CHECKS[check](name)


def test_the_table_of_the_page_is_fresh():
    text = PAGE.read_text(encoding="utf-8")
    assert with_table(text) == text, "stale: python tests/models/page.py --write"
