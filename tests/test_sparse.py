"""Sparse operators: where they come from, what they compute on each backend, how they meet others' matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from cases.sparse import COLUMNS, ROWS, case_sparse_tall
from helpers import as_numpy, assert_close, assert_is, randoms
from jax.experimental import sparse as jax_sparse
from torch.utils.flop_counter import FlopCounterMode

import linops as lo
from linops import tuning
from linops.backends import torch_sparse

#: from inside torch: its own sparse tensors are in beta, and its forward mode first loads decompositions
torchs_own_warnings = pytest.mark.filterwarnings(
    "ignore:Sparse .* in beta:UserWarning", "ignore:.torch.jit:DeprecationWarning"
)

DENSE = np.array([[0.0, 2.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, 4.0]])


@pytest.mark.parametrize("kind", [scipy.sparse.coo_array, scipy.sparse.coo_matrix])
@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia", "dok", "lil"])
def test_every_format_of_scipy(kind, form):
    given = kind(DENSE).asformat(form)
    operator = lo.aslinearoperator(given)
    assert isinstance(operator, lo.Sparse)
    assert_is(operator, DENSE)
    assert (operator.dtype, operator.backend) == (np.float64, "numpy")


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.float32, np.complex64])
def test_dtypes_of_scipy_stay(dtype):
    operator = lo.Sparse(scipy.sparse.csr_array(DENSE.astype(dtype)))
    assert operator.dtype == dtype
    assert (operator @ np.ones(4, dtype)).dtype == dtype


def test_arrays_of_scipy_are_copied():
    given = scipy.sparse.csr_array(DENSE)
    operator = lo.Sparse(given)
    given.data[:] = 0
    given.indices[:] = 0
    assert_is(operator, DENSE)


@torchs_own_warnings
@pytest.mark.parametrize("layout", ["coo", "uncoalesced", "csr", "csc", "bsr"])
def test_layouts_of_torch(layout):
    dense = torch.from_numpy(DENSE[:2] if layout == "bsr" else DENSE)
    if layout == "uncoalesced":
        coo = dense.to_sparse()
        given = torch.sparse_coo_tensor(
            coo.indices().repeat(1, 2), coo.values().repeat(2) / 2, coo.shape, check_invariants=True
        )
    elif layout == "coo":
        given = dense.to_sparse()
    else:
        blocksize = {"blocksize": (1, 2)} if layout == "bsr" else {}
        given = dense.to_sparse(layout=getattr(torch, f"sparse_{layout}"), **blocksize)
    operator = lo.aslinearoperator(given)
    assert operator.backend == "torch"
    assert_is(operator.to(backend="numpy"), dense.numpy())


def test_gradients_flow_into_a_sparse_tensor():
    given = torch.from_numpy(DENSE).to_sparse().requires_grad_()
    (lo.Sparse(given) @ torch.ones(4, dtype=torch.float64)).sum().backward()
    assert given.grad.to_dense().tolist() == (DENSE != 0).astype(float).tolist()


@pytest.mark.full
def test_formats_of_jax():
    coo = jax_sparse.BCOO.fromdense(jnp.asarray(DENSE), nse=9)  # padded
    assert_is(lo.aslinearoperator(coo).to(backend="numpy"), DENSE)
    assert lo.aslinearoperator(coo).num_params == 4
    csr = jax_sparse.BCSR.fromdense(jnp.asarray(DENSE))
    assert lo.aslinearoperator(csr).backend == "jax"
    assert_is(lo.aslinearoperator(csr).to(backend="numpy"), DENSE)
    # positions are structure: an operator is an argument of jit, not made in it
    with pytest.raises(TypeError, match=r"BCOO of shape.*index arrays are the structure.*outside of jit"):
        jax.jit(lambda coo: lo.aslinearoperator(coo) @ jnp.ones(4))(coo)


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("size", [(0, 0), (0, 3), (3, 0), (3, 2), (1, 1)])
def test_without_entries(size, backend):
    operator = lo.Sparse(np.zeros(0), [], [], size).to(backend=backend)
    assert_is(operator.to(backend="numpy"), np.zeros(size))
    for k in (0, 2):
        assert (
            as_numpy(operator @ lo.backends.asarray(np.ones((size[1], k)), backend)).tolist()
            == np.zeros((size[0], k)).tolist()
        )
    assert operator.cost(batch=3).flops == 0


def test_positions_of_every_kind():
    values = np.arange(7.0)
    expected = lo.Sparse(values, ROWS, COLUMNS, (5, 3)).to_dense()
    for rows in (np.array(ROWS, np.uint8), torch.tensor(ROWS), jnp.asarray(ROWS), tuple(ROWS)):
        assert_is(lo.Sparse(values, rows, COLUMNS, (5, 3)), expected)
    np.add.at(dense := np.zeros((5, 3)), (ROWS, COLUMNS), values)
    assert_is(lo.Sparse(values, ROWS, COLUMNS, (np.int64(5), 3)), dense)


def test_symbolic_with_positions():
    operator = lo.Sparse(lo.spec(7), ROWS, COLUMNS, (5, 3))
    assert (operator.num_params, operator.cost(batch=2).macs, operator.flops(batch=2)) == (7, 0, 28)
    assert lo.fans(operator) == {"values": (2, 3)}  # 7 entries in 5 rows and 3 columns, rounded up
    assert repr(operator) == "Sparse(7 entries)  5×3  float32  7 parameters  symbolic"
    assert operator.init(seed=0, backend="torch").T.shape == (3, 5)


def test_triangles_are_known_from_positions():
    lower = lo.Sparse(np.ones(3), [0, 1, 1], [0, 0, 1], (2, 2))
    assert (lower.is_lower_triangular, lower.is_upper_triangular, lower.T.is_upper_triangular) == (True, None, True)
    assert lo.Sparse(scipy.sparse.eye_array(3)).is_diagonal
    assert lo.Sparse(lo.spec(1), [0], [1], (2, 2)).is_symmetric is None


def test_a_product_never_sees_other_values():
    """What scipy has made of an operator's values is not that of its copies."""
    operator, matrix = case_sparse_tall(randoms("sparse", "float64"))
    x = np.ones(3)
    assert_close(operator @ x, matrix @ x)
    assert_close(operator.with_leaves([2 * operator.values]) @ x, 2 * matrix @ x)
    assert_close(operator.conj().T @ np.ones(5), matrix.T @ np.ones(5))
    operator.values[:] = 0  # a leaf written in place is a leaf written in place
    assert_close(operator @ x, 0 * matrix @ x)


def test_half_precision_on_numpy():
    operator, matrix = case_sparse_tall(randoms("sparse", "float16"))
    product = operator @ np.ones((3, 2), np.float16)
    assert product.dtype == np.float16
    np.testing.assert_allclose(product, matrix @ np.ones((3, 2)), rtol=1e-2)
    assert (operator @ np.ones(3, np.float32)).dtype == np.float32


# ---------------------------------------------------------------- torch: bags and plain sums


def torch_case(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(7, generator=generator, dtype=dtype)
    return lo.Sparse(values, ROWS, COLUMNS, (5, 3)), torch.randn(3, 4, generator=generator, dtype=dtype)


@pytest.mark.full
@torchs_own_warnings
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("cached", [0, 2**20])
def test_derivatives_of_bags(monkeypatch, dtype, cached):
    monkeypatch.setattr(torch_sparse, "TORCH_GATHERED", cached)
    operator, x = torch_case(dtype)

    def product(values, x):
        rebuilt = operator.with_leaves([values])
        return rebuilt @ x, rebuilt.T @ (rebuilt @ x)

    inputs = (operator.values.requires_grad_(), x.requires_grad_())
    assert torch.autograd.gradcheck(product, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(product, inputs)


def test_bags_are_plain_sums():
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        operator, x = torch_case(dtype)
        for A, y in ((operator, x), (operator.T, operator @ x)):
            assert torch_sparse._runs_bags(A.values, y)
            plain = torch_sparse._sparse_sums(A.values, A._positions(), y)
            torch.testing.assert_close(
                A @ y, plain, rtol=2e-2 if dtype.itemsize == 2 else 1e-5, atol=1e-2 if dtype.itemsize == 2 else 1e-5
            )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("columns", [1, 8, 9])
def test_mkl_multiplies_as_bags_do(dtype, columns):
    operator = torch_case(dtype)[0]
    for A in (operator, operator.T):
        positions, x = A._positions(), torch.randn(A.shape[1], columns, dtype=dtype)
        is_first = torch_sparse._has_csr() and (dtype is torch.float64 or columns <= tuning.TORCH_CSR_COLUMNS)
        assert torch_sparse._runs_csr(A.values.detach(), positions, x) == is_first
        with FlopCounterMode(display=False):  # which would count the matrix as a dense one
            assert not torch_sparse._runs_csr(A.values.detach(), positions, x)
        if torch_sparse._has_csr():
            torch.testing.assert_close(
                torch_sparse._csr(A.values, positions, x), torch_sparse._bags(A.values, positions, x)
            )


@pytest.mark.parametrize("columns", [1, 4, 9])
def test_sparse_products_run_under_autocast_and_default_devices(columns):
    A, B = (torch_case(dtype)[0] for dtype in (torch.float32, torch.float64))
    x = torch.randn(3, columns, dtype=torch.float64)
    single, double = A @ x.float(), B @ x
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):  # as embedding bags do
            found = A @ x.float(), B @ x
        torch.testing.assert_close(found, (single, double))
    with torch.device("meta"):
        torch.testing.assert_close((A @ x.float(), B @ x), (single, double))


def test_integers_on_torch():
    operator = lo.Sparse(torch.tensor([2, 3]), [0, 1], [1, 1], (2, 2))
    assert (operator @ torch.tensor([1, 10])).tolist() == [20, 30]


@torchs_own_warnings
def test_transformations_of_torch():
    operator, x = torch_case()
    dense = operator.to_dense()
    tangent = torch.ones_like(x)
    for function in (lambda x: operator @ x, lambda x: (x.T @ operator.T).T):
        torch.testing.assert_close(torch.func.jvp(function, (x,), (tangent,))[1], dense @ tangent)
        torch.testing.assert_close(torch.func.jacrev(function)(x[:, 0, None])[:, 0, :, 0], dense)
        torch.testing.assert_close(torch.func.jacfwd(function)(x[:, 0, None])[:, 0, :, 0], dense)
    hessian = torch.func.hessian(lambda x: (operator @ x).square().sum() / 2)(x[:, 0])
    torch.testing.assert_close(hessian, dense.T @ dense)
    torch.testing.assert_close(torch.func.vmap(lambda x: operator @ x, in_dims=1, out_dims=1)(x), dense @ x)


def test_second_derivatives_compile():
    torch._dynamo.reset()
    operator, x = torch_case()
    values = operator.values.requires_grad_()
    product = torch.compile(lambda A, x: (A @ x).sin().sum(), fullgraph=True, backend="aot_eager")
    found = torch.autograd.grad(product(operator, x), values)
    torch.testing.assert_close(found, torch.autograd.grad((operator @ x).sin().sum(), values))


def test_torch_mixes_no_dtypes():
    operator, x = torch_case()
    with pytest.raises(RuntimeError, match=r"Sparse: entries of torch\.float64 .* torch\.float32"):
        operator @ x.float()


# ---------------------------------------------------------------- JAX


def test_derivatives_on_jax():
    operator, matrix = case_sparse_tall(randoms("sparse", "float64"))
    operator = operator.to(backend="jax")
    x = jnp.arange(3.0)
    assert_close(jax.jacfwd(lambda x: operator @ x)(x), matrix)
    assert_close(jax.jacrev(lambda x: operator @ x)(x), matrix)
    assert_close(jax.hessian(lambda x: (operator @ x) @ (operator @ x) / 2)(x), matrix.T @ matrix)
    product = jax.jvp(lambda A: A @ x, (operator,), (operator,))[1]
    assert_close(product, matrix @ np.arange(3.0))


def test_booleans_on_jax():
    operator = lo.Sparse(jnp.array([True, True, False]), [0, 0, 1], [0, 1, 1], (2, 2))
    assert (operator @ jnp.array([True, True])).tolist() == [True, False]


def test_jit_does_not_read_the_positions_again():
    operator = lo.Sparse(jnp.ones(7), ROWS, COLUMNS, (5, 3))
    structure = jax.tree_util.tree_structure(operator)
    other = jax.tree_util.tree_structure(lo.Sparse(jnp.zeros(7), ROWS, COLUMNS, (5, 3)))
    assert (structure, hash(structure)) == (other, hash(other))
    assert structure != jax.tree_util.tree_structure(lo.Sparse(jnp.ones(7), COLUMNS, COLUMNS, (5, 3)))
