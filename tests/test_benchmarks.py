"""The benchmarks: what they compare computes the same, rows resume, goals and fits are right, the page is fresh."""

import dataclasses
import doctest
import importlib
import re

import numpy as np
import pytest
from typer.testing import CliRunner

import linops as lo
from benchmarks import (
    calibrate,
    composed,
    compression,
    families,
    goals,
    growth,
    growth_fits,
    kernels,
    overhead,
    paper,
    plain,
    report,
    results,
    sections,
)
from benchmarks.bare import parsed
from benchmarks.commands import app
from benchmarks.registry import BENCHMARKS, Benchmark
from benchmarks.reliability import page as reliability
from linops import backends
from linops.kernels import choice
from linops.kernels.choosing import Choices
from linops.lab.measure import side_by_side
from linops.lab.parsing import parse_list
from linops.plan import natural_order
from linops.plan.machines import MEASURED

STRUCTURES = parse_list(families.STRUCTURES)


def vectors(backend, *shape):
    return backends.asarray(np.random.default_rng(0).standard_normal(shape), backend, "float32")


def close(actual, expected):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=1e-3, atol=1e-4)


# ---------------------------------------------------------------- candidates compute the same


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda structure: structure.text)
def test_plain_forms_are_the_product(structure, backend):
    pytest.importorskip(backend)
    operator, x = structure(64, 64).init(seed=0, backend=backend), vectors(backend, 64)
    found = plain.forms(structure.family, backend)
    assert found
    for form in found.values():
        close(form(operator, x), operator @ x)


@pytest.mark.parametrize("structure", ["btt", "btt:rank=3", "monarch", "monarch:blocks=8"])
def test_the_papers_formulation_is_the_product_and_its_gradients(structure):
    torch = pytest.importorskip("torch")
    operator = parse_list(structure)[0](64, 96).init(seed=0, backend="torch")
    formulation, rows = paper.paper_of(operator), vectors("torch", 5, 96)
    close(formulation.forward(rows)(), (operator @ rows.T).T)
    of_rows, first, second = formulation.training(rows)()
    leaves = [leaf.requires_grad_() for _, leaf in operator.named_leaves()]
    columns = rows.T.clone().requires_grad_()
    expected, *of_leaves = torch.autograd.grad((operator.with_leaves(leaves) @ columns).sum(), [columns, *leaves])
    close(of_rows, expected.T)
    theirs = paper.paper_of(operator.with_leaves(of_leaves))  # the gradients are laid out as the leaves are
    close(first, theirs.first)
    close(second, theirs.second)


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_kernel_by_hand_is_the_composed_product(backend, batch):
    pytest.importorskip(backend)
    operator = composed.composed(64, 4).init(seed=0, backend=backend)
    left, right = (leaf for _, leaf in operator.named_leaves())
    x = vectors(backend, 64, batch) if batch > 1 else vectors(backend, 64)
    for kernel in composed.by_hand(backend, batch).values():
        close(kernel(left, right, x), operator @ x)


# ---------------------------------------------------------------- rows


def test_families():
    options = {"sizes": (64,), "batches": (1, 2), "backends": ("torch",), "structures": "btt,low_rank", "seconds": 0.01}
    rows = list(families.measure(**options))
    assert [(row["batch"], row["structure"]) for row in rows] == [
        (b, s) for b in (1, 2) for s in ("dense", "btt", "low_rank")
    ]
    assert all(row["forward_ratio"] == row["training_ratio"] == 1 for row in rows if row["structure"] == "dense")
    assert ["plain_ratio" in row for row in rows] == [True] * 3 + [False] * 3
    assert ["paper_training_ratio" in row for row in rows] == [False, True, False] * 2
    assert all(row["roofline"] > 0 and row["training_roofline"] > 0 for row in rows)
    assert rows[1]["flops_share"] == lo.btt(64, 64).flops() / lo.dense(64, 64).flops()
    again = list(families.measure(**options, known=rows[:3]))
    assert {row["batch"] for row in again} == {2}


def compiled_rows():
    """Quick rows of the benchmarks that measure beside the default mode also with the compiled kernels."""
    pytest.importorskip("torch")
    if not kernels.are_there():
        pytest.skip(f"no compiled kernels: {lo.kernels.status().reason}")
    options = {"batches": (1, 16, 128), "backends": ("numpy", "torch"), "structures": "btt,btt:rank=4", "seconds": 0.01}
    found = {"families": list(families.measure(sizes=(256, 1024), **options))}
    found["overhead"] = overhead.measure(seconds=1e-6)
    return {name: {"rows": rows} for name, rows in found.items()}


@pytest.fixture
def own_choices(monkeypatch):
    """What is chosen is kept in no file, and overhead is measured in one round."""
    monkeypatch.setattr(choice.STATE, "choices", Choices("a test"))
    monkeypatch.setattr(overhead, "ROUNDS", 1)


def test_the_compiled_kernels_are_measured_beside_the_default_mode(own_choices):
    found = compiled_rows()
    for row in found["families"]["rows"]:
        has = row["backend"] == "torch" and row["batch"] <= 64
        kinds = "compiled_us", "compiled_ratio", "compiled_training_us", "compiled_training_ratio"
        assert [kind in row for kind in kinds] == [has] * 4
        assert ("compiled_plain_ratio" in row) == (has and row["batch"] == 1)
    for row in found["overhead"]["rows"]:
        assert ("compiled_overhead" in row) == (row["backend"] == "torch" and row["kernels"] > 0)
        if "compiled_overhead" in row:
            assert row["compiled_overhead"] == pytest.approx(row["compiled"] - row["bare"])
    judged = [verdict for verdict in goals.verdicts(found) if verdict.goal.key.startswith("compiled")]
    assert len(judged) == 7
    for verdict in judged:
        assert verdict.met is not None
        assert "these cases by default" in verdict.measured
    text = sections.SECTIONS["overhead"].tables(found["overhead"]["rows"])
    assert text.startswith("|  | numpy | torch | torch, compiled | goal |")
    assert "| torch with the compiled kernel, 256 |" in sections.SECTIONS["vectors"].tables(found["families"]["rows"])
    text = sections.SECTIONS["families"].tables(found["families"]["rows"])
    assert text.count("forward with the compiled kernel") == text.count("training with the compiled kernel") == 1


def test_rows_without_compiled_kernels_are_read(own_choices, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(kernels, "are_there", lambda: False)
    options = {"batches": (1,), "backends": ("torch",), "structures": "btt", "seconds": 0.01}
    found = {"families": list(families.measure(sizes=(256, 1024), **options))}
    found["overhead"] = overhead.measure(seconds=1e-6)
    assert not any("compiled" in name for rows in found.values() for row in rows for name in row)
    judged = goals.verdicts({name: {"rows": rows} for name, rows in found.items()})
    assert all(verdict.met is None for verdict in judged if verdict.goal.key.startswith("compiled"))
    assert "compiled" not in "".join(
        sections.SECTIONS[name].tables(found[sections.SECTIONS[name].benchmark])
        for name in ("families", "vectors", "overhead")
    )


def test_samples_with_kernels_leave_the_default_mode_as_it_was():
    asked = choice.STATE.asked
    seen = []
    functions = {
        name: lambda name=name: seen.append((name, lo.kernels.status().mode)) for name in ("plain", "compiled")
    }
    mode = lo.kernels.status().mode
    times = side_by_side(functions, seconds=1e-6, rounds=3, within={"compiled": kernels.with_kernels})
    assert {len(timing.seconds) for timing in times.values()} == {3}
    assert {*seen} == {("plain", mode), ("compiled", "auto")}
    assert (lo.kernels.status().mode, choice.STATE.asked) == (mode, asked)


def test_growth_measures_memory():
    point = growth._family("d", "dense", 64, 8)
    row = growth._row(point, 0.01)
    assert row["forward_bytes"] == 4 * 64 * 8  # the output
    assert row["training_bytes"] >= 4 * (64 * 64 + 2 * 64 * 8)  # and both gradients
    assert growth._key(row) == ("d", "dense", 64, 8, 0)
    keys = [(point.against, point.structure, point.d, point.batch, point.factors) for point in growth.points(1024)]
    assert len(set(keys)) == len(keys)


def test_candidates_that_take_long_stop_early():
    calls = []
    times = side_by_side({"slow": lambda: calls.append(sum(range(100_000)))}, seconds=1e-6, rounds=50, least_rounds=2)
    assert len(times["slow"].seconds) == 2


def test_growth_fits_what_is_above_the_overhead():
    def row(d, microseconds, batch=64):
        return {
            "against": "d",
            "structure": "btt",
            "d": d,
            "batch": batch,
            "flops": 3 * d**1.5,
            "forward_us": microseconds,
            "training_us": 3 * microseconds,
            "floor_us": 10.0,
            "forward_bytes": 8 * d,
            "training_bytes": d**2,
        }

    rows = [row(d, max(2e-3 * d**1.5, 30)) for d in (4096, 64, 256, 1024, 16384)]
    (found,) = growth_fits.growths(rows, "d")
    # 65 µs on; 30 µs are within five times the overhead
    assert [row["d"] for row in found.fitted] == [1024, 4096, 16384]
    exponents = [law.exponent for law in (found.time, found.flops, found.training, found.memory, found.training_memory)]
    assert exponents == pytest.approx([1.5, 1.5, 1.5, 1, 2])
    assert found.theory == "3/2"
    (few,) = growth_fits.growths([row(d, 1e3, batch=16) for d in (256, 1024, 4096)], "d")
    assert few.time is None
    assert few.memory is not None


# ---------------------------------------------------------------- results


@pytest.fixture(autouse=True)
def _threads_as_they_are(monkeypatch):
    monkeypatch.setattr(results, "use_threads", lambda threads, jax=False: None)


@pytest.fixture
def benchmark_of(monkeypatch):
    """Makes a benchmark of a function."""

    def make(measure):
        module = type("module", (), {"measure": staticmethod(measure)})
        monkeypatch.setattr("benchmarks.registry.import_module", lambda name: module)
        return Benchmark("fake", "fake")

    return make


def test_rows_resume(tmp_path, benchmark_of):
    measured = []

    def measure(numbers=(1, 2), seconds=1.0, known=()):
        for number in numbers:
            if number not in [row["number"] for row in known]:
                measured.append(number)
                yield {"number": number, "value": 0.1 * number}

    benchmark, path = benchmark_of(measure), tmp_path / "fake.json"
    results.run(benchmark, {"numbers": (1,)}, 1, path)
    rows, conditions = results.run(benchmark, {"numbers": (1, 2)}, 1, path)
    assert measured == [1, 2]
    assert [row["number"] for row in rows] == [1, 2]
    assert conditions["seconds"] == 1
    assert results.load(path) == {
        "conditions": conditions,
        "rows": [{"number": 1, "value": 0.1}, {"number": 2, "value": 0.2}],
    }
    with pytest.raises(results.OtherConditions, match=r"seconds 1\.0 then, 2\.0 now"):
        results.run(benchmark, {"seconds": 2.0}, 1, path)
    results.run(benchmark, {"numbers": (1,), "seconds": 2.0}, 1, path, fresh=True)
    assert [row["number"] for row in results.load(path)["rows"]] == [1]
    results.run(benchmark, {"numbers": (2,), "seconds": 2.0}, 1, path, keep=True)
    assert [row["number"] for row in results.load(path)["rows"]] == [1, 2]
    results.run(benchmark, {"numbers": (2,), "seconds": 1.0}, 1, path, keep=True)
    assert [row["number"] for row in results.load(path)["rows"]] == [2]


def test_an_interrupted_run_keeps_its_rows(tmp_path, benchmark_of):
    def measure(known=()):
        yield {"number": 1}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        results.run(benchmark_of(measure), {}, 1, tmp_path / "fake.json")
    assert results.load(tmp_path / "fake.json")["rows"] == [{"number": 1}]


def test_what_cannot_resume_is_kept_on_request(tmp_path, benchmark_of):
    measured = []

    def measure(seconds=1.0):
        measured.append(seconds)
        return [{"number": len(measured)}]

    benchmark, path = benchmark_of(measure), tmp_path / "fake.json"
    found = [results.run(benchmark, {}, 1, path, keep=keep)[0][0]["number"] for keep in (False, True, False)]
    assert found == [1, 1, 2]


# ---------------------------------------------------------------- goals and the page


def test_goals():
    at_most = goals.Goal("x", "some", "ratio", 1.1, where=lambda row: row["batch"] == 1)
    rows = [
        {"d": 8, "batch": 1, "ratio": 1.1},
        {"d": 16, "batch": 1, "ratio": 0.5},
        {"d": 16, "batch": 2, "ratio": 9.0},
    ]
    good = goals.judge(at_most, rows)
    assert good.met
    assert good.measured == "2 of 2 cases meet it; median 0.80×, worst 1.10× (d = 8, batch = 1)"
    bad = goals.judge(at_most, [*rows, {"d": 32, "batch": 1, "ratio": 1.2}])
    assert (bad.met, bad.text) == (False, "**missed**")
    assert "worst 1.20× (d = 32, batch = 1)" in bad.measured
    at_least = goals.Goal("y", "some", "ratio", 2, at_least=True, beside=("other", "as a layer"))
    found = goals.judge(at_least, [{"d": 8, "ratio": 3.0, "other": 1.5}, {"d": 16, "ratio": 1.9, "other": 2.5}])
    assert not found.met
    assert found.measured.endswith("worst 1.90× (d = 16); as a layer 1.50× – 2.50×")
    assert goals.judge(at_least, [{"d": 8, "ratio": None}]).text == "not measured"


def test_every_goal_is_about_a_benchmark_and_its_columns():
    measured = {name: result["rows"] for name, result in results.load_all().items()}
    assert goals.verdicts({})
    assert all(verdict.met is None for verdict in goals.verdicts({}))
    for goal in goals.GOALS:
        rows = measured.get(goal.benchmark, [])
        if rows and (not goal.key.startswith("compiled") or any(goal.key in row for row in rows)):
            assert goals.judge(goal, rows).met is not None, goal
    rows = [
        {"work": "kronecker", "peer": "pylops", "ratio": 2.0},
        {"work": "kronecker", "peer": "scipy", "ratio": 1.5},
        {"work": "low rank", "peer": "pylops", "ratio": None},
    ]
    verdicts = [verdict for verdict in goals.verdicts({"peers": {"rows": rows}}) if verdict.goal.benchmark == "peers"]
    assert [verdict.met for verdict in verdicts] == [True, False]


def test_the_page_is_fresh():
    assert report.PAGE.read_text(encoding="utf-8") == report.page(results.load_all(), results.load_earlier()), (
        "stale: python -m benchmarks report"
    )


def test_the_page_on_reliability_is_fresh_and_good():
    rows = results.load_all()["reliability"]["rows"]
    assert reliability.PAGE.read_text(encoding="utf-8") == reliability.page(rows), "stale: python -m benchmarks report"
    for row in rows:
        assert row.get("same", True), row
        assert row.get("kept", True), row
        assert row.get("error", "ValueError") in ("ValueError", "TypeError"), row
        assert (row.get("steps_lost") or 0) <= 200, row


def test_the_table_of_compression_is_fresh():
    rows = results.load_all()["compression"]["rows"]
    text = compression.PAGE.read_text(encoding="utf-8")
    assert text == compression.page(rows), "stale: python -m benchmarks report"
    assert compression.ONE in text
    assert {row["seeds"] for row in rows} == {len(row["each_before"]) for row in rows} == {3}


def test_the_page_is_made_of_whatever_was_measured():
    page = report.page({})
    assert page.count(report.MISSING) == len(report.SECTIONS) - len(report.ABSENT)
    assert all(page.count(text) == 1 for text in report.ABSENT.values())
    names = re.findall(r"\{\{(\w+)\}\}", report.TEMPLATE.read_text(encoding="utf-8"))
    assert set(names) == {*report.SECTIONS, "goals", "conditions"}
    assert {section.benchmark for section in report.SECTIONS.values()} | {"reliability", "compression"} >= set(
        BENCHMARKS
    )


@pytest.mark.full
def test_plots(tmp_path):
    from benchmarks import plots

    machines = results.load_all(), results.load_earlier()
    made = plots.write(machines[0], tmp_path, machines[1])
    assert all(path.stat().st_size > 10_000 for path in made)
    pictures = set(re.findall(r"images/(\S+\.png)", report.page(*machines)))
    assert {path.name for path in made} == pictures
    assert all((report.IMAGES / name).exists() for name in pictures)


@pytest.mark.parametrize("backend", MEASURED)
def test_the_machine_that_took_so_long_is_found(backend):
    start = MEASURED[backend]
    slower = ("flops", "bandwidth", "fourier")
    wanted = dataclasses.replace(start, call=1.5 * start.call, **{name: getattr(start, name) / 1.5 for name in slower})
    products = calibrate.shapes(120, seed=0)
    times = [wanted.matmul(*shape, 4) for shape in products]
    copies = [(numbers, wanted.copy(8 * numbers)) for numbers in (10**3, 10**5, 10**7)]
    with natural_order():
        steps = [lo.toeplitz(size, size)._lower(batch) for size in (64, 1024) for batch in (16, 256)]
    convolutions = [(each, wanted.total(each, 4)) for each in steps]
    found, factor = calibrate.fit(backend, products, calibrate.Samples(times, copies, convolutions))
    assert factor < 1.001
    assert found.fourier == pytest.approx(wanted.fourier, rel=0.05)
    others = [shape for shape in calibrate.shapes(120, seed=1) if shape not in products]
    np.testing.assert_allclose(
        [found.matmul(*shape, 4) for shape in others], [wanted.matmul(*shape, 4) for shape in others], rtol=0.05
    )


def test_commands(tmp_path):
    options = "--sizes 16 --batches 2 --backends numpy --seconds 0.01 --json"
    run = CliRunner().invoke(app, ["composed", *options.split(), f"{tmp_path}/c.json"])
    assert run.exit_code == 0, run.output
    assert [row["d"] for row in results.load(tmp_path / "c.json")["rows"]] == [16]
    assert all(name in CliRunner().invoke(app, ["--help"]).output for name in BENCHMARKS)


def test_options_are_written_with_commas():
    assert parsed("1,16", (256,)) == (1, 16)
    assert parsed("torch", ("numpy",)) == ("torch",)
    assert parsed("pylops,scipy", None) == ("pylops", "scipy")
    assert parsed("btt,dense", "btt") == "btt,dense"
    assert parsed(None, None) is None
    assert parsed(0.5, 1.0) == 0.5


def test_a_benchmark_may_say_what_people_read(monkeypatch):
    module = type(
        "module", (), {"summary": staticmethod(lambda rows: rows[:1]), "missing": staticmethod(lambda rows: [])}
    )
    monkeypatch.setattr("benchmarks.registry.import_module", lambda name: module)
    assert Benchmark("fake", "fake").tables([{"a": 1}, {"a": 2}]) == [[{"a": 1}]]


@pytest.mark.parametrize("module", ["goals", "machines", "tables"])
def test_doctests(module):
    found = doctest.testmod(importlib.import_module(f"benchmarks.{module}"))
    assert found.attempted > 2
    assert found.failed == 0
