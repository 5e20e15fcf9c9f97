"""The fuzzer (`fuzz/`): a short run of fixed cases, and that it finds what is broken."""

import contextlib
import io
import re

import numpy as np
import pytest
from fuzz import session, shrink
from fuzz.check import draw_case
from helpers import each

import linops as lo


@pytest.mark.parametrize(("backend", "count"), [("numpy", 60), ("torch", 40), ("jax", 2)])
def test_random_expressions_are_their_matrices(backend, count):
    compared = 0
    for number in range(count):
        outcome = session.attempt(1, number, backend)
        assert outcome.failure is None, outcome.failure.text()
        compared += outcome.checks
    assert compared >= 4 * count


def test_cases_are_those_of_their_seed_and_number():
    texts = [draw_case(seed, number, "numpy").text("A @ x") for seed, number in ((1, 5), (1, 5), (1, 6), (2, 5))]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


def first_failure(cases=400):
    """The first failing case made small."""
    outcomes = (session.attempt(1, number, "numpy") for number in range(cases))
    failure = next((outcome.failure for outcome in outcomes if outcome.failure is not None), None)
    assert failure is not None
    return shrink.shrunk(failure)


def inexactly(method):
    return lambda self, x: method(self, x) * (1 + 1e-3)


def in_place(method):
    def product(self, x):
        y = method(self, x)
        if x.flags.writeable and x.dtype.kind == "f":
            x += 1
        return y

    return product


BROKEN = {
    "a product that errs by a thousandth": (lo.Dense, "_columns", inexactly),
    "a product that writes to its operand": (lo.Diagonal, "_columns", in_place),
    "a product in the memory of its operand": (lo.Identity, "_aliases", lambda _: False),
    "an adjoint that is not conjugated": (lo.Dense, "_conj", lambda _: lambda self: self),
    "a transpose that is none": (lo.Diagonal, "_transpose", lambda _: lambda self: lo.Diagonal(2 * self.diagonal)),
    "a result of another dtype": (
        lo.Permute,
        "_columns",
        lambda method: lambda self, x: method(self, x).astype(np.complex128),
    ),
    "a shape that is wrong": (lo.Pad, "_columns", lambda method: lambda self, x: method(self, x)[:-1]),
    "an error": (lo.LowRank, "_columns", lambda _: lambda self, x: 1 // 0),
}


@pytest.mark.parametrize("what", each(3, BROKEN))
def test_what_is_broken_is_found_and_made_small(what, monkeypatch):
    kind, name, broken = BROKEN[what]
    monkeypatch.setattr(kind, name, broken(getattr(kind, name)))
    failure = first_failure()
    assert len(list(failure.case.node.nodes())) <= 3
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(ZeroDivisionError, ValueError):
        exec(compile(failure.text(), "reproducer", "exec"), {})  # the program runs as it stands


def test_the_command_says_how_to_run_a_failure_again(monkeypatch, capsys):
    monkeypatch.setattr(lo.Dense, "_columns", inexactly(lo.Dense._columns))
    assert session.session("numpy", seconds=30, seed=1) == 1
    said = capsys.readouterr().out
    number = re.search(r"again: python -m tests\.fuzz --backend numpy --seed 1 --case (\d+)", said)[1]
    assert "import linops as lo" in said
    assert session.session("numpy", seconds=30, seed=1, case=int(number)) == 1
    monkeypatch.undo()
    assert session.session("numpy", seconds=30, seed=1, case=int(number)) == 0
    assert "1 expressions" in capsys.readouterr().out


def test_what_hangs_is_a_failure(monkeypatch):
    def forever(*_):
        while True:
            pass

    monkeypatch.setattr(session, "PATIENCE", 0.1)
    monkeypatch.setattr(session, "run", forever)
    assert "takes more than 0.1 s" in session.attempt(1, 0, "numpy").failure.what
