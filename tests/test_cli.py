"""The command line: what it prints and writes, and what it says when something is wrong."""

import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from linops import cli
from linops.lab.app import app


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def npz(tmp_path):
    random = np.random.default_rng(0)
    x = random.standard_normal((200, 16)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    path = tmp_path / "own.npz"
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    return path


def test_help_names_the_commands():
    result = invoke("--help")
    assert result.exit_code == 0
    for command in ("compare", "train", "coord-check", "lr-sweep", "scaling", "compress", "estimate"):
        assert command in result.output
        assert invoke(command, "--help").exit_code == 0


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("--optimizer sgd", "'--optimizer': coord-check without --over-time does not take it"),
        ("--lr 0.1 --steps 3", "'--lr', '--steps': coord-check without --over-time does not take them"),
        ("--over-depth --depth 9 --optimizer muon", "'--optimizer', '--depth': --over-depth does not take them"),
        ("--over-depth --over-time", "'--over-time': --over-depth does not take it"),
        ("--over-time --structures btt,chain --data digits", "chain is no linear map"),
    ],
)
def test_coord_check_refuses_options_that_it_would_not_heed(given, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("coord-check", *given.split())
    assert result.exit_code
    assert named in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_imports_no_framework():
    script = "import sys; sys.argv = ['linops', '--help']; import linops.cli, atexit\n"
    script += "atexit.register(lambda: print(sorted({'torch', 'jax', 'matplotlib', 'sklearn'} & set(sys.modules))))\n"
    script += "linops.cli.main()"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.endswith("[]\n")


def test_compare_prints_json_and_writes_a_plot(tmp_path):
    plot = tmp_path / "plot.png"
    result = invoke("compare", 32, 48, "--batch", 4, "--seconds", 0.1, "--backend", "numpy", "--json", "--plot", plot)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["rows"][0]["structure"] == "dense"
    assert {"num_params", "macs", "flops", "share", "forward", "roofline_share"} <= found["rows"][1].keys()
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_compare_prints_a_table():
    result = invoke("compare", 32, 48, "--batch", 4, "--seconds", 0.1, "--structures", "btt,low_rank:rank=40")
    assert result.exit_code == 0, result.output
    assert "btt" in result.output
    assert "left out low_rank:rank=40" in result.output


def test_train_writes_results(npz, tmp_path):
    out = tmp_path / "out"
    arguments = [
        "train",
        "--data",
        npz,
        "--structures",
        "dense,btt",
        "--width",
        32,
        "--depth",
        1,
        "--steps",
        20,
        "--batch",
        16,
    ]
    result = invoke(*arguments, "--out", out, "--seeds", 2)
    assert result.exit_code == 0, result.output
    rows = json.loads((out / "results.json").read_text())
    assert [(row["structure"], row["seed"]) for row in rows] == [("dense", 0), ("btt", 0), ("dense", 1), ("btt", 1)]
    wanted = {
        "structure",
        "width",
        "depth",
        "num_params",
        "macs",
        "flops",
        "train_loss",
        "test_accuracy",
        "seconds",
        "seed",
    }
    for row in rows:
        assert wanted <= row.keys()
        assert row["flops"] == 2 * row["macs"]
        assert row["macs"] <= rows[0]["macs"]
    assert rows[1]["width"] > rows[0]["width"] == 32
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    again = invoke(*arguments, "--out", out, "--seeds", 2, "--resume")
    assert again.exit_code == 0, again.output
    assert [row["train_loss"] for row in json.loads((out / "results.json").read_text())] == [
        row["train_loss"] for row in rows
    ]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["compare", 8, 8, "--structures", "nonsense"], 2, "no family"),
        (["compare", 8, 8, "--dtype", "float23"], 2, "float23"),
        (["train", "--data", "nonsense"], 1, "expected 'mnist1d'"),
        (["train", "--data", "digits", "--structures", "monarch:blocks=4", "--width", 3, "--same-width"], 1, "monarch"),
    ],
)
def test_errors_are_one_line(arguments, status, message):
    result = invoke(*arguments)
    assert result.exit_code == status
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert (result.stderr.count("\n"), result.stdout) == (1, "")


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "typer", None)
    monkeypatch.delitem(sys.modules, "linops.lab.app")
    with pytest.raises(SystemExit) as error:
        cli.main()
    assert "pip install typer, or pip install -e '.[lab]' in a checkout" in str(error.value)
    assert "'.[flax]'" in cli.missing_message(ModuleNotFoundError("no", name="optax"))
    with pytest.raises(ModuleNotFoundError):
        cli.missing_message(ModuleNotFoundError("no", name="linops.nonsense"))


SIZES = ("--d-model", 64, "--layers", 2, "--vocab", 96, "--seq", 32, "--families", "dense,btt:rank=1")


def test_estimate_prints_a_table_and_writes_a_plot(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "out"
    result = invoke("estimate", *SIZES, "--mesh", "model=2", "--devices", "2,64", "--out", out)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert max(len(line) for line in lines if str(out) not in line) <= 80
    assert next(line.split()[:3] for line in lines if " on 64" in line) == ["dense", "on", "64"]
    rows = json.loads((out / "estimate.json").read_text())
    assert [(row["structure"], row["devices"]) for row in rows] == [
        (name, devices) for name in ("dense", "btt:rank=1") for devices in (2, 64)
    ]
    assert (out / "estimate.png").stat().st_size > 10_000
    before = (out / "estimate.json").read_bytes()
    again = invoke("estimate", *SIZES, "--batch", 2, "--out", out)
    assert again.exit_code == 1
    assert "holds a result, estimate.json: take another --out, or --force to replace it" in again.output
    assert (out / "estimate.json").read_bytes() == before
    assert invoke("estimate", *SIZES, "--batch", 2, "--out", out, "--force").exit_code == 0


def test_estimate_takes_sizes_or_a_config(tmp_path):
    path = tmp_path / "config.json"
    llama = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    path.write_text(json.dumps(llama | {"intermediate_size": 128, "vocab_size": 320}))
    result = invoke("estimate", "--from", path, "--d-model", 512)
    assert result.exit_code == 2
    assert "'--d-model': " in result.output
    assert "says it; give one of the two" in " ".join(result.output.replace("│", " ").split())
    lines = invoke(
        "estimate", "--from", path, "--seq", 64, "--families", "dense", "--devices", "2,2"
    ).stdout.splitlines()
    assert sum(line.startswith("dense") for line in lines) == 1


def test_estimate_says_what_does_not_fit(tmp_path):
    path = tmp_path / "config.json"
    llama = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
    path.write_text(json.dumps(llama | {"intermediate_size": 11008, "vocab_size": 32000}))
    result = invoke("estimate", "--from", path, "--seq", 4096, "--families", "dense", "--batch", 4)
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith("dense on")]
    assert [row[5] for row in rows if len(row) > 5] == ["no"] * 5  # narrow terminals have the rest below
    assert "Not all fit 80 GB: --checkpointing 1, more devices" in result.stdout
    found = json.loads(invoke("estimate", "--from", path, "--seq", 4096, "--families", "dense", "--json").stdout)
    assert [row["devices"] for row in found] == [1, 8, 64, 512, 4096]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--mesh", "pipe=2"), "expected data=NUMBER or model=NUMBER"),
        (("--mesh", "model=4", "--devices", "6"), "6 devices do not divide into groups of the mesh's 4 model ranks"),
        (("--mesh", "data=2,data=4"), "data is given twice"),
        (("--devices", "0"), "expected a number of devices, 1 to"),
        (("--families", "fourier"), "Invalid value for '--families'"),
        (("--families", "fourier"), "no family 'fourier'"),
        (("--hardware", "h900"), "hardware 'h900': expected one of a100"),
        (("--from", "/nonexistent.json"), "No such file"),
    ],
)
def test_estimate_refuses_in_one_line(arguments, words):
    result = invoke("estimate", *SIZES, *arguments)
    assert result.exit_code in (1, 2)
    assert words in " ".join(result.output.split())
    assert "Traceback" not in result.output
