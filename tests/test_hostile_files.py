"""Files from others: every hostile one is a documented error, in bounded memory and time, and so is every change."""

import contextlib
from pathlib import Path

import pytest
from cases import CASES
from cases.limits import names
from fuzz import files
from helpers import build
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import linops as lo
from benchmarks.reliability.hostile import operator
from benchmarks.reliability.reading import read as read_hostile
from linops import strict_json
from linops.encoding import document

SETTINGS = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc")
def test_hostile_files_are_refused_in_bounded_memory(tmp_path):
    rows = read_hostile(tmp_path, memory=600 << 20)
    assert len(rows) > 70
    for row in rows:
        assert row["error"] in ("ValueError", "TypeError"), row
        assert row["message"], row
        assert row["seconds"] < 10, row


def test_the_file_that_hostile_ones_change_is_read(tmp_path):
    (tmp_path / "a").write_bytes(operator())
    assert lo.load(tmp_path / "a").shape == (4, 4)


@SETTINGS
@given(seed=st.integers(0, 2**32))
def test_any_change_of_a_file_is_an_error_or_read(seed, tmp_path):
    data = _GOOD[seed % len(_GOOD)]
    error = files.read(files.mutated(data, seed), tmp_path / "a")
    assert error is None or str(error)


@SETTINGS
@given(seed=st.integers(0, 2**32))
@pytest.mark.parametrize("part", range(4))
def test_any_change_of_a_structure_is_an_error_or_read(seed, part):
    plain = _PLAIN[(4 * seed + part) % len(_PLAIN)]
    assert files.read_structure(files.changed(plain, seed)) is not None


@SETTINGS
@given(text=st.text(alphabet="abcij,->.. \u00e90", max_size=12))
def test_any_expression_of_einsum_is_an_error_or_one(text):
    with contextlib.suppress(ValueError, TypeError):
        assert lo.Einsum(text, lo.spec(2, 3)).num_params == 6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": NaN}', "NaN is no number of JSON"),
        ('{"a": 1e999}', "beyond float64"),
        ('{"a": 1, "a": 2}', "there twice"),
        ("1" * 21, "an integer of 21 digits"),
        ("[" * 10_000, "too deep"),
        ("[" + "[]," * 1_200_000 + "0]", "1,200,001 objects and lists"),
        (" " * (1 << 25), "at most 16,777,216"),
        ("{", "Expecting"),
    ],
)
def test_json_beyond_bounds(text, said):
    with pytest.raises(ValueError, match=said):
        strict_json.loads(text)


def _plain():
    for case in CASES:
        if "numpy" not in names(CASES[case]):
            continue
        A, _, _ = build(case)
        try:
            yield document(A.structure)
        except TypeError:  # callables
            continue


_GOOD, _PLAIN = list(files.good()), list(_plain())
