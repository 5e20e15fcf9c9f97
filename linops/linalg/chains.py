"""Operators that are products of blocks and permutations, written as such: Butterfly and BlockTensorTrain."""

from __future__ import annotations

from linops.linalg.parts import is_deficient
from linops.operator import LinearOperator
from linops.operators.block_diag import BlockDiag
from linops.operators.block_tensor_train import BlockTensorTrain
from linops.operators.butterfly import Butterfly
from linops.operators.permute_axes import PermuteAxes
from linops.operators.product import Product


def as_product(a: Butterfly | BlockTensorTrain) -> LinearOperator:
    """The product of blocks and permutations of axes that an operator is.

    Args:
        a: A butterfly or a block tensor train.

    Returns:
        The operator, of the same leaves.
    """
    factors = _of_butterfly(a) if isinstance(a, Butterfly) else _of_train(a)
    return factors[0] if len(factors) == 1 else Product(tuple(factors))


def _of_butterfly(a: Butterfly) -> list[LinearOperator]:
    found: list[LinearOperator] = []
    for factor, (outer, rows, columns, inner) in zip(a.factors, a.patterns):
        found += [
            PermuteAxes((inner, outer, rows), (1, 2, 0)),
            BlockDiag(factor.reshape(inner * outer, rows, columns)),
            PermuteAxes((outer, columns, inner), (2, 0, 1)),
        ]
    return found


def _of_train(a: BlockTensorTrain) -> list[LinearOperator]:
    found: list[LinearOperator] = [BlockDiag(a.cores[0])]
    for core, middle in zip(a.cores[1:], a._middles):
        found[:0] = [BlockDiag(core), PermuteAxes(middle, (0, 3, 1, 2))]
    return found


def has_square_factors(a: Butterfly | BlockTensorTrain) -> bool:
    """Whether all blocks of all factors are square."""
    arrays = a.factors if isinstance(a, Butterfly) else a.cores
    return all(array.shape[-1] == array.shape[-2] for array in arrays)


def is_narrow(a: Butterfly | BlockTensorTrain) -> bool:
    """Whether between two factors there are fewer numbers than outside, so that the rank is lower."""
    product = as_product(a)
    return isinstance(product, Product) and is_deficient(product)
