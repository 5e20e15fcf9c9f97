"""``linops compress``: files of weights, what is written, and what is refused."""

import json
import resource

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import linops as lo
from linops.lab.app import app
from linops.safetensors import encoded, opened
from linops.specs import dtype_name

RESULTS = ["compressed.safetensors", "pareto.png", "report.json"]


def invoke(*arguments):
    return CliRunner().invoke(app, ["compress", *[str(argument) for argument in arguments]])


def weights():
    random = torch.Generator().manual_seed(0)
    return {
        "a.weight": torch.randn(48, 32, generator=random),
        "a.bias": torch.randn(48, generator=random),
        "b.weight": torch.randn(32, 48, generator=random).to(torch.bfloat16),
        "c.weight": torch.randn(20, 12, generator=random).double(),
        "half": torch.randn(24, 24, generator=random).half(),
        "ids": torch.arange(6).reshape(2, 3),
        "kernel": torch.randn(3, 3, 2, 2, generator=random),
        "empty": torch.zeros(0, 4),
    }


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(weights(), path, {"format": "pt"})
    return path


def refused(result, match, out):
    """One clear line and status 1, and nothing is left."""
    assert result.exit_code == 1, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.stderr.rstrip().endswith(line)
    assert match in line
    assert not out.exists()
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]


def test_a_file_is_compressed_and_read_back(model, tmp_path):
    before, out = model.read_bytes(), tmp_path / "new" / "out"
    result = invoke(model, "--budget", 0.4, "--out", out, "--exclude", "half")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == RESULTS
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert model.read_bytes() == before
    old, new = weights(), load_file(out / RESULTS[0])
    report = json.loads((out / "report.json").read_text())
    assert report["plan"]["cost"] <= 0.4 * (48 * 32 * 2 + 20 * 12)
    found = lo.load(out / RESULTS[0])
    operators = {name: one for name, one in found.items() if isinstance(one, lo.LinearOperator)}
    assert found.keys() == old.keys()
    assert operators.keys() == report["weights"].keys() <= {"a.weight", "b.weight", "c.weight"}
    assert {"a.weight", "b.weight"} <= operators.keys()
    for name in old.keys() - operators.keys():
        assert new[name].dtype == old[name].dtype
        assert torch.equal(new[name], old[name])
    leaves = {f"{name}.{leaf}" for name, one in operators.items() for leaf, _ in one.named_leaves()}
    assert new.keys() == leaves | (old.keys() - operators.keys())
    for name, operator in operators.items():
        W = old[name].double().numpy()
        told = report["weights"][name]
        error = np.linalg.norm(W - operator.to(dtype="float64").to_dense()) / np.linalg.norm(W)
        assert error == pytest.approx(told["weight_error"], rel=1e-2 if name == "b.weight" else 1e-5)
        assert operator.num_params == told["params"] < W.size
        assert dtype_name(operator.dtype) == dtype_name(old[name].dtype)
        operator = operator.to(dtype="float64")
        x = np.ones(operator.shape[1], operator.dtype)
        np.testing.assert_allclose(operator @ x, operator.to_dense() @ x, rtol=1e-3, atol=1e-4)
        assert {new[leaf].dtype for leaf in leaves if leaf.startswith(name)} == {old[name].dtype}
    assert opened(out / RESULTS[0]).metadata["format"] == "pt"
    lines = result.stderr.splitlines()
    assert sum("measured " in line for line in lines) == 3
    assert sum("projected " in line or "copied " in line for line in lines) == 3
    assert f"{report['plan']['cost']:,}" in result.stdout


def test_second_moments_are_used(model, tmp_path):
    x = np.random.default_rng(0).standard_normal((500, 32)) * np.geomspace(1, 1e-2, 32)
    np.savez(tmp_path / "inputs.npz", **{"a.weight": x})
    np.savez(tmp_path / "moments.npz", **{"a.weight": x.T @ x / 500})
    found = {}
    for name in ("inputs", "moments"):
        options = ("--families", "low_rank:rank=6", "--budget", 500, "--where", "a.*", "--out", tmp_path / name)
        result = invoke(model, "--calibration", tmp_path / f"{name}.npz", *options)
        assert result.exit_code == 0, result.output
        found[name] = lo.load(tmp_path / name / RESULTS[0])["a.weight"].to_dense()
    np.testing.assert_allclose(found["inputs"], found["moments"], atol=1e-5)
    W = weights()["a.weight"].double().numpy()
    best = lo.project(W, "low_rank:rank=6", inputs=x).to_dense()
    np.testing.assert_allclose(found["moments"], best, atol=1e-2)
    aware, blind = [np.linalg.norm(x @ (W - V).T) for V in (best, lo.project(W, "low_rank:rank=6").to_dense())]
    assert np.linalg.norm(x @ (W - found["moments"]).T) == pytest.approx(aware, rel=1e-3)
    assert aware < 0.8 * blind
    report = json.loads((tmp_path / "moments" / "report.json").read_text())
    assert report["weights"]["a.weight"]["activation_error"] == pytest.approx(aware / np.linalg.norm(x @ W.T), rel=1e-3)


@pytest.mark.full
def test_a_result_is_not_overwritten_unless_forced(model, tmp_path):
    out = tmp_path / "out"
    assert invoke(model, "--out", out).exit_code == 0
    before = (out / RESULTS[0]).read_bytes()
    result = invoke(model, "--out", out, "--budget", 0.3)
    assert result.exit_code == 1
    assert "holds a result, compressed.safetensors: take another --out, or --force to replace it" in result.stderr
    assert (out / RESULTS[0]).read_bytes() == before
    again = invoke(out / RESULTS[0], "--out", tmp_path / "twice")
    assert "holds structures already" in again.stderr
    (out / "mine.txt").write_text("kept")
    assert invoke(model, "--out", out, "--budget", 0.3, "--force").exit_code == 0
    assert (out / RESULTS[0]).read_bytes() != before
    assert (out / "mine.txt").read_text() == "kept"
    (out / RESULTS[0]).write_bytes(model.read_bytes())
    assert "would be written over" in invoke(out / RESULTS[0], "--out", out, "--force").stderr


def test_what_excludes_nothing_is_said(model, tmp_path):
    result = invoke(model, "--out", tmp_path / "out", "--exclude", "hal", "--exclude", "half")
    assert result.exit_code == 0
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert "nothing is left out for --exclude 'hal', which matches none of the file's 4" in line


def test_a_budget_of_all_copies_everything(model, tmp_path):
    assert invoke(model, "--out", tmp_path / "out", "--budget", 1).exit_code == 0
    new = load_file(tmp_path / "out" / RESULTS[0])
    assert all(torch.equal(new[name], value) for name, value in weights().items())
    assert lo.load(tmp_path / "out" / RESULTS[0], "torch").keys() == weights().keys()


def _header(text, data=b""):
    return len(text).to_bytes(8, "little") + text + data


ONE = b'{"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}'

DAMAGED = {
    "empty": (b"", "does not fit into 0 bytes"),
    "short": (b"abc", "does not fit"),
    "length": ((2**63).to_bytes(8, "little") + b"{}", "does not fit"),
    "text": (_header(b"not json"), "its header is wrong"),
    "bytes": (_header(b"\xff\xfe"), "its header is wrong"),
    "deep": (_header(b"[" * 100_000), "its header is wrong"),
    "list": (_header(b"[]"), "it is no object"),
    "cut": (_header(ONE, bytes(15)), "cut off or damaged"),
    "long": (_header(ONE, bytes(17)), "cut off or damaged"),
    "twice": (_header(ONE[:-1] + b"," + ONE[1:], bytes(16)), "twice"),
    "negative": (_header(ONE.replace(b"[2, 2]", b"[-2, -2]"), bytes(16)), "shape [-2, -2]"),
    "large": (_header(ONE.replace(b"[2, 2]", b"[2, 99999999999]"), bytes(16)), "does not fill"),
    "float": (_header(ONE.replace(b"[2, 2]", b"[2.0, 2]"), bytes(16)), "shape [2.0, 2]"),
    "dtype": (_header(ONE.replace(b'"F32"', b'["F32"]'), bytes(16)), "its header is wrong"),
    "hole": (_header(ONE.replace(b"[0, 16]", b"[4, 20]"), bytes(20)), "does not begin where"),
    "metadata": (_header(b'{"__metadata__": {"a": 1}}'), "no texts"),
    "nothing": (_header(b"{}"), "of its 0 matrices none is selected"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files_are_refused(kind, tmp_path):
    data, match = DAMAGED[kind]
    (tmp_path / "bad.safetensors").write_bytes(data)
    refused(invoke(tmp_path / "bad.safetensors", "--out", tmp_path / "out"), match, tmp_path / "out")


@pytest.mark.full
def test_other_input_is_refused(model, tmp_path):
    out = tmp_path / "out"
    refused(invoke(tmp_path / "none.safetensors", "--out", out), "No such file", out)
    refused(invoke(tmp_path, "--out", out), "is a folder; name a safetensors file", out)
    refused(invoke(model, "--out", out, "--budget", 0.001), "the cheapest options cost", out)
    refused(invoke(model, "--out", out, "--budget", -1), "expected more than 0", out)
    refused(invoke(model, "--out", out, "--families", "butter"), "no family 'butter'", out)
    refused(invoke(model, "--out", out, "--where", "z*"), "no weight is selected by --where 'z*', which matches", out)
    refused(invoke(model, "--out", out, "--budget", 30), "for 30 % give --budget 0.3, or take more --families", out)
    refused(invoke(model, "--out", out, "--budget", 0), "--budget 0: expected more than 0", out)
    refused(invoke(model, "--out", out, "--calibration", tmp_path / "none.npz"), "No such file", out)
    refused(invoke(model, "--out", out, "--calibration", model), "no file that numpy.savez", out)
    assert invoke(model, "--out", out, "--criterion", "activation").exit_code == 2
    bad = {
        "of no weight that is selected": {"z": np.ones((3, 3))},
        "is taken for a second moment": {"a.weight": np.arange(32.0 * 32).reshape(32, 32)},
        "expected (32, 32) or (N, 32)": {"a.weight": np.ones((5, 31))},
        "holds NaN": {"a.weight": np.full((5, 32), np.nan)},
    }
    for match, arrays in bad.items():
        np.savez(tmp_path / "bad.npz", **arrays)
        refused(invoke(model, "--out", out, "--calibration", tmp_path / "bad.npz"), match, out)
    state = weights()
    state["a.weight"][0, 0] = torch.nan
    save_file(state, model)
    refused(invoke(model, "--out", out), "tensor 'a.weight': the weight holds NaN or infinity", out)
    save_file(weights() | {f"a.weight.{leaf}": torch.ones(1) for leaf in "UV"}, model)
    refused(invoke(model, "--out", out, "--families", "low_rank"), "has the name of a leaf", out)
    out.write_text("a file")
    assert "is a file; name a folder" in invoke(model, "--out", out).stderr


def test_a_full_disk_leaves_nothing(model, tmp_path):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))
        result = invoke(model, "--out", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    refused(result, "File too large", tmp_path / "out")


def test_a_file_that_shrinks_is_noticed(model, tmp_path, monkeypatch):
    from linops.lab import compression

    def choose(*arguments):
        model.write_bytes(model.read_bytes()[:-20_000])
        return choice(*arguments)

    choice = compression.choice
    monkeypatch.setattr(compression, "choice", choose)
    refused(invoke(model, "--out", tmp_path / "out"), "cut off in tensor", tmp_path / "out")


def test_a_damaged_result_is_refused(model, tmp_path):
    out = tmp_path / "out"
    assert invoke(model, "--out", out, "--families", "low_rank", "--where", "a.*").exit_code == 0
    tensors, metadata = load_file(out / RESULTS[0]), opened(out / RESULTS[0]).metadata
    for change, match in [
        ({"a.weight.U": torch.ones(3, 3)}, r"tensor 'a\.weight\.U' is float32 \(3, 3\), expected"),
        ({"a.weight.U": None}, r"tensor 'a\.weight\.U' is missing"),
    ]:
        state = {name: value for name, value in (tensors | change).items() if value is not None}
        save_file(state, tmp_path / "bad.safetensors", metadata)
        with pytest.raises(ValueError, match=match):
            lo.load(tmp_path / "bad.safetensors")


def test_a_result_is_loaded_into_the_model(tmp_path):
    def dense():
        return torch.nn.Sequential(torch.nn.Linear(32, 48), torch.nn.GELU(), torch.nn.Linear(48, 32, bias=False))

    torch.manual_seed(0)
    model, x = dense(), torch.randn(5, 32)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    assert invoke(tmp_path / "model.safetensors", "--out", tmp_path / "out", "--budget", 0.5).exit_code == 0
    found = lo.load(tmp_path / "out" / RESULTS[0], "torch")
    other = lo.nn.load(dense(), tmp_path / "out" / RESULTS[0])
    one, two = (found[f"{k}.weight"] for k in (0, 2))
    one, two = (a if isinstance(a, lo.LinearOperator) else lo.Dense(a) for a in (one, two))
    y = (two @ torch.nn.functional.gelu((one @ x.T).T + found["0.bias"]).T).T
    torch.testing.assert_close(other(x), y)
    assert sum(isinstance(layer, lo.nn.torch.Linear) for layer in other) >= 1
    with pytest.raises(ValueError, match=r"the model has no dense layer '\d'"):
        lo.nn.load(torch.nn.Sequential(torch.nn.GELU()), tmp_path / "out" / RESULTS[0])


@pytest.mark.parametrize(("name", "dtype"), [("BF16", torch.bfloat16), ("F16", torch.float16), ("F32", torch.float32)])
def test_rounding_is_that_of_torch(name, dtype):
    values = torch.cat([torch.randn(1000), torch.tensor([0.0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, 1e-42, 6e4])])
    data = encoded(values.numpy(), name)
    assert torch.equal(torch.frombuffer(bytearray(data), dtype=dtype), values.to(dtype))
    with pytest.raises(ValueError, match="too large for"):
        encoded(np.array([3.4028e38 if name == "BF16" else np.inf], np.float32), name)
