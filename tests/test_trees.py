"""Random expression trees of all operators, on all backends, against dense arithmetic.

A kind of node is a method of `Trees`, under `@leaf` or `@node`. The leaf `case` draws from the table of cases, so that
every operator of the package is in; a method of its own gives an operator all shapes.
"""

import jax
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
from cases import CASES, block_matrix, pad_matrix
from cases.limits import BACKENDS, DTYPES, names
from helpers import as_numpy, assert_close, on
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_tags import assert_sound

import linops as lo
from linops.plan import natural_order
from linops.tags import Tag

SIZES = st.integers(1, 6)
SCALARS = st.sampled_from([2, -1, 0.5, 0, -3.0, 1j, 1 - 2j, -1 + 0j])
#: the cases that every backend and dtype has
EVERYWHERE = sorted(name for name, case in CASES.items() if names(case) >= {*BACKENDS, *DTYPES})
#: kinds of leaves and inner nodes, and whether they are square
LEAVES, NODES = {}, {}


def leaf(square=False):
    """Declare a kind of leaf: a method (self, m, n) -> (operator, matrix)."""
    return lambda method: LEAVES.setdefault(method.__name__, (method, square))[0]


def node(square=False):
    """Declare an inner node: (self, m, n, depth) -> (operator, matrix), whose parts `self.tree(m, n, depth)` draws."""
    return lambda method: NODES.setdefault(method.__name__, (method, square))[0]


class Trees:
    """Draws (operator, matrix) of a shape; every matrix is computed from matrices alone."""

    def __init__(self, draw, dtype):
        self.draw = draw
        self.random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.dtype = dtype

    def array(self, *shape):
        real = self.random.standard_normal(shape)
        return np.asarray(real + 1j * self.random.standard_normal(shape) if self.dtype == "complex128" else real)

    def tree(self, m, n, depth):
        inner = [method for method, square in NODES.values() if depth and (m == n or not square)]
        method = self.draw(st.sampled_from([None, *inner]))
        return self.any_leaf(m, n) if method is None else method(self, m, n, depth - 1)

    def any_leaf(self, m, n):
        kinds = [method for method, square in LEAVES.values() if m == n or not square]
        return self.draw(st.sampled_from(kinds))(self, m, n)

    @leaf()
    def case(self, m, n):
        """A case of the table, cropped and padded to the shape."""
        operator, matrix = CASES[self.draw(st.sampled_from(EVERYWHERE))](self.array)
        p, q = matrix.shape
        return lo.Pad(m, p) @ operator @ lo.Pad(q, n), pad_matrix(m, p) @ matrix @ pad_matrix(q, n)

    @leaf()
    def dense(self, m, n):
        a = self.array(m, n)
        return lo.Dense(a), a

    @leaf()
    def low_rank(self, m, n):
        u, v = self.array(m, 2), self.array(2, n)
        return lo.LowRank(u, v), u @ v

    @leaf()
    def zero(self, m, n):
        return lo.Zero(m, n), np.zeros((m, n))

    @leaf()
    def pad(self, m, n):
        return lo.Pad(m, n), np.eye(m, n)

    @leaf()
    def circulant(self, m, n):
        c = self.array(max(m, n))
        return lo.Circulant(c, m, n), scipy.linalg.circulant(c)[:m, :n]

    @leaf()
    def toeplitz(self, m, n):
        c, r = self.array(m), self.array(n)
        return lo.Toeplitz(c, r), scipy.linalg.toeplitz(c, r)

    @leaf()
    def butterfly(self, m, n):
        inner, outer = self.array(1, 1, 2 * m, n), self.array(1, m, 1, 2)
        return lo.Butterfly([outer, inner]), block_matrix(outer[0]) @ inner[0, 0]

    @leaf()
    def einsum(self, m, n):
        a, b = self.array(m, 2, n), self.array(2, n)
        return lo.Einsum("irj,rj,j->i", a, b), (a * b).sum(axis=1)

    @leaf()
    def sparse(self, m, n):
        a = self.array(m, n) * (self.random.random((m, n)) < 0.5)
        return lo.Sparse(scipy.sparse.csr_array(a)), a

    @leaf(square=True)
    def identity(self, m, n):
        return lo.Identity(n), np.eye(n)

    @leaf(square=True)
    def diagonal(self, m, n):
        d = self.array(n)
        return lo.Diagonal(d), np.diag(d)

    @leaf(square=True)
    def permute(self, m, n):
        indices = self.random.permutation(n)
        return lo.Permute(indices), np.eye(n)[indices]

    @leaf(square=True)
    def axes(self, m, n):
        first = self.draw(st.sampled_from([size for size in range(1, n + 1) if n % size == 0]))
        dims = (first, n // first)
        return lo.Permute.axes(dims, (1, 0)), np.eye(n)[np.arange(n).reshape(dims).T.ravel()]

    @leaf(square=True)
    def definite(self, m, n):
        root = self.array(n, n)
        a = root @ root.conj().T + np.eye(n)
        return lo.assume(lo.Dense(a), Tag.POSITIVE_DEFINITE), a

    @leaf(square=True)
    def triangular(self, m, n):
        a = np.tril(self.array(n, n))
        return lo.assume(lo.Dense(a), Tag.LOWER_TRIANGULAR), a

    @leaf(square=True)
    def unitary(self, m, n):
        q, _ = np.linalg.qr(self.array(n, n))
        return lo.assume(lo.Dense(q), Tag.ORTHOGONAL), q

    @leaf(square=True)
    def masked(self, m, n):
        a, lower = self.array(n, n), self.draw(st.booleans())
        return lo.Triangular(a, lower=lower), np.tril(a) if lower else np.triu(a)

    @leaf(square=True)
    def tridiagonal(self, m, n):
        lower, diag, upper = self.array(n - 1), self.array(n), self.array(n - 1)
        upper = lower if self.draw(st.booleans()) else upper
        return lo.Tridiagonal(lower, diag, upper), np.diag(lower, -1) + np.diag(diag) + np.diag(upper, 1)

    @leaf(square=True)
    def reflections(self, m, n):
        v = self.array(self.draw(st.integers(1, 3)), n)
        matrix = np.eye(n)
        for row in v:
            matrix = matrix @ (np.eye(n) - 2 * np.outer(row, row.conj()) / np.vdot(row, row))
        return lo.Householder(v), matrix

    @leaf(square=True)
    def transform(self, m, n):
        if n in (1, 2, 4):
            return lo.Hadamard(n), scipy.linalg.hadamard(n)
        return lo.DFT(n, norm="ortho"), scipy.linalg.dft(n, scale="sqrtn")

    @node()
    def product(self, m, n, depth):
        inner = self.draw(SIZES)
        (a, x), (b, y) = self.tree(m, inner, depth), self.tree(inner, n, depth)
        return a @ b, x @ y

    @node()
    def sum(self, m, n, depth):
        (a, x), (b, y) = self.tree(m, n, depth), self.tree(m, n, depth)
        return (a + b, x + y) if self.draw(st.booleans()) else (a - b, x - y)

    @node()
    def scaled(self, m, n, depth):
        a, x = self.tree(m, n, depth)
        if self.draw(st.booleans()):
            gain = self.array()[()]
            return np.asarray(gain) * a, gain * x
        scalar = self.draw(SCALARS)
        return scalar * a, scalar * x

    @node()
    def adjoint(self, m, n, depth):
        kind = self.draw(st.sampled_from(["T", "H", "conj"]))
        if kind == "conj":
            a, x = self.tree(m, n, depth)
            return a.conj(), x.conj()
        a, x = self.tree(n, m, depth)
        return (a.T, x.T) if kind == "T" else (a.H, x.conj().T)

    @node()
    def blocks(self, m, n, depth):
        if m == 1 or n == 1:
            return self.any_leaf(m, n)
        i, j = self.draw(st.integers(1, m - 1)), self.draw(st.integers(1, n - 1))
        (a, x), (b, y) = self.tree(i, j, depth), self.tree(m - i, n - j, depth)
        return lo.BlockDiag([a, b]), block_matrix([x, y])

    @node()
    def grid(self, m, n, depth):
        if m == 1 or n == 1:
            return self.any_leaf(m, n)
        i, j = self.draw(st.integers(1, m - 1)), self.draw(st.integers(1, n - 1))
        (a, w), (b, x) = self.tree(i, j, depth), self.tree(i, n - j, depth)
        (c, y), (d, z) = self.tree(m - i, j, depth), self.tree(m - i, n - j, depth)
        return lo.Block([[a, b], [c, d]]), np.block([[w, x], [y, z]])

    @node(square=True)
    def bordered(self, m, n, depth):
        if n == 1:
            return self.any_leaf(n, n)
        i = self.draw(st.integers(1, n - 1))
        (a, x), (b, y), (c, z) = self.tree(i, i, depth), self.tree(i, n - i, depth), self.tree(n - i, n - i, depth)
        below, beneath = self.draw(st.sampled_from([(b.H, y.conj().T), (b.T, y.T), (None, np.zeros((n - i, i)))]))
        return lo.Block([[a, b], [below, c]]), np.block([[x, y], [beneath, z]])

    @node()
    def sliced(self, m, n, depth):
        (rows, k), (columns, j) = self.selection(m), self.selection(n)
        a, x = self.tree(k, j, depth)
        return a[rows, columns], x[rows][:, columns]

    def selection(self, size):
        """(A key that selects `size` of some number, that number)."""
        kind = self.draw(st.sampled_from(["slice", "reversed", "indices", "mask"]))
        start, step, more = self.draw(st.integers(0, 2)), self.draw(st.integers(1, 2)), self.draw(st.integers(0, 2))
        total = start + step * (size - 1) + 1 + more
        if kind == "slice":
            return slice(start, start + step * (size - 1) + 1, step), total
        if kind == "reversed":
            return slice(start + step * (size - 1), start - 1 if start else None, -step), total
        if kind == "mask":
            return np.isin(np.arange(total), self.random.choice(total, size, replace=False)), total
        return self.random.integers(-total, total, size), total

    @node(square=True)
    def kronecker_sum(self, m, n, depth):
        p = self.draw(st.sampled_from([size for size in range(1, n + 1) if n % size == 0]))
        (a, x), (b, y) = self.tree(p, p, depth), self.tree(n // p, n // p, depth)
        return lo.KroneckerSum(a, b), np.kron(x, np.eye(n // p)) + np.kron(np.eye(p), y)

    @node()
    def kronecker(self, m, n, depth):
        p = self.draw(st.sampled_from([size for size in range(1, m + 1) if m % size == 0]))
        q = self.draw(st.sampled_from([size for size in range(1, n + 1) if n % size == 0]))
        (a, x), (b, y) = self.tree(p, q, depth), self.tree(m // p, n // q, depth)
        return lo.kron(a, b), np.kron(x, y)

    @node(square=True)
    def power(self, m, n, depth):
        a, x = self.tree(n, n, depth)
        exponent = self.draw(st.integers(0, 3))
        return a**exponent, np.linalg.matrix_power(x, exponent)

    @node(square=True)
    def gram(self, m, n, depth):
        a, x = self.tree(n, self.draw(SIZES), depth)
        return a @ a.H, x @ x.conj().T

    @node(square=True)
    def congruence(self, m, n, depth):
        inner = self.draw(SIZES)
        (a, x), (b, y) = self.tree(n, inner, depth), self.tree(inner, inner, depth)
        return a @ b @ a.H, x @ y @ x.conj().T


@st.composite
def trees(draw, dtype):
    return Trees(draw, dtype).tree(draw(SIZES), draw(SIZES), draw(st.integers(1, 4)))


def bound(matrix):
    """What errors are measured against: cancellation in a deep tree makes entries smaller than their summands."""
    return 1e4 * max(1.0, float(np.abs(matrix).max(initial=0)))


common = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
)
every_field = pytest.mark.parametrize("dtype", ["float64", "complex128"])


@every_field
@settings(common, max_examples=150)
@given(data=st.data())
def test_trees_are_their_matrices(data, dtype):
    operator, matrix = data.draw(trees(dtype))
    m, n = matrix.shape
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, n, 3)), random.standard_normal((2, 3, m))
    scale = bound(matrix)
    assert operator.shape == (m, n)
    for ours, theirs in ((operator, matrix), (operator.T, matrix.T), (operator.H, matrix.conj().T)):
        assert_close(ours.to_dense(), theirs, scale)
    assert_close(operator @ x, matrix @ x, scale)
    assert_close(operator @ x[0, :, 0], matrix @ x[0, :, 0], scale)
    assert_close(y @ operator, y @ matrix, scale)
    assert_close(operator.T @ y[0].T, matrix.T @ y[0].T, scale)
    with natural_order():
        once = operator.cost(batch=0).macs  # of reflections, the inner products
        assert operator.cost(batch=2).macs - once == 2 * (operator.cost().macs - once)
    assert operator.num_params == sum(leaf.size for _, leaf in operator.named_leaves())
    assert repr(operator)
    if operator.dtype is not None:
        assert (operator @ x).dtype == np.result_type(operator.dtype, x.dtype)


@pytest.mark.full
@every_field
@settings(common, max_examples=150)
@given(data=st.data())
def test_claims_of_trees_are_true(data, dtype):
    operator, matrix = data.draw(trees(dtype))
    assert_sound(operator, matrix)
    assert_sound(operator.H, matrix.conj().T)


@settings(common, max_examples=60)
@given(data=st.data())
def test_trees_on_torch(data):
    operator, matrix = data.draw(trees("complex128"))  # torch promotes nothing: all leaves are complex
    x = np.random.default_rng(0).standard_normal((2, matrix.shape[1], 3)) + 0j
    moved = operator.to(backend="torch")
    assert_close(moved @ on("torch", x), matrix @ x, bound(matrix))
    assert_close(on("torch", x.swapaxes(1, 2)) @ moved.H, x.swapaxes(1, 2) @ matrix.conj().T, bound(matrix))
    assert_close(as_numpy(moved.to_dense()), matrix, bound(matrix))


@settings(common, max_examples=15)
@given(data=st.data())
@pytest.mark.full
def test_trees_on_jax(data):
    operator, matrix = data.draw(trees("complex128"))
    m, n = matrix.shape
    random = np.random.default_rng(0)
    x, y = random.standard_normal((n, 3)) + 0j, random.standard_normal((2, 3, m)) + 0j

    @jax.jit  # one program: without, each product of a new shape is one
    def products(A, x, y):
        return A @ x, A.T @ y[0].T, y @ A, y @ A.H.T.conj(), A.to_dense()

    found = products(operator.to(backend="jax"), on("jax", x), on("jax", y))
    for actual, expected in zip(found, (matrix @ x, matrix.T @ y[0].T, y @ matrix, y @ matrix, matrix)):
        assert_close(actual, expected, bound(matrix))


def test_every_operator_is_in_the_trees():
    from coverage_page import operator_classes

    drawn = {
        type(node).__name__ for case in CASES.values() for _, node in case(lambda *shape: np.ones(shape))[0]._nodes()
    }
    assert set(operator_classes()) <= drawn
    assert {"case", "dense", "identity"} <= set(LEAVES)
    assert {"product", "sum", "power"} <= set(NODES)


def test_jax_flattens_an_operator_without_python_from_the_second_time_on():
    A = lo.monarch(16, 16).init(seed=0, backend="jax")
    leaves, structure = jax.tree_util.tree_flatten(A)
    assert all("_flattened" in node.__dict__ for _, node in A._nodes())
    again, same = jax.tree_util.tree_flatten(A)
    assert structure == same
    assert all(one is other for one, other in zip(leaves, again))
    doubled = jax.tree_util.tree_map(lambda leaf: 2 * leaf, A)  # what is remembered belongs to one operator
    assert float(abs(jax.tree_util.tree_leaves(doubled)[0] - 2 * leaves[0]).max()) == 0
    assert jax.tree_util.tree_structure(doubled) == structure
