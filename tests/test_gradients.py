"""Gradients of two frameworks agree; test_conformance.py has finite differences and closed forms of every case."""

import jax
import numpy as np
import torch
from helpers import as_numpy, build, on


def test_torch_and_jax_gradients_agree():
    from cases import CASES

    for case in (
        "nested_kronecker_of_sums",
        "tensor_train_three_cores",
        "block_tensor_train_three_cores_tall",
        "scaled_gain",
    ):
        assert case in CASES
        ours, matrix, array = build(case, "float64", "torch")
        theirs = ours.to(backend="jax")
        x = array(matrix.shape[1], 3)
        leaves = [leaf.requires_grad_() for _, leaf in ours.named_leaves()]
        one = torch.autograd.grad(((ours @ on("torch", x)) ** 3).sum(), leaves)
        other = jax.jit(jax.grad(lambda operator, x: ((operator @ x) ** 3).sum()))(theirs, on("jax", x))
        for gradient, (_, leaf) in zip(one, other.named_leaves(), strict=True):
            np.testing.assert_allclose(as_numpy(gradient), as_numpy(leaf), rtol=1e-10, atol=1e-10)
