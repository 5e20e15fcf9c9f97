"""Compiles every operator and sign as the first thing that its process does; run by `test_callables.py`, and by hand.

Each operator's signs are one function, so that every pair of types meets under compilation first. What fails is
printed.
"""

import sys

import numpy as np
import scipy.sparse
import torch

import linops as lo

ONE, TWO, FOUR = torch.ones(4), torch.ones(2, 2), torch.ones(4, 4)
OPERATORS = {
    "Dense": lambda: lo.Dense(FOUR),
    "Diagonal": lambda: lo.Diagonal(ONE),
    "Identity": lambda: lo.Identity(4),
    "Zero": lambda: lo.Zero(4, 4),
    "Triangular": lambda: lo.Triangular(FOUR),
    "Tridiagonal": lambda: lo.Tridiagonal(ONE[:3], ONE, ONE[:3]),
    "LowRank": lambda: lo.LowRank(FOUR[:, :2], FOUR[:2]),
    "Permute": lambda: lo.Permute([2, 0, 1, 3]),
    "Permute.axes": lambda: lo.Permute.axes((2, 2), (1, 0)),
    "BlockDiag": lambda: lo.BlockDiag(torch.ones(2, 2, 2)),
    "DirectSum": lambda: lo.BlockDiag([TWO, TWO]),
    "Block": lambda: lo.Block([[TWO, TWO], [TWO, TWO]]),
    "Kronecker": lambda: lo.Kronecker(TWO, TWO),
    "KroneckerSum": lambda: lo.KroneckerSum(TWO, TWO),
    "TensorTrain": lambda: lo.TensorTrain([torch.ones(1, 2, 2, 1), torch.ones(1, 2, 2, 1)]),
    "BlockTensorTrain": lambda: lo.btt(4, 4, allow_dearer=True).init(backend="torch"),
    "Butterfly": lambda: lo.butterfly(4, 4, allow_dearer=True).init(backend="torch"),
    "Einsum": lambda: lo.Einsum("ab,cb->ca", tensors=[TWO], in_dims=(2, 2)),
    "Circulant": lambda: lo.Circulant(ONE),
    "Toeplitz": lambda: lo.Toeplitz(ONE, ONE),
    "Hadamard": lambda: lo.Hadamard(4),
    "DFT": lambda: lo.DFT(4),
    "Householder": lambda: lo.Householder(ONE),
    "Sparse": lambda: lo.Sparse(scipy.sparse.eye_array(4)).to(backend="torch", dtype="float32"),
    "Pad": lambda: lo.Pad(4, 4),
    "Scaled": lambda: lo.Scaled(lo.Dense(FOUR), 0.5),
    "Power": lambda: lo.Power(lo.Dense(FOUR), 2),
    "Sum": lambda: lo.Sum((lo.Dense(FOUR), lo.Identity(4))),
    "Product": lambda: lo.Product((lo.Dense(FOUR), lo.Identity(4))),
}


def products(A, x):
    return A @ x, x @ A, A @ x[:, 0]


def sums(A, x):
    return (A + A) @ x, (A - A) @ x, (A + lo.Dense(x)) @ x, (lo.Dense(x) - A) @ x


def multiples(A, x):
    return (2 * A) @ x, (A / 2) @ x, (-A) @ x


def compositions(A, x):
    return A.__matmul__(A) @ x, (A**2) @ x, A.T @ x, A.H @ x, A[1:] @ x, lo.kron(A, A) @ x.reshape(-1, 1)


SIGNS = (products, sums, multiples, compositions)


def failures(names, dynamic):
    found = []
    for name in names:
        A = OPERATORS[name]()
        for signs in SIGNS:
            torch._dynamo.reset()
            try:
                compiled = torch.compile(signs, fullgraph=True, dynamic=dynamic, backend="eager")(A, FOUR)
                eager = signs(A, FOUR)
                np.testing.assert_allclose(
                    *[np.concatenate([np.asarray(y).ravel() for y in ys]) for ys in (compiled, eager)], atol=1e-4
                )
            except Exception as error:
                found.append(f"{name}, {signs.__name__}: {type(error).__name__} {str(error)[:300]}")
                print(found[-1], flush=True)
    return found


if __name__ == "__main__":
    sys.exit(bool(failures(sys.argv[2:] or OPERATORS, dynamic={"dynamic": True, "static": None}[sys.argv[1]])))
