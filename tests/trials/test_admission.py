"""What becomes an operand, a leaf, an operator; what other libraries make of operators; what shares memory."""

import copy
import importlib
import pickle
import sys
from types import ModuleType, SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg as sl
import torch
from helpers import as_numpy, build, every_case
from jax.experimental import sparse as jax_sparse

import linops as lo
from linops.habits import DENSE_LIMIT, HINTS
from linops.install import command, require_plum

pytestmark = pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
MATRIX = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 2.0]])
A = lo.Dense(MATRIX)
x = np.array([1.0, 2.0, 3.0])


class Plain(np.ndarray):
    """A subclass with NumPy's arithmetic."""


class Metres(np.ndarray):
    """A subclass with units, as those of astropy and unyt."""

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        raise AssertionError("units")


class Quantity:
    """A duck array with units, as pint's."""

    def __init__(self, numbers):
        self.numbers = numbers

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("units stripped")

    def __array_ufunc__(self, *_, **__):
        raise AssertionError("units")


class Readable:
    """What NumPy reads, as h5py's data sets."""

    def __init__(self, numbers):
        self.numbers = numbers

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.numbers, dtype)


class Duck:
    """An operator of another library: a shape and a matvec."""

    def __init__(self, matrix, dtype=None):
        self.matrix, self.shape, self.dtype = matrix, matrix.shape, dtype
        self.matvec = matrix.__matmul__  # of the instance alone, as in lazylinop
        self.rmatvec = matrix.conj().T.__matmul__


def operators():
    return {
        "Dense": A,
        "axes": lo.Permute.axes((1, 3), (1, 0)),
        "Permute": lo.Permute([2, 0, 1]),
        "Product": A @ lo.Diagonal(x),
    }


every_operator = pytest.mark.parametrize("operator", operators().values(), ids=operators())
#: what stands for an array: a function of a plain one
STAND_INS = {
    "matrix": lambda a: np.asmatrix(a),
    "subclass": lambda a: a.view(Plain),
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(a.tolist()),
    "rows": lambda a: list(a),
    "readable": Readable,
    "big-endian": lambda a: a.astype(">f8"),
}
every_stand_in = pytest.mark.parametrize("stand_in", STAND_INS.values(), ids=STAND_INS)


# ---------------------------------------------------------------- 7: subclasses of ndarray, lists and tables


def test_trial_07_numpy_matrix():
    column = np.matrix(np.arange(6.0)).T
    y = lo.Permute.axes((2, 3), (1, 0)) @ column
    assert type(y) is np.ndarray
    assert y.tolist() == [[0], [3], [1], [4], [2], [5]]
    dense = scipy.sparse.csr_matrix(MATRIX).todense()
    assert type(lo.Dense(dense).matrix) is np.ndarray
    assert type(lo.Dense(dense) @ x) is np.ndarray


@every_operator
@every_stand_in
def test_trial_07_operands_on_both_sides(operator, stand_in):
    matrix = operator.to_dense()
    X = np.arange(12.0).reshape(3, 4)
    for found, expected in ((operator @ stand_in(X), matrix @ X), (stand_in(X.T) @ operator, X.T @ matrix)):
        assert type(found) is np.ndarray
        np.testing.assert_array_equal(found, expected)
    if stand_in is not STAND_INS["matrix"]:  # which has two axes always
        np.testing.assert_array_equal(operator @ stand_in(x), matrix @ x)
        np.testing.assert_array_equal(stand_in(x) @ operator, x @ matrix)


@every_stand_in
def test_trial_07_summands_and_operators(stand_in):
    given = stand_in(MATRIX)
    for found in (
        A + given,
        given + A,
        A - given,
        given - A,
        lo.Block([[given, A]]),
        lo.hstack(given, A),
        lo.BlockDiag([given, A]),
    ):
        assert isinstance(found, lo.LinearOperator)
        assert all(type(leaf) is np.ndarray and leaf.dtype.isnative for _, leaf in found.named_leaves())
    np.testing.assert_array_equal((A + given).to_dense(), 2 * MATRIX)
    np.testing.assert_array_equal((given - A).to_dense(), 0 * MATRIX)
    np.testing.assert_array_equal(lo.aslinearoperator(given).to_dense(), MATRIX)
    np.testing.assert_array_equal(lo.kron(given, A).to_dense(), np.kron(MATRIX, MATRIX))
    assert lo.allclose(A, given)


SHAPES = {
    "Dense": (lo.Dense, [(3, 2)]),
    "Diagonal": (lo.Diagonal, [(3,)]),
    "Triangular": (lo.Triangular, [(3, 3)]),
    "Tridiagonal": (lo.Tridiagonal, [(2,), (3,), (2,)]),
    "LowRank": (lo.LowRank, [(3, 2), (2, 4)]),
    "BlockDiag": (lo.BlockDiag, [(2, 3, 2)]),
    "Householder": (lo.Householder, [(3,)]),
    "Householders": (lo.Householder, [(2, 3)]),
    "Circulant": (lo.Circulant, [(4,)]),
    "Toeplitz": (lo.Toeplitz, [(3,), (4,)]),
    "Kronecker": (lo.Kronecker, [(2, 3), (1, 2)]),
    "KroneckerSum": (lo.KroneckerSum, [(2, 2), (3, 3)]),
    "TensorTrain": (lambda *cores: lo.TensorTrain(cores), [(1, 2, 2, 3), (3, 2, 1, 1)]),
    "BlockTensorTrain": (lambda *cores: lo.BlockTensorTrain(cores), [(4, 12, 5), (3, 7, 16)]),
    "Butterfly": (lambda *factors: lo.Butterfly(factors), [(1, 2, 2, 2), (2, 1, 2, 2)]),
    "Einsum": (lambda *tensors: lo.Einsum("ab,bc,c->a", *tensors), [(3, 2), (2, 4)]),
    "Sparse": (lambda values: lo.Sparse(values, [0, 2], [1, 0], (3, 2)), [(2,)]),
}


def arrays_of(shapes):
    random = np.random.default_rng(0)
    return [random.integers(1, 5, shape).astype(float) for shape in shapes]


@pytest.mark.parametrize("name", SHAPES)
def test_trial_07_leaves_of_every_constructor(name):
    make, shapes = SHAPES[name]
    arrays = arrays_of(shapes)
    expected = make(*arrays).to_dense()
    for kind in ("subclass", "list", "readable", "big-endian"):
        if kind == "list" and name == "BlockDiag":
            continue  # a list of blocks is one of operators of any shapes; below
        operator = make(*[STAND_INS[kind](array) for array in arrays])
        assert all(
            type(leaf) is np.ndarray and leaf.dtype == "float64" and leaf.dtype.isnative
            for _, leaf in operator.named_leaves()
        )
        np.testing.assert_array_equal(operator.to_dense(), expected)
        pickle.loads(pickle.dumps(operator))
    for strange in (np.ma.masked_array(arrays[0]), arrays[0].view(Metres), Quantity(arrays[0])):
        with pytest.raises(TypeError, match=r"arithmetic of its own"):
            make(strange, *arrays[1:])


def test_trial_07_lists_say_what_they_are():
    assert lo.Dense([[1, 2], [3, 4]]).dtype == np.int64
    assert (lo.Diagonal([1, 2]) @ [1.0, 2.0]).tolist() == [1.0, 4.0]
    assert lo.BlockDiag([[[1.0]], [[2.0]]]).to_dense().tolist() == [[1, 0], [0, 2]]
    assert (A @ [[1], [2], [3]]).shape == (3, 1)
    assert lo.Function((2, 2), lambda v, d: v * d, params=([1.0, 2.0],)).params[0].tolist() == [1.0, 2.0]
    for nested in ([torch.ones(3)] * 3, [[jnp.ones(())]], ["a"], [None]):
        with pytest.raises(TypeError, match=r"Dense\(3×3.* @ list: expected numbers in a list, got"):
            A @ nested
    with pytest.raises(ValueError, match="rows of a list are of different lengths"):
        lo.Dense([[1.0], [2.0, 3.0]])
    for backend in ("torch", "jax"):
        with pytest.raises(TypeError, match=rf"{backend} operator Dense.*list of shape \(3,\): mixed backends"):
            A.to(backend=backend, dtype="float32") @ [1.0, 2.0, 3.0]


@every_operator
def test_trial_07_other_arithmetics_are_refused_by_name(operator):
    masked = np.ma.masked_array(x, [False, True, False])
    record = np.rec.array([(1.0, 2.0)] * 3, dtype=[("a", float), ("b", float)])
    for given, words in (
        (masked, r"x\.filled\(0\)"),
        (x.view(Metres), r"numpy\.asarray"),
        (Quantity(x), r"numpy\.asarray"),
        (record, "expected numbers"),
    ):
        name = type(given).__name__
        with pytest.raises(TypeError, match=rf"\(3×3.* @ {name}: .*{words}"):
            operator @ given
        with pytest.raises(TypeError, match=rf"{name} @ .*\(3×3.*: .*{words}"):
            operator.__rmatmul__(given)
        with pytest.raises(TypeError, match=words):
            operator + np.ma.masked_array(MATRIX) if given is masked else operator + given


def test_trial_07_callables_that_return_a_subclass():
    F = lo.Function((3, 3), lambda v: (2 * v).view(Plain), lambda v: np.ma.masked_array(v))
    assert type(F @ x) is np.ndarray
    with pytest.raises(TypeError, match="matvec returned: MaskedArray has an arithmetic"):
        F.H @ x


def test_trial_07_a_memory_map_stays_one(tmp_path):
    mapped = np.memmap(tmp_path / "m", np.float64, "w+", shape=(3, 3))
    mapped[:] = MATRIX
    operator = lo.Dense(mapped)
    assert type(operator.matrix) is np.ndarray
    assert np.shares_memory(operator.matrix, mapped)
    np.testing.assert_array_equal(operator @ x, MATRIX @ x)


# ---------------------------------------------------------------- 25: traced structure, formats of JAX


@pytest.mark.parametrize("format", ["BCOO", "BCSR", "COO", "CSR", "CSC"])
@pytest.mark.full
def test_trial_25_formats_of_jax(format):
    dense = np.array([[0.0, 5.0, 0.0], [7.0, 0.0, 1.0]], np.float32)
    S = getattr(jax_sparse, format).fromdense(jnp.asarray(dense))
    np.testing.assert_array_equal(lo.Sparse(S).to(backend="numpy").to_dense(), dense)
    np.testing.assert_array_equal((lo.Identity(2) @ S).to(backend="numpy").to_dense(), dense)
    with pytest.raises(
        TypeError, match=rf"{format} of shape \(2, 3\).*index arrays are the structure.*outside of jit"
    ) as caught:
        jax.jit(lambda S: lo.aslinearoperator(S) @ jnp.ones(3))(S)
    assert type(caught.value) is TypeError


TRACED = {
    "Permute": lambda i: lo.Permute(i) @ jnp.ones(3),
    "rows": lambda i: lo.Sparse(jnp.ones(3), i, [0, 1, 2], (3, 3)) @ jnp.ones(3),
    "columns": lambda i: lo.Sparse(jnp.ones(3), [0, 1, 2], i, (3, 3)) @ jnp.ones(3),
    "subscript": lambda i: lo.Identity(3)[i] @ jnp.ones(3),
    "one row": lambda i: lo.Identity(3)[i[0]] @ jnp.ones(3),
}


@pytest.mark.parametrize("name", TRACED)
@pytest.mark.parametrize("transform", [jax.jit, lambda f: lambda i: jax.vmap(f)(i[None])], ids=["jit", "vmap"])
def test_trial_25_traced_index_arrays(name, transform):
    with pytest.raises(
        TypeError, match=r"index arrays are the structure of an operator, and JAX traces.*outside of jit"
    ) as caught:
        transform(TRACED[name])(jnp.array([1, 0, 2]))
    assert type(caught.value) is TypeError


def test_trial_25_index_arrays_at_hand():
    for indices in (jnp.array([2, 0, 1]), np.array([2, 0, 1], ">i8"), (2, 0, 1), np.array([2, 0, 1]).view(Plain)):
        assert (lo.Permute(indices) @ x).tolist() == [3.0, 1.0, 2.0]
        assert (lo.Identity(3)[indices if not isinstance(indices, tuple) else list(indices)] @ x).tolist() == [
            3.0,
            1.0,
            2.0,
        ]
    # the values may be traced
    made = jax.jit(lambda v: lo.Sparse(v, [0, 2], [1, 0], (3, 2)) @ jnp.ones(2))(jnp.ones(2))
    assert made.tolist() == [1.0, 0.0, 1.0]


# ---------------------------------------------------------------- 26: byte order, devices, dtypes and seeds in the
# wrong place


@pytest.mark.parametrize("backend", ["torch", "jax"])
@pytest.mark.parametrize("dtype", [">f4", ">i2", ">c8", ">f8"])
def test_trial_26_big_endian_arrays(backend, dtype):
    big = MATRIX.astype(dtype)
    if dtype == ">f8" and backend == "jax":
        with jax.enable_x64(False), pytest.raises(TypeError, match="float64 into float32"):
            lo.Dense(big).to(backend=backend)
        return
    for operator in (
        lo.Dense(big),
        lo.Sparse(scipy.sparse.coo_array(MATRIX)).to(dtype=dtype),
        lo.Triangular(big, lower=False),
    ):
        moved = operator.to(backend=backend)
        np.testing.assert_array_equal(as_numpy(moved.to_dense()), operator.to_dense())
    np.testing.assert_array_equal(as_numpy(lo.backends.asarray(big, backend)), MATRIX)
    assert str(lo.Dense(big).dtype) == np.dtype(dtype).name


@every_case
def test_trial_26_big_endian_operands_of_every_operator(case):
    operator, matrix, array = build(case)
    if operator.backend not in (None, "numpy"):
        pytest.skip("not NumPy's")
    u, v = array(matrix.shape[1], 2), array(2, matrix.shape[0])
    for given, expected in ((operator @ u.astype(">f8"), operator @ u), (v.astype(">f8") @ operator, v @ operator)):
        np.testing.assert_allclose(given, expected, rtol=1e-12, atol=1e-12)


def test_trial_26_what_belongs_to_device_and_dtype():
    tensor = A.to(backend="torch")
    for operator in (A, tensor, lo.Identity(3)):
        for given, kind, words in (
            ("cuda", ValueError, r"device='cuda'"),
            ("cuda:0", ValueError, r"device='cuda:0'"),
            ("float32", ValueError, r"dtype='float32'"),
            (torch.device("cpu"), TypeError, r"device="),
            (jax.devices()[0], TypeError, r"device="),
            (torch.float32, TypeError, r"dtype='float32'"),
            (np.float32, TypeError, r"dtype='float32'"),
            (np.dtype("float32"), TypeError, r"dtype='float32'"),
            (jnp.float32, TypeError, r"dtype='float32'"),
            (torch.ones(3), TypeError, r"Tensor"),
            ("tensorflow", ValueError, r"'tensorflow': expected 'numpy', 'torch' or 'jax'$"),
        ):
            with pytest.raises(kind, match=words) as caught:
                operator.to(given)
            assert "expected 'numpy', 'torch' or 'jax'" in str(caught.value)
    assert tensor.to(device="cpu").backend == A.to(device=torch.device("cpu")).backend.replace("numpy", "torch")
    assert A.to(backend="jax", dtype="float32", device="cpu").device == jax.devices("cpu")[0]


def test_trial_26_seeds():
    symbolic = lo.dense(3, 3)
    expected = symbolic.init(seed=3).to_dense()
    for seed in (np.int64(3), jnp.array(3), torch.tensor(3), np.random.default_rng(3)):
        np.testing.assert_array_equal(symbolic.init(seed=seed).to_dense(), expected)
    for seed, words in (
        (jax.random.key(0), r"int\(jax\.random\.bits\(key\)\)"),
        (jax.random.PRNGKey(0), r"int\(jax\.random\.bits\(key\)\)"),
        (torch.Generator(), r"initial_seed\(\)"),
        ("torch", r"backend='torch'"),
        (0.5, r"got 0\.5"),
    ):
        with pytest.raises(TypeError, match=rf"init: seed must be an integer.*{words}"):
            symbolic.init(seed)
        with pytest.raises(TypeError, match=r"Permute\.random: seed must be an integer"):
            lo.Permute.random(3, seed)


# ---------------------------------------------------------------- 32: no large matrix unasked

BIG = lo.kron(np.eye(64), 2 * np.eye(64))  # 8,192 parameters, 16,777,216 entries
big_x = np.arange(4096.0)


def test_trial_32_values_without_the_matrix(monkeypatch):
    monkeypatch.setattr(lo.Kronecker, "to_dense", None)  # whoever builds it fails
    pandas = pytest.importorskip("pandas")
    for found in (
        np.dot(BIG, big_x),
        BIG.dot(big_x),
        BIG @ pandas.Series(big_x),
        np.dot(big_x, BIG),
        BIG.to_scipy() @ big_x,
    ):
        np.testing.assert_array_equal(found, 2 * big_x)
    for found in (
        np.dot(BIG, BIG),
        BIG.to_scipy() @ BIG,
        BIG @ sl.aslinearoperator(scipy.sparse.eye_array(4096)),
        np.transpose(BIG),
    ):
        assert isinstance(found, lo.LinearOperator)
    assert isinstance(np.kron(BIG, BIG), lo.LinearOperator)
    assert np.shape(BIG) == (4096, 4096)
    assert np.ndim(BIG) == 2


LEFT = {
    "sparse array": lambda: scipy.sparse.eye_array(4096).tocsr() @ BIG,
    "sparse matrix": lambda: scipy.sparse.csr_matrix(scipy.sparse.eye(4096)) @ BIG,
    "scipy's operator": lambda: sl.aslinearoperator(scipy.sparse.eye_array(4096)) @ BIG,
    "asarray": lambda: np.asarray(BIG),
    "array": lambda: np.array(BIG),
    "norm": lambda: np.linalg.norm(BIG),
    "stack": lambda: np.stack([BIG, BIG]),
}


@pytest.mark.parametrize("name", LEFT)
def test_trial_32_beyond_a_size_the_matrix_is_refused(name, monkeypatch):
    monkeypatch.setattr(lo.Kronecker, "to_dense", None)
    with pytest.raises(
        TypeError,
        match=r"Kronecker\(4096×4096.*16,777,216 entries.*8,192 parameters.*A\.to_dense\(\)"
        r".*lo\.aslinearoperator\(S\) @ A",
    ):
        LEFT[name]()


def test_trial_32_pandas_on_the_left(monkeypatch):
    pandas = pytest.importorskip("pandas")
    frame, series = pandas.DataFrame(MATRIX), pandas.Series(x)
    np.testing.assert_array_equal(A @ series, MATRIX @ x)
    np.testing.assert_array_equal(A @ frame, MATRIX @ MATRIX)
    np.testing.assert_array_equal(series @ A, x @ MATRIX)
    np.testing.assert_array_equal(frame @ A, MATRIX @ MATRIX)
    np.testing.assert_array_equal((frame + A).to_dense(), 2 * MATRIX)
    np.testing.assert_array_equal((A - frame).to_dense(), 0 * MATRIX)
    np.testing.assert_array_equal(lo.Dense(frame).to_dense(), MATRIX)
    assert (lo.Permute(pandas.Index([2, 0, 1])) @ x).tolist() == [3.0, 1.0, 2.0]
    with pytest.raises(TypeError, match="expected numbers, got Series of dtype"):
        A @ pandas.Series(["a", "b", "c"])
    monkeypatch.setattr(lo.Kronecker, "to_dense", None)
    for action in (lambda: pandas.Series(big_x) @ BIG, lambda: pandas.DataFrame(big_x[None]) @ BIG):
        with pytest.raises(TypeError, match=r"A\.to_dense\(\)"):
            action()


def test_trial_32_small_and_explicit_matrices():
    for S in (scipy.sparse.csr_array(MATRIX), scipy.sparse.csr_matrix(MATRIX), sl.aslinearoperator(MATRIX)):
        np.testing.assert_allclose(S @ A, MATRIX @ MATRIX)
    assert np.asarray(lo.Identity(1024)).size == DENSE_LIMIT
    with pytest.raises(TypeError, match=r"1,050,625 entries"):
        np.asarray(lo.Identity(1025))
    assert np.asarray(lo.Dense(np.ones((1025, 1025)))).shape == (1025, 1025)  # no more entries than parameters
    with pytest.raises(TypeError, match=r"A\.to\(backend='numpy'\)"):
        scipy.sparse.csr_array(MATRIX) @ A.to(backend="torch")


# ---------------------------------------------------------------- 33: matvec and rmatvec, ours and those of others


def positive(dtype="float64"):
    return lo.kron(lo.Dense(MATRIX.astype(dtype)), lo.Diagonal(np.array([1.0, 2.0], dtype))) + lo.Identity(6)


SOLVERS = {
    name: getattr(sl, name)
    for name in (
        "cg",
        "gmres",
        "bicg",
        "bicgstab",
        "cgs",
        "lgmres",
        "minres",
        "qmr",
        "gcrotmk",
        "tfqmr",
        "lsqr",
        "lsmr",
    )
}


@pytest.mark.parametrize("name", SOLVERS)
def test_trial_33_scipys_solvers_take_an_operator(name):
    operator, b = positive(), np.arange(6.0)
    options = {"atol": 1e-12, "btol": 1e-12} if name in ("lsqr", "lsmr") else {"rtol": 1e-12}
    found = SOLVERS[name](operator, b, **options)[0]
    np.testing.assert_allclose(found, np.linalg.solve(operator.to_dense(), b), atol=1e-8)


def test_trial_33_scipys_spectra_take_an_operator():
    operator = positive()
    values, singular = np.linalg.eigvalsh(operator.to_dense()), np.linalg.svd(operator.to_dense())[1]
    np.testing.assert_allclose(np.sort(sl.eigsh(operator, k=2, return_eigenvectors=False)), values[-2:])
    np.testing.assert_allclose(np.sort(sl.eigs(operator, k=2, return_eigenvectors=False).real), values[-2:])
    np.testing.assert_allclose(np.sort(sl.svds(operator, k=2, return_singular_vectors=False)), singular[1::-1])
    wide = lo.Dense(np.arange(20.0).reshape(4, 5) ** 2 + 1j)
    np.testing.assert_allclose(sl.svds(wide, k=1, return_singular_vectors=False), np.linalg.svd(wide.to_dense())[1][:1])
    found = sl.cg(lo.Permute([1, 0]), np.ones(2))[0]  # without a dtype of its own
    np.testing.assert_allclose(found, 1)
    preconditioned = sl.cg(operator, np.ones(6), M=lo.Diagonal(1 / np.diagonal(operator.to_dense())), rtol=1e-12)[0]
    np.testing.assert_allclose(operator @ preconditioned, 1)


@every_case
def test_trial_33_products_as_scipys(case):
    operator, matrix, array = build(case, "complex128")
    (m, n), H = matrix.shape, matrix.conj().T
    for method, given, expected in (
        (operator.matvec, array(n), matrix),
        (operator.matvec, array(n, 1), matrix),
        (operator.matmat, array(n, 3), matrix),
        (operator.rmatvec, array(m), H),
        (operator.rmatvec, array(m, 1), H),
        (operator.rmatmat, array(m, 3), H),
    ):
        found = method(given)
        assert found.shape == (expected @ given).shape
        np.testing.assert_allclose(found, expected @ given, rtol=1e-10, atol=1e-10)


def test_trial_33_products_on_every_backend():
    narrow = lo.Dense((MATRIX + 1j * np.eye(3)).astype("complex64"))
    for backend in ("torch", "jax"):
        operator = narrow.to(backend=backend)
        v = lo.backends.asarray(x.astype("complex64"), backend)
        np.testing.assert_allclose(as_numpy(operator.matvec(v)), narrow.to_dense() @ x, rtol=1e-6)
        np.testing.assert_allclose(as_numpy(operator.rmatvec(v)), narrow.to_dense().conj().T @ x, rtol=1e-6)
    with pytest.raises(ValueError, match=r"Dense\(3×3.*vector of shape \(3, 2\).*\(3,\) or \(3, 1\)"):
        A.matvec(np.ones((3, 2)))
    assert A.rmatvec([1.0, 2.0, 3.0]).tolist() == (MATRIX.T @ x).tolist()


DUCKS = {
    "duck": lambda M: Duck(M),
    "with a dtype": lambda M: Duck(M, M.dtype),
    "pylops": lambda M: pytest.importorskip("pylops").MatrixMult(M, dtype=M.dtype),
    "lazylinop": lambda M: pytest.importorskip("lazylinop").aslazylinop(M),
}


@pytest.mark.parametrize("name", DUCKS)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_trial_33_operators_of_other_libraries(name, dtype):
    matrix = np.arange(6.0).reshape(3, 2).astype(dtype)
    if dtype == "complex128":
        matrix = matrix + 1j * np.eye(3, 2)
    other = DUCKS[name](matrix)
    operator = lo.aslinearoperator(other)
    assert (operator.shape, operator.dtype, operator.backend) == ((3, 2), dtype, "numpy")
    assert type(other).__name__ in repr(operator)
    v = np.array([1.0, -2.0])
    np.testing.assert_allclose(operator @ v, matrix @ v)
    np.testing.assert_allclose(operator @ np.eye(2), matrix)
    np.testing.assert_allclose(x @ operator, x @ matrix)
    np.testing.assert_allclose(operator.H @ x, matrix.conj().T @ x)
    np.testing.assert_allclose(operator.conj() @ v, matrix.conj() @ v)
    for made, expected in (
        (A @ other, MATRIX @ matrix),
        (operator + lo.Dense(matrix), 2 * matrix),
        (lo.Dense(matrix) - other, 0 * matrix),
        (lo.kron(other, A), np.kron(matrix, MATRIX)),
        (lo.hstack(A, other), np.hstack([MATRIX, matrix])),
        (2 * operator, 2 * matrix),
    ):
        np.testing.assert_allclose(made.to_dense(), expected)
    with pytest.raises(TypeError, match="expected a number"):
        A * other


def test_trial_33_what_is_no_operator_is_named():
    class Torch(Duck):
        pass

    with pytest.raises(TypeError, match=r"Torch of shape \(3, 3\) has dtype torch.float32.*lo\.Function"):
        lo.aslinearoperator(Torch(MATRIX, torch.float32))
    for strange in (SimpleNamespace(shape=(3, 3)), SimpleNamespace(shape=(3,), matvec=abs), Duck, object()):
        with pytest.raises(TypeError, match="expected an array or an operator"):
            lo.aslinearoperator(strange)
        with pytest.raises(TypeError, match="unsupported operand"):
            A @ strange
    # the type was seen without
    assert lo.aslinearoperator(SimpleNamespace(shape=(3, 3), matvec=MATRIX.__matmul__)).shape == (3, 3)


def test_trial_33_there_and_back():
    assert lo.aslinearoperator(A.to_scipy()) is A
    exported = pickle.loads(pickle.dumps(BIG.to_scipy()))
    np.testing.assert_array_equal(exported.H.T @ big_x, 2 * big_x)
    assert lo.aslinearoperator(lo.Permute([1, 0]).to_scipy()).dtype == np.float64
    lazylinop = pytest.importorskip("lazylinop")
    np.testing.assert_allclose(lazylinop.aslazylinop(A) @ x, MATRIX @ x)


# ---------------------------------------------------------------- 35: habits


def test_trial_35_names_that_work():
    complex_ = lo.Dense(MATRIX + 1j)
    assert complex_.transpose().to_dense().tolist() == (MATRIX.T + 1j).tolist()
    assert complex_.adjoint().to_dense().tolist() == (MATRIX.T - 1j).tolist()
    assert A.astype("float32").dtype == "float32"
    assert A.dot(x).tolist() == (MATRIX @ x).tolist()
    assert A.dot(A).shape == (3, 3)
    for backend in ("numpy", "torch"):
        operator = A.to(backend=backend) @ lo.Permute([2, 1, 0]).to(backend=backend)
        copied = operator.copy()
        assert type(copied) is type(operator)
        np.testing.assert_array_equal(as_numpy(copied.toarray()), as_numpy(operator.todense()))
        assert all(
            one.ctypes.data != other.ctypes.data if backend == "numpy" else one.data_ptr() != other.data_ptr()
            for (_, one), (_, other) in zip(operator.named_leaves(), copied.named_leaves())
        )
    assert lo.dense(3, 3).copy().is_symbolic


@pytest.mark.parametrize("name", HINTS)
def test_trial_35_names_with_a_hint(name):
    with pytest.raises(AttributeError, match=r"^'Permute' object has no attribute '") as caught:
        getattr(lo.Permute([1, 0, 2]), name)
    assert str(caught.value).endswith(f": {HINTS[name]}")
    assert name not in dir(A)
    assert not hasattr(lo.LinearOperator, name)


@pytest.mark.parametrize("name", ["solve", "inv", "slogdet", "logdet", "trace", "diagonal", "expm", "logm", "sqrtm"])
def test_trial_35_hints_name_what_is_there(name):
    assert HINTS[name].startswith(f"lo.linalg.{name}(A")
    assert callable(getattr(lo.linalg, name))
    assert not any("to_dense" in text for text in map(HINTS.get, ["solve", "det", "eigh", "svd", "norm", "I"]))


def test_trial_35_hints_do_no_harm():
    for operator in (A, lo.Diagonal([1.0, 2.0]), BIG, lo.dense(2, 2)):
        assert not any(hasattr(operator, name) for name in ("solve", "inv", "no_such_name", "__torch_function__"))
        assert type(copy.deepcopy(pickle.loads(pickle.dumps(operator)))) is type(operator)
    assert lo.Diagonal([1.0, 2.0]).diagonal.tolist() == [1.0, 2.0]  # a field of such a name is the field
    assert "diagonal" in dir(lo.Diagonal([1.0, 2.0]))
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(A, "no_such_name")  # noqa: B009
    with pytest.raises(AttributeError, match=r"linops|lo\.|numpy|A\."):
        getattr(A, "solve")  # noqa: B009
    assert jax.tree_util.tree_leaves(A.to(backend="jax", dtype="float32"))[0].shape == (3, 3)
    assert not hasattr(type(A), "__getattr__")  # which would slow every attribute


def test_trial_35_hints_compile():
    operator = A.to(backend="torch")
    compiled = torch.compile(
        lambda A, v: A.dot(v) + A.matvec(v) + (1 if hasattr(A, "solve") else 0), backend="eager", fullgraph=True
    )
    v = torch.from_numpy(x)
    torch.testing.assert_close(compiled(operator, v), 2 * torch.from_numpy(MATRIX @ x))


PRODUCTS = {
    "array": lambda: A * x,
    "array first": lambda: x * A,
    "operator": lambda: A * A,
    "list": lambda: A * [1.0, 2.0, 3.0],
    "matrix": lambda: np.asmatrix(MATRIX) * A,
    "tensor": lambda: A.to(backend="torch") * torch.ones(3),
    "duck": lambda: A * Duck(MATRIX),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_trial_35_stars_say_at(name):
    with pytest.raises(TypeError, match=r"Dense\(3×3.* \* \w+: expected a number; A @ B composes, A @ x multiplies"):
        PRODUCTS[name]()


FAMILIES = {
    "block_diag": lambda: lo.block_diag(MATRIX, MATRIX),
    "kronecker": lambda: lo.kronecker(A, A),
    "low_rank": lambda: lo.low_rank(torch.ones(3, 2), torch.ones(2, 3)),
    "toeplitz": lambda: lo.toeplitz([1, 2], [1, 3]),
    "butterfly": lambda: lo.butterfly(MATRIX, MATRIX),
    "tensor_train": lambda: lo.tensor_train(MATRIX, MATRIX),
    "btt": lambda: lo.btt(MATRIX, MATRIX),
    "circulant": lambda: lo.circulant(x, x),
    "dense": lambda: lo.dense(MATRIX, 3),
    "monarch": lambda: lo.monarch(MATRIX, MATRIX),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_trial_35_families_of_arrays_name_the_operator(name):
    named = {
        "block_diag": "BlockDiag", "kronecker": "kron", "low_rank": "LowRank", "toeplitz": "Toeplitz",
        "butterfly": "Butterfly", "tensor_train": "TensorTrain", "btt": "BlockTensorTrain",
        "circulant": "Circulant", "dense": "Dense",
    }  # fmt: skip
    words = rf", lo\.{named[name]}\(" if name in named else ""
    with pytest.raises(
        TypeError,
        match=rf"{name}: out_features must be an integer, got \w+; a family makes a symbolic operator of sizes{words}",
    ):
        FAMILIES[name]()


# ---------------------------------------------------------------- 40: what shares memory


def test_trial_40_snapshots_of_parameters():
    layer = lo.low_rank(3, 3, rank=1).to_layer(bias=False)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(1.0)
    snapshots = [layer.operator.to(backend=backend) for backend in ("numpy", "jax")]
    dense = layer.operator.to(backend="numpy").to_dense().copy()
    snapshots[0].U[:] = 7.0  # and the other way round
    assert all(bool((parameter == 1).all()) for parameter in layer.parameters())
    snapshots[0] = layer.operator.to(backend="numpy")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(5.0)
    for snapshot in snapshots:
        np.testing.assert_array_equal(as_numpy(snapshot.to_dense()), dense)


@pytest.mark.parametrize("source", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("target", ["numpy", "torch", "jax"])
def test_trial_40_moves_between_frameworks_copy(source, target):
    values = np.ones(3, np.float32)
    S = lo.Sparse(values.copy(), [0, 1, 2], [1, 2, 0], (3, 3)) @ lo.Permute([2, 0, 1])
    operator = S.to(backend=source)
    expected = as_numpy(operator.to_dense()).copy()
    moved = operator.to(backend=target)
    if source == target:
        # nothing moves
        assert all(one is other for (_, one), (_, other) in zip(operator.named_leaves(), moved.named_leaves()))
        return
    for node in (moved.factors[0].values, moved.factors[0].columns, moved.factors[1].indices):
        if isinstance(node, (np.ndarray, torch.Tensor)):
            node[:] = 0
    np.testing.assert_array_equal(as_numpy(operator.to_dense()), expected)


def test_trial_40_bfloat16_copies():
    operator = lo.Dense(torch.ones(2, 2, dtype=torch.bfloat16))
    operator.to(backend="numpy").matrix[:] = 3
    assert bool((operator.matrix == 1).all())


ENTRIES = {
    "asarray": np.asarray,
    "array": np.array,
    "toarray": lambda A: A.toarray(),
    "row": lambda A: A[0],
    "column": lambda A: A[:, 1],
    "part of a row": lambda A: A[0, :2],
    "rows of a row": lambda A: A[[1, 0, 2]][0],
    "entry": lambda A: A[0, 0],
}


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_trial_40_entries_are_in_memory_of_their_own(name, backend):
    if backend == "torch" and name in ("asarray", "array"):
        pytest.skip("NumPy's")
    for transposed in (False, True):
        operator = lo.Dense(MATRIX.copy()).to(backend=backend)
        operator = operator.T if transposed else operator
        found = ENTRIES[name](operator)
        found *= 0
        np.testing.assert_array_equal(as_numpy(operator.to_dense()), MATRIX.T if transposed else MATRIX)


def test_trial_40_without_a_copy_nothing_is_writable():
    view = np.asarray(A, copy=False)
    assert np.shares_memory(view, A.matrix)
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0] = 5
    assert A.matrix.flags.writeable
    with pytest.raises(ValueError, match=r"Product\(3×3.*copy=False"):
        np.asarray(A @ A, copy=False)
    assert np.asarray(A, dtype="float32").dtype == "float32"
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    assert lo.Dense(parameter).matrix is parameter  # a leaf is the caller's, so that it can be trained
    entry = lo.Dense(parameter)[0]
    entry.sum().backward()
    assert parameter.grad.tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize("make", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_trial_40_structure_is_kept_by_value(make):
    indices, rows = make([2, 0, 1]), make([0, 1, 2])
    x_ = x if make is np.array else torch.from_numpy(x)
    P, S = lo.Permute(indices), lo.Sparse(0 * x_ + 1, rows, rows, (3, 3))
    B = lo.Identity(3)[indices]
    indices[:] = 0
    rows[:] = 0
    assert [(operator @ x_).tolist() for operator in (P, S, B)] == [[3, 1, 2], [1, 2, 3], [3, 1, 2]]


# ---------------------------------------------------------------- 42: packages of another name


def test_trial_42_another_plum_is_named():
    other = ModuleType("plum")
    other.__file__, other.__version__ = "/site-packages/plum/__init__.py", "0.1.4"
    # as that of cola-plum-dispatch
    other.Dispatcher = lambda: SimpleNamespace(abstract=lambda method: lambda *arguments: None)
    for module in (other, ModuleType("plum")):
        with pytest.raises(
            ImportError,
            match=r"plum-dispatch>=2\.10.*cola-ml brings cola-plum-dispatch"
            r".*pip install --force-reinstall plum-dispatch",
        ):
            require_plum(module)
    require_plum(importlib.import_module("plum"))


def test_trial_42_another_plum_stops_who_asks_it(tmp_path):
    import subprocess

    (tmp_path / "plum.py").write_text("class Dispatcher:\n    def abstract(self, method):\n        return method\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import linops; linops.dispatch.dispatcher()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(
        "ImportError: linops needs the module plum of plum-dispatch>=2.10, but"
    )


def test_trial_42_hints_name_no_distribution_of_ours(monkeypatch):
    from pathlib import Path

    assert command("torch", "torch") == "pip install torch, or pip install -e '.[torch]' in a checkout of linops"
    root = Path(lo.__file__).parent
    pages = [*root.rglob("*.py"), *(root.parent / "docs").glob("*.md"), root.parent / "README.md"]
    assert not [page for page in pages if page.exists() and "install 'linops" in page.read_text(encoding="utf-8")]
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.delitem(sys.modules, "linops.backends.jax")
    monkeypatch.delitem(lo.backends.registry._MODULES, "jax")
    with pytest.raises(
        ImportError, match=r"backend 'jax' needs jax: pip install jax, or pip install -e '\.\[jax\]' in a checkout"
    ):
        lo.backends.load("jax")


@pytest.mark.parametrize("rows", [[[1.0], [2.0, 3.0]], ((1,), (1, 2)), [1, [2]]])
def test_rows_of_different_lengths_name_the_operand(rows):
    kind = type(rows).__name__
    for use in (lambda: lo.Identity(2) @ rows, lambda: rows @ lo.Identity(2)):
        with pytest.raises(ValueError, match=rf"Identity\(2×2\).*rows of a {kind} are of different lengths"):
            use()
    with pytest.raises(ValueError, match=f"Dense: matrix: the rows of a {kind}"):
        lo.Dense(rows)


def test_a_symbolic_operator_as_an_array_names_init():
    with pytest.raises(TypeError, match=r"BlockTensorTrain.*A\.init"):
        np.asarray(lo.btt(16, 16))
