"""What dtypes and numbers promote to: each backend's own rules."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import torch

import linops as lo
from linops import backends

NAMES = [
    "bool",
    "uint8",
    "int8",
    "int32",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "complex64",
    "complex128",
]
NUMBERS = [True, 3, 2.5, 1j]


@pytest.mark.parametrize("name", NAMES)
def test_torch_promotes_as_its_tensors_do(name):
    dtype = getattr(torch, name)
    for number in NUMBERS:
        assert backends.result_type("torch", dtype, number) == torch.result_type(torch.ones(2, dtype=dtype), number)
    for other in NAMES:
        expected = torch.promote_types(dtype, getattr(torch, other))
        assert backends.result_type("torch", dtype, getattr(torch, other)) == expected


def test_numpy_and_jax_promote_as_themselves():
    assert backends.result_type("numpy", np.dtype("float32"), 2.5) == np.float32
    assert backends.result_type(None, np.dtype("int8"), np.dtype("float32")) == np.float32
    assert backends.result_type("jax", np.dtype("int32"), np.dtype("float32")) == jnp.float32
    assert np.result_type(np.int32, np.float32) == np.float64  # where the two differ


# ---------------------------------------------------------------- what has no dtype of its own still counts


def test_a_zero_beside_what_is_complex_or_has_numbers_keeps_the_dtype():
    zero = lo.Zero(2, 2)
    for A in (lo.DFT(2) @ zero, zero @ lo.DFT(2).H, lo.DFT(2) @ zero @ lo.DFT(2)):
        assert (A @ np.ones(2, "float32")).dtype == "complex64"
    assert ((0.5 * lo.Permute([1, 0])) @ zero @ np.ones(2, int)).dtype == "float64"
    assert isinstance(lo.Permute([1, 0]) @ zero, lo.Zero)


@pytest.mark.parametrize("make", [lambda f: f * (1 + 2j), lambda f: lo.DFT(1) @ f, lambda f: f @ lo.DFT(1)])
def test_halves_among_complex_numbers_are_computed_in_single_precision(make):
    A = make(lo.Function((1, 1), lambda x: 3 * x, lambda x: 3 * x))
    x = np.array([-0.93896484375], "float16")
    np.testing.assert_allclose(A @ x, A @ x.astype("float32"), rtol=1e-6)


def test_leaves_of_two_dtypes_are_not_merged_in_the_narrower_one():
    random = np.random.default_rng(0)
    wide = np.eye(2, 3).astype(np.longdouble)
    A = lo.Dense(random.standard_normal((6, 5)).astype("float32")) @ lo.LowRank(
        random.integers(-(2**31), 2**31, (5, 2)).astype("int32"), wide
    )
    exact = A.factors[0].matrix.astype(np.longdouble) @ A.factors[1].U.astype(np.longdouble) @ wide
    for B in (A, lo.simplify(A), lo.freeze(A)):
        np.testing.assert_allclose(B.to_dense(), exact, rtol=1e-17)


# ---------------------------------------------------------------- real leaves in a complex operator


def real(*shape):
    return torch.from_numpy(np.random.default_rng(sum(shape)).standard_normal(shape))


MIXED = {
    "multiple": lambda: 2j * lo.Dense(real(3, 4)),
    "multiple of blocks": lambda: (1 + 2j) * lo.BlockDiag(real(3, 2, 2)),
    "multiple of a train": lambda: 1j * lo.BlockTensorTrain([real(2, 4, 2), real(2, 2, 4)], (2, 2), (2, 2)),
    "sum": lambda: 1j * lo.Identity(3) + lo.Dense(real(3, 3)),
    "transform first": lambda: lo.Dense(real(2, 3)) @ lo.DFT(3),
    "transform last": lambda: lo.DFT(3) @ lo.Dense(real(3, 2)),
    "between transforms": lambda: lo.DFT(3).H @ lo.Diagonal(real(3)) @ lo.Dense(real(3, 3)) @ lo.DFT(3),
    "power": lambda: (2j * lo.Dense(real(3, 3))) ** 3,
    "Kronecker": lambda: lo.kron(2j * lo.Dense(real(3, 2)), 1j * lo.Dense(real(2, 3))),
    "slice": lambda: (2j * lo.Dense(real(3, 4)))[1:],
    "direct sum": lambda: lo.DirectSum([lo.Dense(real(3, 4)) @ lo.DFT(4), lo.DFT(2)]),
}


@pytest.mark.parametrize("make", MIXED.values(), ids=MIXED)
def test_torch_takes_real_and_complex_operands_of_a_complex_operator_with_real_leaves(make):
    A, M = make(), make().to(backend="numpy").to_dense()
    assert A.dtype == torch.complex128
    assert M.dtype == complex
    np.testing.assert_allclose(A.to_dense(), M, atol=1e-12)
    for B, N in ((A, M), (A.T, M.T), (A.H, M.conj().T), (A.conj(), M.conj())):
        for x in (real(N.shape[1]), real(N.shape[1], 2), real(2, N.shape[1], 2), real(N.shape[1], 0)):
            for operand in (x, x * (1 - 2j)):
                np.testing.assert_allclose(B @ operand, N @ operand.numpy(), atol=1e-11)
                if x.ndim == 2:
                    np.testing.assert_allclose(operand.T @ B.T, operand.T.numpy() @ N.T, atol=1e-11)
                    np.testing.assert_allclose(B._linear(operand.T), operand.T.numpy() @ N.T, atol=1e-11)
    np.testing.assert_allclose(A[:, 1], M[:, 1], atol=1e-12)
    np.testing.assert_allclose(lo.linalg.pinv(A).to_dense(), np.linalg.pinv(M), atol=1e-10)
    x = real(A.shape[1]) * (1 - 2j)
    torch._dynamo.reset()
    compiled = torch.compile(lambda A, x: A @ x, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(A, x), A @ x)


SQUARE = {
    "multiple": lambda: 2j * lo.Dense(real(3, 3) + 3 * torch.eye(3)),
    "transform": lambda: lo.Dense(real(3, 3) + 3 * torch.eye(3)) @ lo.DFT(3),
    "between transforms": lambda: lo.DFT(3).H @ lo.Diagonal(real(3) ** 2 + 5) @ lo.DFT(3) / 3,
    "Kronecker": lambda: lo.kron(2j * lo.Dense(real(3, 3)), 1j * lo.Dense(real(2, 2) + 3 * torch.eye(2))),
    "direct sum": lambda: lo.DirectSum([lo.Dense(real(3, 3)) @ lo.DFT(3), lo.DFT(2)]),
    "low rank": lambda: lo.LowRank(real(5, 1), real(1, 5)) + 1j * lo.Identity(5),
    "part": lambda: (2j * lo.Triangular(real(4, 4) + 3 * torch.eye(4)))[1:, 1:],
    "power": lambda: (2j * lo.Dense(real(3, 3))) ** 2,
}


@pytest.mark.parametrize("make", SQUARE.values(), ids=SQUARE)
def test_linear_algebra_takes_a_complex_operator_with_real_leaves(make):
    A = make()
    M, b = A.to(backend="numpy").to_dense(), real(A.shape[0], 2) * (1 - 2j)
    c = b.numpy()
    np.testing.assert_allclose(lo.linalg.solve(A, b), np.linalg.solve(M, c), atol=1e-10)
    np.testing.assert_allclose(lo.linalg.lstsq(A, b), np.linalg.solve(M, c), atol=1e-10)
    np.testing.assert_allclose(lo.linalg.inv(A) @ b, np.linalg.solve(M, c), atol=1e-10)
    np.testing.assert_allclose(lo.linalg.solve(A, b, lo.linalg.GMRES(1e-12)), np.linalg.solve(M, c), atol=1e-9)
    np.testing.assert_allclose(lo.linalg.det(A), np.linalg.det(M), rtol=1e-10)
    np.testing.assert_allclose(lo.linalg.trace(A), np.trace(M), atol=1e-11)
    np.testing.assert_allclose(lo.linalg.diagonal(A), np.diagonal(M), atol=1e-11)
    np.testing.assert_allclose(lo.linalg.expm(A).to_dense(), scipy.linalg.expm(M), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(lo.linalg.funm(A, lambda z: z * z + 1) @ b, M @ M @ c + c, rtol=1e-9, atol=1e-9)
    U, values, Vh = lo.linalg.svd(A)
    np.testing.assert_allclose(U @ (values[:, None] * (Vh @ b)), M @ c, rtol=1e-9, atol=1e-9)
    Q, R = lo.linalg.qr(A)
    np.testing.assert_allclose(Q @ (R @ b), M @ c, rtol=1e-9, atol=1e-9)


def test_gradients_go_through_real_leaves_of_a_complex_operator():
    R = real(3, 3).requires_grad_()
    x = real(3) * (1 - 2j)
    assert torch.autograd.gradcheck(lambda R: lo.Dense(R) @ lo.DFT(3) @ x, R)
    assert torch.autograd.gradcheck(lambda R: 2j * lo.Dense(R) @ x, R)


def test_operands_of_another_precision_are_refused_as_by_torch():
    with pytest.raises(RuntimeError, match="dtype"):
        (2j * lo.Dense(real(3, 3))) @ torch.ones(3, dtype=torch.complex64)
