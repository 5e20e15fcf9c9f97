"""A @ B: identities, zeros and scalars; neighbouring permutations; flattening.

`compose(A, B)` checks shapes and hands the factors to `meet(A, B)`, which says what two neighbours become: one operator, or None where they
stay two. To add a rule, register a method of `meet`.
"""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.backends.primitives import generic_pair
from linops.operator import LinearOperator, compose, scale
from linops.operators.dense import aslinearoperator
from linops.operators.identity import Identity
from linops.operators.permute import Permute
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.operators.zero import Zero
from linops.tags import Tag


@generic_pair
def meet(a, b):
    """What two neighbouring factors become: one operator, or None where they stay two."""


@meet.dispatch
def _meet_any(a: LinearOperator, b: LinearOperator):
    return None


@meet.dispatch
def _meet_permutes(a: Permute, b: Permute):
    if a.indices is None and b.indices is None:
        return _merge_axes(a, b)
    if a.indices is None or b.indices is None:
        return None
    if backends.backend_of(a.indices) != backends.backend_of(b.indices):
        return None
    return _unless_identity(Permute(backends.gather(b.indices, a.indices)))


def _unless_identity(permute: Permute) -> LinearOperator:
    indices = permute.indices
    trivial = backends.backend_of(indices) == "numpy" and bool((indices[:-1] < indices[1:]).all())
    return Identity(permute.shape[0]) if trivial else permute


def _merge_axes(a: Permute, b: Permute) -> LinearOperator | None:
    """A B of two permutations of axes as one, on the coarsest common refinement of their axes; None if there is none."""
    middle = [b.dims[axis] for axis in b.order]  # the axes that B writes; A reads a.dims
    refined = _refine(middle, list(a.dims))
    if refined is None:
        return None
    pieces, parts_of_middle, parts_of_a = refined
    # B: its input axes, each split as the axis it becomes
    b_parts = {axis: parts_of_middle[place] for place, axis in enumerate(b.order)}
    into = [part for axis in range(len(b.dims)) for part in b_parts[axis]]
    where = {part: place for place, part in enumerate(into)}
    out = [part for axis in a.order for part in parts_of_a[axis]]
    dims, order = [pieces[part] for part in into], [where[part] for part in out]
    return _simplest(dims, order)


def _refine(one: list[int], other: list[int]) -> tuple[list[int], list[list[int]], list[list[int]]] | None:
    """Pieces whose runs make up the axes of both factorisations: (sizes, pieces of each axis of one, … of the other)."""
    pieces: list[int] = []
    parts: tuple[list[list[int]], list[list[int]]] = ([[] for _ in one], [[] for _ in other])
    i = j = 0
    left, right = (one[0] if one else 1), (other[0] if other else 1)
    if 0 in one or 0 in other:
        return None
    while i < len(one) and j < len(other):
        small = min(left, right)
        if left % small or right % small:
            return None
        parts[0][i].append(len(pieces))
        parts[1][j].append(len(pieces))
        pieces.append(small)
        left, right = left // small, right // small
        if left == 1:
            i += 1
            left = one[i] if i < len(one) else 1
        if right == 1:
            j += 1
            right = other[j] if j < len(other) else 1
    # what is left over are axes of size 1
    return pieces, parts[0], parts[1]


def _simplest(dims: list[int], order: list[int]) -> LinearOperator:
    """The permutation with axes of size 1 dropped and axes that stay neighbours joined."""
    keep = [axis for axis in range(len(dims)) if dims[axis] != 1]
    rank = {axis: place for place, axis in enumerate(keep)}
    order = [rank[axis] for axis in order if axis in rank]
    dims = [dims[axis] for axis in keep]
    runs: list[list[int]] = []
    for axis in order:
        if runs and runs[-1][-1] + 1 == axis:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    total = 1
    for size in dims:
        total *= size
    if len(runs) <= 1:
        return Identity(total)
    by_input = sorted(range(len(runs)), key=lambda run: runs[run][0])
    sizes = []
    for run in by_input:
        size = 1
        for axis in runs[run]:
            size *= dims[axis]
        sizes.append(size)
    place = {run: position for position, run in enumerate(by_input)}
    return Permute.axes(sizes, [place[run] for run in range(len(runs))])


def _factors(a: LinearOperator) -> tuple[LinearOperator, ...]:
    return a.factors if isinstance(a, Product) and a.assumed == Tag.NONE else (a,)


def _join(a: LinearOperator, b: LinearOperator) -> LinearOperator:
    left, right = list(_factors(a)), list(_factors(b))
    while left and right:
        merged = meet(left[-1], right[0])
        if merged is None:
            break
        left.pop()
        right.pop(0)
        if not isinstance(merged, Identity):
            # the merged operator may meet its new neighbours
            right.insert(0, merged)
            if not left:
                break
    factors = left + right
    if not factors:
        return Identity(a.shape[0])
    return factors[0] if len(factors) == 1 else Product(tuple(factors))


def _dtype_survives(result: LinearOperator, *operands: LinearOperator) -> bool:
    """Whether dropping operands leaves the dtype of the product as it was."""
    if any(operand.backend not in (None, result.backend) for operand in operands):
        return False
    dtypes = [operand.dtype for operand in operands if operand.dtype is not None]
    return not dtypes or result.dtype == backends.result_type(result.backend, *dtypes)


@compose.dispatch
def _compose(a: LinearOperator, b: LinearOperator):
    if a.shape[1] != b.shape[0]:
        raise ValueError(f"{a._short()} @ {b._short()}: the inner sizes {a.shape[1]} and {b.shape[0]} differ")
    if isinstance(a, Identity):
        return b
    if isinstance(b, Identity):
        return a
    if isinstance(a, Zero) or isinstance(b, Zero):
        zero: Any = Zero(a.shape[0], b.shape[1])
        return zero if _dtype_survives(zero, a, b) else Product((a, b))
    if isinstance(a, Scaled) and a.assumed == Tag.NONE:
        return scale_by(a, compose(a.base, b))
    if isinstance(b, Scaled) and b.assumed == Tag.NONE:
        return scale_by(b, compose(a, b.base))
    return _join(a, b)


@compose.dispatch
def _compose_with(a: LinearOperator, b: Any):
    return compose(a, aslinearoperator(b))


@compose.dispatch
def _compose_after(a: Any, b: LinearOperator):
    return compose(aslinearoperator(a), b)


def scale_by(scaled: Scaled, operator: LinearOperator) -> Any:
    """The operator times the scalar of a `Scaled`."""
    if scaled.gain is not None:
        operator = scale(scaled.gain, operator)
    return scale(scaled.number, operator)
