"""The logic of the benchmark against peers, without their environments."""

import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.peers import cases, environments, run


@pytest.mark.parametrize("work", cases.SIZES)
def test_operators_are_those_of_the_leaves(work):
    size = next(iter(cases.SIZES[work]))
    case = cases.case(work, size, 16, "numpy", "float64")
    assert case.dtype == case.x.dtype.name == case.operator.dtype.name
    assert set(case.arrays) == set(cases.LEAVES[work](np.random.default_rng(0), *cases.SIZES[work][size]))
    np.testing.assert_allclose(case.product()(), case.operator.to_dense() @ case.x, rtol=1e-9, atol=1e-9)


def test_permutations_are_those_of_the_operator():
    case = cases.case("permuted", "16, 16", 1, "numpy", "float64")
    blocks = [np.zeros((256, 256)) for _ in range(2)]
    for matrix, name in zip(blocks, ("left", "right")):
        for k, block in enumerate(case.numpy(name)):
            matrix[16 * k : 16 * k + 16, 16 * k : 16 * k + 16] = block
    indices, inverse = case.permutations()
    assert (indices[inverse] == np.arange(256)).all()
    np.testing.assert_allclose((blocks[0] @ (blocks[1] @ case.x)[indices])[inverse], case.operator @ case.x)


def test_numbers_do_not_depend_on_the_backend():
    one, other = (cases.case("low_rank", "1024, rank 16", 16, backend) for backend in ("numpy", "torch"))
    np.testing.assert_array_equal(one.x, other.x.numpy())
    np.testing.assert_array_equal(one.numpy("U"), other.numpy("U"))


@pytest.mark.full
def test_quick_runs_take_some_of_the_sizes():
    quick, full = ([(case.work, case.size) for case in cases.cases("numpy", quick)] for quick in (True, False))
    assert set(quick) < set(full)
    assert {work for work, _ in quick} == set(cases.SIZES)


class Peer:
    """A module of a peer that computes as NumPy does, or not."""

    def __init__(self, change=lambda y: y):
        self.change = change
        self.NOTES = {"low_rank": "by NumPy"}

    def products(self, case):
        return lambda: self.change(case.arrays["U"] @ (case.arrays["V"] @ case.x))


def _fail(y):
    raise RuntimeError("out of luck\nand more")


class Lacking:
    def products(self, case):
        return "no such operator"


def test_results_are_compared_before_they_are_timed():
    case = cases.case("low_rank", "1024, rank 16", 1, "numpy")
    modules = {
        "right": Peer(),
        "wrong": Peer(lambda y: 1.01 * y),
        "failing": Peer(_fail),
        "lacking": Lacking(),
        "flat": Peer(lambda y: y[:-1]),
        "nan": Peer(lambda y: y * np.nan),
        "list": Peer(list),
    }
    rows = {row["peer"]: row for row in run.rows_of(case, modules, seconds=0.02)}
    assert set(rows) == set(modules)
    assert rows["right"]["ratio"] > 0
    assert rows["right"]["note"] == "by NumPy"
    assert rows["right"]["linops_ms"] > 0 < rows["right"]["peer_ms"]
    assert {name: row["note"] for name, row in rows.items() if row["ratio"] is None} == {
        "wrong": "another result",
        "failing": "RuntimeError: out of luck",
        "lacking": "no such operator",
        "flat": "shape (1023,), expected (1024,)",
        "nan": "another result",
        "list": "gives list",
    }


def test_peers_that_compute_in_float64_are_measured_in_it():
    case = cases.case("low_rank", "1024, rank 16", 1, "numpy")
    narrow, wide = run.rows_of(case, {"wide": Peer(lambda y: y.astype("float64"))}, seconds=0.02)
    assert (narrow["dtype"], narrow["ratio"], narrow["note"]) == ("float32", None, "computes in float64")
    assert wide["dtype"] == "float64"
    assert wide["ratio"] > 0


def test_summaries_name_the_worst_case_and_the_reasons():
    rows = [
        run.row_of(
            "scipy",
            "numpy",
            "",
            work="sparse",
            size="a",
            batch=1,
            dtype="float32",
            linops_ms=1.0,
            peer_ms=2.0,
            ratio=2.0,
        ),
        run.row_of(
            "scipy",
            "numpy",
            "csr",
            work="sparse",
            size="b",
            batch=16,
            dtype="float64",
            linops_ms=1.0,
            peer_ms=0.5,
            ratio=0.5,
        ),
        run.row_of("scipy", "numpy", "no such operator", work="kronecker"),
        run.row_of("cola", "torch", "cannot be installed: no network"),
    ]
    (line,) = peers.summary(rows)
    assert (line["cases"], line["median"], line["least"], line["greatest"]) == (2, 1.25, 0.5, 2.0)
    assert line["at"] == "b, 16: 1.0000 ms"
    assert line["note"] == "csr, float64"
    assert [(row["peer"], row["reason"], row["work"]) for row in peers.missing(rows)] == [
        ("scipy", "no such operator", "kronecker"),
        ("cola", "cannot be installed: no network", "all"),
    ]
    json.dumps(rows, allow_nan=False)


def test_what_cannot_be_installed_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(
        environments, "_base", lambda environment, say: "no space left" if environment.name == "cola" else ""
    )
    monkeypatch.setattr(
        environments,
        "_install",
        lambda environment, requirements, say: "no such version" * ("pylops==2.8.0" in requirements),
    )
    reasons = environments.prepare(tmp_path, ["cola", "pylops", "scipy"], lambda text: None)
    assert reasons == {"cola": "cannot be installed: no space left", "pylops": "cannot be installed: no such version"}
    rows = peers.measure(peers=["cola", "pylops"], environments=tmp_path, say=lambda text: None)
    assert [(row["peer"], row["backend"], row["note"]) for row in rows] == [
        ("cola", "torch", "cannot be installed: no space left"),
        ("cola", "jax", "cannot be installed: no space left"),
        ("pylops", "numpy", "cannot be installed: no such version"),
    ]


def test_a_process_that_fails_gives_its_last_line(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "prepare", lambda *arguments: {})
    monkeypatch.setattr(peers, "python_of", lambda environment: sys.executable)
    failed = subprocess.CompletedProcess([], 1, "", "Traceback\nMemoryError: too much\n")
    monkeypatch.setattr(peers.subprocess, "run", lambda *arguments, **options: failed)
    (row,) = peers.measure(peers=["pylops"], environments=tmp_path, say=lambda text: None)
    assert row["note"] == "failed: MemoryError: too much"


@pytest.mark.parametrize("given", [{"peers": ["numba"]}, {"backends": ["cupy"]}])
def test_unknown_peers_and_backends_are_refused(given):
    with pytest.raises(ValueError, match=r"no (numba|cupy); expected some of"):
        peers.measure(**given)
