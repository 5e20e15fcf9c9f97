"""docs/coverage.md is fresh, and claims nothing that no test runs."""

import pytest
from conformance import RUNS
from coverage_page import PAGE, collected, gaps, operator_classes, page


@pytest.mark.full
def test_the_page_is_fresh_and_has_no_gaps():
    runs = collected()
    assert gaps(runs) == []
    assert PAGE.read_text(encoding="utf-8") == page(runs), "stale: python tests/coverage_page.py --write"


@pytest.mark.full
def test_what_is_not_collected_is_missed():
    assert gaps(RUNS) == []
    assert gaps([run for run in RUNS if run[0] != "diagonal"]) == ["Diagonal: no case"]
    fewer = gaps([run for run in RUNS if run != ("diagonal", "torch", "float32")])
    assert any(line.startswith("Diagonal: gradient on torch in float32: no test") for line in fewer)
    other_cases_alone = gaps([run for run in RUNS if run[0] != "pad_pads" and run[0] != "pad_crops"])
    assert any(line.startswith("Pad: compile on torch in float32: torch.compile takes") for line in other_cases_alone)
    assert page(RUNS) != page(RUNS[:-1])


def test_every_class_of_operators_is_seen():
    assert {"Dense", "Product", "Sum", "Scaled", "Power", "Kronecker"} <= set(operator_classes())
