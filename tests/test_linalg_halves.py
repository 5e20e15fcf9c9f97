"""Of operators of half precision results have half precision, as those of sums and products do."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import linops as lo

M = np.array([[4.0, 1, 0], [1, 3, 1], [0, 1, 2]])
HALVES = {
    "numpy": lambda: np.asarray(M, "float16"),
    "torch": lambda: torch.tensor(M, dtype=torch.float16),
    "torch bfloat16": lambda: torch.tensor(M, dtype=torch.bfloat16),
    "jax bfloat16": lambda: jnp.asarray(M, "bfloat16"),
}
NAMES = "det slogdet logdet trace diagonal svd svdvals norm cond lu qr cholesky eigh eigvalsh inv pinv expm logm sqrtm"


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("name", NAMES.split())
def test_results_have_the_dtype_of_the_operator(name, kind):
    half = HALVES[kind]()
    for A, exact in ((lo.Dense(half), M), (lo.Kronecker(half, half / 4), np.kron(M, M / 4))):
        found, expected = getattr(lo.linalg, name)(A), getattr(lo.linalg, name)(exact)
        pairs = zip(found, expected) if isinstance(found, tuple) else [(found, expected)]
        for one, other in pairs:
            assert one.dtype in (None, half.dtype)
            if name in ("svd", "eigh", "qr", "lu"):
                continue  # vectors of any sign
            one, other = [x.to_dense() if isinstance(x, lo.LinearOperator) else x for x in (one, other)]
            one = one.float().numpy() if isinstance(one, torch.Tensor) else np.asarray(one, "float64")
            np.testing.assert_allclose(one, other, rtol=0.02, atol=0.02 * np.abs(other).max())


def test_ranks_and_conditions_are_counted_in_single_precision():
    A = np.diag([1, 2**-12]).astype("float16")
    assert lo.linalg.matrix_rank(A) == 2
    np.testing.assert_allclose(float(lo.linalg.cond(A)), 2**12)
    assert lo.linalg.eigvals(A).dtype == "complex64"
