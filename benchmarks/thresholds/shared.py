"""Constants of plans and operators, which hold on every backend."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import scipy
import torch

import linops as lo
from benchmarks.thresholds.case import Case, normal
from linops import backends
from linops.lab.measure import Function
from linops.operators.fourier import fast_length, lag_length
from linops.operators.planned import network_of
from linops.operators.squaring import powered
from linops.plan import natural_order, target_of
from linops.plan.gradient import total
from linops.plan.plan import marked_naturally, plan_along
from linops.plan.search import path
from linops.running import multiply
from linops.tuning import HADAMARD_BLOCK


def _natural(operator: lo.LinearOperator, x: Any) -> Any:
    with natural_order():
        return operator @ x


def _plan(batch: int, backend: str) -> tuple[float, Function, Function]:
    operator = (lo.dense(64, 1024) @ lo.dense(1024, 1024)).init(seed=0, backend=backend)
    network, target, leaves = network_of(operator), target_of(backend), [leaf for _, leaf in operator.named_leaves()]
    assert network is not None
    assert target is not None
    plan = plan_along(network, path(network, ((0, 1),), batch, target.machine, 4))
    with natural_order():
        before = target.machine.total(operator._lower(batch), 4)
    x = normal(backend, 1024, batch)
    gain = round(before / target.machine.total(plan.steps(batch), 4), 2)
    return gain, lambda: _natural(operator, x), lambda: multiply(plan, leaves, x)


def _training(batch: int, backend: str) -> tuple[float, Function, Function]:
    operator: Any = lo.btt(256, 256, rank=4).init(seed=0, backend=backend)
    network, target, everything = network_of(operator), target_of(backend), operator._everything
    assert network is not None
    assert target is not None
    plan = plan_along(network, path(network, ((0, 1),), batch, target.machine, 4, everything))
    leaves = [leaf.detach().requires_grad_() for _, leaf in operator.named_leaves()]
    x, steps = normal(backend, 256, batch).requires_grad_(), operator._natural_steps(batch)
    operator = operator.with_leaves(leaves)
    before = total(marked_naturally(network, steps, everything), target.machine, 4)
    gain = round(before / total(plan.marked(batch, everything), target.machine, 4), 2)

    def gradients(y: Any) -> Any:
        return torch.autograd.grad(y, [x, *leaves], torch.ones_like(y))[0]

    return gain, lambda: gradients(_natural(operator, x)), lambda: gradients(multiply(plan, leaves, x).reshape(256, -1))


def _matrix(n: int, backend: str) -> tuple[float, Function, Function]:
    operator: Any = lo.toeplitz(n, n).init(seed=0, backend=backend)
    x, target = normal(backend, n, 64), target_of(backend)
    assert target is not None
    took = [target.machine.total(way(64), 4) for way in (operator._natural_steps, operator._matrix_steps)]
    return round(took[0] / took[1], 2), lambda: _natural(operator, x), lambda: operator._matrix() @ x


def _integers(n: int) -> tuple[int, Function, Function]:
    random = np.random.default_rng(0)
    operator: Any = lo.Circulant(random.integers(-99, 99, n))
    x, kernel = random.integers(-99, 99, (n, 4)), operator._kernel()
    return 4 * n * n, lambda: operator._matrix() @ x, lambda: operator._by_limbs(kernel, x, -2, x.dtype, 8)


def _there_and_back(x: Any, length: int) -> Function:
    """A transform of rows, padded to a length, and its inverse."""
    return lambda: backends.fourier(backends.fourier(x, "rfft", length, -1, None), "irfft", length, -1, None)


def _factor(prime: int, backend: str) -> tuple[int, Function, Function]:
    n, x = 64 * prime, normal(backend, 64, 64 * prime)
    return prime, _there_and_back(x, n), _there_and_back(x, lag_length(n, n))


def _odd(least: int, backend: str) -> tuple[int, Function, Function]:
    x, other = normal(backend, 64, least), scipy.fft.next_fast_len(least, real=True)
    return least, _there_and_back(x, other), _there_and_back(x, fast_length(least))


def _hadamard(largest: int, backend: str) -> tuple[int, Function, Function]:
    def blocks(largest: int) -> Function:
        bits = 12
        count = -(-bits // largest)
        sizes = [1 << (bits + number) // count for number in range(count)]
        matrices = [backends.asarray(lo.Hadamard(size).to_dense(), backend, "float32") for size in sizes]
        operator, x = lo.kron(*matrices), normal(backend, 4096, 64)
        return lambda: _natural(operator, x)

    return largest, blocks(largest), blocks(HADAMARD_BLOCK)


def _power(exponent: int, backend: str) -> tuple[int, Function, Function]:
    base: Any = lo.block_diag(256, 256, blocks=16).init(seed=0, backend=backend)
    x, power = normal(backend, 256, 16), lo.Power(base, exponent)

    def products() -> Any:
        y = x
        for _ in range(exponent):
            y = base @ y
        return y

    return power.exponent, products, lambda: powered(base, exponent, x) @ x


def _cases(backend: str) -> list[Case]:
    """Those that are measured on NumPy and on torch."""

    def case(constant: str, what: str, ways: tuple[str, str], way: Any, *points: int, best: bool = False) -> Case:
        padded = constant.startswith("FFT")  # to two lengths, whose transforms differ
        return Case(constant, backend, what, ways, partial(way, backend=backend), points, best, not padded)

    sizes = ("of this size", "of the constant")
    return [
        case("PLAN_GAIN", "64×1024 times 1024×1024", ("natural", "plan"), _plan, 32, 64, 256, 512),
        case("MATRIX_GAIN", "convolution of 64 columns", ("transforms", "matrix"), _matrix, 1024, 512, 128, 64),
        case("FFT_PRIMES", "transform of 64 times it", ("of that length", "of a fast one"), _factor, 7, 11, 17, 23, 61),
        case("FFT_ODD", "transform of at least", ("scipy's length", "our length"), _odd, 1100, 1340, 2030, best=True),
        case("HADAMARD_BLOCK", "n = 4096, in blocks", sizes, _hadamard, 2, 3, 4, 6, best=True),
        case("POWER_PRODUCTS", "power of 16 blocks", ("products", "power of the blocks"), _power),
    ]


CASES = [
    *_cases("numpy"),
    *_cases("torch"),
    Case(
        "TRAINING_GAIN",
        "torch",
        "BTT of rank 4, d = 256, and gradients",
        ("natural", "plan"),
        partial(_training, backend="torch"),
        (64, 256, 2048, 4096),
    ),
    Case("INTEGER_MACS", "numpy", "circulant of integers", ("matrix", "limbs"), _integers, (45, 64, 128, 181)),
]
