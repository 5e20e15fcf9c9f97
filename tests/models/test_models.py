"""Each model of `zoo.py` is swapped, and passes each check of `checks.py`."""

import pytest
from checks import CHECKS
from helpers import each
from page import PAGE, with_table
from zoo import ZOO

#: each model and each check now and then by default, all with `-m full`; torch.compile, which takes seconds a model, of
#: one alone
CELLS = [(name, check) for name in ZOO for check in CHECKS if check != "compile"]
COMPILED = [("timm_beit", "compile"), *((name, "compile") for name in ZOO if name != "timm_beit")]


@pytest.mark.parametrize(("name", "check"), [*each(4, CELLS), *each(len(ZOO), COMPILED)])
def test_swapped_model(name, check):
    CHECKS[check](name)


def test_the_table_of_the_page_is_fresh():
    text = PAGE.read_text(encoding="utf-8")
    assert with_table(text) == text, "stale: python tests/models/page.py --write"
