"""Mistakes seen in other libraries of linear operators, a test each, so that linops does not make them too."""

import copy
import json
import pickle
import subprocess
import sys

import jax
import numpy as np
import pytest
import torch
from helpers import as_numpy, on, randoms

import linops as lo
from linops.tags import Tag

array, complex_array = randoms("regressions", "float64"), randoms("regressions", "complex128")


def fresh(code):
    """What a fresh interpreter prints, as JSON."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# ---------------------------------------------------------------- state and backends


@pytest.mark.full
def test_poisoned_leaves():
    """CoLA: a NumPy operator built first emptied torch operators of its class of their leaves, by a class's cache."""
    code = """
import json, numpy as np, linops as lo
first = [lo.Dense(np.eye(2)), lo.Diagonal(np.ones(2))]
first += [lo.kron(np.eye(2), np.eye(1)), lo.LowRank(np.ones((2, 1)), np.ones((1, 2)))]
first += [2 * first[0], first[0] + first[1], first[0] @ first[1]]
import torch
later = [lo.Dense(torch.eye(2)), lo.Diagonal(torch.ones(2)), lo.kron(torch.eye(2), torch.eye(1))]
later += [lo.LowRank(torch.ones(2, 1), torch.ones(1, 2))]
later += [2 * later[0], later[0] + later[1], later[0] @ later[1]]
leaves = lambda operator: [leaf for _, leaf in operator.named_leaves()]
flat = lambda operator: torch.utils._pytree.tree_leaves(operator)
tensors = lambda operator: all(isinstance(leaf, torch.Tensor) for leaf in flat(operator))
print(json.dumps([[len(leaves(a)), len(leaves(b)), len(flat(b)), tensors(b)] for a, b in zip(first, later)]))
"""
    for numpy_leaves, torch_leaves, flattened, tensors in fresh(code):
        assert numpy_leaves == torch_leaves == flattened > 0
        assert tensors


@pytest.mark.full
def test_float64_stays_float64_with_jax_installed():
    """CoLA: with JAX installed every NumPy operator ran in JAX, and float64 became float32."""
    code = """
import json, jax, numpy as np, linops as lo
x = np.full(3, 1 + 1e-12)
A = lo.kron(np.eye(3), np.ones((1, 1))) @ lo.Diagonal(x)
y = A @ np.ones(3)
same, x64 = bool((y == x).all()), bool(jax.config.jax_enable_x64)
print(json.dumps([type(y).__module__, str(y.dtype), str(A.dtype), same, x64]))
"""
    assert fresh(code) == ["numpy", "float64", "float64", True, False]


def test_float32_stays_float32():
    """SciPy and others: products of float32 operators widened to float64."""
    A = lo.monarch(12, 8, blocks=2).init(seed=0)
    for operator in (A, A.T, A.H, 2 * A, A / 3, A + A, -A, A.T @ A, np.float64(2.0) * A, (A.T @ A) ** 2):
        assert operator.dtype == np.float32
        assert (operator @ np.ones(operator.shape[1], np.float32)).dtype == np.float32


@pytest.mark.full
@pytest.mark.parametrize("dtype", ["float32", "complex64", "int64"])
def test_the_backend_is_not_guessed_from_the_dtype(dtype):
    """CoLA: the backend was guessed from the dtype, by making arrays of JAX and torch in each constructor."""
    matrix = np.eye(2, dtype=dtype)
    for backend in ("numpy", "torch", "jax"):
        A = lo.Dense(on(backend, matrix))
        assert A.backend == backend
        assert lo.backends.backend_of(A @ on(backend, matrix)) == backend
    code = "import sys, json, numpy as np, linops as lo; lo.Dense(np.eye(2)) @ np.ones(2); "
    code += "print(json.dumps('torch' in sys.modules))"
    assert fresh(code) is False


@pytest.mark.full
def test_importing_leaves_jaxs_x64_flag_alone():
    """Linox: importing it set jax_enable_x64 for the whole program."""
    code = (
        "import json, jax; before = jax.config.jax_enable_x64; import linops; linops.dense(2, 2).init(backend='jax'); "
    )
    assert fresh(code + "print(json.dumps([before, jax.config.jax_enable_x64]))") == [False, False]


# ---------------------------------------------------------------- mathematics


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
def test_the_adjoint_is_not_the_transpose(backend):
    """CoLA: H was T for complex operators."""
    a, b = complex_array(2, 3), complex_array(2, 2)
    for A, matrix in (
        (lo.Dense(a), a),
        (lo.kron(a, b), np.kron(a, b)),
        (1j * lo.Dense(a), 1j * a),
        (1j * lo.Identity(3), 1j * np.eye(3)),
    ):
        moved = A.to(backend=backend)
        assert np.allclose(as_numpy(moved.H.to_dense()), matrix.conj().T)
        assert np.allclose(as_numpy(moved.T.to_dense()), matrix.T)
        assert not np.allclose(as_numpy(moved.H.to_dense()), matrix.T)


def test_imaginary_parts_are_kept():
    """Pylops: a real operator dropped the imaginary part of its operand; a complex one lost it in its adjoint."""
    real, imaginary = array(3, 4), complex_array(4)
    assert np.allclose(lo.Dense(real) @ imaginary, real @ imaginary)
    for A in (
        lo.Identity(4),
        lo.Pad(4, 4),
        lo.Permute([3, 2, 1, 0]),
        lo.Zero(2, 4),
        lo.BlockDiag([lo.Identity(1), lo.Pad(3, 3)]),
    ):
        assert (A @ imaginary).dtype == np.complex128
        assert np.array_equal(A @ imaginary, A.to_dense() @ imaginary)
    assert ((2j * lo.Identity(4)) @ np.ones(4)).tolist() == [2j] * 4
    assert (lo.Dense(real) + 1j * lo.Pad(3, 4)).to_dense().imag.sum() == 3


def test_comparing_keeps_imaginary_parts_beside_integers():
    integers, real = lo.Dense(np.eye(3, dtype=int)), np.arange(9.0).reshape(3, 3)
    one, other = integers @ lo.Dense(real + 1j), integers @ lo.Dense(real + 5j)
    assert lo.allclose(one, one)
    assert not lo.allclose(one, other)


def test_int8_does_not_overflow_in_to_dense():
    """Lazylinop: toarray multiplied by an int8 identity matrix, and overflowed."""
    for size in (200, 300):
        a = np.full((1, size), 1, np.int32)
        for A in (
            lo.Dense(a),
            lo.BlockDiag(a[None]),
            lo.Identity(size),
            lo.Permute.random(size),
            lo.Pad(1, size),
            300 * lo.Identity(size),
        ):
            dense = A.to_dense()
            assert dense.shape == A.shape
            assert dense.dtype in (np.int32, np.float64)
            assert np.allclose(dense, A @ np.eye(size))
    assert (300 * lo.Identity(2)).to_dense().max() == 300
    assert (np.ones((1, 300), np.int8) @ lo.Identity(300)).dtype == np.int8


def definite(n=3, maker=complex_array):
    root = maker(n, n)
    return lo.assume(lo.Dense(root @ root.conj().T + np.eye(n)), Tag.POSITIVE_DEFINITE)


def test_negation_drops_definiteness():
    """CoLA: −A of a positive definite A was still positive definite."""
    for A in (
        -definite(),
        -1 * definite(),
        definite() * -2.0,
        definite() / -1,
        0 * definite(),
        lo.Zero(3, 3) - definite(),
    ):
        assert A.is_positive_definite is not True
        assert A.is_hermitian is True
    assert (-definite()).is_positive_semidefinite is False
    assert (definite() - definite()).is_positive_semidefinite is None


def test_multiplication_by_i_drops_hermitian():
    """CoLA: i A of a Hermitian A was still Hermitian."""
    for A in (1j * definite(), (1 + 1j) * definite(), definite() * np.array(1j), definite() + 1j * lo.Identity(3)):
        assert A.is_hermitian is not True
        assert A.is_positive_definite is not True
    assert (1j * lo.Identity(3)).is_symmetric is True


def test_complex_gradients():
    """linear_operator: gradients of complex operators were wrong."""
    for A in (
        lo.Dense(complex_array(3, 2)),
        lo.kron(complex_array(2, 2), complex_array(2, 1)),
        complex_array() * lo.LowRank(complex_array(3, 1), complex_array(1, 2)),
    ):
        A = A.to(backend="torch")
        leaves = [leaf.requires_grad_() for _, leaf in A.named_leaves()]
        x = on("torch", complex_array(A.shape[1], 2)).requires_grad_()
        assert torch.autograd.gradcheck(lambda x, *leaves, A=A: A.with_leaves(leaves) @ x, (x, *leaves))


def test_transposes_of_stacks():
    """torch_linops: transposes of stacked and concatenated operators crashed or were wrong."""
    a, b = array(2, 3), array(4, 1)
    for A in (
        lo.BlockDiag([a, b]),
        lo.BlockDiag(array(2, 3, 1)),
        lo.kron(a, b),
        lo.Dense(a) @ lo.Dense(array(3, 5)) + lo.Zero(2, 5),
    ):
        matrix = A.to_dense()
        x, y = array(*A.shape[:1], 2), array(2, A.shape[0], 3)
        for backend in ("numpy", "torch"):
            moved = A.to(backend=backend)
            assert np.allclose(as_numpy(moved.T @ on(backend, x)), matrix.T @ x)
            assert np.allclose(as_numpy(moved.T @ on(backend, y)), matrix.T @ y)
            assert np.allclose(as_numpy(moved.T.T.to_dense()), matrix)


# ---------------------------------------------------------------- shapes


def test_mismatched_shapes_are_refused():
    """Linox and torch_linops: products, sums and stacks of shapes that do not fit were accepted, and broadcast."""
    A, B = lo.Dense(array(3, 4)), lo.Dense(array(1, 4))
    for wrong in (
        lambda: A + B,
        lambda: A @ A,
        lambda: A @ np.ones(1),
        lambda: A @ np.ones((3, 1)),
        lambda: np.ones((2, 1)) @ A,
    ):
        with pytest.raises(ValueError, match=r"3×4"):
            wrong()
    for wrong in (
        lambda: A + np.ones(4),
        lambda: A - np.ones((1, 4)),
        lambda: lo.Sum((A, B)),
        lambda: lo.Product((A, B)),
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            wrong()


def test_columns_are_not_looped_over(monkeypatch):
    """Pylops: a product with a matrix was a product a column."""
    calls, columns = [], lo.Dense._columns

    def counted(self, x):
        calls.append(x.shape)
        return columns(self, x)

    monkeypatch.setattr(lo.Dense, "_columns", counted)
    A = lo.BlockDiag([lo.Dense(array(2, 3))])
    A @ array(3, 50)
    A @ array(5, 3, 7)
    array(9, 2) @ A.T.T
    assert len(calls) <= 3


# ---------------------------------------------------------------- torch.compile and layers


def test_operands_are_not_swapped_under_compile():
    """linear_operator: under torch.compile `tensor @ operator` became `operator @ tensor`, by __torch_function__."""
    torch._dynamo.reset()
    a, x = on("torch", array(3, 3)), on("torch", array(3, 3))
    A = lo.Dense(a)
    left, right = torch.compile(lambda A, x: (x @ A, A @ x), fullgraph=True, backend="aot_eager")(A, x)
    assert torch.allclose(left, x @ a)
    assert torch.allclose(right, a @ x)
    assert not torch.allclose(left, right)
    assert not hasattr(lo.LinearOperator, "__torch_function__")


def layer():
    """A layer of the paper's structure, with random numbers."""
    made = lo.nn.torch.Linear(lo.btt(12, 8), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return made


X = torch.randn(5, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_layers_follow_functional_call():
    """compute-better-spent: the layer multiplied by an operator of its own tensors, and ignored functional_call."""
    made = layer()
    values = {name: torch.zeros_like(value) for name, value in made.named_parameters()}
    assert not torch.func.functional_call(made, values, (X,)).any()
    assert made(X).any()


def test_layers_follow_assigned_states():
    """compute-better-spent: load_state_dict(assign=True) had no effect on the forward."""
    made, other = layer(), lo.nn.torch.Linear(lo.btt(12, 8), dtype=torch.float64)
    other.load_state_dict(made.state_dict(), assign=True)
    assert torch.equal(other(X), made(X))
    with torch.no_grad():
        made.cores_0.zero_()
        made.bias.zero_()
    assert not other(X).any()


def test_copies_of_layers_are_layers_of_their_own():
    """compute-better-spent: a deep copy still multiplied by the tensors of the original."""
    made = layer()
    twin = copy.deepcopy(made)
    before = made(X)
    with torch.no_grad():
        twin.cores_0.zero_()
        twin.bias.zero_()
    assert torch.equal(made(X), before)
    assert not twin(X).any()
    assert torch.equal(pickle.loads(pickle.dumps(made))(X), before)


def test_layers_move_to_empty():
    """compute-better-spent: to_empty left the forward on the old device."""
    with torch.device("meta"):
        made = lo.nn.torch.Linear(lo.btt(12, 8))
    made = made.to_empty(device="cpu")
    made.reset_parameters()
    assert made(X.float()).isfinite().all()
    assert {parameter.device.type for parameter in made.parameters()} == {"cpu"}


def test_layers_export():
    """compute-better-spent: torch.export failed, or held the weights as constants."""
    made = layer()
    program = torch.export.export(made, (X,))
    assert torch.allclose(program.module()(X), made(X))
    assert set(program.state_dict) == set(made.state_dict())


@pytest.mark.parametrize("weight_norm", [False, True])
def test_no_number_is_read_in_the_forward(weight_norm):
    """compute-better-spent: `.item()` on every forward in eval mode stalled the device."""
    torch._dynamo.reset()
    made = lo.nn.torch.Linear(lo.btt(12, 8), device="meta", weight_norm=weight_norm).eval()
    assert made(torch.zeros(2, 8, device="meta")).shape == (2, 12)  # a tensor without numbers has none to read
    real = lo.nn.torch.Linear(lo.btt(12, 8), weight_norm=weight_norm).eval()
    torch.compile(real, fullgraph=True, backend="eager")(X.float())


def test_double_backward_of_layers():
    """compute-better-spent: an autograd.Function with out= had no second derivative."""
    made = layer()
    x = X[:2].clone().requires_grad_()
    assert torch.autograd.gradgradcheck(made, (x,), fast_mode=True)


def test_rates_are_not_attributes_of_parameters():
    """compute-better-spent: learning-rate multipliers were attributes of Parameters, lost by copies and assignment."""
    made = layer()
    assert all(
        set(vars(parameter)) <= {"_backward_hooks", "_post_accumulate_grad_hooks"} for parameter in made.parameters()
    )
    groups = lo.nn.param_groups(torch.nn.Sequential(copy.deepcopy(made)), lr=1.0)
    rates = {tuple(parameter.shape): group["lr"] for group in groups for parameter in group["params"]}
    multipliers = lo.lr_multipliers(lo.btt(12, 8))
    assert set(multipliers.values()) != {1.0}
    for name, multiplier in multipliers.items():
        assert rates[tuple(made.get_parameter(name).shape)] == pytest.approx(multiplier)


# ---------------------------------------------------------------- cost and families


def test_flops_are_two_a_mac_and_btt_is_counted():
    """compute-better-spent: MACs were called FLOPs, and one script counted BTT as zero."""
    from torch.utils.flop_counter import FlopCounterMode

    for family in (lo.btt, lo.monarch, lo.low_rank, lo.kronecker, lo.tensor_train, lo.dense, lo.block_diag):
        A = family(64, 36)
        assert A.flops() == 2 * A.cost().macs > 0
        made = A.to_layer(bias=False)
        with FlopCounterMode(display=False) as counter:
            made(torch.zeros(10, 36))
        assert counter.get_total_flops() == A.flops(batch=10)


@pytest.mark.parametrize(("m", "n"), [(67, 67), (127, 31), (2, 509), (1, 7), (13, 1)])
@pytest.mark.parametrize("family", ["btt", "monarch", "tensor_train", "kronecker", "low_rank", "block_diag"])
def test_primes_do_not_degenerate(family, m, n):
    """compute-better-spent: a prime size factored as 1 × p, with more weights than dense."""
    options = {"blocks": 4 if min(m, n) > 2 else 2} if family in ("monarch", "block_diag") else {}
    refused = None
    try:
        A = getattr(lo, family)(m, n, **options)
    except ValueError as error:
        refused = str(error)
    if refused is None:
        assert A.shape == (m, n)
        assert A.cost().macs <= m * n
        assert A.num_params <= m * n
    else:  # a member dearer than dense, or more blocks than numbers
        assert min(m, n) <= 2
        assert "more than dense's" in refused or "2 blocks" in refused


@pytest.mark.parametrize("cores", [1, 2, 3, 4])
def test_btt_of_many_cores(cores):
    """compute-better-spent: a BTT of three cores crashed."""
    A = lo.btt(3**cores, 2**cores, cores=cores, allow_dearer=True).init(seed=0, dtype="float64")
    x = array(2**cores, 2)
    assert np.allclose(A @ x, A.to_dense() @ x)
    assert np.allclose(A.T.to_dense(), A.to_dense().T)
    assert A.T.shape == (2**cores, 3**cores)


def test_float64_operators_do_not_enter_jax_as_float32():
    """CoLA: float64 became float32 without a word."""
    with jax.enable_x64(False), pytest.raises(TypeError, match=r"float64.*float32"):
        lo.Dense(np.eye(2)).to(backend="jax")


def test_indices_of_an_operator_without_leaves_move_with_it():
    import torch

    permute = lo.Permute([2, 0, 1]).to(backend="torch")
    assert permute.to(device="meta").indices.is_meta
    assert (permute @ permute).to(device="meta").T.indices.is_meta
    assert not permute.to(dtype=torch.float32).indices.is_meta
