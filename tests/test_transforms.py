"""Pytrees, vmap, torch.compile: operators pass through the frameworks' transformations."""

import jax
import numpy as np
import pytest
import torch
from cases import CASES
from helpers import as_numpy, assert_close, assert_is, assert_left_product, build, each, on
from torch.utils import _pytree as torch_tree

import linops as lo


def test_jax_paths_name_the_leaves():
    operator, _, _ = build("nested_sum_of_products", "float64", "jax")
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(operator)[0]]
    names = [path.replace("[", "_").replace("]", "").replace(".", "_").lstrip("_").replace("__", "_") for path in paths]
    assert names == [name for name, _ in operator.named_leaves()]


def test_jit_does_not_compile_again_for_other_numbers():
    compiled = 0

    @jax.jit
    def product(operator, x):
        nonlocal compiled
        compiled += 1
        return operator @ x

    for case in ("permute_indices", "nested_blocks_of_trains"):
        compiled = 0
        operator, matrix, array = build(case, "float64", "jax")
        other = jax.tree_util.tree_map(lambda leaf: leaf + 1, operator)
        x = on("jax", array(matrix.shape[1]))
        product(operator, x), product(other, x), product(CASES[case](array)[0].to(backend="jax"), x)
        assert compiled == 1


def test_operators_pass_through_jit():
    operator, matrix, _ = build("kronecker_tall", "float64", "jax")
    assert_is(jax.jit(lambda operator: 2 * operator.T)(operator).to(backend="numpy"), 2 * matrix.T)


def test_scan_over_a_stack_of_operators():
    drawn = [lo.btt(6, 6).init(seed=seed, backend="jax", dtype="float64") for seed in range(3)]
    stack = jax.tree_util.tree_map(lambda *leaves: jax.numpy.stack(leaves), *drawn)
    x = np.arange(6.0)
    last, _ = jax.lax.scan(lambda carry, operator: (operator @ carry, None), jax.numpy.asarray(x), stack)
    expected = x
    for operator in drawn:
        expected = as_numpy(operator.to_dense()) @ expected
    assert_close(last, expected)


VMAP = {"torch": torch.func.vmap, "jax": jax.vmap}


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_vmap_over_operands_alone(backend):
    for case in ("kronecker_wide", "block_tensor_train_three_cores", "product_monarch", "permute_two_axes"):
        operator, matrix, array = build(case, "float64", backend)
        x = array(3, matrix.shape[1])
        assert_left_product(VMAP[backend](lambda x, A=operator: A @ x)(on(backend, x)), x, matrix.T, "float64")


def test_per_sample_gradients():
    operator, matrix, array = build("block_diag_tall", "float64", "torch")
    x = on("torch", array(4, matrix.shape[1]))
    gradients = torch.func.vmap(torch.func.grad(lambda A, x: ((A @ x) ** 2).sum()), in_dims=(None, 0))(operator, x)
    assert isinstance(gradients, lo.BlockDiag)
    for row in range(4):
        leaf = operator.blocks.clone().requires_grad_()
        (expected,) = torch.autograd.grad(((lo.BlockDiag(leaf) @ x[row]) ** 2).sum(), leaf)
        assert_close(gradients.blocks[row], expected.numpy())


def test_tags_inside_transformations():
    def product(A, x):
        B = A @ A.H
        assert B.is_hermitian is not False
        return B @ x

    operator, matrix, array = build("dense_square", "float64", "torch")
    x = array(3, 4)
    found = torch.func.vmap(product, in_dims=(None, 0))(operator, on("torch", x))
    assert_close(found, x @ (matrix @ matrix.T))
    stack = torch_tree.tree_map(lambda leaf: torch.stack([leaf] * 3), operator)
    assert_close(torch.func.vmap(product)(stack, on("torch", x)), x @ (matrix @ matrix.T))


ROWS, ROWS_AS_TENSOR, ROWS_BY_MASK = np.array([2, -1]), torch.tensor([2, 0]), [True, False, True, True]
SELECTIONS = {
    "list": lambda A: A[[2, 0]],
    "list that repeats, from the end": lambda A: A[[-1, 0, 0]],
    "list that is a slice": lambda A: A[[0, 2]],
    "no rows": lambda A: A[[]],
    "columns": lambda A: A[:, [2, 0, 2]],
    "columns after dots": lambda A: A[..., [-1]],
    "rows and columns": lambda A: A[[1, 3], [2, 0]],
    "range": lambda A: A[range(3, 0, -1)],
    "array": lambda A: A[ROWS],
    "array made there": lambda A: A[np.array([2, 0]), np.arange(3)[::-1]],
    "tensor": lambda A: A[ROWS_AS_TENSOR],
    "mask": lambda A: A[ROWS_BY_MASK, [False, True, True]],
    "slices": lambda A: A[1:, ::2],
    "slices that fall": lambda A: A[::-1, ::-2],
    "part of a part": lambda A: A[[2, 0, 3]][[1, 0]],
    "slice of a part": lambda A: A[ROWS][::-1],
    "part of a slice": lambda A: A[1:][[1, 0]],
    "part of a falling slice": lambda A: A[::-1][ROWS_AS_TENSOR],
    "transpose": lambda A: A[[2, 0]].T,
    "entries": lambda A: lo.Diagonal(A[1, [2, 0]]),
    "permutation": lambda A: lo.Permute([2, 0, 1]),
}


@pytest.mark.parametrize("selection", each(5, SELECTIONS.values()), ids=SELECTIONS)
def test_torch_compiles_subscripts(selection):
    torch._dynamo.reset()
    matrix = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    x = torch.randn(selection(lo.Dense(matrix)).shape[1], 2, dtype=torch.float64)

    def product(matrix, x):
        return selection(lo.Dense(matrix)) @ x

    for dynamic in (False, True):
        y = torch.compile(product, fullgraph=True, backend="aot_eager", dynamic=dynamic)(matrix, x)
        torch.testing.assert_close(y, product(matrix, x))


def test_subscripts_that_torch_does_not_compile_say_why():
    A, mask = lo.Dense(torch.ones(4, 3)), np.array([True, False, True, True])
    for key, words in ((mask, "a list of booleans is"), ([4, 0], "index 4 is out of bounds")):
        torch._dynamo.reset()
        with pytest.raises(torch._dynamo.exc.Unsupported, match=words):
            torch.compile(lambda A, x: A[key] @ x, fullgraph=True, backend="eager")(A, torch.ones(3))  # noqa: B023


def test_torch_exports_subscripts():
    class Parts(torch.nn.Module):
        def forward(self, matrix, x):
            return lo.Dense(matrix)[[2, 0, 1]][ROWS] @ x

    matrix, x = torch.randn(4, 3), torch.randn(3)
    found = torch.export.export(Parts(), (matrix, x), strict=False).module()(matrix, x)
    torch.testing.assert_close(found, Parts()(matrix, x))


def test_torch_compiles_construction_and_gradients():
    torch._dynamo.reset()
    P = lo.Permute.axes((2, 3), (1, 0))

    @torch.compile(fullgraph=True, backend="aot_eager")
    def product(left, right, x):
        # operator times operator Dynamo does not trace
        y = P.T @ (lo.BlockDiag(left) @ (P @ (lo.BlockDiag(right) @ x)))
        return y.square().sum()

    left, right = torch.randn(3, 2, 2, dtype=torch.float64), torch.randn(2, 3, 3, dtype=torch.float64)
    x = torch.randn(6, 4, dtype=torch.float64)
    left.requires_grad_(), right.requires_grad_()
    found = torch.autograd.grad(product(left, right, x), (left, right))
    expected = torch.autograd.grad(
        ((P.T @ lo.BlockDiag(left) @ P @ lo.BlockDiag(right)) @ x).square().sum(), (left, right)
    )
    for one, other in zip(found, expected):
        assert_close(one, other.numpy())
