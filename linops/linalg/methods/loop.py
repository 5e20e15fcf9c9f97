"""The loop of all iterative methods, over all right-hand sides at once.

A method says how it begins and advances; the loop stops each column at its tolerance, where it stays. Once a method's
own recursion says so the residual b − A x is computed anew, and the method begins again from there where it is still
too large, as long as that helps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.operator import LinearOperator


class System:
    """An operator, its preconditioner, and the tolerances of right-hand sides."""

    tolerance: Any

    def __init__(self, A: LinearOperator, M: LinearOperator | None, tolerance: Any) -> None:
        self.A, self.M, self.tolerance = A, M, tolerance
        self.space: Any = backends.namespace(backends.backend_of(tolerance))

    def product(self, x: Any) -> Any:
        """A x."""
        return self.A @ x

    def preconditioned(self, r: Any) -> Any:
        """M r."""
        return r if self.M is None else self.M @ r

    @cached_property
    def _adjoints(self) -> Any:
        return self.A.H, None if self.M is None else self.M.H

    def adjoint(self, y: Any) -> Any:
        """Mᴴ Aᴴ y."""
        A, M = self._adjoints
        return A @ y if M is None else M @ (A @ y)

    def dot(self, x: Any, y: Any) -> Any:
        """xᴴ y of each column."""
        return lapack.column_dots(x, y)

    def real_dot(self, x: Any, y: Any) -> Any:
        """The real part of xᴴ y of each column."""
        found = self.dot(x, y)
        return self.space.real(found) if backends.is_complex(found.dtype) else found

    def norm(self, x: Any) -> Any:
        """The Euclidean norm of each column."""
        return self.space.sqrt(self.real_dot(x, x))


def iterate(
    method: Any,
    A: LinearOperator,
    M: LinearOperator | None,
    b: Any,
    guess: Any,
    reference: Any = None,
    spent: Any = None,
) -> tuple[Any, Any, Any, Any]:
    """Iterate for right-hand sides (m, k).

    Args:
        method: The `Iterative` method.
        A: The operator.
        M: The preconditioner.
        b: The right-hand sides.
        guess: Where to begin, (n, k), or None.
        reference: Norms of which the tolerance rtol is a share, (k,); those of b where there are none.
        spent: How many iterations right-hand sides have had before, (k,), or None.

    Returns:
        The iterates (n, k), and for each right-hand side the norm of b − A x, the number of iterations, and whether it
        is within the tolerance.
    """
    backend = backends.backend_of(b)
    space: Any = backends.namespace(backend)
    scale = backends.magnitude(b, 0)  # no square of what is divided by it over- or underflows
    n, limit = A.shape[1], 10 * A.shape[1] if method.max_iterations is None else method.max_iterations
    b, scales = b / scale, scale.reshape(-1)
    system = System(A, M, scales)
    norm = system.norm(b)
    rtol = method.rtol
    if rtol is None:
        rtol = 1e-10 if backends.itemsize(backends.real_dtype(b.dtype, backend)) > 4 else 1e-5
    system.tolerance = tolerance = space.maximum(
        rtol * (norm if reference is None else reference / scales), method.atol / scales
    )
    length = method.length(n, limit)
    if guess is None:
        x, r, size = backends.zeros(b, (n, b.shape[1]), b.dtype), b, norm
    else:
        x = space.where(norm > 0, guess / scale, 0 * guess)
        r = b - system.product(x)
        size = system.norm(r)

    def step(inner: Any) -> Any:
        count, state, going, counts = inner
        new = method.advance(system, state, count, going)
        kept = going & space.isfinite(new.norm)
        state = method.keep(kept, new, state)
        counts = space.where(going, counts + 1, counts)
        if method.callback is not None:
            lapack.tell(state.norm * scales, _report(method.callback), (counts.max(),))
        return count + 1, state, kept & (state.norm > tolerance) & (counts < limit), counts

    def cycle(outer: Any) -> Any:
        x, r, size, going, counts = outer
        inner = (0, method.begin(system, x, r, size), going, counts)
        _, state, _, counts = lapack.iterate(b, inner, lambda inner: inner[2].any() & (inner[0] < length), step)
        y = method.end(system, state)
        s = b - system.product(y)
        found = system.norm(s)
        better = going & (found < size)
        x, r, size = space.where(better, y, x), space.where(better, s, r), space.where(better, found, size)
        return x, r, size, better & (size > tolerance) & (counts < limit), counts

    counts = space.where(size > 0, 0, 0) if spent is None else spent
    outer = (x, r, size, (size > tolerance) & (counts < limit), counts)
    x, _, size, _, counts = lapack.iterate(b, outer, lambda outer: outer[3].any(), cycle)
    return x * scale, size * scales, counts, size <= tolerance


def _report(callback: Callable[[int, Any], object]) -> Callable[[Any, Any], None]:
    def report(residuals: Any, count: Any) -> None:
        callback(int(count), residuals)

    return report
