"""``python -m benchmarks cuda``: rehearsed on the CPU, under a budget of time, with faults, and as it is reported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import benchmarks.cuda as cuda  # noqa: E402
from benchmarks import plots, report  # noqa: E402
from benchmarks.cuda import correctness, device, kernels, page, speed  # noqa: E402
from benchmarks.cuda.running import Budget, Case, Part, run  # noqa: E402
from benchmarks.registry import BENCHMARKS  # noqa: E402
from linops.lab.measure import Roofline  # noqa: E402

ROOT = Path(__file__).parents[1]

# ---------------------------------------------------------------- parts and time


def case(name, seconds=0.0, clock=None, **row):
    def work():
        if clock is not None:
            clock[0] += seconds
        if "error" in row:
            raise row["error"]
        return [row]

    return Case({"case": name}, work)


def outcomes(rows):
    return [(row["part"], row.get("case"), row["outcome"]) for row in rows]


def test_a_failure_is_a_row_and_the_run_goes_on():
    parts = [
        Part("a", lambda: [case(1, error=ValueError("bad\nmore")), case(2, value=3)]),
        Part("b", lambda: [case(3)]),
    ]
    rows = list(run(parts, Budget(100)))
    assert outcomes(rows) == [("a", 1, "failed"), ("a", 2, "measured"), ("b", 3, "measured")]
    assert rows[0]["why"] == "ValueError: bad"
    assert rows[1]["value"] == 3


def test_what_has_no_time_is_left_out():
    clock = [0.0]
    budget = Budget(10, now=lambda: clock[0])
    parts = [
        Part(
            "a", lambda: [case(k, 2, clock) for k in range(4)], share=0.5
        ),  # 5 seconds: the third would end after them
        Part("b", lambda: [case(k, 4, clock) for k in range(2)]),
        Part("c", lambda: [case(0)]),
    ]
    rows = list(run(parts, budget))
    expected = [("a", 0, "measured"), ("a", 1, "measured"), ("a", None, "left out"), ("b", 0, "measured")]
    assert outcomes(rows) == [*expected, ("b", None, "left out"), ("c", 0, "measured")]
    assert rows[2]["why"] == "2 cases: no time was left"
    assert clock[0] <= 10


def test_a_lost_device_ends_a_part():
    rows = list(run([Part("a", lambda: [case(1, error=RuntimeError("lost")), case(2)])], Budget(10), lost=lambda: True))
    assert outcomes(rows) == [("a", 1, "failed"), ("a", None, "left out")]
    assert rows[1]["why"] == "1 cases: the device is lost"


def test_what_is_known_is_not_run_again_unless_it_failed():
    known = [{"part": "a", "case": 1, "outcome": "right"}, {"part": "a", "case": 2, "outcome": "failed"}]
    assert outcomes(run([Part("a", lambda: [case(1), case(2)])], Budget(10), known)) == [("a", 2, "measured")]
    assert [cuda.again(row) for row in known] == [False, True]


# ---------------------------------------------------------------- the parts


def test_cases_are_those_of_the_tests():
    from cases import CASES
    from layer_structures import OPERATORS

    assert correctness.tables() == (CASES, OPERATORS)
    assert len(list(correctness.layers("cpu"))) == 2 * len(OPERATORS)
    assert len(list(correctness.operators("cpu"))) > 2.5 * len(CASES)


@pytest.mark.full
def test_operators_and_layers_are_right_on_the_cpu():
    parts = [Part("o", lambda: correctness.operators("cpu")), Part("l", lambda: correctness.layers("cpu"))]
    rows = list(run(parts, Budget(600)))
    assert [row for row in rows if row["outcome"] != "right"] == []
    assert sum("gradients" in row for row in rows) > 0.9 * len(rows)


def test_an_operator_that_errs_is_found(monkeypatch):
    import linops as lo

    moved = lo.LinearOperator.to

    def wrong(self, backend=None, dtype=None, device=None):
        made = moved(self, backend=backend, dtype=dtype, device=device)
        return 1.01 * made if device is not None else made

    monkeypatch.setattr(lo.LinearOperator, "to", wrong)
    wanted = next(each for each in correctness.operators("cpu") if each.key["case"] == "low_rank_tall")
    (row,) = wanted.run()
    assert row["outcome"] == "wrong"
    assert "product is off by 1.0e-02, allowed 1e-05" in row["why"]


@pytest.fixture(scope="module")
def rows():
    """Of the parts that take little time."""
    parts = ("limits", "layers", "speed")
    return list(cuda.measure("cpu", quick=True, minutes=5, parts=parts))


def test_speed(rows, monkeypatch):
    timed = [row for row in rows if row["part"] == "speed"]
    names = [speed.DENSE, *speed.STRUCTURES, "paper: btt", "paper: btt:rank=4", "paper: monarch"]
    assert [row["structure"] for row in timed] == 2 * names
    assert {row["outcome"] for row in rows} == {"measured", "right"}
    assert all(row["roofline"] > 0 and row["speedup"] > 0 and row["training_speedup"] > 0 for row in timed)
    assert ["paper_speedup" in row for row in timed[: len(names)]] == [False, True, True, True] + 6 * [False]
    made = speed._candidate

    def failing(name, *rest):
        if name == "monarch":
            raise torch.OutOfMemoryError("no memory")
        return made(name, *rest)

    monkeypatch.setattr(speed, "_candidate", failing)
    again = next(iter(speed.speed(device.Device("cpu"), True, {}))).run()
    failed = {row["structure"]: row["why"] for row in again if row.get("outcome") == "failed"}
    assert failed == {"monarch": "OutOfMemoryError: no memory"}
    assert len(again) == len(names)


def test_the_section_of_the_page(rows):
    rows = [
        *rows,
        {"part": "kernels", "outcome": "failed", "why": "it ended with -11"},
        {"part": "kernels", "kernel": "crossed_matmul", "outcome": "right", "torch_ms": 1.0, "ms": 2.0, "speedup": 0.5},
    ]
    text = report.page({"cuda": {"conditions": _conditions(), "rows": rows}})
    for fragment in (
        *("TFLOP/s", "| layers | float32 | 5 | 5 |", "**float32, 8 tokens: forward / with gradients**"),
        *("| crossed_matmul |", "| kernels | failed | it ended with -11 |", "a made-up device"),
    ):
        assert fragment in text
    assert page.ABSENT not in text
    assert page.ABSENT in report.page({})
    assert [len(table) for table in BENCHMARKS["cuda"].tables(rows)] == [2, 20, 1]


@pytest.mark.full
def test_the_plot(rows, tmp_path):
    plots.cuda(rows, tmp_path / page.IMAGE)
    assert (tmp_path / page.IMAGE).stat().st_size > 10_000


def _conditions():
    return {
        "processor": "x",
        "cores": 2,
        "device": "a made-up device",
        "date": "2026-11-30",
        "versions": {"torch": "2"},
    }


def test_without_a_gpu_the_run_says_how_to_rehearse(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="--device cpu --quick` rehearses"):
        next(cuda.measure())
    assert cuda.absent() == "torch sees no GPU here"
    assert cuda.kept_in("cpu", quick=True) is None
    assert cuda.kept_in().name == "cuda.json"
    with pytest.raises(ValueError, match="parts other: expected some of limits, layers"):
        next(cuda.measure("cpu", parts=("other",)))


def test_kernels_that_bring_their_process_down_are_a_row(monkeypatch, tmp_path):
    pytest.importorskip("triton")  # nothing runs without
    child = tmp_path / "python"
    child.write_text('#!/bin/sh\necho \'{"part": "kernels", "outcome": "right"}\'\necho boom >&2\nexit 3\n')
    child.chmod(0o755)
    monkeypatch.setattr(kernels.sys, "executable", str(child))
    rows = kernels.apart("cpu", True, 5)
    assert [row["outcome"] for row in rows] == ["right", "failed"]
    assert rows[1]["why"] == "it ended with 3: ['boom']"


def test_without_triton_kernels_are_left_out(monkeypatch):
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    assert kernels.apart("cuda", False, 5) == [
        {"part": "kernels", "outcome": "left out", "why": "triton is not installed"}
    ]


# ---------------------------------------------------------------- CUDA, made up


def test_cuda_is_timed_by_events_and_its_memory_by_the_allocator(monkeypatch):
    clock = iter(range(0, 10_000, 3))

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = next(clock)

        def synchronize(self):
            pass

        def elapsed_time(self, other):
            return other.at - self.at

    held = {"now": 100, "peak": 0}
    fakes = {
        "is_available": lambda: True,
        "Event": Event,
        "synchronize": lambda: None,
        "empty_cache": lambda: None,
        "memory_allocated": lambda: held["now"],
        "reset_peak_memory_stats": lambda: held.update(peak=held["now"]),
        "max_memory_allocated": lambda: held["peak"],
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    found = device.Device("cuda")
    times = found.times({"a": lambda: None, "b": lambda: None}, seconds=0.1)
    assert {each.median for each in times.values()} == {3e-3 / round(0.1 / device.ROUNDS / 2 / 3e-3)}
    assert found.peak(lambda: held.update(peak=160)) == 60
    found.free()


def test_the_roofline_is_of_the_best_rates():
    assert device.Device("cpu").roofline(torch.float32, 32, 1 << 10, 0.01).flops_per_second > 0
    row = speed._numbers("a", speed.Candidate(print, print, 100, 10, 1), *_timings(), Roofline(100.0, 100.0))
    assert row["roofline"] == pytest.approx(1 / 2)
    assert row["training_roofline"] == pytest.approx(3 / 4)
    assert row["backward_ms"] == pytest.approx(2000)


def _timings():
    from linops.lab.measure import Timing

    return {"a": Timing((2.0,))}, {"a": Timing((4.0,))}


# ---------------------------------------------------------------- the whole path, where little is installed

BLOCKED = ("typer", "matplotlib", "sklearn", "tqdm", "jax", "pytest", "threadpoolctl", "hypothesis")


@pytest.mark.full
def test_the_rehearsal_runs_with_torch_and_linops_alone(tmp_path):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {BLOCKED}:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "import importlib.util as util\n"
        "found = util.find_spec\n"
        f"hidden = {BLOCKED}\n"
        "util.find_spec = lambda name, *rest: None if name.partition('.')[0] in hidden else found(name, *rest)\n"
    )
    file = tmp_path / "cuda.json"
    environment = os.environ | {"PYTHONPATH": f"{hidden}{os.pathsep}{ROOT}"}
    call = [sys.executable, "-m", "benchmarks", "cuda", "--device", "cpu", "--quick", "--json", str(file)]
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(file.read_text())["rows"]
    assert {row["part"] for row in rows} >= {*cuda.PARTS}
    bad = [row for row in rows if row["outcome"] in ("wrong", "failed")]
    assert bad == []
    assert "--device" in subprocess.run([*call[:4], "--help"], env=environment, capture_output=True, text=True).stdout


@pytest.mark.full
def test_nothing_stays_on_the_cpu(monkeypatch):
    """On the meta device, which mixes with the CPU as little as CUDA does, everything runs that the cases ask for."""
    wrong = []

    def compared(checks, here, there, dtype):
        for name, check in checks.items():
            try:
                check(*here[name])
            except Exception:  # not defined for this operator anywhere
                continue
            try:
                check(*there[name])
            except Exception as error:
                wrong.append((name, str(error)))
        return {"outcome": "right"}

    monkeypatch.setattr(correctness, "_compared", compared)
    for each in (*correctness.operators("meta"), *correctness.layers("meta")):
        each.run()
    assert wrong == []


@pytest.mark.parametrize("name", [speed.DENSE, *speed.STRUCTURES, "paper: btt", "paper: monarch"])
def test_candidates_of_speed_make_nothing_on_the_cpu(name):
    meta = object.__new__(device.Device)
    object.__setattr__(meta, "kind", "meta")
    cell = speed.Cell(64, 8, torch.float32)
    candidate = speed._candidate(name, cell, torch.randn(8, 64, device="meta"), meta)
    with torch.no_grad():
        assert candidate.forward().shape == (8, 64)
    assert all(gradient.is_meta for gradient in candidate.training())
