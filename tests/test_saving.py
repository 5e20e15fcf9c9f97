"""`lo.save` and `lo.load`: what is loaded is what was saved, bit for bit; faults leave the file that was there."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from helpers import build, every_case
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import linops as lo
from linops import backends, writing
from linops.safetensors import opened
from linops.structure import Node

DTYPES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
DTYPES += ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]


def numbers(A):
    return [(name, backends.to_numpy(leaf)) for name, leaf in A.named_leaves()]


def assert_same(A, B):
    assert B.structure == A.structure
    assert (B.tags, B.dtype, B.shape) == (A.tags, A.dtype, A.shape)
    for (name, a), (other, b) in zip(numbers(A), numbers(B), strict=True):
        assert name == other
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@every_case
def test_every_operator_comes_back_bit_for_bit(case, backend, tmp_path):
    A, _, _ = build(case, backend=backend)
    if any(callable(value) for part in A.structure.parts if isinstance(part, Node) for value in part.context):
        with pytest.raises(TypeError, match=r"cannot be saved: .* holds a function.*; save the arrays"):
            lo.save(tmp_path / "a", A)
        assert not any(tmp_path.iterdir())
        return
    lo.save(tmp_path / "a", A)
    B = lo.load(tmp_path / "a", backend)
    assert B.backend == A.backend or not list(A.named_leaves())
    assert_same(A, B)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype, backend, tmp_path):
    leaf = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    A = lo.Dense(backends.asarray(leaf, backend))
    lo.save(tmp_path / "a", A)
    assert_same(A, lo.load(tmp_path / "a", backend))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_empty_sizes(shape, tmp_path):
    for dtype in ("float32", "complex128"):
        A = lo.Dense(np.zeros(shape, dtype))
        lo.save(tmp_path / "a", A)
        assert_same(A, lo.load(tmp_path / "a"))


def test_symbolic_operators_and_those_in_part(tmp_path):
    for A in (lo.btt(64, 16), lo.kron(lo.Dense(np.ones((2, 2))), lo.spec(3, 3)), lo.Identity(8) @ lo.monarch(8, 8).T):
        lo.save(tmp_path / "a", A)
        B = lo.load(tmp_path / "a")
        assert B.structure == A.structure
        assert [isinstance(leaf, lo.Spec) for _, leaf in B.named_leaves()] == [
            isinstance(leaf, lo.Spec) for _, leaf in A.named_leaves()
        ]


def test_operators_and_arrays_by_name(tmp_path):
    given = {
        "layers.0": lo.btt(8, 8).init(seed=0, backend="torch"),
        "layers.0.bias": np.arange(8.0),
        "über/../weg": torch.ones((), dtype=torch.bfloat16),
        "p": lo.Permute.random(5, 0),
    }
    lo.save(tmp_path / "a", given)
    found = lo.load(tmp_path / "a", "torch")
    assert list(map(type, found.values())) == [type(given["layers.0"]), lo.Permute, torch.Tensor, torch.Tensor]
    assert_same(given["layers.0"], found["layers.0"])
    assert found["layers.0.bias"].tolist() == list(range(8))
    assert found["über/../weg"].dtype == torch.bfloat16
    assert lo.load(tmp_path / "a")["über/../weg"].dtype == ml_dtypes.bfloat16
    lo.save(tmp_path / "b", {})
    assert lo.load(tmp_path / "b") == {}


def test_a_leaf_that_stands_twice_is_written_once_and_stays_one(tmp_path):
    A = lo.Dense(np.random.default_rng(0).standard_normal((64, 64)))
    lo.save(tmp_path / "a", A @ A)
    assert (tmp_path / "a").stat().st_size < 64 * 64 * 8 + 1000
    for backend in ("numpy", "torch"):
        B = lo.load(tmp_path / "a", backend)
        first, second = (leaf for _, leaf in B.named_leaves())
        assert first is second


def test_long_index_arrays_stand_beside_the_text(tmp_path):
    A = 2 * lo.Permute.random(100_000, 0)
    lo.save(tmp_path / "a", A)
    assert opened(tmp_path / "a").entries["index.0"].dtype == "U32"
    assert len(opened(tmp_path / "a").metadata[writing.STRUCTURE]) < 300
    assert_same(A, lo.load(tmp_path / "a"))


def test_other_readers_find_the_numbers(tmp_path):
    A = lo.btt(64, 16).init(seed=0)
    lo.save(tmp_path / "a", A)
    found = load_file(tmp_path / "a")
    assert {name: array.tolist() for name, array in found.items()} == {n: a.tolist() for n, a in A.named_leaves()}
    with safe_open(tmp_path / "a", "np") as file:
        assert set(file.metadata()) == {"linops", "linops.structure:"}


def test_numbers_are_mapped_and_the_file_stays(tmp_path):
    lo.save(tmp_path / "a", lo.Dense(np.zeros((512, 512))))
    before = (tmp_path / "a").read_bytes()
    A, B = lo.load(tmp_path / "a"), lo.load(tmp_path / "a", "torch")
    A.matrix[:] = 1
    B.matrix.fill_(2)
    assert (tmp_path / "a").read_bytes() == before
    lo.save(tmp_path / "a", B)  # over the file that it is mapped from
    assert float(lo.load(tmp_path / "a").matrix.sum()) == 2 * 512**2
    assert float(B.matrix.sum()) == 2 * 512**2


MAPPED = """
import resource, sys
import numpy as np, linops as lo
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
start = resident()
A = lo.load(sys.argv[1])
assert resident() - start < 2e7, resident() - start
assert float(A.U[5, 0] * A.V[0, 7]) == 35.0
assert resident() - start < 4e7
"""


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc")
def test_loading_reads_no_numbers(tmp_path):
    lo.save(tmp_path / "a", lo.LowRank(np.arange(4e6)[:, None], np.arange(4e6)[None]))
    done = subprocess.run([sys.executable, "-c", MAPPED, str(tmp_path / "a")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- what is refused, and what faults leave


def test_nothing_else_is_replaced(tmp_path):
    A = lo.Diagonal(np.ones(3))
    save_file({"a": np.ones(3)}, tmp_path / "weights")
    (tmp_path / "notes").write_text("mine")
    for name in ("weights", "notes"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(FileExistsError, match="linops did not save it: take another path, or delete it first"):
            lo.save(tmp_path / name, A)
        assert (tmp_path / name).read_bytes() == before
    lo.save(tmp_path / "a", A)
    lo.save(tmp_path / "a", 2 * A)
    assert lo.load(tmp_path / "a").to_dense()[0, 0] == 2


def test_a_link_stays_one_and_rights_are_the_users(tmp_path):
    lo.save(tmp_path / "a", lo.Identity(3))
    (tmp_path / "link").symlink_to(tmp_path / "a")
    lo.save(tmp_path / "link", lo.Identity(4))
    assert (tmp_path / "link").is_symlink()
    assert lo.load(tmp_path / "a").shape == (4, 4)
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


def test_what_cannot_be_saved(tmp_path):
    path = tmp_path / "a"
    with pytest.raises(TypeError, match="expected an operator or a dict of them, got list"):
        lo.save(path, [1])
    with pytest.raises(TypeError, match="names are texts, got 3"):
        lo.save(path, {3: lo.Identity(2)})
    with pytest.raises(TypeError, match="'a' is a str; operators and arrays are saved"):
        lo.save(path, {"a": "text"})
    with pytest.raises(ValueError, match=r"two tensors are called 'a\.diagonal'"):
        lo.save(path, {"a.diagonal": np.ones(2), "a": lo.Diagonal(np.ones(2))})
    with pytest.raises(ValueError, match="no numbers: it is on the meta device"):
        lo.save(path, lo.Dense(torch.ones(2, 2, device="meta")))
    with pytest.raises(FileNotFoundError):
        lo.save(tmp_path / "none" / "a", lo.Identity(2))
    assert not list(tmp_path.iterdir())


def test_odd_arrays_and_names(tmp_path):
    path = tmp_path / "a"
    with pytest.raises(TypeError, match="'a' is a MaskedArray"):
        lo.save(path, {"a": np.ma.array([1.0, 2.0], mask=[True, False])})
    with pytest.raises(TypeError, match=r"tensor 'a' is torch\.sparse_coo: save lo\.aslinearoperator of it"):
        lo.save(path, {"a": torch.eye(3).to_sparse()})
    with pytest.raises(ValueError, match="cannot be called '__metadata__'"):
        lo.save(path, {"__metadata__": np.ones(3)})
    with pytest.raises(TypeError, match="an integer of more than 400 digits"):
        lo.save(path, 10**500 * lo.Identity(3))
    with pytest.raises(TypeError, match="the path comes first"):
        lo.save(lo.Identity(3), "a")
    with pytest.raises(IsADirectoryError, match="is a folder: name a file in it"):
        lo.save(tmp_path, lo.Identity(3))
    assert not list(tmp_path.iterdir())
    lo.save(path, {"": lo.Identity(3)})
    assert list(lo.load(path)) == [""]
    lo.save(tmp_path / ("n" * 250), lo.Identity(3))
    path.chmod(0o600)
    lo.save(path, lo.Identity(4))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(b"")
    lo.save(path, lo.Identity(5))  # nothing is lost


WRITER = """
import sys, numpy as np, linops as lo
number = 0
while True:
    number += 1
    lo.save(sys.argv[1], {str(k): np.full(100, float(number)) for k in range(100)})
"""


def test_a_file_that_is_replaced_is_read_as_one(tmp_path):
    path = tmp_path / "a"
    lo.save(path, {str(k): np.zeros(100) for k in range(100)})
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
    try:
        seen, start = set(), time.monotonic()
        while len(seen) < 10 and time.monotonic() - start < 30:
            numbers_ = {float(array[0]) for array in lo.load(path).values()}
            assert len(numbers_) == 1
            seen |= numbers_
    finally:
        writer.kill()
        writer.wait()
    assert len(seen) > 2


def test_a_fault_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    lo.save(path, lo.Diagonal(np.ones(3)))
    before, count = path.read_bytes(), 0

    def full(array, to):
        nonlocal count
        count += 1
        if count == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "_store", full)
    with pytest.raises(OSError, match="No space left"):
        lo.save(path, lo.LowRank(np.ones((3, 1)), np.ones((1, 3))))
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk(tmp_path):
    script = f"""
import resource, signal, numpy as np, linops as lo
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
lo.save({str(tmp_path / "a")!r}, lo.Diagonal(np.ones(3)))
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    lo.save({str(tmp_path / "a")!r}, lo.Diagonal(np.ones(10_000)))
except OSError as error:
    print("refused", error.errno)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.startswith("refused"), done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["a"]
    assert lo.load(tmp_path / "a").shape == (3, 3)


@pytest.mark.full
def test_x64_is_asked_for_and_not_set(tmp_path):
    lo.save(tmp_path / "a", lo.Diagonal(np.ones(3)))
    script = f"""
import linops as lo
try:
    lo.load({str(tmp_path / "a")!r}, "jax")
except TypeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "jax_enable_x64" in done.stdout, done.stderr


@pytest.mark.full
def test_a_class_of_the_users_own_is_declared_first(tmp_path):
    module = tmp_path / "mine.py"
    module.write_text(
        "import linops as lo\n\n\n@lo.declare\nclass Own(lo.LinearOperator):\n    d: object = lo.tree(axes=1)\n\n"
        "    @property\n    def shape(self):\n        return self.d.shape * 2\n"
    )
    path = tmp_path / "a"
    save = f"import mine, numpy as np, linops as lo; lo.save({str(path)!r}, mine.Own(np.ones(3)))"
    run = lambda code: subprocess.run(  # noqa: E731
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": "."}
    )
    load = f"import linops as lo; print(lo.load({str(path)!r}).shape)"
    done = run(save)
    if "has no attribute" in done.stderr or "unexpected keyword" in done.stderr:
        pytest.fail(done.stderr)
    assert done.returncode == 0, done.stderr
    assert "import the module that declares it first" in run(load).stderr
    assert run(f"import mine; {load}").stdout == "(3, 3)\n"


def test_documents_are_of_one_form(tmp_path):
    lo.save(tmp_path / "a", lo.Diagonal(np.ones(2) * 1j))
    metadata = opened(tmp_path / "a").metadata
    assert json.loads(metadata["linops"]) == {
        "version": 1,
        "holds": "operator",
        "tensors": {"diagonal": {"pairs": True}},
    }
