"""`import linops` is light: no framework, few modules, and no setting changed."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest


def run(code):
    """What a fresh interpreter prints, as JSON."""
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_import_loads_no_framework():
    loaded = run("import sys, json, linops; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))")
    heavy = {
        "torch",
        "jax",
        "jaxlib",
        "flax",
        "equinox",
        "optax",
        "matplotlib",
        "typer",
        "sklearn",
        "pandas",
        "tensorflow",
        "safetensors",
    }
    assert heavy & set(loaded) == set()


def test_symbolic_and_numpy_work_load_no_framework():
    code = """
import sys, json, linops as lo, numpy as np
A = lo.btt(12, 8).init(seed=0)
A @ np.ones(8), A.T @ np.ones((12, 2)), A.explain(), repr(A), lo.fans(A), A.to(dtype="float64")
lo.monarch(64, 64).cost(batch=3)
print(json.dumps([name for name in ("torch", "jax") if name in sys.modules]))
"""
    assert run(code) == []


def test_import_leaves_the_modules_of_scipy_for_their_first_use():
    loaded = run(
        "import sys, json, linops; print(json.dumps([name for name in sys.modules if name.startswith('scipy.sparse')]))"
    )
    assert loaded == []


def test_import_leaves_linear_algebra_and_projections_for_their_first_use():
    code = """
import sys, json, linops as lo
later = ("linops.linalg", "linops.projection", "linops.testing")
before, listed = [name for name in later if name in sys.modules], {"linalg", "project", "testing"} <= set(dir(lo))
inverse = (lo.Diagonal([2.0, 4.0]) ** -1 @ [1.0, 1.0]).tolist()
found = [lo.project.__module__, lo.linalg.solve.__module__, lo.testing.__name__]
print(json.dumps([before, listed, inverse, [name for name in later if name not in sys.modules], found]))
"""
    assert run(code)[:4] == [[], True, [0.5, 0.25], []]


def test_import_leaves_plum_until_no_method_is_the_most_specific():
    code = """
import sys, json, linops as lo, numpy as np
A = lo.btt(12, 8).init(seed=0)
A @ np.ones(8), A.T @ A, A + A, 2 * A, A[1:3], A.H, lo.simplify(A.T @ A), lo.freeze(A), lo.Diagonal([1.0, 2.0]) ** 3
lo.linalg.solve(lo.Diagonal([1.0, 2.0]), np.ones(2)), lo.project(np.eye(4), lo.low_rank(4, 4, rank=1))
print(json.dumps([name for name in sys.modules if name.split(".")[0] in ("plum", "beartype", "rich")]))
"""
    assert run(code) == []


def test_import_adds_few_modules_and_little_time():
    code = """
import sys, json, time, numpy
before, start = set(sys.modules), time.process_time()
import linops
seconds = time.process_time() - start
print(json.dumps([seconds, len([name for name in set(sys.modules) - before if not name.startswith("linops")])]))
"""
    for _ in range(3):
        seconds, modules = run(code)
        if seconds < 1.0:
            break
    assert modules < 100  # of others than linops
    assert seconds < 1.0  # the goal is 0.25 s; this bound is loose, for loaded machines


@pytest.mark.full
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_frameworks_imported_later_are_found(framework):
    array = {"torch": "torch.ones(3)", "jax": "jax.numpy.ones(3)"}[framework]
    code = f"""
import json, linops as lo
A = lo.Identity(3) + lo.Permute([1, 0, 2])
import {framework}
y = A @ {array}
print(json.dumps([type(y).__module__.split('.')[0], [float(item) for item in y]]))
"""
    module, numbers = run(code)
    assert module.startswith(framework)
    assert numbers == [2.0, 2.0, 2.0]


@pytest.mark.full
def test_a_first_product_in_torch_does_not_load_its_compiler():
    code = """
import sys, json, torch
before = "torch._dynamo" in sys.modules
import linops as lo
x = torch.ones(8)
for A in (lo.btt(12, 8), lo.monarch(12, 8), lo.toeplitz(12, 8, allow_dearer=True)):
    A.init(seed=0, backend="torch") @ x, lo.nn.torch.Linear(A)(x).sum().backward()
lo.linalg.solve(lo.Dense(torch.eye(3)), torch.ones(3))
print(json.dumps([before, "torch._dynamo" in sys.modules]))
"""
    before, after = run(code)
    assert after == before  # 2 s and more


FIRST = {
    "met before": "import jax, torch, linops as lo",
    "met there": "import linops as lo; import torch",
    "both met there": "import linops as lo; import jax, torch",
    "JAX met there": "import linops as lo; import torch; lo.Dense(torch.ones(1, 1)) @ torch.ones(1); import jax",
}


@pytest.mark.full
@pytest.mark.parametrize("imports", FIRST.values(), ids=FIRST)
def test_the_first_use_may_be_compiled(imports):
    """Also where linops meets a framework there: torch.compile cannot trace an import."""
    code = f"""
{imports}
import json
@torch.compile(fullgraph=True, backend="eager")
def product(a, x):
    a = lo.Dense(lo.Circulant(a[0]).to_dense())
    return (2 * a + lo.Identity(4)) @ x
print(json.dumps(product(torch.ones(4, 4), torch.ones(4)).tolist()))
"""
    assert run(code) == [9, 9, 9, 9]


def test_no_global_state_is_touched():
    code = """
import json, torch, jax, numpy as np
def state():
    return [str(torch.get_default_dtype()), torch.get_num_threads(), torch.is_grad_enabled(),
            torch.get_float32_matmul_precision(), bool(jax.config.jax_enable_x64), str(jax.config.jax_platforms),
            str(np.geterr()), str(np.get_printoptions()),
            str(torch.initial_seed()), str(np.random.get_state()[1][:4])]
torch.manual_seed(3); np.random.seed(3)
before = state()
import linops as lo
for backend, x in (("numpy", np.ones(8, "float32")), ("torch", torch.ones(8)), ("jax", jax.numpy.ones(8))):
    lo.btt(12, 8).init(seed=1, backend=backend) @ x
    lo.monarch(12, 8).init(seed=1, backend=backend).T @ (lo.Zero(12, 8) @ x)
print(json.dumps(before == state()))
"""
    assert run(code) is True


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_inverse_as_first_use_of_linear_algebra_compiles_to_one_graph():
    code = """
import json, torch, linops as lo
A = lo.Diagonal(torch.full((3,), 2.0))
B = lo.Dense(torch.eye(3) * 2)
step = torch.compile(lambda x: (A**-1) @ ((B**-1) @ x), backend="eager", fullgraph=True)
print(json.dumps(step(torch.ones(3)).tolist()))
"""
    assert run(code) == [0.25, 0.25, 0.25]
