"""What `project` takes, checked: matrices, targets, norms."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from inspect import signature
from math import isfinite
from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.families import FAMILIES
from linops.families.text import NONLINEAR, Variant, parse
from linops.linalg.inputs import floating
from linops.operator import LinearOperator
from linops.operators.dense import Dense
from linops.operators.wrap import aslinearoperator
from linops.projection.blast import blast_of
from linops.projection.effort import Effort
from linops.projection.goal import Goal, adjoint, root
from linops.projection.magnitude import exponent_of, largest_of, times
from linops.projection.moments import Moments, moments_of
from linops.projection.nets import net_of
from linops.projection.special import SPECIAL

#: how far below zero an eigenvalue of a second moment may be, in units of the largest entry: sums in single precision
#: are less off; and of half precision's rounding in units of the norm
SLACK, HALF = 1e-4, 2.0**-7


def stack_of(W: Any) -> list[Any] | None:
    """The matrices of a list or of a stack; None where W is one matrix."""
    if isinstance(W, (list, tuple)) and W and all(map(backends.is_array, W)):
        return list(W)
    stack: Any = W
    shape = tuple(stack.shape) if backends.is_array(W) else ()
    if len(shape) <= 2:
        return None
    flat = stack.reshape(-1, *shape[-2:])
    return [flat[k] for k in range(flat.shape[0])]


def source_of(W: Any) -> LinearOperator:
    """W as an operator with floating numbers.

    Raises:
        TypeError: If it is symbolic, or no matrix.
    """
    operator = aslinearoperator(W)
    if operator.is_symbolic:
        raise TypeError(
            f"project({operator._short()}, …): it is symbolic, without numbers. The matrix comes first, then the "
            "structure: project(W, target)"
        )
    if operator.dtype is None:
        dtype = "complex128" if operator._is_complex else "float64"
        operator = Dense(backends.asarray(operator.to_dense(), "numpy", dtype))
    return floating(operator)


def with_options(target: Any, options: Mapping[str, Any], what: str = "project") -> Any:
    """A target with the options of its family that were given by keyword.

    Args:
        target: As `project` takes it.
        options: The options.
        what: Which function asks, for errors.

    Returns:
        The target; a family where there are options.

    Raises:
        TypeError: If the target is no family, has an option in its text too, or there is no such option.
    """
    if not options:
        return target
    if isinstance(target, str) and target.partition(":")[0] in FAMILIES:
        target = parse(target)
    name = next((name for name, family in FAMILIES.items() if family is target), None)
    variant = Variant(name, name) if name else target
    family = FAMILIES[variant.family] if isinstance(variant, Variant) else target
    first = next(iter(options))
    if isinstance(family, (str, type, LinearOperator)) or not callable(family):
        kind = repr(family) if isinstance(family, str) else "the target"
        raise TypeError(f"{what}(…, {first}=…): {what} takes no {first!r}, and {kind} is no family, which has options")
    parameters = [*signature(family).parameters.values()][2:]
    known = [one.name for one in parameters if one.kind != one.VAR_KEYWORD]
    wrong = [one for one in options if one not in known]
    if wrong and len(known) == len(parameters):
        called = variant.family if isinstance(variant, Variant) else getattr(family, "__name__", "the family")
        raise TypeError(
            f"{what}(…, {wrong[0]}=…): neither {what} nor {called} takes {wrong[0]!r}; options of {called} are "
            f"{', '.join(known) or 'none'}"
        )
    if not isinstance(variant, Variant):
        return partial(family, **options)
    if twice := [one for one in options if one in variant.options]:
        raise TypeError(f"{what}(…, {variant.text!r}, {twice[0]}=…): the option is given twice")
    return Variant(variant.text, variant.family, {**variant.options, **options})


def called(target: Any, structure: LinearOperator) -> str:
    """What a structure is called in messages: as it was asked for; BLAST, an einsum, by its name.

    Args:
        target: As `with_options` gives it.
        structure: What it is of some size.

    Returns:
        The text.
    """
    m, n = structure.shape
    name = target.text if isinstance(target, Variant) else target if isinstance(target, str) else None
    if name is None and not isinstance(target, LinearOperator):
        name = getattr(target, "__name__", None)
    if name is not None:
        return f"{name!r} of {m}×{n}"
    net = net_of(structure)
    blast = None if net is None else blast_of(net)
    if blast is None:
        return structure._short()
    rows, _, columns, _, rank = map(blast.net.size, blast.axes)
    return f"BLAST({m}×{n}, {rows}×{columns} blocks, rank {rank})"


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
        if target.partition(":")[0] not in (*FAMILIES, *NONLINEAR):
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


def effort_of(tol: Any, max_iterations: Any, bound: bool = True) -> Effort:
    """When iterations stop, and whether a bound is looked for.

    Raises:
        ValueError: If a number is out of range.
    """
    if not isinstance(tol, (int, float, np.floating)) or isinstance(tol, bool) or not 0 <= tol < 1:
        raise ValueError(f"project(tol={tol!r}): expected a number from 0 to 1")
    if not isinstance(max_iterations, (int, np.integer)) or isinstance(max_iterations, bool) or max_iterations < 0:
        raise ValueError(f"project(max_iterations={max_iterations!r}): expected an integer of at least 0")
    return Effort(float(tol), int(max_iterations), bound)


def in_norm(goal: Goal, inputs: Any, C: Any, cross: Any, A: Any, row_weights: Any, column_weights: Any) -> Goal:
    """The goal in the norm that is asked for.

    Raises:
        TypeError: If an argument is no array.
        ValueError: If shapes do not fit, numbers are not finite, or two arguments say the same.
    """
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
        C = moments_of(inputs, n).second_moment
    C, cross, A, column_weights, row_weights = _tamed(C, cross, A, column_weights, row_weights)
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
        if goal.is_large:
            goal = Goal(goal.source @ Dense((P @ adjoint(back)) @ back))
        else:
            goal = goal.of(((goal.matrix @ P) @ adjoint(back)) @ back)
    return Goal(goal.source, A, C)


def _tamed(C: Any, cross: Any, A: Any, column_weights: Any, row_weights: Any) -> tuple[Any, ...]:
    """Metrics at a size whose squares are numbers: the nearest member does not follow it."""

    def exponent(metric: Any) -> int:
        return exponent_of(largest_of(metric)) if backends.is_array(metric) else 0

    small = exponent(C)
    pairs = ((C, small), (cross, small), (A, exponent(A)), (column_weights, exponent(column_weights)))
    return tuple([times(one, -by) for one, by in (*pairs, (row_weights, exponent(row_weights)))])


def _metric(goal: Goal, name: str, value: Any, shape: tuple[int, ...], positive: bool = True) -> Any:
    """A metric as an array like W; a matrix is made Hermitian, for rounding."""
    if value is None:
        return None
    if isinstance(value, LinearOperator):
        value = value.to_dense()
    if isinstance(value, Moments):
        raise TypeError(f"project(…, {name}=Moments): give them as inputs=")
    if isinstance(value, (list, tuple)):
        value = np.asarray(value)
    found, what = tuple(getattr(value, "shape", ())), f"project({goal.source._short()}, …): {name}"
    if found != shape:
        raise ValueError(f"{what} of shape {found}, expected {shape}")
    dtype = goal.source.dtype if len(shape) == 2 else backends.real_dtype(goal.source.dtype, goal.backend)
    if backends.is_complex(value.dtype) and not backends.is_complex(dtype):
        raise TypeError(f"{what} is complex and W is real; make W complex")
    array = backends.asarray(value, goal.backend, dtype, goal.source.device if goal.backend == "torch" else None)
    if not isfinite(largest_of(array)):
        raise ValueError(f"{what} holds NaN or infinity")
    if not positive:
        return array
    if lapack.is_known(array) and shape[0]:
        numbers = _numbers(array)
        if len(shape) == 1 and (numbers < 0).any():
            raise ValueError(f"{what} must not be negative")
        if len(shape) == 2:
            _require_semidefinite(numbers, what, HALF if value.dtype.itemsize <= 2 else 0.0)
    if len(shape) == 1:
        return array
    return (array + adjoint(array)) / 2


def _require_semidefinite(C: np.ndarray, what: str, rounding: float) -> None:
    """Raise ValueError where a matrix is not Hermitian, or has a negative eigenvalue, but for rounding of its numbers.

    A Cholesky factorisation of what is a little larger tells: n³/3 FLOPs.
    """
    weights, advice = np.real(np.diagonal(C)), "give the mean of x xᴴ over inputs x, or a sum of such"
    if (weights < -1e-10 * np.abs(weights).max()).any():
        raise ValueError(f"{what} must be positive semidefinite, and has negative numbers on its diagonal")
    largest = np.abs(C).max()
    slack = SLACK * largest + rounding * np.linalg.norm(C)
    if np.abs(C - C.conj().T).max() > slack:
        raise ValueError(f"{what} must be Hermitian, and is not; {advice}")
    wide = np.asarray((C + C.conj().T) / 2, np.promote_types(C.dtype, np.float32))
    try:
        np.linalg.cholesky(wide + slack * np.eye(len(C), dtype=wide.dtype))
    except np.linalg.LinAlgError:
        if largest:
            raise ValueError(f"{what} must be positive semidefinite, and has negative eigenvalues; {advice}") from None


def _numbers(array: Any) -> np.ndarray:
    """Known numbers in NumPy: what JAX computes of constants is traced under jit."""
    return backends.to_numpy(array if backends.backend_of(array) == "jax" else lapack.stop_gradient(array))


def require_finite(source: LinearOperator, largest: float) -> None:
    """Raise ValueError where the largest entry of a matrix, or of a product of it with signs, is NaN or infinite."""
    if not isfinite(largest):
        raise ValueError(f"project({source._short()}, …): the matrix holds NaN or infinity")
