"""The experiments: fits, the coordinate check's measure, sweeps that resume, and summaries of known rows."""

import io
import re
import typing

import numpy as np
import pytest
import torch
from rich.console import Console

from linops.lab import (
    app,
    coord_check,
    experiments,
    fits,
    lr_sweep,
    over_time,
    over_time_command,
    runs,
    scaling_laws,
    sweep,
)
from linops.lab.data import Dataset
from linops.lab.parsing import parse
from linops.lab.problems import Classification
from linops.lab.runs import Run
from linops.lab.train import Settings


def quiet():
    return Console(file=io.StringIO(), width=100)


@pytest.fixture
def problem():
    random = np.random.default_rng(0)
    x = random.standard_normal((256, 8)).astype(np.float32)
    y = (x @ random.standard_normal((8, 3))).argmax(1)
    return Classification(Dataset("small", x, y, x, y))


def test_power_law_and_its_standard_error():
    x = np.array([1.0, 2.0, 4.0, 8.0])
    noise = np.array([0.1, -0.1, -0.1, 0.1])
    law = fits.power_law(x, 3 * x**-0.5 * np.exp(noise))
    logs = np.log(x) - np.log(x).mean()
    assert law.exponent == pytest.approx(-0.5)
    assert law.standard_error == pytest.approx(np.sqrt((noise**2).sum() / 2 / (logs**2).sum()))
    assert law(4.0) == pytest.approx(1.5)


def test_the_error_of_a_line_through_two_points_is_not_printed():
    assert str(fits.power_law([1, 4], [1, 2])) == "0.50"
    assert str(fits.power_law([1, 4, 16], [1, 2, 4])) == "0.50 ± 0.00"


def test_exponent_gap_where_both_curves_bend():
    random = np.random.default_rng(0)
    x = np.repeat(np.geomspace(1e4, 1e6, 7), 3)
    position = np.log(x / 1e5)
    bend = np.exp(-0.3 * position + 0.03 * position**2)
    noise = lambda: np.exp(0.02 * random.standard_normal(len(x)))  # noqa: E731
    gap, error = fits.exponent_gap(x, 0.9 * bend * np.exp(-0.05 * position) * noise(), x, bend * noise())
    assert abs(gap + 0.05) < 3 * error
    assert error < 0.01
    lines = [fits.power_law(x, bend * noise()).standard_error for _ in range(2)]
    assert np.hypot(*lines) > error  # two straight lines count the bend as error
    with pytest.raises(ValueError, match="six points"):
        fits.exponent_gap([1, 2], [1, 2], [1, 2], [1, 2])


@pytest.mark.parametrize(("x", "y"), [([1], [1]), ([1, 1], [1, 2]), ([1, 2], [1, 0])])
def test_power_laws_need_points(x, y):
    with pytest.raises(ValueError, match="power law"):
        fits.power_law(x, y)


def test_compute_multiplier():
    dense = [(10, 1.0), (1000, 0.1)]
    assert fits.compute_multiplier(dense, [(5, 1.0), (500, 0.1)], 0.5) == pytest.approx(2)
    assert fits.compute_multiplier(dense, [(5, 1.0), (500, 0.2)], 0.1) is None


@pytest.mark.parametrize("text", ["dense", "btt", "low_rank"])
def test_layer_change_is_that_of_the_weights(problem, text):
    """A rate of zero changes nothing; a moving bias is left out; doubled weights change the output by the output."""
    run = Run(parse(text), 32, depth=1)
    before, model = runs.build(problem, run), runs.build(problem, run)
    probe = problem.batch(0, 64)
    with torch.no_grad():
        model.blocks[0].up.bias.add_(1)
        assert set(coord_check.layer_changes(problem, model, before, probe).values()) == {0.0}
        weight = next(parameter for parameter in model.blocks[0].up.parameters() if parameter.ndim > 1)
        weight.mul_(2)
        found = coord_check.layer_changes(problem, model, before, probe)
        hidden = model.blocks[0].norm(torch.nn.functional.gelu(model.embed(probe[0])))
        product = before.blocks[0].up(hidden)
    assert found["blocks.0.up"] == pytest.approx(product.pow(2).mean().sqrt().item(), rel=1e-5)
    assert found["blocks.0.down"] == 0


def test_a_sweep_resumes(tmp_path):
    ran = []

    def job(number):
        def execute(progress):
            ran.append(number)
            progress(1, 0.5)
            return {"value": number**2}

        return sweep.Job({"structure": "btt", "seed": number}, 1, execute)

    rows = sweep.sweep(tmp_path, [job(0), job(1)])
    again = sweep.sweep(tmp_path, [job(1), job(0), job(2)])
    assert ran == [0, 1, 2]
    assert rows[1] == again[0] == {"structure": "btt", "seed": 1, "value": 1}
    with pytest.raises(ValueError, match="seed 0, now 1"):
        sweep.sweep(tmp_path, [job(1)])
    sweep.sweep(tmp_path, [job(1)], resume=False)
    assert ran == [0, 1, 2, 1]


def test_best_factors_and_their_drift():
    rows = [
        {"structure": "btt", "width": width, "lr_factor": factor, "train_loss": abs(np.log2(factor) - best) + 1}
        for width, best in ((64, 2), (256, 3))
        for factor in (2, 4, 8, 16)
    ]
    rows.append({"structure": "btt", "width": 64, "lr_factor": 32, "train_loss": None})
    best = lr_sweep.best_factors(rows)
    assert best == {"btt": {64: 4, 256: 8}}
    assert lr_sweep.drift(best["btt"]) == 2


def test_levels_are_ratios_to_dense():
    rows = [
        {"structure": name, "width": width, "layer_change": change}
        for name, changes in (("dense", (1, 2)), ("btt", (2, 1)))
        for width, change in zip((16, 64), changes)
    ]
    assert coord_check.levels(rows)["btt"] == (0.5, 2)


def test_scaling_reads_curves(problem):
    rows = [{"structure": "dense", "macs": 4**k, "train_loss": 2.0**-k, "budget": 4**k} for k in range(1, 4)]
    rows += [{"structure": "btt", "macs": 4**k // 2, "train_loss": 2.0**-k, "budget": 4**k} for k in range(1, 4)]
    assert scaling_laws.laws(rows)["dense"].exponent == pytest.approx(-0.5)
    assert scaling_laws.multipliers(rows)["btt"] == pytest.approx(2)
    fitted = scaling_laws.matched_runs(problem, [Run(parse("dense"), 64), Run(parse("btt"), 64)], [64])
    assert [(run.structure.text, runs.count(problem, run) <= budget) for run, budget in fitted] == [
        ("dense", True),
        ("btt", True),
    ]


SMALL = experiments.Sizes((16, 64), Settings(4, 16), (1, 4))


@pytest.mark.full
@pytest.mark.parametrize(
    ("experiment", "plot"),
    [
        (experiments.run_coord_check, "coord_check.png"),
        (experiments.run_lr_sweep, "lr_sweep.png"),
        (experiments.run_scaling, "scaling.png"),
    ],
)
def test_experiments_write_their_files(tmp_path, experiment, plot):
    options = experiments.Options("mlp", "digits", None, [parse("btt")], range(1), tmp_path)
    summary = experiment(quiet(), options, SMALL)
    assert set(summary) - {"dense"} == {"btt", "btt (naive)"}
    assert (tmp_path / "summary.json").is_file()
    assert (tmp_path / plot).read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "results.json").read_text()
    experiment(quiet(), options, SMALL)
    assert (tmp_path / "results.json").read_text() == before


@pytest.mark.full
def test_experiments_take_muon_and_rules(tmp_path):
    told = {"optimizer": "muon", "rules": ("static", "renormalized")}
    options = experiments.Options("mlp", "digits", None, [parse("btt")], range(1), tmp_path / "b", **told)
    assert set(experiments.run_lr_sweep(quiet(), options, SMALL)) == {"btt", "btt (renormalized)"}
    options = experiments.Options("mlp", "digits", None, [parse("btt")], range(1), tmp_path / "c", **told)
    found = experiments.run_scaling(quiet(), options, experiments.Sizes((32,), Settings(4, 16)))
    assert set(found) == {"dense", "btt", "btt (renormalized)"}


@pytest.mark.full
def test_muons_rules_by_default_are_those_of_param_groups(tmp_path):
    options = experiments.Options("mlp", "digits", None, [parse("btt")], range(1), tmp_path / "b", optimizer="muon")
    assert set(experiments.run_lr_sweep(quiet(), options, SMALL)) == {"btt (renormalized)", "btt (naive)"}
    options = experiments.Options("mlp", "digits", None, [parse("btt")], range(1), tmp_path / "c", optimizer="muon")
    found = experiments.run_scaling(quiet(), options, experiments.Sizes((32,), Settings(4, 16)))
    assert set(found) == {"dense", "btt (renormalized)", "btt (naive)"}


def test_the_check_over_time_writes_its_files(tmp_path):
    options = experiments.Options("mlp", "digits", None, [parse("btt")], range(1), tmp_path)
    sizes = over_time_command.over_time_sizes(True, [16], 4)
    console = Console(file=io.StringIO(), width=80)
    ways = over_time.ways(["muon", "sgd"], [])
    summary = over_time_command.run_over_time(console, options, sizes, ways)
    found = [(row["optimizer"], row["structure"], row["rule"], row["width"]) for row in summary]
    of_two = [("dense", "static"), ("btt", "static"), ("btt", "renormalized")]
    assert found == [
        (name, structure, rule, width)
        for name in ("muon", "sgd")
        for structure, rule in (of_two[:2] if name == "sgd" else of_two)
        for width in (16,)
    ]
    table, _, _ = console.file.getvalue().partition(str(tmp_path))
    assert max(map(len, table.splitlines())) <= 80
    dense = summary[0]
    assert dense["last"] == pytest.approx(1.2, abs=0.1)  # what Newton-Schulz makes of singular values
    assert (tmp_path / "over_time.png").read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "results.json").read_text()
    over_time_command.run_over_time(console, options, sizes, ways)
    assert (tmp_path / "results.json").read_text() == before


def test_progress_names_what_differs_between_runs_over_time(problem):
    runs = [(Run(parse("btt"), 16), way) for way in over_time.ways(["muon", "adamw"], [0.1, 0.2])]
    said = [sweep._describe(job.identity) for job in over_time.jobs(problem, runs, Settings(4, 16))]
    assert len(set(said)) == len(said) == 8
    assert said[0].startswith("btt, optimizer muon, rule static, lr 0.1, width 16")


def test_a_look_over_time_is_quick_and_the_help_has_the_defaults():
    quick, whole = over_time_command.over_time_sizes(True), over_time_command.over_time_sizes(False)
    assert (quick.widths, quick.settings.steps) == ((64,), 30)
    (command,) = [one for one in app.app.registered_commands if one.callback is app.coord_check]
    options = typing.get_type_hints(command.callback, include_extras=True)
    told = {name: options[name].__metadata__[0].help for name in ("widths", "steps", "rates", "quick")}
    assert re.findall(r"\d+", told["widths"]) == [str(width) for width in whole.widths]
    assert re.findall(r"\d+", told["steps"]) == [str(whole.settings.steps)]
    assert [float(found) for found in re.findall(r"\.\d+", told["rates"])] == list(over_time.RATES.values())
    assert re.findall(r"\d+", told["quick"]) == ["64", "30"]


def test_a_run_that_diverges_ends_there(problem):
    way = over_time.Way("sgd", "static", 1e9)
    (job,) = over_time.jobs(problem, [(Run(parse("dense"), 16), way)], Settings(9, 16))
    row = job.execute(lambda *_: None)
    assert row["train_loss"] is None
    assert 0 < len(row["looks"]) < 9
    assert all(len(curve) == len(row["looks"]) for layer in row["layers"].values() for curve in layer.values())
