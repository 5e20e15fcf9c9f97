"""Operators among other libraries: scipy's matrices and solvers, arrays, numbers, transformations, trainers."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.sparse
import scipy.sparse.linalg as scipy_linalg
import torch
from cases import CASES, kron_matrix
from cases.matrices import block_matrix
from flax import nnx
from helpers import as_numpy, assert_close, assert_is, build, each, every_case, leaves, randoms
from jax.experimental import sparse as jax_sparse
from torch.utils import _pytree as torch_tree

import linops as lo

MATRIX = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 2.0]])
RIGHT = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 0.0], [5.0, 0.0, 1.0]])
A = lo.Dense(MATRIX)
SCIPY = {
    "csr_array": scipy.sparse.csr_array(RIGHT),
    "csc_matrix": scipy.sparse.csc_matrix(RIGHT),
    "dia_array": scipy.sparse.dia_array(RIGHT),
    "LinearOperator": scipy_linalg.aslinearoperator(RIGHT),
}
every_scipy = pytest.mark.parametrize("name", SCIPY)

# ---------------------------------------------------------------- scipy's matrices as operands


@every_scipy
def test_scipy_operands(name):
    S = SCIPY[name]
    assert_is(A @ S, MATRIX @ RIGHT)
    assert_is(A + S, MATRIX + RIGHT)
    assert_is(S + A, MATRIX + RIGHT)
    assert_is(A - S, MATRIX - RIGHT)
    if name != "LinearOperator":  # scipy's operators have - of their own, which refuses others
        assert_is(S - A, RIGHT - MATRIX)
    assert_is(lo.BlockDiag([S, A]), block_matrix([RIGHT, MATRIX]))
    assert_is(lo.kron(A, S), kron_matrix(MATRIX, RIGHT))
    assert_is(2 * lo.aslinearoperator(S) ** 2, 2 * RIGHT @ RIGHT)
    with pytest.raises(TypeError, match=r"expected a number; A @ B composes"):
        A * S


@pytest.mark.parametrize("name", ["csr_array", "csc_matrix"])
def test_scipy_sparse_on_the_left_multiplies_the_array(name):
    np.testing.assert_allclose(SCIPY[name] @ A, RIGHT @ MATRIX)  # as it does with any array
    assert_is(lo.Sparse(SCIPY[name]) @ A, RIGHT @ MATRIX)
    assert A.ndim == 2


def test_scipy_operator_on_the_left_multiplies_the_array():
    np.testing.assert_allclose(SCIPY["LinearOperator"] @ A, RIGHT @ MATRIX)  # as it does with any array


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_sparse_operands_of_frameworks(backend):
    operator = A.to(backend=backend)
    if backend == "torch":
        S = torch.from_numpy(RIGHT).to_sparse()
        assert_is((S @ operator).to(backend="numpy"), RIGHT @ MATRIX)
        assert_is((S + operator).to(backend="numpy"), RIGHT + MATRIX)
    else:
        S = jax_sparse.BCOO.fromdense(jnp.asarray(RIGHT))
        with pytest.raises(TypeError, match="requires ndarray or scalar arguments"):  # JAX's, which asks no one else
            S @ operator
    assert_is((operator @ S).to(backend="numpy"), MATRIX @ RIGHT)
    assert_is((lo.Identity(3) @ S).to(backend="numpy"), RIGHT)
    assert_is((operator - S).to(backend="numpy"), MATRIX - RIGHT)
    assert_is(lo.kron(S, operator).to(backend="numpy"), kron_matrix(RIGHT, MATRIX))


class TestScipyOperator:
    matrix = np.array([[1.0, 2j, 0.0], [0.0, 1.0, 3.0]], np.complex64)

    def test_is_its_matrix(self):
        operator = lo.aslinearoperator(scipy_linalg.aslinearoperator(self.matrix))
        assert_is(operator, self.matrix, "complex64")
        assert (operator.backend, operator.dtype, operator.num_params) == ("numpy", np.complex64, 0)
        for shape in ((3,), (3, 2), (2, 3, 4)):
            assert_close(operator @ np.ones(shape), self.matrix @ np.ones(shape), dtype="complex64")
        for shape in ((2,), (3, 2), (2, 4, 2)):
            assert_close(np.ones(shape) @ operator, np.ones(shape) @ self.matrix, dtype="complex64")
        assert operator.cost(batch=2).flops == 0
        assert repr(operator) == "ScipyOperator(MatrixLinearOperator)  2×3  complex64  no parameters  numpy"

    def test_by_functions(self):
        operator = lo.aslinearoperator(scipy_linalg.LinearOperator((2, 2), matvec=lambda x: x[::-1], dtype=np.float32))
        assert (operator @ np.ones((2, 2), np.float32)).dtype == np.float32
        assert operator.to_dense().dtype == np.float32
        assert_close((operator @ operator @ lo.Identity(2)).to_dense(), np.eye(2))

    def test_stays_on_numpy(self):
        operator = lo.aslinearoperator(scipy_linalg.aslinearoperator(MATRIX))
        for moving in (operator, operator @ lo.Permute([2, 0, 1]), A + operator):
            assert moving.backend == "numpy"
            with pytest.raises(TypeError, match=r"ScipyOperator\(3×3.*runs on numpy alone.*torch"):
                moving.to(backend="torch")
        with pytest.raises(TypeError, match=r"numpy operator ScipyOperator.*torch array"):
            operator @ torch.ones(3)
        with pytest.raises(TypeError, match="mixed backends"):
            operator @ A.to(backend="torch")


# ---------------------------------------------------------------- scipy's solvers


class TestToScipy:
    rng = np.random.default_rng(0)
    positive = lo.kron(lo.Dense(MATRIX), lo.Diagonal(np.array([1.0, 2.0]))) + lo.Identity(6)

    @every_case
    def test_products(self, case):
        operator, matrix, array = build(case, "complex128")
        exported = operator.to_scipy()
        m, n = matrix.shape
        assert isinstance(exported, scipy_linalg.LinearOperator)
        assert (exported.shape, exported.dtype) == (matrix.shape, np.result_type(matrix, operator.dtype or np.float64))
        for shape in ((n,), (n, 1), (n, 3)):
            assert_close(exported @ (x := array(*shape)), matrix @ x)
        for shape in ((m,), (m, 3)):
            assert_close(exported.H @ (y := array(*shape)), matrix.conj().T @ y)
            assert_close(exported.T @ y, matrix.T @ y)
        assert_is(lo.aslinearoperator(exported), matrix.astype(exported.dtype))

    def test_cg(self):
        b = self.rng.standard_normal(6)
        x, info = scipy_linalg.cg(self.positive.to_scipy(), b, rtol=1e-12)
        assert info == 0
        np.testing.assert_allclose(self.positive @ x, b, atol=1e-10)

    def test_eigsh(self):
        found = scipy_linalg.eigsh(self.positive.to_scipy(), k=2, which="LA", return_eigenvectors=False)
        np.testing.assert_allclose(np.sort(found), np.linalg.eigvalsh(self.positive.to_dense())[-2:])

    @pytest.mark.parametrize("dtype", ["float64", "complex128"])
    def test_svds(self, dtype):
        operator = lo.Sparse(
            randoms("svds", dtype)(12), [0, 1, 2, 3, 4, 5] * 2, [0, 1, 2, 3, 0, 1, 1, 2, 3, 0, 1, 2], (6, 4)
        )
        found = scipy_linalg.svds(operator.to_scipy(), k=2, return_singular_vectors=False)
        np.testing.assert_allclose(np.sort(found), np.linalg.svd(operator.to_dense())[1][1::-1])

    def test_lsqr_with_an_operator_without_arrays(self):
        found = scipy_linalg.lsqr(lo.Permute([2, 0, 1]).to_scipy(), np.arange(3.0))[0]
        np.testing.assert_allclose(found, [1.0, 2.0, 0.0])


# ---------------------------------------------------------------- arrays and numbers

ARRAYS = {"numpy": np.asarray, "torch": torch.from_numpy, "jax": jnp.asarray}


@pytest.mark.parametrize("backend", ARRAYS)
def test_arrays_on_the_left(backend):
    operator, x = A.to(backend=backend), ARRAYS[backend](RIGHT)
    for shape in ((3, 3), (1, 3, 3)):
        assert_close(x.reshape(shape) @ operator, RIGHT.reshape(shape) @ MATRIX)
    assert_close(x[0] @ operator, RIGHT[0] @ MATRIX)
    assert type(x @ operator) is type(x)
    assert_is((x + operator).to(backend="numpy"), RIGHT + MATRIX)
    assert_is((x - operator).to(backend="numpy"), RIGHT - MATRIX)


@pytest.mark.parametrize("backend", ARRAYS)
def test_numbers_of_every_kind(backend):
    operator = A.to(backend=backend)
    scalar = ARRAYS[backend](np.array(2.0))
    for found in (
        np.float32(2) * operator,
        operator * np.int8(2),
        scalar * operator,
        operator * scalar,
        operator / (1 / scalar),
    ):
        assert isinstance(found, lo.LinearOperator)
        assert_is(found.to(backend="numpy"), 2 * MATRIX)
    assert_is((2 * lo.Identity(3)).to(backend=backend).T, 2 * np.eye(3))


FUNCTIONS = {
    "np.matmul": lambda: np.matmul(RIGHT, A),
    "np.matmul, swapped": lambda: np.matmul(A, RIGHT),
    "np.add": lambda: np.add(RIGHT, A),
    "np.multiply": lambda: np.multiply(2.0, A),
    "torch.matmul": lambda: torch.matmul(torch.ones(3, 3), A.to(backend="torch")),
    "jnp.matmul": lambda: jnp.matmul(jnp.ones((3, 3)), A.to(backend="jax")),
    "elementwise": lambda: RIGHT * A,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_array_functions_refuse_operators(name):
    with pytest.raises(TypeError, match=r"Dense|ufunc"):
        FUNCTIONS[name]()


def test_numpy_functions_without_ufuncs_take_the_array():
    np.testing.assert_allclose(np.dot(RIGHT, A), RIGHT @ MATRIX)
    np.testing.assert_allclose(np.linalg.norm(A), np.linalg.norm(MATRIX))


@every_case
def test_narrow_operands_promote_as_in_numpy(case):
    operator, matrix, _ = build(case, "float32")
    if operator.dtype is None:
        return  # it computes in the dtype of what it meets
    random = np.random.default_rng(0)
    m, n = matrix.shape
    for dtype in ("bool", "int8", "uint8", "int32", "float16"):
        for shape in ((n,), (n, 3), (2, n, 2)):
            x, y = random.integers(0, 2, shape).astype(dtype), random.integers(0, 2, (4, m)).astype(dtype)
            for found, expected in ((operator @ x, matrix @ x), (y @ operator, y @ matrix)):
                assert found.dtype == np.result_type(operator.dtype, x.dtype)
                np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", each(8, CASES))
def test_narrow_operands_promote_under_jit(case):
    operator, matrix, _ = build(case, "float32")
    if operator.dtype is None:
        return
    moved = operator.to(backend="jax")
    x = np.random.default_rng(0).integers(0, 2, (matrix.shape[1], 2)).astype("uint8")
    found = jax.jit(lambda A, x: A @ x)(moved, jnp.asarray(x))
    assert found.dtype == jnp.promote_types(moved.dtype, x.dtype)
    np.testing.assert_allclose(found, matrix @ x, rtol=1e-4, atol=1e-4)


@every_case
def test_integers_promote_as_in_numpy(case):
    random = np.random.default_rng(0)
    numbers = random.integers(0, 2, 10_000)

    def made(dtype):
        supply = iter(numbers)
        return CASES[case](
            lambda *shape: np.array([next(supply) for _ in range(int(np.prod(shape)))]).reshape(shape).astype(dtype)
        )

    try:
        _, exact = made("int64")
    except TypeError as error:  # unit vectors are no integers
        if "must be floating" not in str(error):
            raise
        return
    for ours, theirs in (
        ("int8", "int8"),
        ("int8", "bool"),
        ("uint8", "int16"),
        ("int32", "float32"),
        ("bool", "bool"),
    ):
        try:
            operator, _ = made(ours)
        except TypeError as error:
            if ours != "bool" or "numpy boolean" not in str(error):  # NumPy's booleans have no minus
                raise
            continue
        if operator.dtype is None or operator.dtype.kind not in "biu":
            continue  # not one of integers: divided, complex …
        for shape in ((exact.shape[1],), (exact.shape[1], 2)):
            x = random.integers(0, 2, shape).astype(theirs)
            y = operator @ x
            assert y.dtype == np.result_type(operator.dtype, x.dtype)
            expected = (exact @ x.astype("int64")).astype(y.dtype)  # as integers wrap, if they must
            np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 if y.dtype.kind == "f" else 0)


# ---------------------------------------------------------------- JAX and its libraries


def jax_operator(seed=0):
    sparse = lo.Sparse(lo.spec(5), [0, 1, 2, 3, 0], [1, 0, 3, 2, 3], (4, 4))
    return (sparse + lo.low_rank(4, 4, rank=1)).init(seed=seed, backend="jax", dtype="float64") @ lo.Permute(
        [1, 0, 3, 2]
    )


X = jnp.asarray(np.arange(4.0))


class Model(eqx.Module):
    operator: lo.LinearOperator
    bias: jax.Array
    name: str = eqx.field(static=True, default="model")

    def __call__(self, x):
        return self.operator @ x + self.bias


def test_field_of_an_equinox_module():
    operator = jax_operator()
    model = Model(operator, jnp.ones(4))
    expected = as_numpy(operator.to_dense()) @ X + 1
    assert_close(eqx.filter_jit(model)(X), expected)
    assert_close(eqx.filter_jit(eqx.filter_vmap(model))(jnp.stack([X, X])), np.stack([expected, expected]))
    gradient = eqx.filter_grad(lambda model: model(X).sum())(model)
    assert type(gradient.operator) is type(operator)
    updated = eqx.apply_updates(model, jax.tree_util.tree_map(lambda leaf: -leaf, gradient))
    assert isinstance(updated.operator, lo.Product)
    other = eqx.tree_at(lambda model: model.operator, model, 2 * operator)
    assert_close(other(X), 2 * (expected - 1) + 1)


def test_attribute_of_a_flax_module():
    class Flax(nnx.Module):
        def __init__(self, operator):
            self.operator = nnx.Param(operator)

        def __call__(self, x):
            return self.operator.get_value() @ x

    operator = jax_operator()
    model = Flax(operator)
    expected = as_numpy(operator.to_dense()) @ X
    assert_close(nnx.jit(lambda model, x: model(x))(model, X), expected)
    state = nnx.grad(lambda model: model(X).sum())(model)
    assert isinstance(state["operator"].get_value(), lo.Product)


def test_field_of_a_dataclass_pytree():
    @jax.tree_util.register_dataclass
    @dataclass
    class State:
        operator: lo.LinearOperator
        x: jax.Array

    state = State(jax_operator(), X)
    stepped = jax.jit(lambda state: State(2 * state.operator, state.operator @ state.x))(state)
    assert_close(stepped.operator.to_dense(), 2 * as_numpy(state.operator.to_dense()))
    assert_close(stepped.x, as_numpy(state.operator.to_dense()) @ X)


def test_carry_of_loops():
    operator = jax_operator()
    dense = as_numpy(operator.to_dense())

    def step(carry):
        operator, x, count = carry
        return operator, operator @ x, count + 1

    _, last, count = jax.jit(
        lambda operator, x: jax.lax.while_loop(lambda carry: carry[2] < 3, step, (operator, x, 0))
    )(operator, X)
    assert_close(last, np.linalg.matrix_power(dense, 3) @ X)
    assert count == 3
    both = jax.jit(lambda flag, A, B, x: jax.lax.cond(flag, lambda A, B, x: A @ x, lambda A, B, x: x @ B, A, B, x))
    assert_close(both(True, operator, operator, X), dense @ X)
    assert_close(both(False, operator, operator, X), X @ dense)
    chosen = jax.lax.cond(True, lambda: jax_operator(1), lambda: jax_operator(2))
    assert_close(chosen.to_dense(), as_numpy(jax_operator(1).to_dense()))


def test_scan_and_vmap_over_stacks():
    operators = [jax_operator(seed) for seed in range(3)]
    stack = jax.tree_util.tree_map(lambda *leaves: jnp.stack(leaves), *operators)
    denses = [as_numpy(operator.to_dense()) for operator in operators]
    last, all_ = jax.lax.scan(lambda x, A: (A @ x, A @ x), X, stack)
    assert_close(last, denses[2] @ denses[1] @ denses[0] @ X)
    assert all_.shape == (3, 4)
    assert_close(jax.vmap(lambda A: X @ A)(stack), np.stack([X @ dense for dense in denses]))
    built = jax.vmap(lambda values: lo.Sparse(values, [0, 1], [1, 0], (2, 2)))(jnp.ones((3, 2)))
    assert built.values.shape == (3, 2)


def test_optax_trains_an_operator():
    target, operator = jax_operator(1), jax_operator(2)
    inputs = jnp.asarray(np.random.default_rng(0).standard_normal((4, 32)))
    optimizer = optax.adam(0.05)

    def loss(operator):
        return ((operator @ inputs - target @ inputs) ** 2).mean()

    @jax.jit
    def step(operator, state):
        value, gradient = jax.value_and_grad(loss)(operator)
        updates, state = optimizer.update(gradient, state, operator)
        return optax.apply_updates(operator, updates), state, value

    state, first = optimizer.init(operator), loss(operator)
    for _ in range(100):
        operator, state, value = step(operator, state)
    assert value < 0.05 * first
    assert isinstance(operator, lo.Product)


# ---------------------------------------------------------------- torch


# from inside torch, where forward mode loads decompositions
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torch_functional():
    operator = jax_operator().to(backend="numpy").to(backend="torch")
    dense, x = operator.to_dense(), torch.arange(4.0, dtype=torch.float64)
    names, parameters = zip(*operator.named_leaves())

    def functional(parameters, x):
        return operator.with_leaves(parameters) @ x

    tangents = tuple(torch.ones_like(leaf) for leaf in parameters)
    _, tangent = torch.func.jvp(functional, (parameters, x), (tangents, torch.ones_like(x)))
    expected = operator.with_leaves(tangents)
    step = 1e-6
    moved = [leaf + step * one for leaf, one in zip(parameters, tangents)]
    torch.testing.assert_close(
        tangent, (functional(moved, x + step) - functional(parameters, x)) / step, rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(torch.func.jacrev(functional, 1)(parameters, x), dense)
    jacobian = torch.func.jacrev(lambda A: A @ x)(operator)
    assert [leaf.shape for leaf in torch_tree.tree_leaves(jacobian)] == [(4, *leaf.shape) for leaf in parameters]
    gradient = torch.func.grad(lambda A: (A @ x).sum())(operator)
    assert [name for name, _ in gradient.named_leaves()] == list(names)
    assert expected.shape == operator.shape
    doubled = torch_tree.tree_map(lambda leaf: 2 * leaf, operator)
    assert isinstance(doubled, lo.Product)
    values, structure = torch_tree.tree_flatten(operator)
    assert [id(leaf) for leaf in values] == [id(leaf) for leaf in leaves(operator)]
    torch.testing.assert_close(torch_tree.tree_unflatten(values, structure) @ x, dense @ x)


def test_torch_trains_an_operator():
    target, operator = (jax_operator(seed).to(backend="numpy").to(backend="torch") for seed in (1, 2))
    parameters = [torch.nn.Parameter(leaf.clone()) for leaf in leaves(operator)]
    optimizer = torch.optim.Adam(parameters, lr=0.05)
    inputs = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 32)))
    history = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = ((operator.with_leaves(parameters) - target) @ inputs).square().mean()
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < 0.05 * history[0]
