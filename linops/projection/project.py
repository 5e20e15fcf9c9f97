"""`project`: the member of a structure that is nearest to a matrix."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal, overload

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.inputs import wide_dtype
from linops.operator import LinearOperator
from linops.projection import grids, special, structures  # noqa: F401  rules
from linops.projection.asking import (
    called,
    effort_of,
    in_norm,
    require_finite,
    source_of,
    stack_of,
    target_of,
    with_options,
)
from linops.projection.effort import Found
from linops.projection.goal import Goal
from linops.projection.magnitude import exponent_of, largest_of, multiplied, probe, shares
from linops.projection.matrices import moved
from linops.projection.moments import moments_of
from linops.projection.nearest import nearest
from linops.specs import Spec


@dataclass(frozen=True)
class ProjectionInfo:
    """How near a projection came, and how it was found.

    Attributes:
        weight_error: ‖W − Ŵ‖_F / ‖W‖_F.
        activation_error: ‖A^½ (W − Ŵ) C^½‖_F / ‖A^½ W C^½‖_F; None in Frobenius' norm.
        bound: What no member is below, in the norm that was asked for and as a share of W; None where none is known.
        is_optimal: Whether the member is the nearest, as far as rounding goes.
        iterations: Sweeps or steps; 0 of closed forms.
        converged: Whether the iteration stopped by its tolerance.
        method: What ran.
    """

    weight_error: float
    activation_error: float | None
    bound: float | None
    is_optimal: bool
    iterations: int
    converged: bool
    method: str


@overload
def project(
    W: Any,
    target: Any,
    *,
    inputs: Any = ...,
    second_moment: Any = ...,
    cross: Any = ...,
    output_metric: Any = ...,
    row_weights: Any = ...,
    column_weights: Any = ...,
    tol: float = ...,
    max_iterations: int = ...,
    return_info: Literal[False] = ...,
    **family_options: Any,
) -> LinearOperator: ...
@overload
def project(
    W: Any,
    target: Any,
    *,
    inputs: Any = ...,
    second_moment: Any = ...,
    cross: Any = ...,
    output_metric: Any = ...,
    row_weights: Any = ...,
    column_weights: Any = ...,
    tol: float = ...,
    max_iterations: int = ...,
    return_info: Literal[True],
    **family_options: Any,
) -> tuple[LinearOperator, ProjectionInfo]: ...
def project(
    W: Any,
    target: Any,
    *,
    inputs: Any = None,
    second_moment: Any = None,
    cross: Any = None,
    output_metric: Any = None,
    row_weights: Any = None,
    column_weights: Any = None,
    tol: float = 1e-4,
    max_iterations: int = 100,
    return_info: bool = False,
    **family_options: Any,
) -> Any:
    """The member of a structure that is nearest to a matrix.

    Minimises ‖W − Ŵ‖_F over the members Ŵ, or with inputs x ↦ W x the mean of ‖(W − Ŵ) x‖². Exact where there is a
    closed form: diagonals, bands and patterns, Toeplitz and circulant (means of entries), block diagonal, low rank,
    Kronecker products and sums of them, tensor trains, block tensor trains and Monarch matrices of two cores (truncated
    SVDs), symmetric, orthogonal, permutations. Structures of more factors start from hierarchical SVDs and are improved
    by alternating least squares, whose error never grows; what enters otherwise is found by L-BFGS.

    An operator of more than 2²⁵ entries is not written out: low rank takes a few products with it, and up to 2³²
    entries contractions, diagonals, bands, blocks, circulant and Toeplitz matrices, and sums of these, take n products
    or several times n, in panels of columns, in every norm.

    Leaves of contractions come in balance: their root mean squares in proportion to their structure-aware initial
    standard deviations, so that `lr_multipliers` hold for training on. They live where W lives, in its dtype; half
    precision is computed in single, and single in double in the norm of inputs or of an output metric, where there is
    double. Closed forms have derivatives where the optimum is unique, in torch and JAX.

    Args:
        W: A matrix (m, n) of any framework, an operator, or a stack (…, m, n), which gives a list.
        target: A family or its name, with options or without (``"btt:rank=2"``); one of ``"diagonal"``,
            ``"tridiagonal"``, ``"lower_triangular"``, ``"upper_triangular"``, ``"symmetric"``, ``"hermitian"``,
            ``"orthogonal"``, ``"permutation"``; or an operator of shape (m, n), also a composition or sum: its specs
            are found, its arrays stay.
        inputs: What W multiplies: rows (…, n), or an iterable of batches of them, which are not kept.
        second_moment: Instead of inputs C = mean of x xᴴ, (n, n).
        cross: The mean of x x̃ᴴ, (n, n), where the member will see other inputs x̃, which are the `inputs`, than W saw:
            the mean of ‖W x − Ŵ x̃‖² is minimised. Errors and bounds are then those of Ŵ x̃ beside what is linear in
            x̃ of W x: what no Ŵ can reach is not among them.
        output_metric: A, (m, m), positive semidefinite: errors e of outputs count eᴴ A e.
        row_weights: (m,) instead of A: the weight of each output's squared error.
        column_weights: (n,) instead of C: the weight of each column's.
        tol: Iterations stop where a sweep lowers the error by less than this share.
        max_iterations: Sweeps at most; 0 for the start alone.
        return_info: Whether to return `ProjectionInfo` too; of an operator that is not written out its errors take n
            products.
        **family_options: Options of a target that is a family, as ``rank=2``.

    Returns:
        The operator, with arrays for leaves; with `return_info` the pair (operator, info).

    Raises:
        TypeError: If an argument is none of the above, or W is symbolic.
        ValueError: If shapes do not fit, a number is not finite, or the family refuses the sizes.

    Warns:
        UserWarning: If there are fewer inputs than features, or an iteration stopped before it converged.

    Example:
        >>> import linops as lo, numpy as np
        >>> W = np.add.outer(np.arange(8.0), np.arange(8.0))
        >>> A, info = lo.project(W, "low_rank:rank=2", return_info=True)
        >>> A.shape, A.num_params, info.method, info.weight_error < 1e-12
        ((8, 8), 32, 'truncated SVD', True)
        >>> lo.project(W, lo.Toeplitz(lo.spec(8), lo.spec(8))).c
        array([7., 7., 7., 7., 7., 7., 7., 7.])
    """
    options: dict[str, Any] = {
        "inputs": inputs,
        "second_moment": second_moment,
        "cross": cross,
        "output_metric": output_metric,
        "row_weights": row_weights,
        "column_weights": column_weights,
        "tol": tol,
        "max_iterations": max_iterations,
        "return_info": return_info,
    }
    target = with_options(target, family_options)
    if (stack := stack_of(W)) is not None:
        if inputs is not None and stack:  # which may be read once
            options["inputs"] = moments_of(inputs, stack[0].shape[-1])
        return [project(one, target, **options) for one in stack]
    source = source_of(W)
    m, n = source.shape
    structure = target_of(target, m, n)
    if structure._is_complex and not backends.is_complex(source.dtype):
        raise TypeError(f"project({source._short()}, {structure._short()}): the target is complex; make W complex too")
    effort = effort_of(tol, max_iterations, return_info)
    # in a norm with small directions, single precision would lose what lies in them
    has_full = any(metric is not None for metric in (inputs, second_moment, cross, output_metric))
    goal = Goal(_widened(source, has_full))
    largest = largest_of(probe(goal))
    require_finite(source, largest)
    exponents, scaled = None, structure
    if exponent := exponent_of(largest):
        exponents = shares(structure, exponent)
        if exponents is not None:
            goal, scaled = goal.times(-exponent), multiplied(structure, structure, exponents, -1)
    plain = goal
    goal = in_norm(goal, inputs, second_moment, cross, output_metric, row_weights, column_weights)
    found = nearest(scaled, goal, effort)
    if not found.converged:
        _warn(found, called(target, structure))
    operator = found.operator
    if exponents is not None:
        operator = multiplied(operator, structure, exponents, 1)
    if plain.source.dtype != source.dtype:
        operator = _narrowed(operator, structure, source.dtype)
    if not return_info:
        return operator
    member = operator if exponents is None else multiplied(moved(operator, plain), scaled, exponents, -1)
    return operator, _info(found, goal, plain, member)


def _widened(source: LinearOperator, in_double: bool) -> LinearOperator:
    """W in single precision where it has half, in double where asked for and where there is one (JAX: by a flag)."""
    wide = wide_dtype(source.dtype, source.backend or "numpy")
    if in_double:
        try:
            return source.to(dtype="complex128" if backends.is_complex(wide) else "float64")
        except TypeError:
            pass
    return source.to(dtype=wide) if wide != source.dtype else source


def _narrowed(operator: LinearOperator, structure: Any, dtype: Any) -> LinearOperator:
    """The operator with leaves that were found in a dtype; those that were given stay."""
    given = [not isinstance(leaf, Spec) for _, leaf in structure.named_leaves()]
    found = [leaf for _, leaf in operator.named_leaves()]
    if len(given) != len(found) or not any(given):
        return operator.to(dtype=dtype)
    backend = str(operator.backend)
    return operator.with_leaves(
        [leaf if stays else backends.asarray(leaf, backend, dtype) for leaf, stays in zip(found, given)]
    )


def _warn(found: Found, what: str) -> None:
    if found.iterations:
        warnings.warn(
            f"project: {found.method} for {what} had not converged after {found.iterations} iterations; "
            "raise max_iterations or tol",
            stacklevel=3,
        )


def _info(found: Found, goal: Goal, plain: Goal, operator: LinearOperator) -> ProjectionInfo:
    """How near the member is, of the numbers that are returned."""
    goal, plain, lost = goal.constant(), plain.constant(), found.lost
    if goal.is_large:  # from panels
        approximation: Any = moved(operator, goal)
    else:
        approximation = lapack.stop_gradient(operator.to(backend=goal.backend).to_dense())
        approximation = goal.space.astype(backends.asarray(approximation, goal.backend), goal.source.dtype)
    error = goal.error(approximation)
    bound = error if found.is_optimal else None if lost is None else sqrt(max(float(lost), 0.0))
    return ProjectionInfo(
        _share(error if goal.is_plain else plain.error(approximation), plain.norm),
        None if goal.is_plain else _share(error, goal.norm),
        None if bound is None else _share(bound, goal.norm),
        found.is_optimal,
        found.iterations,
        found.converged,
        found.method,
    )


def _share(error: float, scale: float) -> float:
    """An error as a share of what it is the error of; of zeros it is 0."""
    return error / scale if scale else float(error > 0)
