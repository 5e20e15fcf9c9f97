"""Wrong input: the class of error that NumPy raises, and a message of operands, shapes and what was expected."""

from inspect import isfunction

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from cases import CASES
from coverage_page import operator_classes
from scipy.sparse import coo_array, eye_array

import linops as lo
from linops.families.declaration import Declaration

A = lo.Dense(np.ones((3, 4)))
S = lo.Dense(np.ones((3, 3)))
B = lo.BlockDiag(np.ones((2, 3, 2)))  # 6×4
SYMBOLIC = lo.Dense(lo.spec(3, 4))
TORCH = lo.Dense(torch.ones(3, 4, dtype=torch.float64))
JAX = lo.Dense(jnp.ones((3, 4)))
ones = np.ones

#: name: (what fails, class, fragments of the message)
BAD = {
    # products: shapes, as numpy.matmul
    "matvec": (lambda: A @ ones(3), ValueError, ["Dense(3×4", "(3,)", "expected (4,)"]),
    "matmat": (lambda: A @ ones((3, 2)), ValueError, ["Dense(3×4", "(3, 2)", "(…, 4, k)"]),
    "batched": (lambda: A @ ones((5, 3, 2)), ValueError, ["Dense(3×4", "(5, 3, 2)"]),
    "rows for columns": (lambda: A @ ones((2, 4)), ValueError, ["(2, 4)", "(…, 4, k)", "x @ A.T"]),
    "zero axes": (lambda: A @ np.array(1.0), ValueError, ["Dense(3×4", "()"]),
    "number": (lambda: A @ 3.0, ValueError, ["Dense(3×4", "3.0"]),
    "left vecmat": (lambda: ones(4) @ A, ValueError, ["(4,)", "Dense(3×4", "expected (3,)"]),
    "left matmat": (lambda: ones((2, 4)) @ A, ValueError, ["(2, 4)", "Dense(3×4", "(…, k, 3)"]),
    "left zero axes": (lambda: np.array(1.0) @ A, ValueError, ["()", "Dense(3×4"]),
    "left number": (lambda: 2 @ A, ValueError, ["Dense(3×4"]),
    "torch matvec": (
        lambda: TORCH @ torch.ones(3, dtype=torch.float64),
        ValueError,
        ["Dense(3×4, float64, torch)", "(3,)"],
    ),
    "torch left": (
        lambda: torch.ones(4, dtype=torch.float64) @ TORCH,
        ValueError,
        ["(4,)", "Dense(3×4, float64, torch)"],
    ),
    "jax matvec": (lambda: JAX @ jnp.ones(3), ValueError, ["Dense(3×4", "jax", "(3,)"]),
    "jax left": (lambda: jnp.ones(4) @ JAX, ValueError, ["(4,)", "Dense(3×4"]),
    "without arrays": (lambda: lo.Permute([1, 0]) @ ones(3), ValueError, ["Permute(2×2)", "(3,)"]),
    "short list": (lambda: A @ [1.0, 2.0], ValueError, ["Dense(3×4", "(2,)", "expected (4,)"]),
    "list of text": (lambda: A @ ["a", "b"], TypeError, ["Dense(3×4", "list", "str"]),
    "ragged list": (lambda: A @ [[1.0], [2.0, 3.0]], ValueError, ["Dense(3×4", "list", "different lengths"]),
    "list of tensors": (lambda: TORCH @ [torch.ones(4)], TypeError, ["Dense(3×4", "list", "Tensor", "torch.stack"]),
    "list on torch": (
        lambda: TORCH @ [1.0, 2.0, 3.0, 4.0],
        TypeError,
        ["torch operator Dense(3×4", "list of shape (4,)", "mixed backends"],
    ),
    # compositions
    "compose": (lambda: A @ A, ValueError, ["Dense(3×4, float64, numpy) @ Dense(3×4", "4 and 3 differ"]),
    "compose in a chain": (lambda: A @ B.T @ B.T, ValueError, ["BlockDiag(4×6", "6 and 4 differ"]),
    "add": (lambda: A + S, ValueError, ["Dense(3×4", "Dense(3×3", "shapes differ"]),
    "add plain array": (lambda: A + ones((4, 3)), ValueError, ["Dense(3×4", "Dense(4×3"]),
    "add does not broadcast": (lambda: A + ones(4), ValueError, ["Dense(3×4", "(4,)", "2 axes", "do not broadcast"]),
    "subtract from a vector": (lambda: ones(4) - A, ValueError, ["Dense(3×4", "(4,)", "2 axes"]),
    "subtract": (lambda: ones((2, 2)) - A, ValueError, ["Dense(2×2", "3×4", "shapes differ"]),
    "add a number": (lambda: A + 1, TypeError, ["Dense(3×4", "int 1", "a matrix"]),
    "add a number to a square": (lambda: S - np.float64(2), TypeError, ["float64 2.0", "A + c * lo.Identity(3)"]),
    "subtract from a number": (lambda: 1 - S, TypeError, ["Dense(3×3", "int 1"]),
    "add a 0-d array": (lambda: TORCH + torch.tensor(1.0), TypeError, ["Dense(3×4", "Tensor"]),
    "multiply elementwise": (lambda: A * A, TypeError, ["Dense"]),
    "multiply by a vector": (lambda: A * ones(4), TypeError, ["Dense"]),
    "divide by a vector": (lambda: A / ones(4), TypeError, ["Dense(3×4", "ndarray", "a number"]),
    "power of rectangular": (lambda: A**2, ValueError, ["Dense(3×4", "** 2", "square"]),
    "negative power of rectangular": (lambda: A**-1, ValueError, ["Dense(3×4", "** -1", "square"]),
    "fractional power": (lambda: S**0.5, TypeError, ["Dense(3×3", "float", "lo.linalg.matrix_power"]),
    "product of no factors": (lambda: lo.Product(()), ValueError, ["two factors", "got 0"]),
    "product by hand": (lambda: lo.Product((A, A)), ValueError, ["Dense(3×4", "4 and 3 differ"]),
    "sum by hand": (lambda: lo.Sum((A, S)), ValueError, ["Dense(3×4", "Dense(3×3", "shapes differ"]),
    # backends
    "mixed product": (
        lambda: A @ torch.ones(4),
        TypeError,
        ["numpy operator Dense(3×4", "torch array of shape (4,)", "A.to(backend='torch')"],
    ),
    "mixed left product": (
        lambda: torch.ones(3) @ A,
        TypeError,
        ["torch array of shape (3,) @ numpy operator Dense(3×4"],
    ),
    "jax on torch": (lambda: TORCH @ jnp.ones(4), TypeError, ["torch operator", "jax array"]),
    "numpy on jax": (lambda: JAX @ ones(4), TypeError, ["jax operator", "numpy array"]),
    "mixed composition": (
        lambda: A @ TORCH.T,
        TypeError,
        ["Product", "Dense(3×4, float64, numpy)", "Dense(4×3, float64, torch)"],
    ),
    "mixed sum": (lambda: A + TORCH, TypeError, ["Sum", "numpy", "torch"]),
    "mixed Kronecker": (lambda: lo.kron(A, JAX), TypeError, ["Kronecker", "numpy", "jax"]),
    "mixed blocks": (lambda: lo.BlockDiag([A, TORCH]), TypeError, ["DirectSum", "numpy", "torch"]),
    "mixed terms of a direct sum": (lambda: lo.DirectSum([A, TORCH]), TypeError, ["DirectSum: mixed backends"]),
    "mixed leaves": (
        lambda: lo.LowRank(ones((3, 2)), torch.ones(2, 3)),
        TypeError,
        ["LowRank", "numpy", "torch", "(2, 3)"],
    ),
    "mixed gain": (lambda: torch.tensor(2.0) * A, TypeError, ["Scaled", "torch", "Dense(3×4, float64, numpy)"]),
    "torch dtypes in a product": (
        lambda: TORCH @ lo.Dense(torch.ones(4, 2)),
        TypeError,
        ["float64", "float32", "A.to(dtype="],
    ),
    "torch dtypes in leaves": (
        lambda: lo.LowRank(torch.ones(3, 2), torch.ones(2, 3).double()),
        TypeError,
        ["U", "V", "float32", "float64"],
    ),
    "torch complex number in a sum": (
        lambda: TORCH @ (TORCH.T @ TORCH + 1j * lo.Identity(4)),
        TypeError,
        ["float64", "complex128"],
    ),
    "unknown backend": (lambda: A.to(backend="tensorflow"), ValueError, ["tensorflow", "'numpy', 'torch' or 'jax'"]),
    "unknown dtype": (lambda: A.to(dtype="float17"), TypeError, ["float17"]),
    "torch without the dtype": (lambda: A.to(backend="torch", dtype="float17"), TypeError, ["float17", "torch"]),
    "NumPy device": (lambda: A.to(device="cuda"), ValueError, ["'cpu'", "cuda"]),
    # symbolic
    "symbolic product": (
        lambda: SYMBOLIC @ ones(4),
        TypeError,
        ["Dense(3×4, float32, symbolic)", "init(seed=0, backend='numpy')"],
    ),
    "symbolic left product": (lambda: ones(3) @ SYMBOLIC, TypeError, ["symbolic", "init"]),
    "symbolic dense": (lambda: SYMBOLIC.to_dense(), TypeError, ["symbolic", "init"]),
    "product with a spec": (lambda: A @ lo.spec(4), TypeError, ["Dense(3×4", "spec(4)", "no numbers"]),
    # constructors
    "Dense of a list": (lambda: lo.Dense([1.0]), ValueError, ["Dense", "matrix", "2 axes", "(1,)"]),
    "Dense of a list of tensors": (
        lambda: lo.Dense([torch.ones(2)]),
        TypeError,
        ["Dense", "matrix", "list", "Tensor", "torch.stack"],
    ),
    "Dense of an operator": (lambda: lo.Dense(A), TypeError, ["Dense", "matrix", "Dense(3×4", "A.to_dense()"]),
    "Dense of a sparse matrix": (
        lambda: lo.Dense(eye_array(2)),
        TypeError,
        ["Dense", "matrix", "dia_array", "lo.aslinearoperator"],
    ),
    "Dense of a sparse tensor": (
        lambda: lo.Dense(torch.eye(2).to_sparse()),
        TypeError,
        ["Dense", "matrix", "(2, 2)", "lo.Sparse"],
    ),
    "Dense of a vector": (lambda: lo.Dense(ones(3)), ValueError, ["Dense", "2 axes", "(3,)"]),
    "Dense of text": (lambda: lo.Dense(np.array([["a"]])), TypeError, ["Dense", "numbers", "<U1"]),
    "Diagonal of a matrix": (lambda: lo.Diagonal(ones((2, 2))), ValueError, ["Diagonal", "1 axis", "(2, 2)"]),
    "Identity of a float": (lambda: lo.Identity(2.0), TypeError, ["Identity", "size", "2.0"]),
    "Identity of a negative": (lambda: lo.Identity(-1), ValueError, ["Identity", "-1"]),
    "Zero of text": (lambda: lo.Zero(2, "3"), TypeError, ["Zero", "columns", "'3'"]),
    "Pad of a negative": (lambda: lo.Pad(-2, 3), ValueError, ["Pad", "rows", "-2"]),
    "Permute twice the same": (lambda: lo.Permute([0, 1, 1]), ValueError, ["Permute", "permutation of 0 … 2", "1, 1"]),
    "Permute of negatives": (lambda: lo.Permute([-1, 0]), ValueError, ["permutation of 0 … 1"]),
    "Permute of floats": (lambda: lo.Permute(ones(2)), TypeError, ["Permute", "integers", "float64"]),
    "Permute of booleans": (lambda: lo.Permute(np.array([True, False])), TypeError, ["integers", "bool"]),
    "Permute of a matrix": (lambda: lo.Permute(np.eye(2, dtype=int)), ValueError, ["1 axis", "(2, 2)"]),
    "Permute of a number": (lambda: lo.Permute(3), TypeError, ["Permute", "int"]),
    "Permute torch indices": (lambda: lo.Permute(torch.tensor([0, 0])), ValueError, ["permutation of 0 … 1"]),
    "Permute.random": (lambda: lo.Permute.random(-1), ValueError, ["Permute.random", "-1"]),
    "axes twice the same": (
        lambda: lo.Permute.axes((2, 3), (0, 0)),
        ValueError,
        ["Permute.axes((2, 3), (0, 0))", "2 axes"],
    ),
    "axes of another number": (lambda: lo.Permute.axes((2, 3), (0, 1, 2)), ValueError, ["(2, 3)", "(0, 1, 2)"]),
    "axes of floats": (lambda: lo.Permute.axes((2.5, 2), (1, 0)), TypeError, ["float", "integer"]),
    "BlockDiag of a matrix": (lambda: lo.BlockDiag(ones((2, 2))), ValueError, ["BlockDiag", "3 axes", "(2, 2)"]),
    "BlockDiag of nothing": (lambda: lo.BlockDiag([]), ValueError, ["DirectSum", "at least one"]),
    "DirectSum of nothing": (lambda: lo.DirectSum([]), ValueError, ["DirectSum: expected at least one block"]),
    "BlockDiag of text": (lambda: lo.BlockDiag(["a"]), TypeError, ["array or an operator", "str"]),
    "LowRank ranks": (
        lambda: lo.LowRank(ones((3, 2)), ones((3, 2))),
        ValueError,
        ["U of shape (3, 2)", "V of shape (3, 2)", "(m, r) and (r, n)"],
    ),
    "Kronecker of nothing": (lambda: lo.Kronecker(), ValueError, ["Kronecker", "at least one"]),
    "Kronecker of a number": (lambda: lo.Kronecker(A, 3), TypeError, ["array or an operator", "int"]),
    "TensorTrain of nothing": (lambda: lo.TensorTrain([]), ValueError, ["TensorTrain", "at least one"]),
    "TensorTrain of a matrix": (lambda: lo.TensorTrain([ones((2, 2))]), ValueError, ["cores[0]", "4 axes", "(2, 2)"]),
    "TensorTrain ranks": (
        lambda: lo.TensorTrain([ones((1, 2, 2, 3)), ones((2, 2, 2, 1))]),
        ValueError,
        ["(1, 2, 2, 3), (2, 2, 2, 1)", "do not chain"],
    ),
    "TensorTrain ends": (lambda: lo.TensorTrain([ones((1, 2, 2, 3))]), ValueError, ["do not chain", "r_0 = r_c = 1"]),
    "BlockTensorTrain blocks": (
        lambda: lo.BlockTensorTrain([ones((4, 12, 5)), ones((5, 7, 8))]),
        ValueError,
        ["(4, 12, 5)", "(5, 7, 8)", "expected"],
    ),
    "BlockTensorTrain dims": (lambda: lo.BlockTensorTrain([ones((4, 6, 5))] * 3), ValueError, ["3 cores", "out_dims"]),
    "BlockTensorTrain of nothing": (lambda: lo.BlockTensorTrain([]), ValueError, ["at least one"]),
    "spec of a tuple": (lambda: lo.spec((3, 4)), TypeError, ["spec((3, 4))", "integers", "write spec(3, 4)"]),
    "spec of a float": (lambda: lo.spec(2.5), TypeError, ["spec(2.5", "integers"]),
    "spec of a negative": (lambda: lo.spec(2, -1), ValueError, ["spec(2, -1)", "negative"]),
    "spec of no dtype": (lambda: lo.spec(2, dtype="float17"), TypeError, ["float17"]),
    "wrap a number": (lambda: lo.aslinearoperator(3), TypeError, ["array or an operator", "int"]),
    # families, init, rates
    "family size": (lambda: lo.dense(0, 3), ValueError, ["dense", "out_features", "0"]),
    "family float": (lambda: lo.btt(8.0, 8), TypeError, ["btt", "out_features", "8.0"]),
    "family rank": (lambda: lo.low_rank(8, 8, rank=0), ValueError, ["low_rank", "rank", "0"]),
    "family blocks": (lambda: lo.monarch(8, 3, blocks=4), ValueError, ["monarch(8, 3)", "4 blocks", "3"]),
    "family dearer": (
        lambda: lo.btt(8, 8, rank=9),
        ValueError,
        ["btt(8, 8)", "MACs", "dense's 64", "allow_dearer=True"],
    ),
    "family dims too few": (
        lambda: lo.btt(8, 8, out_dims=(8,)),
        ValueError,
        ["btt", "out_dims", "2 positive integers", "(8,)"],
    ),
    "family dims of one number": (
        lambda: lo.btt(8, 8, in_dims=8),
        TypeError,
        ["btt", "in_dims", "2 positive integers", "got 8"],
    ),
    "family dims too small": (
        lambda: lo.kronecker(8, 8, in_dims=(2, 3)),
        ValueError,
        ["in_dims (2, 3)", "product 6", "8 features"],
    ),
    "init backend": (lambda: SYMBOLIC.init(backend="cupy"), ValueError, ["cupy", "'numpy', 'torch' or 'jax'"]),
    "init scheme": (
        lambda: SYMBOLIC.init(scheme="xavier"),
        ValueError,
        ["xavier", "'mup'", "'orthogonal'", "'spectral'"],
    ),
    "optimizer": (lambda: lo.lr_multipliers(SYMBOLIC, "adagrad"), ValueError, ["adagrad", "sgd"]),
    "leaves": (lambda: A.with_leaves([]), ValueError, ["Dense(3×4", "1 leaves", "got 0"]),
    "leaves that do not fit": (
        lambda: lo.LowRank(lo.spec(3, 2), lo.spec(2, 3)).with_leaves([ones((3, 2))] * 2),
        ValueError,
        ["do not multiply"],
    ),
    "batch": (lambda: A.flops(batch=-1), ValueError, ["batch", "-1"]),
    "batch of a float": (lambda: A.cost(batch=1.5), TypeError, ["batch", "1.5"]),
    "batch to explain": (lambda: A.explain(batch="3"), TypeError, ["batch", "'3'"]),
    "assume": (lambda: lo.assume(A, lo.Tag.SYMMETRIC), ValueError, ["Dense(3×4", "SYMMETRIC", "known not"]),
    # tri: triangular, tridiagonal, reflections, Kronecker sums, blocks
    "Triangular of a rectangle": (lambda: lo.Triangular(ones((2, 3))), ValueError, ["Triangular", "square", "(2, 3)"]),
    "Triangular neither lower nor upper": (
        lambda: lo.Triangular(ones((2, 2)), lower="upper"),
        TypeError,
        ["lower", "True or False", "'upper'"],
    ),
    "Tridiagonal sizes": (
        lambda: lo.Tridiagonal(ones(3), ones(3), ones(2)),
        ValueError,
        ["lower, diag and upper of shapes (3,), (3,) and (2,)", "(n-1,), (n,) and (n-1,)"],
    ),
    "Tridiagonal of a matrix": (
        lambda: lo.Tridiagonal(ones(1), ones((2, 2)), ones(1)),
        ValueError,
        ["diag", "1 axis", "(2, 2)"],
    ),
    "Tridiagonal mixed": (
        lambda: lo.Tridiagonal(ones(1), torch.ones(2), ones(1)),
        TypeError,
        ["lower", "numpy", "diag", "torch", "(2,)"],
    ),
    "Householder of a stack": (
        lambda: lo.Householder(ones((2, 2, 2))),
        ValueError,
        ["Householder", "(n,)", "(k, n)", "(2, 2, 2)"],
    ),
    "Householder of nothing": (
        lambda: lo.Householder(ones((0, 3))),
        ValueError,
        ["Householder", "not empty", "(0, 3)"],
    ),
    "Householder of a list": (lambda: lo.Householder(["a"]), TypeError, ["Householder", "v", "list", "str"]),
    "KroneckerSum of a rectangle": (
        lambda: lo.KroneckerSum(S, A),
        ValueError,
        ["KroneckerSum", "factor 1", "Dense(3×4", "not square"],
    ),
    "KroneckerSum of nothing": (lambda: lo.KroneckerSum(), ValueError, ["KroneckerSum", "at least one"]),
    "Block column": (
        lambda: lo.Block([[S, S], [A, S.T @ A]]),
        ValueError,
        ["column 0", "Dense(3×3", "Dense(3×4", "one width"],
    ),
    "Block row": (
        lambda: lo.Block([[S, None], [S, ones((2, 2))]]),
        ValueError,
        ["row 1", "Dense(3×3", "Dense(2×2", "one height"],
    ),
    "Block of ragged rows": (lambda: lo.Block([[S, S], [S]]), ValueError, ["2, 1 blocks", "as many in each"]),
    "Block of no rows": (lambda: lo.Block([S, S]), ValueError, ["rows of blocks", "[[A, B], [C, D]]", "hstack"]),
    "Block of unknown size": (lambda: lo.Block([[S, None], [S, None]]), ValueError, ["column 1", "None", "lo.Zero"]),
    "hstack heights": (lambda: lo.hstack(A, B), ValueError, ["row 0", "Dense(3×4", "BlockDiag(6×4", "one height"]),
    "vstack mixed": (lambda: lo.vstack([A, TORCH]), TypeError, ["vstack", "numpy", "torch"]),
    # transforms
    "Circulant of a matrix": (
        lambda: lo.Circulant(ones((2, 2))),
        ValueError,
        ["Circulant", "c must have 1 axis", "(2, 2)"],
    ),
    "Circulant of a list": (lambda: lo.Circulant([[1.0]]), ValueError, ["Circulant", "c", "1 axis", "(1, 1)"]),
    "Circulant rows": (lambda: lo.Circulant(ones(3), rows=4), ValueError, ["Circulant", "rows", "at most 3", "got 4"]),
    "Circulant columns": (lambda: lo.Circulant(ones(3), columns=2.0), TypeError, ["Circulant", "columns", "2.0"]),
    "Circulant product": (
        lambda: lo.Circulant(ones(3), columns=2) @ ones(3),
        ValueError,
        ["Circulant(3×2", "(3,)", "expected (2,)"],
    ),
    "Toeplitz of a matrix": (
        lambda: lo.Toeplitz(ones(2), ones((1, 2))),
        ValueError,
        ["Toeplitz", "r must have 1 axis", "(1, 2)"],
    ),
    "Toeplitz of a number": (lambda: lo.Toeplitz(1.0, ones(2)), TypeError, ["Toeplitz", "c", "float"]),
    "Toeplitz mixed": (
        lambda: lo.Toeplitz(ones(2), torch.ones(3)),
        TypeError,
        ["Toeplitz", "numpy array of shape (2,)", "torch"],
    ),
    "Hadamard size": (lambda: lo.Hadamard(12), ValueError, ["Hadamard", "power of two", "12"]),
    "Hadamard of nothing": (lambda: lo.Hadamard(0), ValueError, ["Hadamard", "power of two", "0"]),
    "Hadamard of a float": (lambda: lo.Hadamard(4.0), TypeError, ["Hadamard", "size", "4.0"]),
    "DFT of a negative": (lambda: lo.DFT(-1), ValueError, ["DFT", "size", "-1"]),
    "DFT norm": (lambda: lo.DFT(4, norm="forward"), ValueError, ["DFT", "'backward' or 'ortho'", "'forward'"]),
    "family dearer in FLOPs": (
        lambda: lo.circulant(8, 8, allow_dearer=False),
        ValueError,
        ["circulant(8, 8)", "150 FLOPs", "dense's 128", "allow_dearer=True"],
    ),
    # butterfly, einsum, BLAST
    "Butterfly of nothing": (lambda: lo.Butterfly([]), ValueError, ["Butterfly", "at least one array (d, a, b, c)"]),
    "Butterfly of a matrix": (
        lambda: lo.Butterfly([ones((2, 2))]),
        ValueError,
        ["Butterfly", "factors[0]", "4 axes", "(2, 2)"],
    ),
    "Butterfly of a list": (lambda: lo.Butterfly([[1.0]]), ValueError, ["Butterfly", "factors[0]", "4 axes", "(1,)"]),
    "Butterfly that does not chain": (
        lambda: lo.Butterfly([ones((1, 4, 2, 2)), ones((2, 3, 2, 2))]),
        ValueError,
        ["factors[0] of shape (1, 4, 2, 2) has 8 columns", "factors[1] of shape (2, 3, 2, 2) has 12 rows"],
    ),
    "Butterfly of two backends": (
        lambda: lo.Butterfly([ones((1, 2, 2, 2)), torch.ones(2, 1, 2, 2)]),
        TypeError,
        ["Butterfly", "numpy array of shape (1, 2, 2, 2)", "torch"],
    ),
    "Einsum of an array": (lambda: lo.Einsum(ones((2, 2))), TypeError, ["Einsum", "'ab,b->a'", "ndarray"]),
    "Einsum without result": (lambda: lo.Einsum("ab,b", ones((2, 2))), ValueError, ["Einsum('ab,b')", "'ab,b->a'"]),
    "Einsum without operand": (
        lambda: lo.Einsum("ab->ab", ones((2, 2))),
        ValueError,
        ["Einsum('ab->ab')", "the operand"],
    ),
    "Einsum of a trace": (lambda: lo.Einsum("aa,b->b", ones((2, 2))), ValueError, ["different letters", "'aa'"]),
    "Einsum of an ellipsis": (lambda: lo.Einsum("...a,a->...", ones((2, 2))), ValueError, ["letters", "'...a'"]),
    "Einsum of a lone axis": (
        lambda: lo.Einsum("abc,b->a", ones((2, 2, 2))),
        ValueError,
        ["axis 'c' is in one term alone"],
    ),
    "Einsum of too few tensors": (lambda: lo.Einsum("ab,bc,c->a", ones((2, 2))), ValueError, ["2 tensors", "got 1"]),
    "Einsum of too few axes": (
        lambda: lo.Einsum("abc,c->ab", ones((2, 2))),
        ValueError,
        ["tensors[0], 'abc'", "3 axes", "(2, 2)"],
    ),
    "Einsum sizes": (
        lambda: lo.Einsum("ab,bc,c->a", ones((2, 3)), ones((4, 5))),
        ValueError,
        ["axis 'b' has sizes 3 and 4", "(2, 3), (4, 5)"],
    ),
    "Einsum of open axes": (
        lambda: lo.Einsum("ab,bp->ap", ones((2, 3))),
        ValueError,
        ["no tensor has the axis 'p'", "in_dims"],
    ),
    "Einsum in_dims": (
        lambda: lo.Einsum("ab,bp->ap", ones((2, 3)), in_dims=(3,)),
        ValueError,
        ["in_dims (3,)", "'bp'"],
    ),
    "Einsum order": (
        lambda: lo.Einsum("ab,bc,c->a", ones((2, 2)), ones((2, 2)), order=(0, 2)),
        ValueError,
        ["order (0, 2)", "2 tensors"],
    ),
    "low rank and blocks": (
        lambda: lo.low_rank_block(8, 4, rank=1, blocks=5),
        ValueError,
        ["block_diag(8, 4)", "5 blocks", "from 1 to 4"],
    ),
    "density": (
        lambda: lo.low_rank_sparse(8, 8, density=1.5),
        ValueError,
        ["low_rank_sparse(8, 8)", "1.5", "at most 1"],
    ),
    "density of text": (
        lambda: lo.low_rank_sparse(8, 8, density="2"),
        TypeError,
        ["low_rank_sparse", "density", "str"],
    ),
    "seed below 0": (lambda: lo.low_rank_sparse(8, 8, seed=-1), ValueError, ["low_rank_sparse", "seed", "-1"]),
    "more than a group": (
        lambda: lo.low_rank_semi_structured(8, 8, kept=5),
        ValueError,
        ["low_rank_semi_structured(8, 8)", "kept 5 of group 4"],
    ),
    "BLAST blocks": (lambda: lo.blast(8, 4, blocks=(2, 5)), ValueError, ["blast(8, 4)", "5 blocks", "4 in_features"]),
    "BLAST of three": (lambda: lo.blast(8, 8, blocks=(2, 2, 2)), ValueError, ["blast(8, 8)", "(b1, b2)", "(2, 2, 2)"]),
    "BLAST of floats": (lambda: lo.blast(8, 8, blocks=2.0), TypeError, ["blast", "blocks", "2.0"]),
    "butterfly dearer": (
        lambda: lo.butterfly(3, 3, factors=2),
        ValueError,
        ["butterfly(3, 3)", "MACs", "dense's 9", "allow_dearer=True"],
    ),
    "einsum dims": (
        lambda: lo.einsum(8, 8, in_dims=(2, 4)),
        ValueError,
        ["einsum", "in_dims", "3 positive integers", "(2, 4)"],
    ),
    # sparse and interop
    "Sparse without positions": (lambda: lo.Sparse(ones(2), size=(2, 2)), TypeError, ["Sparse", "rows", "NoneType"]),
    "Sparse without a size": (lambda: lo.Sparse(ones(1), [0], [0]), TypeError, ["Sparse", "size", "(m, n)", "None"]),
    "Sparse of a negative size": (
        lambda: lo.Sparse(ones(1), [0], [0], (2, -1)),
        ValueError,
        ["Sparse", "n must not be negative", "-1"],
    ),
    "Sparse of a float size": (
        lambda: lo.Sparse(ones(1), [0], [0], (2.0, 1)),
        TypeError,
        ["Sparse", "m must be an integer", "2.0"],
    ),
    "Selected by hand": (lambda: lo.Selected(A), ValueError, ["Selected of Dense(3×4", "A[rows, columns]"]),
    "Sliced by hand": (lambda: lo.Sliced(A), ValueError, ["Sliced of Dense(3×4", "A[rows, columns]"]),
    "Sliced backwards": (
        lambda: lo.Sliced(A, range(2, -1, -1), range(4)),
        ValueError,
        ["Sliced of Dense(3×4", "range(2, -1, -1)", "0 … 2", "A[rows, columns]"],
    ),
    "Selected outside": (lambda: lo.Selected(A, [0, 3]), ValueError, ["Selected: rows", "0 … 2", "0 … 3"]),
    "toeplitz dearer": (
        lambda: lo.toeplitz(8, 8, allow_dearer=False),
        ValueError,
        ["toeplitz(8, 8)", "FLOPs", "dense's 128", "allow_dearer=True"],
    ),
    "Sparse row outside": (
        lambda: lo.Sparse(ones(2), [0, 2], [0, 1], (2, 2)),
        ValueError,
        ["rows", "within 0 … 1", "0 … 2"],
    ),
    "Sparse negative column": (
        lambda: lo.Sparse(ones(2), [0, 1], [0, -1], (2, 2)),
        ValueError,
        ["columns", "within 0 … 1", "-1 … 0"],
    ),
    "Sparse positions of floats": (
        lambda: lo.Sparse(ones(1), [0.0], [0], (1, 1)),
        TypeError,
        ["rows", "integers", "float64"],
    ),
    "Sparse too few positions": (
        lambda: lo.Sparse(ones(2), [0], [0, 1], (2, 2)),
        ValueError,
        ["rows of shape (1,)", "values of shape (2,)"],
    ),
    "Sparse of a matrix": (lambda: lo.Sparse(ones((2, 2))), ValueError, ["Sparse", "values", "1 axis", "(2, 2)"]),
    "Sparse of scipy with a size": (
        lambda: lo.Sparse(eye_array(2), size=(2, 2)),
        ValueError,
        ["Sparse", "nothing else"],
    ),
    "Sparse of one axis": (
        lambda: lo.Sparse(coo_array(ones(3))),
        ValueError,
        ["Sparse", "2 axes", "coo_array", "(3,)"],
    ),
    "Sparse with other values": (
        lambda: lo.Sparse(eye_array(2)).with_leaves([ones(3)]),
        ValueError,
        ["values of shape (3,)", "2 positions"],
    ),
    "compose with scipy": (lambda: A @ eye_array(3), ValueError, ["Dense(3×4", "Sparse(3×3", "4 and 3 differ"]),
    "add scipy": (lambda: A + eye_array(3), ValueError, ["Dense(3×4", "Sparse(3×3", "shapes differ"]),
    "compose torch with scipy": (
        lambda: TORCH @ eye_array(4),
        TypeError,
        ["mixed backends", "torch", "Sparse(4×4, float64, numpy)"],
    ),
    "elementwise with scipy": (
        lambda: S * eye_array(3),
        TypeError,
        ["Dense(3×3", "expected a number", "A @ B composes"],
    ),
    "to_scipy of torch": (lambda: TORCH.to_scipy(), TypeError, ["Dense(3×4, float64, torch)", "A.to(backend='numpy')"]),
    "to_scipy of specs": (lambda: SYMBOLIC.to_scipy(), TypeError, ["symbolic", "init"]),
    # func: subscripts
    "row out of range": (lambda: A[3], IndexError, ["Dense(3×4", "axis 0 of size 3", "index 3 is out of bounds"]),
    "column out of range": (
        lambda: A[:, [0, -5]],
        IndexError,
        ["Dense(3×4", "axis 1 of size 4", "index -5 is out of bounds"],
    ),
    "too many keys": (lambda: A[0, 0, 0], IndexError, ["Dense(3×4", "2 axes", "3 keys"]),
    "two ellipses": (lambda: A[..., ...], IndexError, ["Dense(3×4", "2 axes"]),
    "float key": (lambda: A[1.0], IndexError, ["Dense(3×4", "axis 0", "1.0", "integers, slices"]),
    "text key": (lambda: A[:, "a"], IndexError, ["Dense(3×4", "axis 1", "'a'"]),
    "new axis": (lambda: A[None], IndexError, ["Dense(3×4", "None"]),
    "boolean key": (lambda: A[True], IndexError, ["Dense(3×4", "True"]),
    "float indices": (lambda: A[[0.5]], IndexError, ["Dense(3×4", "integers or booleans", "float64"]),
    "short mask": (lambda: A[[True, False]], IndexError, ["Dense(3×4", "mask of length 2, expected 3"]),
    "mask of a matrix": (lambda: A[ones((3, 4), bool)], IndexError, ["Dense(3×4", "1 axis", "(3, 4)"]),
    "slice of floats": (lambda: A[:1.5], TypeError, ["slice indices must be integers"]),
    "slice without a step": (lambda: A[::0], ValueError, ["slice step cannot be zero"]),
    "entry of specs": (lambda: SYMBOLIC[0, 0], TypeError, ["symbolic", "no entries", "init"]),
    "loop over rows": (lambda: list(A), TypeError, ["Dense", "not iterable"]),
    # func: callables and derivatives
    "Function shape": (lambda: lo.Function(3, abs), TypeError, ["Function", "(m, n)", "3"]),
    "Function of nothing": (lambda: lo.Function((3, 4)), ValueError, ["Function(3×4)", "matvec, rmatvec, or both"]),
    "Function of no callable": (
        lambda: lo.Function((3, 4), A),
        TypeError,
        ["Function(3×4)", "matvec", "callable", "Dense"],
    ),
    "Function params": (
        lambda: lo.Function((3, 4), abs, params=ones(3)),
        TypeError,
        ["params", "tuple of arrays", "ndarray"],
    ),
    "Function param": (lambda: lo.Function((3, 4), abs, params=(2.0,)), TypeError, ["params[0]", "float"]),
    "matvec of another shape": (
        lambda: lo.Function((3, 4), lambda x: x) @ ones((4, 2)),
        ValueError,
        ["Function(3×4)", "matvec returned shape (4,)", "expected (3,)"],
    ),
    "matvec of no array": (
        lambda: lo.Function((3, 4), list) @ ones(4),
        TypeError,
        ["Function(3×4)", "matvec returned list", "ndarray"],
    ),
    "Function without adjoint": (
        lambda: lo.Function((3, 4), abs).H @ ones(3),
        NotImplementedError,
        ["Function(4×3)", "NumPy cannot transpose abs", "rmatvec"],
    ),
    "Jacobian in NumPy": (
        lambda: lo.Jacobian(abs, ones(3)),
        TypeError,
        ["Jacobian", "NumPy array of shape (3,)", "torch or JAX"],
    ),
    "Hessian in NumPy": (lambda: lo.Hessian(abs, ones(3)), TypeError, ["Hessian", "NumPy", "torch or JAX"]),
    "Jacobian moved to NumPy": (
        lambda: lo.Jacobian(torch.sin, torch.ones(3)).to(backend="numpy") @ ones(3),
        TypeError,
        ["NumPy has no derivatives", "torch or JAX"],
    ),
    "Jacobian of a scalar": (
        lambda: lo.Jacobian(torch.sum, torch.ones(3)),
        ValueError,
        ["Jacobian of sum", "(n,) → (m,)", "(3,) → ()"],
    ),
    "Hessian of a vector": (
        lambda: lo.Hessian(jnp.sin, jnp.ones(3)),
        ValueError,
        ["Hessian of sin", "(n,) → ()", "(3,) → (3,)"],
    ),
    "Jacobian at integers": (
        lambda: lo.Jacobian(jnp.sin, jnp.ones(3, int)),
        TypeError,
        ["Jacobian", "floating or complex", "int"],
    ),
    "Jacobian at a matrix": (
        lambda: lo.Jacobian(torch.sin, torch.ones(3, 2)),
        ValueError,
        ["Jacobian", "x must have 1 axis", "(3, 2)"],
    ),
    "Jacobian at a spec": (
        lambda: lo.Jacobian(torch.sin, lo.spec(3)),
        TypeError,
        ["Jacobian of sin", "spec", "out_features"],
    ),
    "Jacobian of complex values": (
        lambda: lo.Jacobian(lambda x: 1j * x, torch.ones(3)),
        TypeError,
        ["Jacobian", "float32", "complex64", "holomorphic"],
    ),
    "Jacobian mode": (
        lambda: lo.Jacobian(torch.sin, torch.ones(3), mode="both"),
        ValueError,
        ["'forward' or 'reverse'", "'both'"],
    ),
    # testing
    "Diagonal of a list": (lambda: lo.Diagonal([1.0, None]), TypeError, ["Diagonal", "diagonal", "list", "NoneType"]),
    "scaled by hand": (
        lambda: lo.Scaled(A, 1, torch.tensor(2.0)),
        TypeError,
        ["Scaled", "torch", "Dense(3×4, float64, numpy)"],
    ),
    "power by hand": (lambda: lo.Power(A, 2), ValueError, ["Dense(3×4", "** 2", "square"]),
    "power of one": (lambda: lo.Power(S, 1), ValueError, ["Power", "Dense(3×3", "at least 2"]),
    "BlockTensorTrain of nothing wide": (
        lambda: lo.BlockTensorTrain([ones((4, 6, 0)), ones((2, 3, 12))], (2, 3), (4, 0)),
        ValueError,
        ["BlockTensorTrain", "(4, 0)", "positive"],
    ),
    "block_diag blocks": (lambda: lo.block_diag(8, 3, blocks=4), ValueError, ["block_diag(8, 3)", "4 blocks"]),
    "kronecker factors": (lambda: lo.kronecker(8, 8, factors=0), ValueError, ["kronecker", "factors", "0"]),
    "tensor_train rank": (lambda: lo.tensor_train(8, 8, rank=-1), ValueError, ["tensor_train", "rank", "-1"]),
    "allclose shapes": (lambda: lo.allclose(A, S), ValueError, ["allclose", "Dense(3×4", "Dense(3×3", "shapes differ"]),
    "allclose backends": (
        lambda: lo.allclose(A, TORCH),
        TypeError,
        ["allclose", "numpy", "torch", "A.to(backend='numpy')"],
    ),
    "allclose symbolic": (
        lambda: lo.allclose(A, lo.dense(3, 4)),
        TypeError,
        ["allclose", "symbolic", "same_structure"],
    ),
    "allclose probes": (lambda: lo.allclose(A, A, probes=0), ValueError, ["allclose", "probes", "0"]),
    "allclose a number": (lambda: lo.allclose(A, 3.0), TypeError, ["array or an operator", "float"]),
    "same_structure of an array": (
        lambda: lo.same_structure(A, ones((3, 4))),
        TypeError,
        ["same_structure", "ndarray"],
    ),
    "check of an array": (lambda: lo.testing.check_operator(ones((3, 4))), TypeError, ["check_operator", "ndarray"]),
    "check of no check": (
        lambda: lo.testing.check_operator(A, skip=["speed"]),
        ValueError,
        ["no check 'speed'", "gradient"],
    ),
    # rules
    "simplify an array": (lambda: lo.simplify(ones((3, 3))), TypeError, ["simplify", "ndarray", "aslinearoperator"]),
    "simplify a number": (lambda: lo.simplify(3), TypeError, ["simplify", "int"]),
    "compose a long chain": (
        lambda: (S @ S @ S) @ (A.T @ A @ A.T),
        ValueError,
        ["Product(3×3", "Product(4×3", "3 and 4 differ"],
    ),
    "mixed long chains": (lambda: (S @ A) @ (TORCH.T @ TORCH), TypeError, ["Product", "numpy", "torch", "mixed"]),
    "mixed long sums": (lambda: (A + A) + (TORCH + TORCH), TypeError, ["Sum", "numpy", "torch", "mixed"]),
    "mixed Kronecker chains": (
        lambda: lo.kron(lo.kron(A, S), lo.kron(JAX, JAX)),
        TypeError,
        ["Kronecker", "numpy", "jax"],
    ),
    "torch dtypes in long chains": (
        lambda: (TORCH.T @ TORCH) @ (lo.Dense(torch.ones(4, 2)) @ lo.Dense(torch.ones(2, 4))),
        TypeError,
        ["float64", "float32", "A.to(dtype="],
    ),
}


BAD |= {
    f"{name} {number}": row for name, case in CASES.items() for number, row in enumerate(getattr(case, "refused", ()))
}


@pytest.mark.parametrize("name", BAD)
def test_error(name):
    action, kind, fragments = BAD[name]
    with pytest.raises(kind) as caught:
        action()
    assert type(caught.value) is kind
    message = str(caught.value)
    for fragment in fragments:
        assert fragment in message, message


def refusers(action):
    """The names of the operators' constructors and of the functions of linops that an error passed through."""
    try:
        action()
    except Exception as error:
        trace = error.__traceback__
    names = set()
    while trace is not None:
        code, owner = trace.tb_frame.f_code, trace.tb_frame.f_locals.get("self")
        names.add(type(owner).__name__ if code.co_name in ("__post_init__", "__init__") else code.co_name)
        names |= {owner.name} if isinstance(owner, Declaration) else set()
        trace = trace.tb_next
    return names


def test_every_constructor_and_family_refuses_something():
    names = set().union(*(refusers(action) for action, _, _ in BAD.values()))
    missing = set(operator_classes()) - names
    assert not missing, f"@refuses on a case of {', '.join(sorted(missing))}, or a row of BAD"
    families = {
        name
        for name, value in vars(lo.families).items()
        if isfunction(value) and value.__module__.startswith("linops.families")
    }
    missing = {name for name in families if not name.startswith("_") and hasattr(lo, name)} - names
    assert not missing, f"rows of BAD for the families {', '.join(sorted(missing))}"
    assert len(BAD) >= 60


#: shapes that numpy.matmul refuses, against those that operators refuse
@pytest.mark.parametrize(
    "shape", [(), (3,), (4,), (5,), (3, 4), (4, 3), (4, 0), (2, 4, 3), (2, 3, 4), (2, 2, 4, 3), (0,), (0, 4, 1)]
)
@pytest.mark.parametrize(
    "operator",
    [A, B.T @ B @ lo.Diagonal(ones(4)), lo.Permute.axes((2, 2), (1, 0)), lo.kron(ones((2, 2)), ones((3, 2)))],
)
def test_same_shapes_and_errors_as_numpy(operator, shape):
    matrix, x = operator.to_dense(), ones(shape)
    for numpy_product, product in (
        (lambda: matrix @ x, lambda: operator @ x),
        (lambda: x @ matrix, lambda: x @ operator),
    ):
        try:
            expected = numpy_product()
        except ValueError:
            with pytest.raises(ValueError, match="expected"):
                product()
        else:
            assert product().shape == expected.shape


def test_numpy_float64_does_not_enter_jax_unasked():
    import jax

    with jax.enable_x64(False):
        with pytest.raises(TypeError, match=r"float64.*float32.*jax_enable_x64"):
            A.to(backend="jax")
        assert A.to(backend="jax", dtype="float32").dtype == "float32"


def test_operators_are_immutable():
    for name, value in (("matrix", ones((3, 4))), ("assumed", lo.Tag.DIAGONAL)):
        with pytest.raises(AttributeError):
            setattr(A, name, value)


def test_scalars_of_every_kind():
    from fractions import Fraction

    x = ones(4, np.float32)
    narrow = lo.Dense(ones((3, 4), np.float32))
    for scalar in (2, 2.0, np.float64(2), np.int32(2), Fraction(2), True + 1):
        y = (scalar * narrow) @ x
        assert y.dtype == np.float32  # a number is weak
        assert np.array_equal(y, np.full(3, 8.0))
    assert ((np.array(2.0) * narrow) @ x).dtype == np.float64  # an array is not, as in NumPy
    assert (S ** np.int64(2)).shape == (3, 3)


def test_random_parameters_of_an_integer_dtype_are_refused():
    with pytest.raises(TypeError, match=r"Dense\(3×3, int32, symbolic\).*floating or complex"):
        lo.dense(3, 3, dtype="int32").init(seed=0)


def test_assume_takes_tags():
    with pytest.raises(TypeError, match=r"lo\.Tag"):
        lo.assume(lo.Identity(2), "symmetric")


def test_layers_take_tensors():
    with pytest.raises(TypeError, match=r"BlockTensorTrain.*torch tensor"):
        lo.btt(16, 16).to_layer()(np.ones((2, 16)))


def test_asarray_of_another_framework_says_how_to_convert():
    operator = lo.dense(2, 2).init(seed=0, backend="torch")
    with pytest.raises(TypeError, match=r"Dense\(2×2, float32, torch\).*to\(backend='numpy'\)"):
        np.asarray(operator)
