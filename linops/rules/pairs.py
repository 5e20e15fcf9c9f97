"""Two neighbours in a product or a sum: the first rule that applies, specific ones before those for any operators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from linops import backends
from linops.algebra.meet import meet
from linops.operator import LinearOperator, add, compose, scale
from linops.operators.dense import Dense
from linops.operators.identity import Identity
from linops.operators.low_rank import LowRank
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.operators.sum import Sum
from linops.operators.zero import Zero
from linops.rules.functions import absorb, join, merge
from linops.rules.guard import accepts, affordable, counts
from linops.sameness import adjoint_of, same
from linops.specs import spec
from linops.tags import Tag


class Applied(NamedTuple):
    """A rule that applies.

    Attributes:
        rule: Its name.
        before: The operator as it was.
        after: What it becomes.
    """

    rule: str
    before: LinearOperator
    after: LinearOperator


#: the precision in which arrays are merged: that of the whole expression, or None where it is open
_PRECISION: ContextVar[Any] = ContextVar("precision", default=None)


@contextmanager
def merging_for(whole: LinearOperator) -> Iterator[None]:
    """Let arrays be merged only in a whole expression's precision, that of its products: narrower parts might overflow.

    Args:
        whole: The expression; nothing is asked of one that no array gives a precision, or of torch, where all have one.

    Yields:
        Nothing.
    """
    for _, node in reversed(list(whole._nodes())):  # from the leaves up, so that what is remembered needs no recursion
        _ = node.dtype
    token = _PRECISION.set(
        backends.real_dtype(whole.dtype, whole.backend) if backends.promotes(whole.backend) else None
    )
    try:
        yield
    finally:
        _PRECISION.reset(token)


def computable(*operators: LinearOperator) -> bool:
    """Whether arrays may be merged: they are there, floating (integers would wrap around), of the whole's precision.

    Args:
        *operators: Operators.

    Returns:
        True if they may.
    """
    dtypes = []
    for operator in operators:
        if operator.is_symbolic:
            return False
        dtype = operator.dtype
        if dtype is not None:
            leaves = {child.dtype for _, child in operator._children() if not isinstance(child, LinearOperator)}
            if not backends.is_inexact(dtype) or len(leaves) > 1:  # a rule might meet the narrower one alone
                return False
            dtypes.append((operator.backend, dtype))
    whole = _PRECISION.get()
    if whole is None or not dtypes:
        return True
    backend = dtypes[0][0]
    return backends.real_dtype(backends.result_type(backend, *[dtype for _, dtype in dtypes]), backend) == whole


def absorbed(a: LinearOperator, scalar: Any) -> LinearOperator | None:
    """An operator that has taken in a scalar, where its arrays may be merged; parts have to ask this for themselves.

    Args:
        a: The operator.
        scalar: A number or 0-d array.

    Returns:
        The operator, or None.
    """
    return absorb(a, scalar) if computable(a) else None


def named(function: str, *operators: LinearOperator) -> str:
    """The name of a rule by the function and the kinds of operators it sees.

    Args:
        function: The function's name.
        *operators: What it sees.

    Returns:
        As in ``"merge(Diagonal, Dense)"``.
    """
    return f"{function}({', '.join(type(operator).__name__ for operator in operators)})"


# ---------------------------------------------------------------- products


def multiplied(
    a: LinearOperator, b: LinearOperator, rest: tuple[LinearOperator, ...] = (), merging: bool = True
) -> Applied | None:
    """What two neighbouring factors become by the first rule that applies.

    Args:
        a: The left factor.
        b: The right factor.
        rest: The other factors.
        merging: Whether arrays may be merged; else factors only cancel.

    Returns:
        The rule and its result, or None where they stay two.
    """
    before = Product._unchecked(factors=(a, b))
    for rule, after in _products(a, b, before, merging):
        if accepts(after, before, rest):
            return Applied(rule, before, after)
    return None


def _products(a: LinearOperator, b: LinearOperator, before: Product, merging: bool) -> Iterator[tuple[str, Any]]:
    if isinstance(a, Identity) or isinstance(b, Identity):
        yield "identity", b if isinstance(a, Identity) else a
    if a._is_zero or b._is_zero:
        yield "zero", Zero(*before.shape)
    if computable(a, b) and Tag.ORTHOGONAL in a.tags.yes and adjoint_of(a, b):
        yield "orthogonal", Identity(a.shape[0])
        if before.dtype is not None and merging:  # alone in its dtype, which an array of one number keeps
            yield "orthogonal", Scaled(Identity(a.shape[0]), 1, backends.eye(before._like, 1, before.dtype).reshape(()))
    yield named("meet", a, b), meet(a, b)
    if merging and computable(a, b):
        yield named("merge", a, b), merge(a, b)
        yield "multiply out", _into_array(a, b, before)


def _into_array(a: LinearOperator, b: LinearOperator, before: Product) -> LinearOperator | None:
    """A matrix, or a matrix of low rank, takes in its neighbour where that is not dearer."""
    m, n = before.shape
    options: list[tuple[LinearOperator, Any]] = []
    if isinstance(a, LowRank):
        options.append((LowRank(spec(*a.U.shape), spec(a.U.shape[1], n)), lambda: LowRank(a.U, a.V @ b)))
    if isinstance(b, LowRank):
        options.append((LowRank(spec(m, b.V.shape[0]), spec(*b.V.shape)), lambda: LowRank(a @ b.U, b.V)))
    if isinstance(a, Dense):
        options.append((Dense(spec(m, n)), lambda: Dense(a.matrix @ b)))
    elif isinstance(b, Dense):
        options.append((Dense(spec(m, n)), lambda: Dense(a @ b.matrix)))
    options = [option for option in options if affordable(option[0], before)]
    return min(options, key=lambda option: counts(option[0]))[1]() if options else None


# ---------------------------------------------------------------- sums


def added(a: LinearOperator, b: LinearOperator, merging: bool = True) -> Applied | None:
    """What two terms of a sum become by the first rule that applies.

    Args:
        a: A term.
        b: Another.
        merging: Whether arrays may be merged; else only equal terms and common factors are collected.

    Returns:
        The rule and its result, or None where they stay two.
    """
    if not computable(a, b):
        return None
    before = Sum._unchecked(terms=(a, b))
    for rule, after in _sums(a, b, before, merging):
        if accepts(after, before):
            return Applied(rule, before, after)
    return None


def _sums(a: LinearOperator, b: LinearOperator, before: Sum, merging: bool) -> Iterator[tuple[str, Any]]:
    yield "equal terms", _equal(a, b)
    if isinstance(a, Product) and isinstance(b, Product):
        yield "common factor", _common_factor(a.factors, b.factors)
    if merging:
        yield named("join", a, b), join(a, b)
        yield "add up", _into_matrix(a, b, before)


def _equal(a: LinearOperator, b: LinearOperator) -> LinearOperator | None:
    """The sum x A + y A as (x + y) A."""
    (base, number, gain), (other, more, other_gain) = (
        (term.base, term.number, term.gain) if isinstance(term, Scaled) else (term, 1, None) for term in (a, b)
    )
    if gain is not other_gain or not same(base, other):
        return None
    return scale(number + more, base if gain is None else scale(gain, base))


def _common_factor(a: tuple[LinearOperator, ...], b: tuple[LinearOperator, ...]) -> LinearOperator | None:
    """A B + A C = A (B + C), and likewise on the right."""
    if same(a[0], b[0]):
        return compose(a[0], add(product(a[1:]), product(b[1:])))
    if same(a[-1], b[-1]):
        return compose(add(product(a[:-1]), product(b[:-1])), a[-1])
    return None


def _into_matrix(a: LinearOperator, b: LinearOperator, before: Sum) -> LinearOperator | None:
    """A matrix takes in any term."""
    if not (isinstance(a, Dense) or isinstance(b, Dense)) or not affordable(Dense(spec(*before.shape)), before):
        return None
    if isinstance(a, Dense):
        return Dense(a.matrix + entries(b, a.matrix))
    return Dense(entries(a, b.matrix) + b.matrix) if isinstance(b, Dense) else None


# ---------------------------------------------------------------- helpers for rules


def entries(operator: LinearOperator, like: Any) -> Any:
    """The dense array of an operator, at least as wide as another array, on the same backend and device.

    Args:
        operator: A concrete operator.
        like: An array.

    Returns:
        An array of the operator's shape.
    """
    backend = str(backends.backend_of(like))
    promotes, own = backends.promotes(backend), operator._own_dtype
    real = backends.real_dtype(like.dtype, backend) if promotes else like.dtype
    if own is not None and (own == real or not promotes):
        return operator.to_dense()
    return operator @ backends.eye(like, operator.shape[1], real)


def total(a: LinearOperator, b: LinearOperator) -> LinearOperator:
    """The sum of two operators, by a rule if one applies.

    Args:
        a: An operator.
        b: Another of its shape.

    Returns:
        The operator.
    """
    found = added(a, b)
    return add(a, b) if found is None else found.after


def product(factors: tuple[LinearOperator, ...]) -> LinearOperator:
    """The product of at least one factor.

    Args:
        factors: Operators whose shapes chain.

    Returns:
        The operator.
    """
    return factors[0] if len(factors) == 1 else Product(tuple(factors))
