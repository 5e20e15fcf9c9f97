"""Targets: machines of datasheets and of the user, what is explained for them, and what is planned where."""

import json
import os
import re
import subprocess
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from helpers import on

import linops as lo
from linops.operators.choosing import target_for
from linops.plan import Machine, Target, machine_file, natural_order, processors, target, target_of
from linops.plan.machines import DATASHEETS, MEASURED

MACHINE = Machine(call=1e-6, block=1e-8, flops=1e12, half=4, bandwidth=1e11, shuffled=5e10, fourier=1e10)


@pytest.fixture
def own(monkeypatch, tmp_path):
    """The path of a machine file that linops looks for; it has no numbers yet."""
    path = tmp_path / "folder" / "machine.json"
    machine_file.save(path, "nothing", {})
    monkeypatch.setenv(machine_file.VARIABLE, str(path))
    target.reload()
    yield path
    target.reload()


def predicted(text):
    return text.splitlines()[-1].split("  ")[-1].strip()


@pytest.mark.parametrize("name", DATASHEETS)
def test_accelerators_take_the_time_of_their_datasheets(name):
    """A large product in bfloat16 takes its FLOPs over the rate, and one vector the bytes over the bandwidth."""
    machine = Target.named(name).machine
    n, batch = 16384, 8192
    matmul = machine.matmul(1, n, n, batch, 2) - machine.call
    assert matmul == pytest.approx(2 * n * n * batch / machine.rate(2), rel=0.03)
    one = machine.matmul(1, n, n, 1, 2) - machine.call
    assert one == pytest.approx(2 * n * n / machine.bandwidth, rel=0.03)
    assert machine.rate(2) > machine.rate(4) >= machine.rate(8)
    A = lo.btt(n, n, dtype="bfloat16")
    assert predicted(A.explain(batch, target=name)) < "9"
    assert Target.named(name).name in A.explain(batch, target=name).split("step")[0]
    assert Target.named(name).source.startswith("https://")


def test_explain_plans_for_the_target():
    """Where a product is planned for a machine whose calls are dear, factors are multiplied beforehand."""
    A = lo.Dense(lo.spec(8, 512)) @ lo.Dense(lo.spec(512, 512))
    dear = Target("torch", "cpu", Machine(1.0, 1e-12, 1e12, 1, 1e11, 1e11, 1e11, merging=1e-9), "dear calls")
    assert "by a plan" in A.explain(4096, target=dear)
    assert "by a plan" not in A.explain(4096, order="natural", target=dear)
    slow = Target("torch", "cpu", Machine(0.0, 0.0, 1e12, 1, 1e11, 1e11, 1e11, merging=1e30), "no merging")
    before = A.explain(2)
    assert "by a plan" not in A.explain(2, target=slow)
    assert A.explain(2) == before  # what was imagined is not kept


def test_targets_are_named_or_an_error_lists_them():
    A = lo.btt(16, 16)
    assert "Intel Xeon" in A.explain(target="numpy/cpu")
    with pytest.raises(ValueError, match=r"target 'h1000': expected one of a100, h100, .*torch/cpu.*lo\.plan\.Target"):
        A.explain(target="h1000")
    with pytest.raises(TypeError, match=r"target 3: expected a name, .* lo\.plan\.Target"):
        A.explain(target=3)


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
def test_arrays_say_where_they_are(backend):
    A = lo.low_rank(16, 16).init(seed=0, backend=backend)
    assert target_for(A) is target_of(backend)
    assert target_of(backend).machine == MEASURED[backend]
    assert target_for(lo.low_rank(16, 16)) is target_of("torch")
    assert target_for(lo.LowRank(lo.spec(4, 4, dtype="float16"), lo.spec(4, 4, dtype="float16"))) is None
    assert target_of("torch", "cuda") is None


def at_hand():
    """The numbers of this CPU by backend."""
    return processors.matching(processors.processors(), *processors.described()).machines


def test_a_file_is_read_and_used(own):
    machine_file.save(own, "my machine", {("numpy", "cpu"): MACHINE, ("torch", "cuda"): MACHINE})
    target.reload()
    assert target_of("numpy").machine == MACHINE
    assert target_of("numpy").name == "my machine"
    assert target_of("torch").machine == at_hand()["torch"]
    assert target_of("torch", "cuda").machine == MACHINE
    assert "my machine" in lo.btt(16, 16).explain(target="torch/cuda")
    A = lo.btt(16, 16).init(seed=0)
    with natural_order():
        assert predicted(A.explain()) == predicted(A.explain(target="numpy/cpu"))


def test_rates_go_through_the_file(own):
    machine = DATASHEETS["h100"][0]
    machine_file.save(own, "h", {("torch", "cuda"): machine})
    assert machine_file.load(own) == ("h", {("torch", "cuda"): machine})


CHANGES = {
    "no json": "{",
    "a list": "[]",
    "another format": json.dumps({"format": "x", "version": 1}),
    "another version": json.dumps({"format": "linops.machine", "version": 2}),
    "no machines": json.dumps({"format": "linops.machine", "version": 1, "name": ""}),
    "strange number": {"speed": 1},
    "negative": {"flops": -1},
    "text": {"flops": "fast"},
    "nan": {"call": float("nan")},
    "true": {"half": True},
    "infinite": {"flops": float("inf")},
    "rates": {"rates": 3},
    "a rate of nothing": {"rates": [[4, 0]]},
    "nested": "[" * 100_000,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_bad_file_is_named_and_not_used(own, change):
    text = CHANGES[change]
    if isinstance(text, dict):
        document = {"format": "linops.machine", "version": 1, "name": "x"}
        text = json.dumps(document | {"machines": {"numpy/cpu": asdict(MACHINE) | text}})
    own.write_text(text)
    target.reload()
    with pytest.warns(RuntimeWarning, match=r"machine\.json is no machine file .*calibrate --save writes one"):
        assert target_of("numpy").machine == at_hand()["numpy"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert target_of("numpy").machine == at_hand()["numpy"]  # said once


@pytest.mark.parametrize(
    ("platform", "variables", "path"),
    [
        ("linux", {"HOME": "/home/me"}, "/home/me/.config/linops/machine.json"),
        ("linux", {"HOME": "/home/me", "XDG_CONFIG_HOME": "/c"}, "/c/linops/machine.json"),
        ("darwin", {"HOME": "/Users/me"}, "/Users/me/Library/Application Support/linops/machine.json"),
        ("win32", {"APPDATA": "/roaming", "HOME": "/me"}, "/roaming/linops/machine.json"),
        ("linux", {"LINOPS_MACHINE": "/x.json"}, "/x.json"),
        ("linux", {"LINOPS_MACHINE": ""}, "None"),
    ],
)
def test_the_folder_is_the_platforms(monkeypatch, platform, variables, path):
    for name in ("XDG_CONFIG_HOME", "LINOPS_MACHINE", "APPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert str(machine_file.machine_file()) == path


def test_no_file_is_needed_nor_home(tmp_path):
    code = "import numpy as np, linops as lo; print((lo.low_rank(8, 8).init(seed=0) @ np.ones(8)).shape)"
    run = subprocess.run([sys.executable, "-c", code], env={"PATH": "", "HOME": ""}, capture_output=True, text=True)
    assert run.stdout.strip() == "(8,)", run.stderr


def test_a_file_that_the_variable_names_and_is_not_there_is_told_once(own):
    own.unlink()
    told = rf"LINOPS_MACHINE names {re.escape(str(own))}, where there is no file; python -m benchmarks calibrate --save"
    with pytest.warns(RuntimeWarning, match=told) as warned:
        found = {backend: target_of(backend).machine for backend in MEASURED}
    assert found == at_hand()
    assert len(warned) == 1


def test_no_variable_and_an_empty_one_ask_for_no_file(monkeypatch, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setenv("LINOPS_MACHINE", "")
        assert machine_file.own() == ("", {})
        monkeypatch.delenv("LINOPS_MACHINE")
        for name in ("XDG_CONFIG_HOME", "APPDATA", "HOME"):
            monkeypatch.setenv(name, str(tmp_path))
        assert machine_file.own() == ("", {})


@pytest.mark.parametrize("fails", ["home", "stat"])
def test_a_folder_that_is_not_there_has_no_file(monkeypatch, fails):
    """As in containers, whose user has no entry and no home, or another's, which may not be read."""

    def refused(*_, **__):
        raise RuntimeError("no home") if fails == "home" else PermissionError("not yours")

    for name in ("XDG_CONFIG_HOME", "LINOPS_MACHINE", "APPDATA"):
        monkeypatch.delenv(name, raising=False)
    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")
        patch.setattr(*((Path, "home") if fails == "home" else (os, "stat")), refused)
        assert machine_file.own() == ("", {})


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
def test_results_do_not_depend_on_the_machine(own, backend):
    A = (lo.dense(8, 64) @ lo.dense(64, 64)).init(seed=0, backend=backend)
    x = on(backend, np.random.default_rng(0).standard_normal((64, 300)).astype("float32"))
    expected = np.asarray(A @ x)
    dear = Machine(1.0, 1e-12, 1e12, 1, 1e11, 1e11, 1e11, merging=1e-9)
    machine_file.save(own, "dear calls", {(backend, "cpu"): dear})
    target.reload()
    B = A.with_leaves([leaf for _, leaf in A.named_leaves()])
    assert "by a plan" in B.explain(300)
    np.testing.assert_allclose(np.asarray(B @ x), expected, rtol=1e-4, atol=1e-4)


def test_a_plan_by_estimates_says_that_it_does_not_run_yet(own):
    A = lo.Dense(lo.spec(64, 2048)) @ lo.Dense(lo.spec(2048, 64))
    assert (
        "planned so once a machine file has numbers of torch/cuda"
        in A.explain(10_000, target="h100").split("\nstep")[0]
    )
    assert "machine file" not in A.explain(10_000, target="torch/cpu").split("\nstep")[0]
    assert "machine file" not in lo.btt(64, 64).explain(1, target="h100").split("\nstep")[0]
    machine_file.save(own, "mine", {("torch", "cuda"): DATASHEETS["h100"][0]})
    target.reload()
    assert "machine file" not in A.explain(10_000, target="h100").split("\nstep")[0]


# ---------------------------------------------------------------- the table of CPUs


def row(name, vendor, *features):
    return processors.Processor(name, vendor, features, "", {})


def test_vendor_and_features_decide_which_row_holds():
    rows = row("first", "A", "x"), row("more", "A", "x", "y"), row("other", "B", "x")
    for vendor, features, name in (
        ("A", "x z", "first"),
        ("A", "x y z", "more"),
        ("B", "x y", "other"),
        ("B", "y", "first"),  # it lacks what the row's kernels need
        ("C", "x", "first"),
        ("", "", "first"),
    ):
        assert processors.matching(rows, vendor, frozenset(features.split())).name == name


def test_the_table_has_numbers_of_every_backend():
    for one in processors.processors():
        assert set(one.machines) == set(MEASURED)
        assert set(one.features) <= set(processors.FEATURES)
    assert len({(one.vendor, one.features) for one in processors.processors()}) == len(processors.processors())


def test_a_cpu_is_planned_for_by_its_row(monkeypatch, tmp_path):
    """Without a machine file, and not if the variable asks for the same plans on every CPU."""
    rows = (
        processors.processors()[0],
        processors.Processor("mine", "V", ("f",), "now", dict.fromkeys(MEASURED, MACHINE)),
    )
    monkeypatch.setattr(target, "processors", lambda: rows)
    monkeypatch.setattr(target, "described", lambda: ("V", frozenset({"f", "g"})))
    for name in ("XDG_CONFIG_HOME", "APPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    try:
        target.reload()
        assert target_of("torch").machine == MEASURED["torch"]
        monkeypatch.delenv("LINOPS_MACHINE")
        target.reload()
        assert target_of("torch").machine == MACHINE
        assert target_of("numpy").name == "mine, 1 thread"
    finally:
        monkeypatch.undo()
        target.reload()


def test_a_row_is_written_once(monkeypatch, tmp_path):
    path = tmp_path / "processors.json"
    path.write_text(processors.TABLE.read_text())
    monkeypatch.setattr(processors, "TABLE", path)
    processors.processors.cache_clear()
    numbers = {backend: asdict(MACHINE) | {"rates": []} for backend in MEASURED}
    count = len(processors.processors())
    for measured in ("once", "again"):
        name = processors.write_row("AuthenticAMD", frozenset({"avx2", "avx512f", "other"}), measured, numbers)
        assert name == "AMD EPYC with AVX-512"
    last = processors.processors()[-1]
    assert (len(processors.processors()), last.measured, last.features) == (count + 1, "again", ("avx2", "avx512f"))
    assert last.machines["torch"] == MACHINE
    monkeypatch.undo()
    processors.processors.cache_clear()
