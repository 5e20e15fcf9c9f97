"""NumPy's and SciPy's own tests, as they are installed, against linops: see `suites/`."""

import importlib.util

import pytest
from suites.__main__ import QUICK, REST, run

#: wheels may come without tests
shipped = pytest.mark.skipif(
    importlib.util.find_spec("scipy.sparse.linalg.tests") is None
    or importlib.util.find_spec("numpy._core.tests") is None,
    reason="NumPy or SciPy are installed without their tests",
)


@shipped
@pytest.mark.full
def test_matmul_and_linear_operators_pass_the_tests_of_numpy_and_scipy():
    counts, said = run(QUICK)
    assert not counts["failed"], said
    assert counts["passed"] >= 120
    assert counts["of"] >= 75  # in so many a product was of linops
    assert counts["products"] >= 2000


@shipped
@pytest.mark.full
def test_solvers_and_spectra_pass_the_tests_of_scipy():
    counts, said = run(REST)
    assert not counts["failed"], said
    assert counts["passed"] >= 1200
    assert counts["of"] >= 500
