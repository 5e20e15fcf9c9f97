"""Two block-diagonal matrices with a permutation between: Monarch matrices, also where blocks have uneven ranks.

Each number in the middle belongs to a block of either factor, so block (i, j) of the product has as many ranks as
numbers of the middle that go from block j to block i: its optimum is a truncated SVD of that rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from linops import backends
from linops.operators.block_diag import BlockDiag
from linops.operators.permutation import Permutation
from linops.operators.product import Product
from linops.projection.effort import Effort, Found
from linops.projection.goal import Goal, is_full
from linops.projection.panels import columns, spans
from linops.projection.sweeps import Blocks, swept
from linops.projection.truncation import truncated
from linops.scaling import initial_stds
from linops.specs import Spec


@dataclass(frozen=True)
class Strided:
    """BlockDiag (I, p, k) · P · BlockDiag (J, l, q).

    Attributes:
        target: The product.
        middle: (I k,) the number of the second factor's output that each number of the first factor's operand is.
    """

    target: Product
    middle: np.ndarray

    @property
    def sizes(self) -> tuple[int, int, int, int, int, int]:
        """I, p, k, J, l, q."""
        last, first = self.target.factors[0], self.target.factors[-1]
        return (*last.blocks.shape, *first.blocks.shape)  # type: ignore[attr-defined]

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(I, J) ranks; of each number in the middle its place (i, j, u), u counting those of the block."""
        count, _, k, J, inner, _ = self.sizes
        i, j = np.arange(count * k) // k, self.middle // inner
        ranks = np.zeros((count, J), int)
        u = np.empty(count * k, int)
        for number, pair in enumerate(zip(i, j)):
            u[number] = ranks[pair]
            ranks[pair] += 1
        width = max(int(ranks.max(initial=0)), 1)
        return ranks, (i * J + j) * width + u, np.array(width)


def strided_of(target: Product) -> Strided | None:
    """A product as two block-diagonal factors with a permutation between, if it is so.

    Args:
        target: The product.

    Returns:
        The factors, or None.
    """
    last, *between, first = target.factors
    if not isinstance(last, BlockDiag) or not isinstance(first, BlockDiag) or not between:
        return None
    if not all(isinstance(one, Permutation) for one in between):
        return None
    if not (isinstance(last.blocks, Spec) and isinstance(first.blocks, Spec)):
        return None
    middle = np.arange(first.shape[0], dtype=float)
    for one in between[::-1]:
        middle = np.asarray(one.to(backend="numpy") @ middle)
    return Strided(target, middle.astype(int))


def strided(chain: Strided, goal: Goal, effort: Effort) -> Found:
    """The nearest member.

    Args:
        chain: The structure.
        goal: The goal.
        effort: When sweeps stop; none are needed unless a full second moment couples blocks.

    Returns:
        The member.
    """
    if is_full(goal.output_metric):
        return _flipped(chain, goal, effort)
    space, (count, p, k, J, inner, q) = goal.space, chain.sizes
    ranks, places, width = chain.places
    if goal.is_large:
        left, right, iterations, converged = _of_panels(chain, goal, effort)
    else:
        W, metrics = goal.matrix.reshape(count, p, J, q), (goal.output_metric, goal.second_moment)
        left, right, iterations, converged = _factors(W, ranks, int(width), metrics, effort)
    of_panels = " of panels" if goal.is_large else ""
    method = "block sweeps" if is_full(goal.second_moment) else "SVDs" if of_panels else "truncated SVD"
    is_optimal = not is_full(goal.second_moment)
    method += of_panels
    left, right = _level(space, chain, left, right)
    at = backends.indices_beside(left, places)
    columns = backends.gather(backends.permute(left, (0, 1, 3, 2)).reshape(-1, p), at).reshape(count, k, p)
    rows = backends.gather(right.reshape(-1, q), at)
    back = backends.indices_beside(left, np.argsort(chain.middle))
    leaves = backends.permute(columns, (0, 2, 1)), backends.gather(rows, back).reshape(J, inner, q)
    operator = chain.target.with_leaves(leaves)
    return Found(operator, method, is_optimal, None, iterations, converged)


def _factors(
    W: Any, ranks: np.ndarray, width: int, metrics: tuple[Any, Any], effort: Effort
) -> tuple[Any, Any, int, bool]:
    """Left (I, J, p, r) and right (I, J, r, q) factors of blocks W (I, p, J, q), sweeps, and whether they converged."""
    space: Any = backends.namespace(backends.backend_of(W))
    (count, p, J, q), (A, C) = W.shape, metrics
    weights = None if A is None else space.sqrt(A.reshape(count, p))
    if is_full(C):
        return swept(Blocks(W, C.reshape(J, q, J, q), weights, ranks), width, effort)
    M, roots = backends.permute(W, (0, 2, 1, 3)), []
    for root, shape in ((weights, (count, 1, p, 1)), (None if C is None else space.sqrt(C), (1, J, 1, q))):
        if root is not None:
            M = M * root.reshape(shape)
        roots.append(None if root is None else root.reshape(shape))
    left, right, _ = truncated(M, width)
    right = right * backends.constant(W, (ranks[:, :, None] > np.arange(width))[..., None], W.dtype)
    if roots[0] is not None:
        left = _divided(space, left, roots[0])
    if roots[1] is not None:
        right = _divided(space, right, roots[1])
    return left, right, 0, True


def _of_panels(chain: Strided, goal: Goal, effort: Effort) -> tuple[Any, Any, int, bool]:
    """The same of what is not written out: of columns of blocks, or where a second moment couples these, of rows."""
    count, p, _, J, _, q = chain.sizes
    ranks, _, width = chain.places
    A, C, parts = goal.output_metric, goal.second_moment, []
    by_rows = is_full(C)
    source = goal.source.T if by_rows else goal.source
    for at in spans(source.shape, p if by_rows else q):
        panel = columns(source, at)
        if by_rows:
            here = slice(at.start // p, at.stop // p)
            W = backends.permute(panel, (1, 0)).reshape(-1, p, J, q)
            parts.append(_factors(W, ranks[here], int(width), (None if A is None else A[at], C), effort))
        else:
            here = slice(at.start // q, at.stop // q)
            W = panel.reshape(count, p, -1, q)
            parts.append(_factors(W, ranks[:, here], int(width), (A, None if C is None else C[at]), effort))
    left, right = (goal.space.concat([part[k] for part in parts], axis=0 if by_rows else 1) for k in (0, 1))
    return left, right, max(part[2] for part in parts), all(part[3] for part in parts)


def _flipped(chain: Strided, goal: Goal, effort: Effort) -> Found:
    """By the transpose, whose second moment is the output metric."""
    turned = strided_of(chain.target.T)  # type: ignore[arg-type]
    assert turned is not None
    found = strided(turned, goal.T, effort)
    return found(found.operator.T)


def _divided(space: Any, x: Any, root: Any) -> Any:
    """Quotients; zeros where the divisor is zero."""
    return space.where(root == 0, 0 * x, x / space.where(root == 0, space.ones_like(root), root))


def _level(space: Any, chain: Strided, left: Any, right: Any) -> tuple[Any, Any]:
    """Columns and rows of a middle number at one norm, and both factors in proportion to their initial stds."""
    one = space.sum(space.abs(left) ** 2, axis=-2, keepdims=True)
    other = space.permute_dims(space.sum(space.abs(right) ** 2, axis=-1, keepdims=True), (0, 1, 3, 2))
    whole = (one > 0) & (other > 0)
    ratio = space.where(whole, other, space.ones_like(other)) / space.where(whole, one, space.ones_like(one))
    factor = space.astype(ratio**0.25, left.dtype)
    left, right = left * factor, right / space.permute_dims(factor, (0, 1, 3, 2))
    stds = [*initial_stds(chain.target).values()]
    a, b = (space.sqrt(space.sum(space.abs(x.reshape(-1)) ** 2, keepdims=True)) for x in (left, right))  # arrays (1,)
    count, p, k, J, inner, q = chain.sizes
    a, b = a / (stds[0] or 1) / (count * p * k) ** 0.5, b / (stds[1] or 1) / (J * inner * q) ** 0.5
    both = (a > 0) & (b > 0)
    size = space.sqrt(space.where(both, b, space.ones_like(b)) / space.where(both, a, space.ones_like(a)))
    size = space.astype(size, left.dtype)
    return left * size, right / size
