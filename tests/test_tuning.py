"""Tuning constants: each is measured by a benchmark, and kernels chosen by them run on CPUs alone."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import linops as lo
import linops.backends.jax_sparse as jax_backend
import linops.backends.torch_blocks as torch_backend
from benchmarks import thresholds
from linops import backends, tuning
from linops.plan.machines import MEASURED

CONSTANTS = [name for name in vars(tuning) if name.isupper()]


# ---------------------------------------------------------------- constants


def test_every_constant_is_measured():
    assert {case.constant for case in thresholds.cases()} == set(CONSTANTS)


@pytest.mark.full
def test_every_case_lies_on_both_sides_of_its_constant():
    for case in thresholds.cases():
        if case.constant == "FFT_ODD":  # whose sizes are lengths
            continue
        sizes = [case.make(point)[0] for point in case.points]
        assert case.value not in sizes
        assert min(sizes) < case.value < max(sizes), case


def test_every_constant_has_a_comment():
    lines = Path(tuning.__file__).read_text(encoding="utf-8").splitlines()
    stated = [number for number, line in enumerate(lines) if line[:1].isupper() and " = " in line]
    assert len(stated) >= 20
    assert all(lines[number - 1].startswith("#: ") for number in stated)


def test_a_constant_is_used():
    used = set()
    for path in Path(lo.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "linops.tuning":
                used |= {alias.name for alias in node.names}
    assert used == set(CONSTANTS)


def test_the_model_of_torch_has_the_constant_of_torch():
    assert MEASURED["torch"].loops == tuning.TORCH_LOOPED


def test_measure():
    rows = list(thresholds.measure(seconds=1e-6, constants=("TORCH_TINY", "HADAMARD_BLOCK", "JAX_WHOLE")))
    assert {row["backend"] for row in rows} == {"numpy", "torch", "jax"}
    assert all(row["ratio"] > 0 and row["taken_us"] > 0 for row in rows)
    for row in rows:
        if row["constant"] == "JAX_WHOLE":
            assert row["taken"] == ("one" if row["size"] <= tuning.JAX_WHOLE else "two")
    known = list(thresholds.measure(seconds=1e-6, constants=("JAX_WHOLE",), backends=("jax",), known=tuple(rows)))
    assert known == []
    assert "point" not in thresholds.summary(rows)[0]
    with pytest.raises(ValueError, match=r"no constant 'TORCH_HUGE'.*TORCH_TINY"):
        list(thresholds.measure(constants=("TORCH_HUGE",)))


@pytest.mark.full
def test_all_ways_compute_the_same():
    rows = list(thresholds.measure(seconds=1e-6))
    assert {row["constant"] for row in rows} == set(CONSTANTS)


# ---------------------------------------------------------------- other devices


class Kernels(TorchDispatchMode):
    """Records what runs but for views: name and shapes of its tensors."""

    def __init__(self):
        super().__init__()
        self.ran = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if not func.is_view and "view" not in func.name() and not func.name().startswith("prim::"):
            shapes = tuple(tuple(arg.shape) for arg in args if isinstance(arg, torch.Tensor))
            self.ran.append((func.name().removeprefix("aten::"), *shapes))
        return result


def ran(function, device, *shapes, scattered=False):
    """What a function of zeros on a device runs; "fake cuda" is one that nobody has."""
    tensors = FakeTensorMode() if device == "fake cuda" else torch.no_grad()
    with tensors, torch.no_grad():
        arrays = [torch.zeros(shape, device=device.removeprefix("fake ")) for shape in shapes]
        if scattered:
            arrays[-1] = torch.zeros(shapes[-1][::-1], device=device.removeprefix("fake ")).permute(2, 1, 0)
        with Kernels() as kernels:
            function(*arrays)
    return kernels.ran


VECTORS = {
    "rows": ((64, 64, 64), (64, 64, 1), False),
    "rows of a copy": ((64, 64, 64), (64, 64, 1), True),
    "loops on a copy": ((1024, 8, 8), (1024, 8, 1), True),
}


@pytest.mark.parametrize("case", VECTORS)
def test_blocks_times_a_vector(case):
    a, x, scattered = VECTORS[case]
    (plain,) = ran(backends.block_matvec, "meta", a, x, scattered=scattered)
    assert plain == ("bmm", a, x)
    assert ran(backends.block_matvec, "fake cuda", a, x, scattered=scattered) == [plain]
    assert ran(backends.block_matvec, "cpu", a, x, scattered=scattered) != [plain]


def test_a_matrix_times_a_stack_of_vectors():
    a, x = (64, 64), (64, 64, 1)
    (plain,) = ran(backends.shared_matmul, "meta", a, x)
    assert plain == ("bmm", (64, 64, 64), x)
    assert ran(backends.shared_matmul, "fake cuda", a, x) == [plain]
    assert ran(backends.shared_matmul, "cpu", a, x) == [("mm", (64, 64), (64, 64))]


def test_crossed_products_run_in_parts_on_cpus_alone(monkeypatch):
    monkeypatch.setattr(torch_backend, "TORCH_SPLIT", 1)
    monkeypatch.setattr(torch_backend, "TORCH_PART", 100)
    shapes = (4, 10, 3), (5, 7, 8), (4, 3, 6)
    for device in ("meta", "fake cuda"):
        assert [name for name, *_ in ran(backends.crossed_matmul, device, *shapes)] == ["bmm", "bmm"]
    assert "bmm.out" in [name for name, *_ in ran(backends.crossed_matmul, "cpu", *shapes)]


def test_convolutions_turn_columns_on_cpus_alone():
    A = lo.toeplitz(8192, 8192).init(seed=0, backend="torch")

    def columns(device):
        operator = A.to(device=device)
        return [name for name, *_ in ran(lambda x: operator @ x, device, (8192, 64))]

    assert "clone" in columns("cpu")
    assert "clone" not in columns("meta")


def test_compressed_rows_are_for_cpus_alone(monkeypatch):
    jax = pytest.importorskip("jax")
    A = lo.Sparse(np.ones(3, np.float32), [0, 1, 2], [2, 0, 1], (3, 3)).to(backend="jax")
    x = jax.numpy.ones((3, 64), np.float32)
    assert "bcsr" in str(jax.make_jaxpr(lambda A, x: A @ x)(A, x))
    monkeypatch.setattr(jax_backend, "device_kind", lambda array: "gpu")
    assert "bcsr" not in str(jax.make_jaxpr(lambda A, x: A @ x)(A, x))
