"""`project`: the member of a structure that is nearest to a matrix."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal, overload

from linops import backends
from linops.backends import factorizations as lapack
from linops.families import FAMILIES
from linops.families.text import parse
from linops.linalg.inputs import floating, wide_dtype
from linops.operator import LinearOperator
from linops.operators.dense import Dense
from linops.operators.wrap import aslinearoperator
from linops.projection import special, structures  # noqa: F401  rules
from linops.projection.effort import Effort, Found
from linops.projection.goal import Goal, adjoint, root
from linops.projection.moments import Moments, moments_of
from linops.projection.nearest import nearest
from linops.projection.special import SPECIAL


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
) -> Any:
    """The member of a structure that is nearest to a matrix.

    Minimises ‖W − Ŵ‖_F over the members Ŵ, or with inputs x ↦ W x the mean of ‖(W − Ŵ) x‖². Exact where there is a
    closed form: diagonals, bands and patterns, Toeplitz and circulant (means of entries), block diagonal, low rank,
    Kronecker products and sums of them, tensor trains, block tensor trains and Monarch matrices of two cores (truncated
    SVDs), symmetric, orthogonal, permutations. Structures of more factors start from hierarchical SVDs and are improved
    by alternating least squares, whose error never grows; what enters otherwise is found by L-BFGS. Inputs make no
    difference to what is found only where the optimum is W itself.

    Leaves come in balance: their root mean squares in proportion to their structure-aware initial standard deviations,
    so that `lr_multipliers` hold for training on. They live where W lives, in its dtype; half precision is computed in
    single. Closed forms have derivatives where the optimum is unique, in torch and JAX.

    Args:
        W: A matrix (m, n) of any framework, an operator, or a stack (…, m, n), which gives a list.
        target: A family or its name, with options or without (``"btt:rank=2"``); one of ``"diagonal"``,
            ``"tridiagonal"``, ``"lower_triangular"``, ``"upper_triangular"``, ``"symmetric"``, ``"hermitian"``,
            ``"orthogonal"``, ``"permutation"``; or an operator of shape (m, n), also a composition or sum: its specs
            are found, its arrays stay.
        inputs: What W multiplies: rows (…, n), or an iterable of batches of them, which are not kept.
        second_moment: Instead of inputs C = mean of x xᴴ, (n, n).
        cross: The mean of x x̃ᴴ, (n, n), where the member will see other inputs x̃, which are the `inputs`, than W saw:
            the mean of ‖W x − Ŵ x̃‖² is minimised.
        output_metric: A, (m, m), positive semidefinite: errors e of outputs count eᴴ A e.
        row_weights: (m,) instead of A: the weight of each output's squared error.
        column_weights: (n,) instead of C: the weight of each column's.
        tol: Iterations stop where a sweep lowers the error by less than this share.
        max_iterations: Sweeps at most; 0 for the start alone.
        return_info: Whether to return `ProjectionInfo` too.

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
    if (stack := _stack(W)) is not None:
        return [project(one, target, **options) for one in stack]
    source = _source(W)
    m, n = source.shape
    structure = target_of(target, m, n)
    effort = Effort(_tolerance(tol), _count(max_iterations))
    narrow = source.dtype
    wide = wide_dtype(narrow, source.backend or "numpy")
    goal = Goal(source.to(dtype=wide) if wide != narrow else source)
    goal = _in_norm(goal, inputs, second_moment, cross, output_metric, row_weights, column_weights)
    _require_finite(source, goal)
    found = nearest(structure, goal, effort)
    if not found.converged:
        _warn(found, structure)
    operator = found.operator if wide == narrow else found.operator.to(dtype=narrow)
    return (operator, _info(found, goal, source, operator)) if return_info else operator


def _stack(W: Any) -> list[Any] | None:
    """The matrices of a list or of a stack; None where W is one matrix."""
    if isinstance(W, (list, tuple)) and W and all(map(backends.is_array, W)):
        return list(W)
    stack: Any = W
    shape = tuple(stack.shape) if backends.is_array(W) else ()
    if len(shape) <= 2:
        return None
    flat = stack.reshape(-1, *shape[-2:])
    return [flat[k] for k in range(flat.shape[0])]


def _source(W: Any) -> LinearOperator:
    """W as an operator with floating numbers."""
    operator = aslinearoperator(W)
    if operator.is_symbolic:
        raise TypeError(
            f"project({operator._short()}, …): it is symbolic, without numbers. The matrix comes first, then the "
            "structure: project(W, target)"
        )
    if operator.dtype is None:
        operator = Dense(backends.asarray(operator.to_dense(), "numpy", "float64"))
    return floating(operator)


def target_of(target: Any, m: int, n: int, what: str = "project") -> Any:
    """A target as an operator, or the set of permutations.

    Args:
        target: As `project` takes it.
        m: Rows of W.
        n: Columns of W.
        what: Which function asks, for errors.

    Returns:
        The target.

    Raises:
        ValueError: If it has another shape, or is no name.
        TypeError: If it is nothing of the kind.
    """
    what = f"{what} of a matrix {m}×{n}"
    if isinstance(target, str) and target in SPECIAL:
        if m != n:
            raise ValueError(f"{what}: {target!r} is for square matrices")
        return SPECIAL[target](n)
    if isinstance(target, str):
        if target.partition(":")[0] not in FAMILIES:
            raise ValueError(
                f"{what}: no structure {target!r}; expected a family ({', '.join(FAMILIES)}), as in 'btt:rank=2', one "
                f"of {', '.join(SPECIAL)}, or an operator of specs"
            )
        target = parse(target)
    if isinstance(target, type) and issubclass(target, LinearOperator):
        raise TypeError(
            f"{what}: {target.__name__} is a class, without sizes; expected a family, as in 'btt:rank=2', or an "
            "operator of specs"
        )
    found = target(m, n) if callable(target) and not isinstance(target, LinearOperator) else target
    if not isinstance(found, LinearOperator):
        raise TypeError(
            f"{what}: target {target!r:.60} is no family, name or operator; an operator of specs is a structure, as "
            f"lo.Dense(lo.spec({m}, {n}))"
        )
    if found.shape != (m, n):
        raise ValueError(f"{what}: the target {found._short()} has another shape")
    return found


def _tolerance(tol: Any) -> float:
    if not isinstance(tol, (int, float)) or isinstance(tol, bool) or not 0 <= tol < 1:
        raise ValueError(f"project(tol={tol!r}): expected a number from 0 to 1")
    return float(tol)


def _count(max_iterations: Any) -> int:
    if not isinstance(max_iterations, int) or isinstance(max_iterations, bool) or max_iterations < 0:
        raise ValueError(f"project(max_iterations={max_iterations!r}): expected an integer of at least 0")
    return max_iterations


def _in_norm(goal: Goal, inputs: Any, C: Any, cross: Any, A: Any, row_weights: Any, column_weights: Any) -> Goal:
    """The goal in the norm that is asked for."""
    m, n = goal.shape
    given = [
        name
        for name, value in (("inputs", inputs), ("second_moment", C), ("column_weights", column_weights))
        if value is not None
    ]
    if len(given) > 1:
        raise ValueError(f"project: {' and '.join(given)} all say how inputs are spread; give one of them")
    if row_weights is not None and A is not None:
        raise ValueError("project: row_weights are a diagonal output_metric; give one of them")
    if inputs is not None:
        C = inputs.second_moment if isinstance(inputs, Moments) else moments_of(inputs, n).second_moment
    if cross is not None and C is None:
        raise ValueError(
            "project: cross says how inputs of W and of the member go together; give the member's inputs too"
        )
    C = _metric(goal, "second_moment", C, (n, n))
    A = _metric(goal, "output_metric", A, (m, m))
    if column_weights is not None:
        C = _metric(goal, "column_weights", column_weights, (n,))
    if row_weights is not None:
        A = _metric(goal, "row_weights", row_weights, (m,))
    if cross is not None:
        P = _metric(goal, "cross", cross, (n, n), positive=False)
        _, back = root(C)
        goal = goal.of(((goal.matrix @ P) @ adjoint(back)) @ back)
    return Goal(goal.source, A, C)


def _metric(goal: Goal, name: str, value: Any, shape: tuple[int, ...], positive: bool = True) -> Any:
    """A metric as an array like W; a matrix is made Hermitian, for rounding."""
    if value is None:
        return None
    if isinstance(value, LinearOperator):
        value = value.to_dense()
    found, what = tuple(getattr(value, "shape", ())), f"project({goal.source._short()}, …): {name}"
    if found != shape:
        raise ValueError(f"{what} of shape {found}, expected {shape}")
    dtype = goal.source.dtype if len(shape) == 2 else backends.real_dtype(goal.source.dtype, goal.backend)
    if backends.is_complex(value.dtype) and not backends.is_complex(dtype):
        raise TypeError(f"{what} is complex and W is real; make W complex")
    array = backends.asarray(value, goal.backend, dtype, goal.source.device if goal.backend == "torch" else None)
    if not _is_finite(array):
        raise ValueError(f"{what} holds NaN or infinity")
    if not positive:
        return array
    if len(shape) == 1:
        if lapack.is_known(array) and shape[0] and bool(goal.space.any(array < 0)):
            raise ValueError(f"{what} must not be negative")
        return array
    return (array + adjoint(array)) / 2


def _is_finite(array: Any) -> bool:
    """Whether no number is NaN or infinity, as far as they are known: tracers have none."""
    space: Any = backends.namespace(backends.backend_of(array))
    return not lapack.is_known(array) or bool(space.all(space.isfinite(array)))


def _require_finite(source: LinearOperator, goal: Goal) -> None:
    if isinstance(source, Dense) and not _is_finite(goal.matrix):
        raise ValueError(f"project({source._short()}, …): the matrix holds NaN or infinity")


def _warn(found: Found, structure: Any) -> None:
    if found.iterations:
        warnings.warn(
            f"project: {found.method} for {structure._short()} had not converged after {found.iterations} iterations; "
            "raise max_iterations or tol",
            stacklevel=3,
        )


def _info(found: Found, goal: Goal, source: LinearOperator, operator: LinearOperator) -> ProjectionInfo:
    """How near the member is, of the numbers that are returned."""
    wide = goal.matrix.dtype
    approximation = operator.to(backend=goal.backend).to_dense()
    approximation = goal.space.astype(backends.asarray(approximation, goal.backend), wide)
    plain = Goal(source.to(dtype=wide) if source.dtype != wide else source)
    error, scale = goal.error(approximation), sqrt(float(goal.square(goal.matrix)))
    bound = error if found.is_optimal else None if found.lost is None else sqrt(max(float(found.lost), 0.0))
    return ProjectionInfo(
        _share(plain.error(approximation), sqrt(float(plain.square(plain.matrix)))),
        None if goal.is_plain else _share(error, scale),
        None if bound is None else _share(bound, scale),
        found.is_optimal,
        found.iterations,
        found.converged,
        found.method,
    )


def _share(error: float, scale: float) -> float:
    """An error as a share of what it is the error of; of zeros it is 0."""
    return error / scale if scale else float(error > 0)
