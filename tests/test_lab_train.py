"""The lab's training loop: resumed runs equal uninterrupted ones; rates, MACs and matched widths are what they say."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import linops as lo
from linops.lab import checkpoint, runs
from linops.lab.data import Dataset
from linops.lab.keeping import TIMES
from linops.lab.macs import macs
from linops.lab.parsing import parse
from linops.lab.problems import Classification
from linops.lab.rates import MUON_LR, stepper
from linops.lab.runs import Run
from linops.lab.train import Settings


def small_data():
    random = np.random.default_rng(0)
    x = random.standard_normal((256, 8)).astype(np.float32)
    y = (x @ random.standard_normal((8, 3))).argmax(1)
    return Dataset("small", x, y, x, y)


@pytest.fixture
def problem():
    return Classification(small_data())


BTT = Run(parse("btt"), width=32, depth=1)
SETTINGS = Settings(steps=30, batch=16, checkpoint_every=10)


class Killed(Exception):
    pass


def kill_at(stop):
    def progress(step, loss):
        if step >= stop:
            raise Killed

    return progress


def test_training_learns(problem):
    row, losses = runs.execute(problem, BTT, replace(SETTINGS, steps=200))
    assert len(losses) == 200
    assert row["train_loss"] < 0.5 * losses[0]
    assert row["test_accuracy"] > 0.8


OTHERS = [{"structure": parse("dense")}, {"rule": "naive"}, {"rule": "renormalized"}]
OTHERS += [{"optimizer": "muon"}, {"optimizer": "muon", "rule": "renormalized"}]


@pytest.mark.parametrize("run", [BTT, *(replace(BTT, **other) for other in OTHERS)], ids=lambda run: run.slug)
def test_a_resumed_run_equals_an_uninterrupted_one(problem, tmp_path, run):
    whole, losses = runs.execute(problem, run, SETTINGS, folder=tmp_path / "whole")
    with pytest.raises(Killed):
        runs.execute(problem, run, SETTINGS, folder=tmp_path / "killed", progress=kill_at(20))
    assert checkpoint.load(tmp_path / "killed" / "checkpoint.pt")["step"] == 10
    resumed, again = runs.execute(problem, run, SETTINGS, folder=tmp_path / "killed", resume=True)
    assert again == losses
    assert {name for name in whole if resumed[name] != whole[name]} <= set(TIMES) < set(whole)
    logs = [checkpoint.read_lines(tmp_path / name / "log.jsonl") for name in ("whole", "killed")]
    assert logs[0] == logs[1]
    assert [line["step"] for line in logs[0]] == list(range(30))


KILLED_SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_lab_train import BTT, SETTINGS, Classification, runs, small_data, torch
torch.set_num_threads(1)
def progress(step, loss):
    if step >= 20:
        os.kill(os.getpid(), signal.SIGKILL)
runs.execute(Classification(small_data()), BTT, SETTINGS, folder=Path({folder!r}), progress=progress)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.full
def test_a_run_killed_by_the_system_resumes(problem, tmp_path):
    script = KILLED_SCRIPT.format(tests=os.path.dirname(__file__), folder=str(tmp_path / "killed"))
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    _, losses = runs.execute(problem, BTT, SETTINGS)
    _, again = runs.execute(problem, BTT, SETTINGS, folder=tmp_path / "killed", resume=True)
    assert again == losses


def test_a_checkpoint_of_another_run_is_refused(problem, tmp_path):
    runs.execute(problem, BTT, SETTINGS, folder=tmp_path)
    with pytest.raises(ValueError, match=r"lr 0\.003, now 0\.1"):
        runs.execute(problem, replace(BTT, lr=0.1), SETTINGS, folder=tmp_path, resume=True)


def test_an_unfinished_line_of_a_log_is_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    log = checkpoint.Log(path)
    log.write([{"step": 0}, {"step": 1}])
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    assert checkpoint.read_lines(path) == [{"step": 0}, {"step": 1}]
    checkpoint.Log(path, step=1)
    assert checkpoint.read_lines(path) == [{"step": 0}]


def test_an_infinite_loss_is_an_error(problem):
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        runs.execute(problem, replace(BTT, lr=1e30), SETTINGS)


def test_schedule():
    settings = Settings(steps=110, warmup=10)
    assert settings.schedule(0) == 0.1
    assert settings.schedule(10) == 1
    assert settings.schedule(60) == pytest.approx(0.5)
    assert Settings(cosine=False).schedule(999) == 1


def test_clipping_and_bf16(problem):
    plain = runs.execute(problem, BTT, SETTINGS)[1]
    clipped = runs.execute(problem, BTT, replace(SETTINGS, clip=1e-3))[1]
    low = runs.execute(problem, BTT, replace(SETTINGS, bf16=True))[1]
    assert clipped != plain
    assert low != plain
    np.testing.assert_allclose(low, plain, rtol=0.05)


@pytest.mark.full
def test_compiled_training_has_the_same_losses(problem, monkeypatch):
    compiled = []

    def compile_(model):  # as torch.compile traces and differentiates, without the time that C++ takes
        compiled.append(model)
        return compile_model(model, backend="aot_eager", fullgraph=True)

    compile_model = torch.compile
    monkeypatch.setattr(torch, "compile", compile_)
    plain = runs.execute(problem, BTT, replace(SETTINGS, steps=10))[1]
    assert not compiled
    np.testing.assert_allclose(
        runs.execute(problem, BTT, replace(SETTINGS, steps=10, compile=True))[1], plain, rtol=1e-4
    )
    assert compiled


MEMBERS = [
    "dense",
    "btt",
    "btt:rank=2",
    "monarch",
    "kronecker",
    "low_rank",
    "tensor_train",
    "block_diag",
    "einsum",
    "blast",
    "butterfly",
]


@pytest.mark.parametrize("text", MEMBERS)
def test_macs_are_what_torch_counts(problem, text):
    model = runs.build(problem, replace(BTT, structure=parse(text)))
    with FlopCounterMode(display=False) as counter:
        model(problem.train[0][:64])
    assert counter.get_total_flops() == 64 * 2 * macs(model, problem.example())
    assert runs.count(problem, replace(BTT, structure=parse(text))) == macs(model, problem.example())


@pytest.mark.parametrize("text", ["btt", "monarch", "low_rank"])
def test_matched_width_is_the_widest_within_the_budget(problem, text):
    budget = runs.count(problem, replace(BTT, structure=parse("dense"), width=64))
    run = runs.matched(problem, replace(BTT, structure=parse(text)), budget)
    assert runs.count(problem, run) <= budget
    assert runs.count(problem, replace(run, width=run.width + problem.width_step)) > budget


def test_a_budget_too_small_for_any_width_is_an_error(problem):
    with pytest.raises(ValueError, match="no width"):
        runs.matched(problem, BTT, 10)


def rates_of(problem, run):
    model = runs.build(problem, run)
    groups = runs.parameter_groups(problem, run, model)
    return {name: group["lr"] for group in groups for name in group["names"]}


def test_rates_of_muon(problem):
    run = Run(parse("low_rank:rank=16"), width=256, depth=1, lr=1.0, factor=3.0, optimizer="muon")
    static, naive = rates_of(problem, run), rates_of(problem, replace(run, rule="naive"))
    for leaf, fans in {"U": (16, 1024), "V": (256, 16)}.items():
        right = np.sqrt(fans[1] / fans[0] / (1024 / 256)) / 2
        assert static[f"blocks.0.up.{leaf}"] == pytest.approx(3 * MUON_LR * right)
        assert naive[f"blocks.0.up.{leaf}"] == pytest.approx(3 * MUON_LR)
    for found in (static, naive):
        assert found["head.weight"] == pytest.approx(64 / 256)
        assert found["embed.weight"] == found["blocks.0.up.bias"] == 1


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_renormalized_steps_are_those_of_param_groups(problem, optimizer):
    """At factor 1 a step is that of Muon on the groups of `param_groups`, where factors have grown too."""
    found = []
    for ours in (True, False):
        run = replace(BTT, width=128, optimizer=optimizer, rule="renormalized")
        model = runs.build(problem, run)
        with torch.no_grad():
            model.blocks[0].up.cores_1.mul_(10)
            model.head.weight.fill_(0.1)
            model.head.weight[0].neg_()
        if ours:
            groups, betas = runs.parameter_groups(problem, run, model), {}
        else:
            told = {"base": problem.model(problem.base_width, 1), "renormalize": True}
            betas = {} if optimizer == "muon" else {"betas": (0.9, 0.999)}
            if optimizer == "muon":
                rest = {"adamw": lambda name, _: not problem.structured(name), "adamw_lr": run.lr}
                groups = lo.nn.param_groups(model, MUON_LR, optimizer="muon", **told, **rest)
            else:
                groups = lo.nn.param_groups(model, run.lr, **told)
        optimiser = stepper(groups, torch.device("cpu")) if ours else lo.nn.muon.Muon(groups, **betas)
        for step in range(3):
            optimiser.zero_grad()
            problem.loss(model, problem.batch(step, 16)).backward()
            optimiser.step()
        found.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(*found)


def test_rates(problem):
    run = Run(parse("btt"), width=256, depth=1, lr=1.0, factor=3.0)
    aware, naive = rates_of(problem, run), rates_of(problem, replace(run, rule="naive"))
    multipliers = lo.lr_multipliers(lo.btt(1024, 256))
    for leaf, multiplier in multipliers.items():
        assert aware[f"blocks.0.up.{leaf}"] == pytest.approx(3 * multiplier * 64 / 256)
        assert naive[f"blocks.0.up.{leaf}"] == pytest.approx(3 * 64 / 256)
    for rates in (aware, naive):
        assert rates["head.weight"] == pytest.approx(64 / 256)
        assert rates["embed.weight"] == rates["blocks.0.up.bias"] == rates["blocks.0.norm.weight"] == 1
    dense = rates_of(problem, replace(run, structure=parse("dense")))
    assert dense["blocks.0.down.weight"] == pytest.approx(3 * 64 / 256)


def test_seeds_draw_different_models_and_leave_torch_alone(problem):
    state = torch.get_rng_state()
    one, same, other = (runs.build(problem, replace(BTT, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.embed.weight, same.embed.weight)
    assert not torch.equal(one.embed.weight, other.embed.weight)
