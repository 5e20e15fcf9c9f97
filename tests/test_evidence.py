"""The plan of evidence: what is listed, resumed and stopped; the page and the mark, from known rows."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import results
from benchmarks.commands import app
from benchmarks.evidence import command, mark, page, plan, timing
from benchmarks.evidence.plan import SCALING, TIMES, TRANSFER, Part
from benchmarks.report import IMAGES
from linops.lab import progress
from linops.lab.data import Dataset
from linops.lab.problems import Classification

SWEEP = Part("sweep", TRANSFER, "muon", "btt", ("static", "renormalized"), (16,), factors=(1.0, 2.0), steps=2)
SCALED = Part("scaled", SCALING, "adam", "dense,btt", ("static",), (32,), (0, 1), steps=4)


@pytest.fixture
def small(monkeypatch):
    random = np.random.default_rng(0)
    x = random.standard_normal((64, 8)).astype(np.float32)
    data = Dataset("mnist1d", x, (x[:, 0] > 0).astype(int), x, (x[:, 0] > 0).astype(int))
    problems = {seed: Classification(data, seed) for seed in (0, 1)}
    monkeypatch.setattr(plan, "problem", lambda model, seed, *_: problems[seed])


def test_a_plan_resumes_and_changes_no_row(small, tmp_path):
    path, folder = tmp_path / "found.json", tmp_path / "checkpoints"
    half = replace(SWEEP, factors=(1.0,))
    command.run([half], path, folder)
    before = results.load(path)["rows"]
    assert len(before) == half.size == 2
    assert {row["structure"] for row in before} == {"btt", "btt (renormalized)"}
    assert all(row["commit"] and row["machine"] == 0 and row["cpu_seconds"] > 0 for row in before)
    command.run([SWEEP], path, folder)
    after = results.load(path)["rows"]
    assert after[:2] == before
    assert [row["lr_factor"] for row in after] == [1, 1, 2, 2]
    assert not any(path.is_file() for path in folder.rglob("*"))
    assert plan.listed(plan.finished([SWEEP], after)) == [("sweep", SWEEP.says, "4 of 4")]
    old = [row | {"structure": "btt (renormalized before 5b36aed)"} for row in after]
    assert plan.listed(plan.finished([SWEEP], after + old))[0][2] == "4 of 4"


def test_rows_of_another_file_are_taken_once(tmp_path):
    first, second = row("dense", 1, 0.5), row("btt", 1, 0.4)
    for found in (first, second):
        found["part"] = "c-adam"
    for name, processor, rows in (("a", "one", [first]), ("b", "two", [second, first | {"train_loss": 0.6}])):
        results.save(tmp_path / name, {"machines": [processor]}, rows)
    assert command.take(tmp_path / "a", tmp_path / "b") == 1
    assert command.take(tmp_path / "a", tmp_path / "b") == 0
    found = results.load(tmp_path / "a")
    assert [row["train_loss"] for row in found["rows"]] == [0.5, 0.4]
    assert [found["conditions"]["machines"][row["machine"]] for row in found["rows"]] == ["one", "two"]
    results.save(tmp_path / "c", {"machines": ["one"]}, [first | {"part": "other"}])
    with pytest.raises(ValueError, match="no part other"):
        command.take(tmp_path / "a", tmp_path / "c")


@pytest.mark.full
def test_scaling_is_at_equal_macs(small, tmp_path):
    command.run([SCALED], tmp_path / "found.json", tmp_path)
    rows = results.load(tmp_path / "found.json")["rows"]
    assert [(row["structure"], row["seed"]) for row in rows] == [(n, s) for s in (0, 1) for n in ("dense", "btt")]
    assert all(0.8 * row["budget"] < row["macs"] <= row["budget"] for row in rows)


@pytest.mark.full
def test_a_run_that_was_stopped_goes_on(small, tmp_path, monkeypatch):
    part, folder, seen = replace(SCALED, steps=240, structures="dense"), tmp_path / "checkpoints", []
    command.run([part], tmp_path / "whole.json", folder)
    execute = command._executed

    def stopped_at(last):
        def executed(one, report):
            def until(step, loss):
                seen.append(step)
                report(step, loss)
                if step >= last:
                    raise command.OutOfTime

            return execute(one, until)

        return executed

    monkeypatch.setattr(command, "_executed", stopped_at(220))
    command.run([part], tmp_path / "cut.json", folder, minutes=60)
    assert not (tmp_path / "cut.json").exists()
    assert seen[-1] == 220
    seen.clear()
    monkeypatch.setattr(command, "_executed", stopped_at(1000))
    command.run([part], tmp_path / "cut.json", folder)
    assert seen[0] > 200  # from the checkpoint
    losses = [
        [row["train_loss"] for row in results.load(tmp_path / name)["rows"]] for name in ("whole.json", "cut.json")
    ]
    assert losses[0] == losses[1]


def test_progress_says_how_long_the_rest_takes(monkeypatch):
    now, out = [0.0], io.StringIO()
    monkeypatch.setattr(progress, "perf_counter", lambda: now[0])
    with progress.Progress(2, file=out, every=0, costs=[1, 9]) as shown:
        shown.begin("short", 10)
        now[0] = 120  # two minutes for a twentieth of all
        shown.update(5, "loss 1")
    assert "2:00: 1 of 2, short: 5 of 10, loss 1; about 38:00 left" in out.getvalue()


def test_no_minutes_run_nothing(small, tmp_path):
    command.run([SWEEP], tmp_path / "found.json", tmp_path, minutes=0)
    assert not (tmp_path / "found.json").exists()


def test_a_run_that_diverges_is_kept_without_a_loss(small, tmp_path):
    command.run(
        [replace(SWEEP, optimizer="adam", rules=("static",), factors=(1e30,), steps=5)], tmp_path / "f.json", tmp_path
    )
    assert [row["train_loss"] for row in results.load(tmp_path / "f.json")["rows"]] == [None]


def test_parts_are_chosen_by_name_and_pattern():
    assert [part.name for part in command.chosen(["c-adam", "b-muon-m*"])] == ["b-muon-monarch", "c-adam"]
    assert not any(part.user for part in command.chosen())
    assert any(part.user for part in command.chosen(data="own.npz"))
    with pytest.raises(ValueError, match="no such part"):
        command.chosen(["d-*"])
    for pattern in ("images", "images*"):
        with pytest.raises(ValueError, match="--data"):
            command.chosen([pattern])


def test_parts_have_names_of_their_own():
    names = [part.name for part in plan.PLAN]
    assert len(set(names)) == len(names)
    for part in plan.PLAN:
        assert bool(part.factors) == (part.kind == TRANSFER)


@pytest.mark.full
def test_steps_are_timed_in_turns(small, monkeypatch, tmp_path):
    part = Part("times", TIMES, "muon", "dense,btt", ("static", "renormalized"), (32,))
    monkeypatch.setattr(timing, "SECONDS", 0.01)
    command.run([part], tmp_path / "found.json", tmp_path)
    (found,) = results.load(tmp_path / "found.json")["rows"]
    assert found["step_ms"].keys() == {"dense", "btt", "btt (renormalized)"}
    assert found["to_dense"]["dense"] == 1
    assert found["structures"] == list(found["step_ms"])


def row(structure, budget, loss, seed=0, **rest):
    found = {"part": "c", "experiment": "scaling", "data": "mnist1d", "structure": structure, "optimizer": "adam"}
    found |= {"budget": budget, "macs": budget, "train_loss": loss, "seed": seed, "steps": 10, "lr_factor": 4}
    return found | {"cpu_seconds": 1.0, "commit": "abc", "machine": 0} | rest


def test_the_mark_is_stated_as_found():
    budgets = [2.0**k * 1e5 for k in range(5)]
    rows = [row("dense", b, b**-0.3 * (1 + 0.01 * seed), seed) for b in budgets for seed in (0, 1)]
    rows += [row("btt", b, b**-0.4 * (1 + 0.01 * seed), seed) for b in budgets for seed in (0, 1)]
    rows += [row("kronecker", b, b**-0.2) for b in budgets] + [row("low_rank", b, b**-0.31) for b in budgets]
    found = mark.mark(rows)
    assert "below dense at 5 of 5 budgets from 50k MACs (met)" in found
    assert "differ by 0.100" in found
    assert "kronecker is above dense at 5 of 5 budgets (met)" in found
    assert "low_rank is above dense at 0 of 5 budgets (missed)" in found
    assert "btt (naive): not run" in found
    assert "seeds 0, 1" in found
    assert mark.mark([]) == "*Not run.*"


def test_the_page_names_ends_and_leaves_out_what_is_not_complete():
    best = {64: 1, 256: 4, 1024: 16}
    rows = [
        row("btt", 0, 1 + abs(np.log2(factor / at)), width=width, lr_factor=factor)
        | {"experiment": "lr-sweep", "optimizer": "muon"}
        for width, at in best.items()
        for factor in plan.FACTORS["muon"]
    ]
    text = page._transfer(rows, "muon")
    assert "| btt | 0 | 1 | 4 | ≥ 16 | 16× over 16× | 4 | 200.0 % |" in text
    assert "Over 16 times the width, the best factor moves by more: btt." in text
    text = page._transfer(rows[:-1], "muon")
    assert "| btt | 0 | 1 | 4 | 4.00× over 4× | 2 | 100.0 % |" in text
    assert "16 times the width" not in text


def test_rules_are_compared_over_shared_seeds_and_best_factors_over_those_of_all_widths():
    rows = [
        row(label, 0, loss * width**-0.5, seed, width=width, lr_factor=factor)
        | {"experiment": "lr-sweep", "optimizer": "muon"}
        for label, loss in (("btt", 8.0), ("btt (renormalized)", 7.0), ("btt (renormalized before x)", 9.0))
        for width, seeds in ((64, (0, 1)), (256, (0,)))
        for seed in seeds
        for factor in plan.FACTORS["muon"]
    ]
    text = page._transfer(rows, "muon")
    assert "| btt | 0 | ≤ 0.5 |" in text
    assert "| btt | renormalized | 64 | 0, 1 | 1.000 | 0.875 | 0.875 |" in text
    assert "| btt | renormalized | 256 | 0 | 0.500 | 0.438 | 0.875 |" in text
    assert "*renormalized* loses to static rates in 0 of 2 comparisons; ratios are from 0.875" in text


def test_losses_are_over_those_of_dense_at_the_same_budget():
    rows = [row("dense", b, 2.0, seed) for b in (1, 2) for seed in (0, 1)] + [row("btt", 1, 1.0), row("btt", 2, 3.0)]
    assert "same budget: btt 0.50 to 1.50 (below dense at 1 of 2)." in page._over_dense(rows)
    assert page._over_dense(rows[4:]) == ""


def test_time_and_macs_are_beside_each_other():
    budgets = (100, 200, 400)
    rows = [row("dense", b, 1 / b, cpu_seconds=b) for b in budgets]
    rows += [row("btt", b, 0.5 / b, cpu_seconds=b / 2) for b in budgets]
    steps = [
        {"experiment": TIMES, "data": "mnist1d", "optimizer": "adam", "budget": b}
        | {"step_ms": {"dense": b, "btt": 4 * b}, "to_dense": {"dense": 1.0, "btt": 4.0}, "part": "t"}
        for b in budgets
    ]
    text = page._times(rows + steps)
    assert "| btt | 0 | 2.00× | 0.50× | 4.00× |" in text
    assert "| btt | 4.00× | 4.00× | 4.00× |" in text


def test_the_page_is_fresh():
    found = results.load(results.FOLDER / "evidence.json")
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.page(found["rows"], found["conditions"]), "stale: python -m benchmarks report"
    assert all((IMAGES / name).exists() for name in re.findall(r"images/(\S+\.png)", text))


def test_the_command_lists(tmp_path):
    done = CliRunner().invoke(app, ["evidence", "--list", "--json", str(tmp_path / "none.json"), "--only", "c-adam"])
    assert done.exit_code == 0
    assert "0 of 18" in done.output
    assert not (tmp_path / "none.json").exists()
