"""Long and deeply nested expressions: no overflow of the stack, and time in proportion to their length.

1,000 factors, terms, Kronecker factors and scalars are flat, however they are built. What truly nests, as a sum in a
product in a sum …, is walked by recursion in some places: 100 levels work everywhere.
"""

import copy
import operator as op
import pickle
import time
from functools import reduce

import jax
import numpy as np
import pytest
import torch
from helpers import assert_close, each

import linops as lo

COUNT, LEVELS = 1000, 100
random = np.random.default_rng(0)
MATRICES = [np.eye(3) + 0.01 * random.standard_normal((3, 3)) for _ in range(COUNT)]
SMALL = [np.array([[1 + 1e-3 * random.standard_normal()]]) for _ in range(COUNT)]


def dense(backend="numpy"):
    return [lo.Dense(matrix).to(backend=backend) for matrix in MATRICES]


def product_left(backend="numpy"):
    return reduce(op.matmul, dense(backend)), reduce(op.matmul, MATRICES)


def product_right(backend="numpy"):
    return reduce(lambda a, b: b @ a, dense(backend)[::-1]), reduce(op.matmul, MATRICES)


def product_by_halves(backend="numpy"):
    items = dense(backend)
    while len(items) > 1:
        items = [reduce(op.matmul, items[place : place + 2]) for place in range(0, len(items), 2)]
    return items[0], reduce(op.matmul, MATRICES)


def sum_left(backend="numpy"):
    return sum(dense(backend)), sum(MATRICES)


def sum_right(backend="numpy"):
    return reduce(lambda a, b: b + a, dense(backend)[::-1]), sum(MATRICES)


def kronecker(backend="numpy"):
    return reduce(lo.kron, [lo.Dense(a).to(backend=backend) for a in SMALL]), np.prod(SMALL).reshape(1, 1)


def blocks(backend="numpy"):
    return lo.BlockDiag([lo.Dense(a).to(backend=backend) for a in SMALL]), np.diag(np.ravel(SMALL))


def scaled(backend="numpy"):
    numbers = [1 + 1e-3 * number for number in random.standard_normal(COUNT)]
    return reduce(lambda a, number: number * a, numbers, dense(backend)[0]), np.prod(numbers) * MATRICES[0]


def scaled_factors(backend="numpy"):
    return reduce(lambda a, b: (-1 * a) @ b, dense(backend)), -reduce(op.matmul, MATRICES)


def power(backend="numpy"):
    return reduce(lambda a, _: a**2, range(9), dense(backend)[0]), np.linalg.matrix_power(MATRICES[0], 512)


def permutations(backend="numpy"):
    permutes = [lo.Permute.random(6, seed=seed) for seed in range(COUNT // 2)]
    return reduce(
        op.matmul, [*permutes, lo.Dense(np.eye(6)).to(backend=backend), *[p.T for p in permutes[::-1]]]
    ), np.eye(6)


def alternating(levels=LEVELS, backend="numpy"):
    a, b, c = dense(backend)[:3]
    operator, matrix = a, MATRICES[0]
    for level in range(levels):
        if level % 2:
            operator, matrix = operator @ b, matrix @ MATRICES[1]
        else:
            operator, matrix = operator - c, matrix - MATRICES[2]
    return operator, matrix


def mixed(levels=LEVELS, backend="numpy"):
    a, b, c = dense(backend)[:3]
    operator, matrix = a, MATRICES[0]
    for level in range(levels):
        if level % 4 == 0:
            operator, matrix = operator @ b, matrix @ MATRICES[1]
        elif level % 4 == 1:
            operator, matrix = 0.5 * (operator + c), 0.5 * (matrix + MATRICES[2])
        elif level % 4 == 2:
            operator, matrix = c @ operator.T, MATRICES[2] @ matrix.T
        else:
            operator, matrix = lo.Identity(3) + operator, np.eye(3) + matrix
    return operator, matrix


def nested_blocks(levels=LEVELS, backend="numpy"):
    operator = dense(backend)[0]
    for level in range(levels):
        operator = lo.Kronecker([operator]) if level % 2 else lo.BlockDiag([operator])
    return operator, MATRICES[0]


def nested_gains(levels=LEVELS, backend="numpy"):
    gain = lo.Dense(np.array([[1.01]])).to(backend=backend).matrix.reshape(())
    return reduce(lambda a, _: gain * a, range(levels), dense(backend)[0]), 1.01**levels * MATRICES[0]


def nested_assumptions(levels=LEVELS, backend="numpy"):
    items = dense(backend)[: levels + 1]
    return reduce(lambda a, b: lo.assume(a @ b, lo.Tag.INVERTIBLE), items), reduce(op.matmul, MATRICES[: levels + 1])


FLAT = [
    product_left,
    product_right,
    product_by_halves,
    sum_left,
    sum_right,
    kronecker,
    blocks,
    scaled,
    scaled_factors,
    power,
    permutations,
]
NESTED = [alternating, mixed, nested_blocks, nested_gains, nested_assumptions]
some_expressions = pytest.mark.parametrize("make", each(2, FLAT + NESTED), ids=lambda make: make.__name__)

#: what every operator can do
ACTIONS = {
    "repr": repr,
    "cost": lambda A: A.cost(),
    "explain": lambda A: A.explain(),
    "T": lambda A: A.T,
    "H": lambda A: A.H,
    "conj": lambda A: A.conj(),
    "tags": lambda A: A.tags,
    "kind": lambda A: (A.shape, A.dtype, A.backend, A.device, A.num_params),
    "leaves": lambda A: list(A.named_leaves()),
    "with_leaves": lambda A: A.with_leaves([leaf for _, leaf in A.named_leaves()]),
    "fans": lo.lr_multipliers,
    "to": lambda A: A.to(dtype="float32"),
    "init": lambda A: A._map(lambda leaf: lo.Spec(leaf.shape, leaf.dtype)).init(),
    "pickle": lambda A: pickle.loads(pickle.dumps(A)),
    "deepcopy": copy.deepcopy,
    "vector": lambda A: A @ np.ones(A.shape[1]),
    "left": lambda A: np.ones(A.shape[0]) @ A,
    "dense": lambda A: A.to_dense(),
    "simplify": lo.simplify,
    "jax pytree": lambda A: jax.tree_util.tree_map(lambda leaf: leaf, A),
    "torch pytree": lambda A: torch.utils._pytree.tree_map(lambda leaf: leaf, A),
    "compose": lambda A: A.T @ (A @ A.T) + A @ A.T if A.shape[0] == A.shape[1] else A,
}


@some_expressions
def test_it_is_its_matrix(make):
    operator, matrix = make()
    scale = max(1.0, float(np.abs(matrix).max())) * 1e3
    for ours, theirs in ((operator, matrix), (operator.T, matrix.T), (lo.simplify(operator), matrix)):
        assert_close(ours.to_dense(), theirs, scale)
    x = np.ones((matrix.shape[1], 2))
    assert_close(operator @ x, matrix @ x, scale)


@pytest.mark.full
@some_expressions
def test_nothing_overflows_or_takes_long(make):
    operator, _ = make()
    for name, action in ACTIONS.items():
        start = time.process_time()
        action(operator)
        seconds = time.process_time() - start
        # some 0.3 and 0.02 s on a quiet machine
        assert seconds < (10 if name == "simplify" else 2), f"{name}: {seconds:.1f} s"


@pytest.mark.parametrize("make", FLAT, ids=lambda make: make.__name__)
def test_building_is_quick(make):
    make()
    start = time.process_time()
    make()
    assert time.process_time() - start < 0.5


def test_built_flat():
    for make in (product_left, product_right, product_by_halves):
        assert [type(factor) for factor in make()[0].factors] == [lo.Dense] * COUNT
    for make in (sum_left, sum_right):
        assert [type(term) for term in make()[0].terms] == [lo.Dense] * COUNT
    assert len(kronecker()[0].factors) == COUNT
    assert isinstance(scaled()[0].base, lo.Dense)
    assert len(scaled_factors()[0].base.factors) == COUNT
    assert power()[0].exponent == 512
    assert isinstance(permutations()[0], lo.Product)


@pytest.mark.parametrize("make", [product_left, alternating], ids=lambda make: make.__name__)
def test_inside_jit(make):
    operator, _ = make(backend="jax")
    lowered = jax.jit(lambda A, x: A @ x).lower(operator, jax.numpy.ones(3))
    assert "dot_general" in lowered.as_text()


def test_torch_gradients():
    operator, _ = product_left("torch")
    x = torch.ones(3, dtype=torch.float64, requires_grad=True)
    (operator @ x).sum().backward()
    assert x.grad is not None


@pytest.mark.full
def test_what_is_walked_by_loops():
    operator, matrix = alternating(COUNT)  # a thousand levels
    assert operator.num_params == 9 * (COUNT + 1)
    assert len(lo.fans(operator)) == sum(1 for _ in operator.named_leaves()) == COUNT + 1
    assert (operator.shape, operator.backend) == ((3, 3), "numpy")
    simple = lo.simplify(operator)
    assert isinstance(simple, lo.Dense)
    assert_close(simple.to_dense(), matrix, 1e3 * np.abs(matrix).max())
    symbolic = reduce(lambda a, b: a @ b + b, [lo.dense(3, 3) for _ in range(COUNT)])
    assert lo.simplify(symbolic) is symbolic
