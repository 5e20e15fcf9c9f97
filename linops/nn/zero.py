"""Zero initialisation: which leaves must be zero so that an operator is, with a gradient that is not."""

from __future__ import annotations

from linops.backends.primitives import generic
from linops.operator import LinearOperator
from linops.operators import (
    Block,
    BlockDiag,
    BlockTensorTrain,
    Butterfly,
    Einsum,
    Householder,
    Kronecker,
    KroneckerSum,
    LowRank,
    Power,
    Product,
    Scaled,
    Sum,
    TensorTrain,
    Toeplitz,
    Tridiagonal,
    Zero,
)


@generic
def output_leaves(operator):
    """The names of the leaves that act last, one in every chain of factors: zeroing them makes the operator zero, and only they.

    A product needs exactly one zero factor: were two zero, neither would get a gradient.

    Args:
        operator: Any operator.

    Returns:
        Names among those of `named_leaves`; none if the operator cannot be made zero.

    Example:
        >>> import linops as lo
        >>> output_leaves(lo.low_rank(8, 4)), output_leaves(lo.monarch(8, 8))
        (('U',), ('factors_1_blocks',))
    """


@output_leaves.dispatch
def _any(a: LinearOperator):
    children = list(a._children())
    if len(children) != 1:
        return ()  # nothing is known of how several leaves meet
    name, child = children[0]
    return _below(name, child) if isinstance(child, LinearOperator) else (name,)


def _below(name: str, child: LinearOperator) -> tuple[str, ...]:
    return tuple(f"{name}_{leaf}" for leaf in output_leaves(child))


def _first(named: list[tuple[str, LinearOperator]]) -> tuple[str, ...]:
    """The output leaves of the first operator that has some."""
    return next((found for name, child in named if (found := _below(name, child))), ())


def _every(named: list[tuple[str, LinearOperator]]) -> tuple[str, ...]:
    """The output leaves of all operators, or none if one has none."""
    found = [_below(name, child) for name, child in named]
    return sum(found, ()) if all(found) else ()


def _named(operators: tuple[LinearOperator, ...], field: str) -> list[tuple[str, LinearOperator]]:
    return [(f"{field}_{number}", child) for number, child in enumerate(operators)]


@output_leaves.dispatch
def _product(a: Product):
    return _first(_named(a.factors, "factors"))


@output_leaves.dispatch
def _kronecker(a: Kronecker):
    named = _named(a.factors, "factors")
    return _first([named[position] for position in reversed(a._order())])


@output_leaves.dispatch
def _sum(a: Sum):
    return _every(_named(a.terms, "terms"))


@output_leaves.dispatch
def _scaled(a: Scaled):
    return _below("base", a.base) or (("gain",) if a.gain is not None else ())


@output_leaves.dispatch
def _power(a: Power):
    return _below("base", a.base)


@output_leaves.dispatch
def _block_diag(a: BlockDiag):
    return _every(_named(a.blocks, "blocks")) if isinstance(a.blocks, tuple) else ("blocks",)


@output_leaves.dispatch
def _low_rank(a: LowRank):
    return ("U",)


@output_leaves.dispatch
def _tensor_train(a: TensorTrain):
    return (f"cores_{len(a.cores) - 1 if a._forward() else 0}",)


@output_leaves.dispatch
def _block_tensor_train(a: BlockTensorTrain):
    return (f"cores_{len(a.cores) - 1}",)


@output_leaves.dispatch
def _block(a: Block):
    rows = [(f"blocks_{i}_{j}", block) for i, row in enumerate(a.blocks) for j, block in enumerate(row)]
    return _every([(name, block) for name, block in rows if not isinstance(block, Zero)])


@output_leaves.dispatch
def _kronecker_sum(a: KroneckerSum):
    return _every(_named(a.factors, "factors"))


@output_leaves.dispatch
def _tridiagonal(a: Tridiagonal):
    return ("lower", "diag", "upper")


@output_leaves.dispatch
def _householder(a: Householder):
    return ()  # it is never zero


@output_leaves.dispatch
def _toeplitz(a: Toeplitz):
    return "c", "r"


@output_leaves.dispatch
def _butterfly(a: Butterfly):
    return ("factors_0",)


@output_leaves.dispatch
def _einsum(a: Einsum):
    return (f"tensors_{a.order[-1]}",)
