"""The command line: bad data, bad arguments, where results go, how long it takes, what it shows, how it looks."""

import io
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

import linops as lo
from benchmarks.commands import app as benchmarks
from linops.families.text import options_of
from linops.lab import keeping, measure, outputs, parsing, plots, products, tables
from linops.lab.app import app
from linops.lab.progress import Progress

COMMANDS = ("compare", "train", "coord-check", "lr-sweep", "scaling")
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((60, 8)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
GOOD = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y}
SMALL = ["--structures", "dense,btt", "--width", 16, "--depth", 1, "--steps", 3, "--batch", 8]


def invoke(*arguments, of=app):
    return CliRunner().invoke(of, [str(argument) for argument in arguments])


def assert_refused(result, message, status=None):
    """One line on stderr, nothing on stdout, no traceback, status 1 or 2."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in ((1, 2) if status is None else (status,)), result.output
    lines = result.stderr.splitlines()
    assert lines[-1].startswith("error: "), lines
    assert [line for line in lines[:-1] if not line.startswith("0:00: ")] == []
    assert message in lines[-1]
    assert result.stdout == ""


@pytest.fixture
def npz(tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, **GOOD)
    return path


@pytest.fixture
def nothing_runs(monkeypatch):
    """Whatever measures or trains must not be reached."""

    def reached(*arguments, **options):
        raise AssertionError("computed before all was checked")

    for name in ("comparison.products", "runs.train", "coord_check.train"):
        monkeypatch.setattr(f"linops.lab.{name}", reached)


# ---------------------------------------------------------------- data files


def raw(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def written(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def claiming(shape, kind="<f4"):
    """A member whose header claims a shape, followed by 64 bytes."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue() + bytes(64)


PARTS = {name: written(array) for name, array in GOOD.items()}
FILES = {
    "no arrays": (dict.fromkeys(PARTS, b"hello world"), "x_train is no array that numpy has written"),
    "empty members": (dict.fromkeys(PARTS, b""), "x_train is no array"),
    "half a header": (PARTS | {"y_train": PARTS["y_train"][:20]}, "y_train is no array"),
    "code for a header": (PARTS | {"x_test": b"\x93NUMPY\x01\x00\x10\x00__import__('os')"}, "x_test is no array"),
    "10^12 numbers": (PARTS | {"x_train": claiming((10**12, 16))}, "x_train is float32 of shape (1000000000000, 16)"),
    "10^30 numbers": (PARTS | {"x_train": claiming((10**30,))}, "but the file holds 64"),
    "a negative size": (PARTS | {"x_train": claiming((-4, -4))}, "x_train is float32 of shape (-4, -4)"),
    "half the numbers": (PARTS | {"x_test": PARTS["x_test"][:-100]}, "by its header, but the file holds"),
    "objects": (
        PARTS | {"x_train": written(np.array([{}] * 60))},
        "x_train is object of shape (60,); expected numbers",
    ),
    "records": (PARTS | {"x_train": written(np.zeros(60, "f4,i4"))}, "x_train is"),
    "texts": (PARTS | {"x_train": written(np.array([["a"]] * 60))}, "x_train is <U1"),
    "a label of 10^9": (PARTS | {"y_train": written(np.where(Y, 10**9, 0))}, "a label of 1,000,000,000 in 120 samples"),
    "a label of 2^63": (
        PARTS | {"y_test": written(Y.astype(np.uint64) + np.uint64(2**63))},
        "y_test holds a label of 9,223,372,036,854,775,80",
    ),
    "a negative label": (PARTS | {"y_test": written(Y - 1)}, "labels count from 0"),
    "labels of floats": (PARTS | {"y_test": written(Y / 2)}, "y_test is float64"),
    "NaN": (PARTS | {"x_test": written(X * np.nan)}, "x_test holds numbers that are not finite"),
    "1e300": (
        PARTS | {"x_test": written(np.full((60, 8), 1e300))},
        "x_test holds numbers that are not finite in float32",
    ),
    "one axis": (PARTS | {"x_train": written(X[:, 0])}, "x_train is float32 of shape (60,)"),
    "other features": (PARTS | {"x_test": written(X[:, :5])}, "8 features in x_train, 5 in x_test"),
    "no samples": (
        PARTS | {"x_train": written(X[:0]), "y_train": written(Y[:0])},
        "x_train is float32 of shape (0, 8)",
    ),
    "nothing": ({}, "no array x_train, y_train, x_test, y_test; it holds none"),
}


@pytest.mark.parametrize("name", FILES)
def test_trial_27_bad_data_files_are_one_line(tmp_path, nothing_runs, name):
    members, message = FILES[name]
    raw(tmp_path / "bad.npz", **members)
    result = invoke("train", "--data", tmp_path / "bad.npz", "--out", tmp_path / "out", *SMALL)
    assert_refused(result, message, 1)
    assert "bad.npz" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", COMMANDS[1:])
def test_trial_27_every_command_refuses_bad_data(tmp_path, nothing_runs, command):
    raw(tmp_path / "bad.npz", **FILES["10^12 numbers"][0])
    assert_refused(
        invoke(command, "--data", tmp_path / "bad.npz", "--out", tmp_path / "out"), "but the file holds 64", 1
    )


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x05\x06" + bytes(18), b"\x1f\x8b\x08\x00garbage"])
@pytest.mark.parametrize("suffix", [".npz", ".tar.gz"])
def test_trial_27_no_archives_are_one_line(tmp_path, nothing_runs, content, suffix):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    assert_refused(invoke("train", "--data", path, "--out", tmp_path / "out"), f"bad{suffix}", 1)


def test_trial_27_arrays_of_any_order_and_kind_are_read(tmp_path):
    images = RANDOM.integers(0, 255, (4, 1, 2, 3))
    path = tmp_path / "own.npz"
    np.savez_compressed(
        path,
        x_train=np.asfortranarray(images),
        y_train=np.arange(4, dtype=">i2"),
        x_test=images > 9,
        y_test=np.arange(4),
    )
    found = lab_data().load(str(path))
    np.testing.assert_array_equal(found.x_train, images.reshape(4, -1))
    np.testing.assert_array_equal(found.y_train, np.arange(4))
    assert (found.image, found.x_test.dtype) == ((1, 2, 3), np.float32)


def lab_data():
    from linops.lab import data

    return data


# ---------------------------------------------------------------- arguments

BIG = "12345678901234567890"
ARGUMENTS = [
    (["compare", 8, 8, "--seconds", "inf"], ""),
    (["compare", 8, 8, "--seconds", "nan"], ""),
    (["compare", 8, 8, "--seconds", "0"], ""),
    (
        ["compare", 8, 8, "--batch", "100000000000"],
        "not enough memory: dense 8×8 and 100,000,000,000 vectors: at least 5.82 TiB",
    ),
    (["compare", 8, 8, "--batch", "1e11"], "--batch"),
    (["compare", 8, 8, "--batch", "-3"], "--batch"),
    (["compare", BIG, 8], "not enough memory: dense 12345678901234567890×8"),
    (["compare", 8, BIG], "not enough memory"),
    (["compare", 0, 8], "OUT"),
    (["compare", -8, 8], "-8"),
    (["compare", 8], "IN"),
    (["compare", 8, 8, "--structures", "nonsense"], "no family 'nonsense'; expected one of dense, low_rank"),
    (["compare", 8, 8, "--structures", "btt:rnk=4"], "btt has no option 'rnk'; it has rank, cores"),
    (["compare", 8, 8, "--structures", "dense:rank=2"], "dense has no option 'rank'; it has none"),
    (["compare", 8, 8, "--structures", "btt:dtype=3"], "btt has no option 'dtype'"),
    (["compare", 8, 8, "--structures", "btt:rank=2:rank=3"], "given twice"),
    (["compare", 8, 8, "--structures", "btt:rank=0"], "expected at least 1"),
    (["compare", 8, 8, "--structures", "btt:rank=²"], "expected name=integer"),
    (["compare", 8, 8, "--structures", f"btt:rank={BIG}"], "expected name=integer"),
    (["compare", 8, 8, "--structures", ""], "expected names"),
    (["compare", 8, 8, "--dtype", "int32"], "'float32'"),
    (["compare", 8, 8, "--backend", "cupy"], "cupy"),
    (["compare", 8, 8, "--threads", "1000000000000"], "--threads"),
    (["compare", 8, 8, "--plot", "x.xyz"], "x.xyz"),
    (["compare", 8, 8, "--plot", "/proc/nowhere/x.png"], "/proc/nowhere"),
    (["compare", 8, 8, "--plot", "/dev/null/x.png"], "/dev/null"),
    (["train", "--lr", "inf"], "--lr"),
    (["train", "--lr", "nan"], "--lr"),
    (["train", "--lr", "-1"], "--lr"),
    (["train", "--clip", "inf"], "--clip"),
    (["train", "--batch", "100000000000"], "not enough memory: width 128, depth 2, batch 100000000000: at least"),
    (["train", "--batch", "0"], "--batch"),
    (["train", "--width", "500000"], "not enough memory: width 500000"),
    *(([command, "--structures", "btt:rnk=4"], "btt has no option 'rnk'") for command in COMMANDS[1:]),
    *(([command, "--device", "tpu"], "device 'tpu'") for command in COMMANDS[1:]),
    *(([command, "--device", "meta"], "device 'meta'") for command in COMMANDS[1:]),
    *(([command, "--device", "cuda:99"], "device 'cuda:99'") for command in COMMANDS[1:]),
    *(([command, "--out", "/dev/null/x"], "/dev/null/x") for command in COMMANDS[1:]),
    *((["train", f"--{name}", BIG], f"--{name}") for name in ("width", "depth", "steps", "seed", "seeds", "threads")),
    *(([command, f"--{name}", "-1"], f"--{name}") for command in COMMANDS[1:] for name in ("seed", "seeds", "threads")),
    *(([command, "--data", "digits", "--text", "x"], "model 'mlp' learns data, not text") for command in COMMANDS[1:]),
    (["coord-check", "--structures", "block_diag:blocks=63"], "block_diag:blocks=63 at width 16"),
    (
        ["train", "--same-width", "--width", 16, "--structures", "dense,low_rank:rank=99"],
        "low_rank:rank=99 at width 16",
    ),
    (["nonsense"], "nonsense"),
    (["train", "--nonsense"], "--nonsense"),
]


@pytest.mark.parametrize(("arguments", "message"), ARGUMENTS, ids=lambda value: " ".join(map(str, value))[:60])
def test_trial_27_bad_arguments_are_one_line(tmp_path, monkeypatch, nothing_runs, npz, arguments, message):
    monkeypatch.chdir(tmp_path)
    if arguments[0] in COMMANDS[1:] and "--data" not in arguments:
        arguments = [*arguments, "--data", "own.npz"]
    assert_refused(invoke(*arguments), message)


def test_trial_27_wrong_usage_is_status_2_and_says_where_help_is(nothing_runs):
    assert_refused(invoke("compare", 8, 8, "--seconds", "inf"), "compare --help)", 2)


def test_trial_27_benchmarks_are_refused_in_one_line():
    for arguments, message in (
        (["families", "--structures", "btt:rnk=4", "--sizes", "16", "--backends", "numpy"], "btt has no option 'rnk'"),
        (["families", "--sizes", "x"], "'x'"),
        (["nonsense"], "nonsense"),
        (["families", "--threads", "0"], "--threads"),
    ):
        assert_refused(invoke(*arguments, of=benchmarks), message)


WORDS = st.sampled_from(
    [
        "",
        "-",
        "--",
        "=",
        ":",
        "nan",
        "-inf",
        "1e11",
        "-1",
        "0",
        BIG,
        "½",
        "²",
        "\u0661",
        "x" * 300,
        "[bold]",
        "%s",
        "{}",
        "\x00",
        "a\nb",
    ]
)
NUMBERS = st.integers(-(10**25), 10**25).map(str) | st.floats().map(str)
STRUCTURES = st.lists(
    st.sampled_from(["btt", "dense", "rank", "cores", ":", "=", ",", " ", "2", "-1", "dtype"]), max_size=6
).map("".join)
OPTIONS = [
    "--structures",
    "--batch",
    "--backend",
    "--dtype",
    "--threads",
    "--seconds",
    "--plot",
    "--device",
    "--seed",
    "--lr",
    "--out",
]


@pytest.mark.full
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    command=st.sampled_from([*COMMANDS, "nonsense"]),
    given=st.lists(st.tuples(st.sampled_from(OPTIONS), WORDS | NUMBERS | STRUCTURES), max_size=3),
    bad=st.sampled_from(
        [["--nonsense"], ["--seed"], ["--structures", "btt:rnk=2"], ["--structures", "a"], ["--threads", "0"]]
    ),
)
def test_trial_27_fuzzed_arguments_are_one_line(nothing_runs, command, given, bad):
    """Whatever comes before it, one wrong option is refused in one line: no traceback, and nothing computed."""
    shape = [8, 8] if command == "compare" else []
    arguments = [command, *shape, *(word for pair in given for word in pair), *bad]
    assert_refused(invoke(*arguments), "")


@settings(max_examples=300, deadline=None)
@given(STRUCTURES | WORDS)
def test_trial_27_fuzzed_structures_parse_or_say_why(text):
    try:
        found = parsing.parse_list(text)
    except ValueError as error:
        assert "structure" in str(error)  # noqa: PT017
    else:
        assert all(structure.options.keys() <= set(options_of(structure.family)) for structure in found)


# ---------------------------------------------------------------- where results go


def test_trial_27_plots_and_folders_are_tried_first(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for path in (file / "x.png", tmp_path / "x.xyz", tmp_path / "x", tmp_path):
        with pytest.raises(ValueError, match=r"plot|folder"):
            outputs.require_plot(path)
    with pytest.raises(ValueError, match="is a file"):
        outputs.require_folder(file)
    outputs.require_plot(tmp_path / "new" / "x.png")
    assert file.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [file]


def train(npz, out, *more):
    return invoke("train", "--data", npz, "--out", out, *SMALL, *more)


@pytest.mark.full
def test_trial_27_a_second_train_goes_on_and_never_overwrites(npz, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert train(npz, out).exit_code == 0
    files = {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in out.rglob("*")
        if path.name != "loss.png" and path.is_file()
    }
    before = (out / "results.json").read_bytes()

    again = train(npz, out)  # the same: nothing is trained again
    assert again.exit_code == 0, again.output
    assert "2 of 2 runs are finished" in again.stderr
    assert (out / "results.json").read_bytes() == before

    for more, message in (
        (["--steps", 4], "steps 3, now 4"),
        (["--structures", "dense"], "structure 'btt', now 'dense'"),
        (["--lr", 0.1, "--resume"], "lr 0.003, now 0.1"),
        (["--clip", 1], "clip 0.0, now 1.0"),
        (["--bf16"], "bf16 False, now True"),
        (["--seed", 1], "seed 0, now 1"),
    ):
        assert_refused(train(npz, out, *more), message, 1)
    for path, (content, changed) in files.items():
        assert path.read_bytes() == content
        assert path.name == "results.json" or path.stat().st_mtime_ns == changed

    more = train(npz, out, "--seeds", 2)  # more of the same goes beside it
    assert more.exit_code == 0, more.output
    assert json.loads((out / "results.json").read_text())[:2] == json.loads(before)

    forced = train(npz, out, "--steps", 4, "--force")
    assert forced.exit_code == 0, forced.output
    assert {row["steps"] for row in json.loads((out / "results.json").read_text())} == {4}


def test_trial_27_other_data_of_the_same_name_is_another_run(npz, tmp_path):
    assert train(npz, tmp_path / "out").exit_code == 0
    np.savez(npz, **GOOD | {"x_train": X + 1})
    assert_refused(train(npz, tmp_path / "out"), "digest", 1)


@pytest.mark.full
def test_trial_27_a_checkpoint_without_results_is_kept_too(npz, tmp_path):
    out = tmp_path / "out"
    assert train(npz, out).exit_code == 0
    (out / "results.json").unlink()
    assert_refused(train(npz, out, "--steps", 4), "steps 3, now 4", 1)
    assert train(npz, out).exit_code == 0
    next(out.rglob("checkpoint.pt")).write_bytes(b"garbage")
    assert_refused(train(npz, out), "checkpoint.pt is damaged", 1)
    (out / "results.json").write_text("{")
    assert_refused(train(npz, out), "results.json cannot be read", 1)


def test_trial_27_rows_that_are_kept_survive_a_kill(tmp_path):
    path = tmp_path / "results.json"
    identities = [{"seed": seed} for seed in range(4)]
    keeping.write_json(path, [{"seed": seed, "loss": seed} for seed in (1, 3)])
    kept = keeping.kept_rows(path, identities)
    assert [row and row["seed"] for row in kept] == [None, 1, None, 3]
    keeping.write_rows(path, [{"seed": 0, "loss": 0}], kept)  # and then the process dies
    assert [row["seed"] for row in json.loads(path.read_text())] == [0, 1, 3]
    with pytest.raises(ValueError, match="seed 0, now 3"):
        keeping.kept_rows(path, identities[3:])
    assert keeping.kept_rows(path, identities[3:], resume=False) == [None]


# ---------------------------------------------------------------- time, and what is shown meanwhile


def test_trial_27_a_slow_call_is_called_twice_at_most():
    calls = []
    slow = {name: lambda name=name: calls.append(name) or time.sleep(0.01) for name in ("a", "b")}
    found = measure.side_by_side(slow, seconds=0.001, least_rounds=1)
    assert sorted(calls) == ["a", "a", "b", "b"]
    assert all(len(timing.seconds) == 1 and timing.median >= 0.01 for timing in found.values())


def test_trial_27_a_slow_machine_leaves_out_large_probes(monkeypatch):
    monkeypatch.setattr(measure, "_sample", lambda function, calls, wait: 0.1)
    assert [name for name in measure.Probes("numpy", "float16", [64], seconds=0.15).functions if "matmul" in name] == [
        "matmul 256"
    ]
    assert len([name for name in measure.Probes("numpy", "float16", [64]).functions if "matmul" in name]) == len(
        measure.MATMUL_SIZES
    )


def test_trial_27_products_stop_when_the_time_is_over():
    found = products.products({"dense": lo.dense(8, 8)}, batch=2, backend="numpy", seconds=1e-9, least_rounds=1)
    assert len(found.forward["dense"].seconds) == 1
    assert found.roofline_share("dense") > 0


def test_trial_27_compare_says_how_long_it_measured(tmp_path):
    result = invoke(
        "compare", 16, 16, "--batch", 2, "--seconds", 0.1, "--backend", "numpy", "--structures", "low_rank", "--json"
    )
    found = json.loads(result.stdout)
    assert found["rounds"] >= 1
    assert found["seconds"] > 0
    assert "warming up" in result.stderr or "measuring" in result.stderr


def test_trial_27_piped_output_shows_progress():
    file = io.StringIO()
    with Progress(2, file=file, every=0.0) as progress:
        for name in ("btt", "dense"):
            progress.begin(name, 10)
            progress.update(5, "loss 0.500")
            progress.end()
    lines = file.getvalue().splitlines()
    assert lines == [
        "0:00: 1 of 2, btt",
        "0:00: 1 of 2, btt: 5 of 10, loss 0.500",
        "0:00: 2 of 2, dense",
        "0:00: 2 of 2, dense: 5 of 10, loss 0.500",
        "2 of 2 done in 0:00",
    ]


@pytest.mark.full
@pytest.mark.parametrize("command", COMMANDS)
def test_trial_27_results_alone_are_on_stdout(npz, tmp_path, command, monkeypatch):
    from linops.lab import experiments
    from linops.lab.train import Settings

    sizes = experiments.Sizes((16, 64), Settings(2, 8), (1, 4))
    for name in ("coord_check_sizes", "lr_sweep_sizes", "scaling_sizes"):
        monkeypatch.setattr(experiments, name, lambda model, quick, *optimizer: sizes)
    arguments = {
        "compare": [
            "compare",
            16,
            16,
            "--batch",
            2,
            "--seconds",
            0.1,
            "--backend",
            "numpy",
            "--structures",
            "low_rank",
        ],
        "train": ["train", "--data", npz, "--out", tmp_path / "out", *SMALL],
    }.get(command, [command, "--data", npz, "--out", tmp_path / "out", "--structures", "btt"])
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("0:0")
    assert "btt" in result.stdout or "low_rank" in result.stdout
    assert "0:0" not in result.stdout


# ---------------------------------------------------------------- what it looks like


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_trial_27_narrow_tables_fold_and_cut_nothing(width):
    columns = ["structure", "params", "MACs", "lr factor", "train loss", "test accuracy", "time"]
    rows = [("tensor_train", "257,322", "249,152", "4", "0.166 ± 0.004", "86.6 ± 0.8 %", "14.9 s"), ("btt", *"123456")]
    file = io.StringIO()
    Console(file=file, width=width).print(tables.table("A title of some words", columns, rows, "And a caption below."))
    text = file.getvalue()
    assert all(len(line) <= width for line in text.splitlines())
    assert "…" not in text
    if width >= 40:
        for cell in (*columns, *rows[0]):
            assert cell in text
    header = text.splitlines()[1]
    assert (header.split() == " ".join(columns).split()) == (width >= 80)


@pytest.mark.full
def test_trial_27_a_pipe_has_room_for_the_table(npz, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [sys.executable, "-m", "linops.cli", "train", "--data", npz, "--out", tmp_path / "out", *SMALL]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [
        "structure",
        "width",
        "params",
        "MACs",
        "lr",
        "factor",
        "train",
        "loss",
        "test",
        "accuracy",
        "time",
    ] in lines
    assert "lr factor: on the learning rates of the structured layers' weights" in done.stdout


def test_trial_27_the_left_panel_tells_structures_of_one_cost_apart(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "write", lambda figure, path: drawn.append(figure))
    alike = [
        {"structure": "btt", "macs": 99, "train_loss": 0.1},
        {"structure": "dense", "macs": 100, "train_loss": 0.2},
    ]
    alike = [row | {"batch": 8} for row in alike]
    plots.training(alike, [[1.0, 0.5]] * 2, tmp_path / "x.png")
    left = drawn[-1].axes[0]
    assert [label.get_text() for label in left.get_yticklabels()] == ["dense", "btt"]
    assert {round(float(line.get_xdata()[0]), 3) for line in left.lines} == {0.1, 0.2}
    plots.training([alike[0], alike[1] | {"macs": 1000}], [[1.0, 0.5]] * 2, tmp_path / "x.png")
    assert {float(line.get_xdata()[0]) for line in drawn[-1].axes[0].lines} == {99, 1000}


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_trial_27_every_command_has_help_and_linops_its_version(option):
    for command in ((), *((command,) for command in COMMANDS)):
        result = invoke(*command, option)
        assert result.exit_code == 0
        assert "Usage" in result.stdout
    assert invoke("--version").stdout == f"linops {lo.__version__}\n"
    assert "Usage" in invoke().stdout
