"""`solve`, `inv`, `det` and their like: what users call."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.asking import asked
from linops.linalg.determinants import slogdet_
from linops.linalg.halves import own
from linops.linalg.hints import called
from linops.linalg.info import Info
from linops.linalg.inputs import floating_array, operator_of
from linops.linalg.inverse import Inverse
from linops.linalg.inversion import inverse_
from linops.linalg.iterating import admitted, iterated, like_solution, residual_norms
from linops.linalg.methods.method import Method
from linops.linalg.methods.slq import SLQ
from linops.linalg.methods.trace_estimators import TraceEstimator
from linops.linalg.probes import require_estimator, wide
from linops.linalg.traces import diagonal_, trace_
from linops.operator import LinearOperator


def inverted(function: str, A: Any, method: Method | None, kept: bool, symbolic: bool = False) -> LinearOperator:
    """The inverse by a rule or method."""
    operator = operator_of(function, A, square=True, symbolic=symbolic)
    if method is None:
        inverse = inverse_(operator, kept)
        if not kept and operator is A and not backends.is_compiling() and _is_lazy(inverse, operator):
            operator.__dict__["_solver"] = inverse
        return inverse
    if not isinstance(method, Method):
        raise TypeError(
            f"linalg.{function}: method {method!r}: expected None, or a method such as lo.linalg.LU() or lo.linalg.CG()"
            f"{called(method, 'method')}"
        )
    return Inverse(operator, method, kept)


def _is_lazy(inverse: LinearOperator, operator: LinearOperator) -> bool:
    """Whether an inverse has no numbers but the operator's own, so that it follows what is written there."""
    own = {id(leaf) for _, leaf in operator.named_leaves()}
    return all(id(leaf) in own for _, leaf in inverse.named_leaves())


@asked
def solve(A: Any, b: Any, method: Method | None = None, *, x0: Any = None, return_info: bool = False) -> Any:
    """The x of A x = b.

    Without a method a rule for the structure decides, which `lo.linalg.explain("solve", A)` shows; where there is none,
    the matrix is factorised, and where it is too large for that an iterative method runs to a tight tolerance.
    Derivatives are those of the equation, whatever the method; `torch.compile` leaves iterative methods uncompiled,
    with a break of the graph around them.

    Args:
        A: A square operator or matrix, (n, n).
        b: Right-hand sides: (n,), or (…, n, k), as `A @ x` takes them.
        method: How to solve, such as `lo.linalg.Cholesky()` or `lo.linalg.CG()`, or None.
        x0: Where an iterative method begins, of the shape of b; others do not need it.
        return_info: Whether to return `lo.linalg.Info` as well.

    Returns:
        An array of the shape of b, of floating numbers; with return_info a pair of it and the information.

    Raises:
        SingularError: If A has no inverse; where numbers cannot be looked at, as in `jax.jit`, x is infinite or NaN.
        ConvergenceError: If an iterative method does not reach its tolerance; where nothing can be raised, as in
            `jax.jit` and `vmap`, x is NaN.
        ValueError: If A is not square, or b does not fit.
        TypeError: If A is symbolic, or backends are mixed.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.Kronecker(np.array([[2., 0.], [0., 1.]]), np.array([[1., 1.], [0., 1.]]))
        >>> lo.linalg.solve(A, np.array([4., 2., 2., 1.]))
        array([1., 1., 1., 1.])
        >>> x, info = lo.linalg.solve(A, np.ones(4), lo.linalg.GMRES(rtol=1e-12), return_info=True)
        >>> info.iterations, info.converged
        (4, True)
    """
    inverse = A.__dict__.get("_solver") if method is None and isinstance(A, LinearOperator) else None
    inverse = inverted("solve", A, method, kept=False) if inverse is None else inverse
    b = floating_array(b)
    if isinstance(inverse, Inverse) and inverse.method.iterates:
        x, info = iterated(inverse, b, x0)
        return (x, info) if return_info else x
    if x0 is not None:
        _require_sides(A, b, x0)
    try:
        x = _product(inverse, b)
    except (TypeError, ValueError):
        _require_sides(A, b, None)
        raise
    if not return_info:
        return x
    return x, Info(0, residual_norms(operator_of("solve", A), x, b), True, method)


def _product(inverse: LinearOperator, b: Any) -> Any:
    """A⁻¹ b, also of a real operator and complex numbers in torch, which mixes none."""
    is_split = (
        backends.backend_of(b) == inverse.backend == "torch"
        and not isinstance(inverse, Inverse)
        and backends.is_complex(b.dtype)
        and not backends.is_complex(inverse.dtype)
    )
    return inverse @ b.real + 1j * (inverse @ b.imag) if is_split else inverse @ b


def _require_sides(A: Any, b: Any, x0: Any) -> None:
    """Raise where right-hand sides, or x0, do not fit."""
    operator = operator_of("solve", A)
    b = admitted("solve", operator, operator.shape[0], b)
    if x0 is not None:
        like_solution("solve", operator, tuple(b.shape), x0)


@asked
def inv(A: Any, method: Method | None = None) -> LinearOperator:
    """The inverse, as an operator whose products solve.

    It has the structure of A where that has a closed form; else a factorisation is made at the first product, and kept
    for the ones after. Changes that are made to A's arrays after that do not reach it.

    Args:
        A: A square operator or matrix; a symbolic one tells what would be done.
        method: How to solve, or None; see `solve`.

    Returns:
        The operator A⁻¹.

    Raises:
        SingularError: If A has no inverse, here or at the first product.
        ValueError: If A is not square.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.inv(lo.Diagonal(np.array([2., 4.]))).to_dense()
        array([[0.5 , 0.  ],
               [0.  , 0.25]])
    """
    return inverted("inv", A, method, kept=True, symbolic=True)


@asked
def slogdet(A: Any) -> tuple[Any, Any]:
    """The sign and the logarithm of the absolute value of the determinant.

    Args:
        A: A square operator or matrix.

    Returns:
        The sign, 1, −1 or 0, or of a complex operator a number of absolute value 1 or 0; and the logarithm, −inf where
        the determinant is zero.

    Raises:
        ValueError: If A is not square, or a matrix of more than `lo.linalg.DENSE_LIMIT` entries would be written out.

    Example:
        >>> import linops as lo, numpy as np
        >>> sign, logarithm = lo.linalg.slogdet(lo.Kronecker(np.diag([-1., 1.]), lo.Identity(3)))
        >>> float(sign), float(logarithm)
        (-1.0, 0.0)
    """
    operator = operator_of("slogdet", A, square=True)
    sign, logarithm = slogdet_(operator)
    return own(operator, sign), own(operator, logarithm)


@asked
def det(A: Any) -> Any:
    """The determinant; of large operators it may over- or underflow, where `slogdet` does not.

    Args:
        A: A square operator or matrix.

    Returns:
        A number.

    Raises:
        ValueError: If A is not square.

    Example:
        >>> import linops as lo
        >>> round(float(lo.linalg.det(2 * lo.Identity(3))), 12)
        8.0
    """
    operator = operator_of("det", A, square=True)
    sign, logarithm = slogdet_(operator)
    return own(operator, sign * backends.namespace(backends.backend_of(logarithm) or "numpy").exp(logarithm))


@asked
def logdet(A: Any, method: SLQ | None = None, *, return_info: bool = False) -> Any:
    """The logarithm of the determinant, exactly unless an estimate is asked for.

    Args:
        A: A square operator or matrix.
        method: None, or `lo.linalg.SLQ(steps, samples, seed)`, an estimate for positive definite operators.
        return_info: Whether to return what the estimate says of itself, too.

    Returns:
        A number; of a complex operator that is not known to be positive definite a complex one, with the phase as its
        imaginary part. With `return_info`, the number and an `Estimate`.

    Raises:
        ValueError: If A is real and its determinant not positive; where numbers cannot be looked at it is NaN. If an
            estimate is asked for, and A is not known to be positive definite.
        TypeError: If the method is none for it, or `return_info` is asked for without one.

    Example:
        >>> import linops as lo, numpy as np
        >>> round(float(lo.linalg.logdet(lo.Kronecker(np.diag([2., 2.]), np.diag([3., 3., 3.])))), 12)
        10.750556815368
    """
    operator = operator_of("logdet", A, square=True)
    if require_estimator("logdet", method, SLQ, return_info):
        found, info = method.logdet(wide(operator))  # type: ignore[union-attr]
        found = own(operator, found)
        return (found, info) if return_info else found
    sign, logarithm = slogdet_(operator)
    space: Any = backends.namespace(backends.backend_of(logarithm) or "numpy")
    if operator._is_complex:
        return logarithm + 1j * space.angle(sign)
    if lapack.is_known(sign) and not bool(sign > 0) and not bool(space.isnan(logarithm)):
        raise ValueError(
            f"linalg.logdet({operator._short()}): the determinant is {'zero' if bool(sign == 0) else 'negative'}; "
            "lo.linalg.slogdet gives its sign and the logarithm of its absolute value"
        )
    return own(operator, space.where(sign > 0, logarithm, space.nan))


@asked
def trace(A: Any, method: TraceEstimator | None = None, *, return_info: bool = False) -> Any:
    """The sum of the diagonal, exactly unless an estimate is asked for.

    Args:
        A: A square operator or matrix.
        method: None, or an estimate: `lo.linalg.Hutchinson(samples, seed)`, `HutchPP` or `XTrace`.
        return_info: Whether to return what the estimate says of itself, too.

    Returns:
        A number; with `return_info`, the number and an `Estimate`.

    Raises:
        ValueError: If A is not square.
        TypeError: If the method is none for it, or `return_info` is asked for without one.

    Example:
        >>> import linops as lo, numpy as np
        >>> float(lo.linalg.trace(lo.Identity(3)))
        3.0
        >>> A = lo.LowRank(np.ones((9, 1)), np.ones((1, 9)))
        >>> found, info = lo.linalg.trace(A, lo.linalg.Hutchinson(100, seed=0), return_info=True)
        >>> bool(abs(found - 9) < 4 * info.standard_error)
        True
    """
    operator = operator_of("trace", A, square=True)
    if not require_estimator("trace", method, TraceEstimator, return_info):
        return trace_(operator)
    found, info = method.trace(wide(operator))  # type: ignore[union-attr]
    found = own(operator, found)
    return (found, info) if return_info else found


@asked
def diagonal(A: Any) -> Any:
    """The main diagonal.

    Args:
        A: An operator or matrix (m, n).

    Returns:
        An array of min(m, n) numbers.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.diagonal(lo.Kronecker(np.diag([1., 2.]), np.diag([3., 4.])))
        array([3., 4., 6., 8.])
    """
    return diagonal_(operator_of("diagonal", A))
