"""`LOBPCG`: a few largest or smallest eigenpairs, with a preconditioner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.methods.krylov import Found, finished, noise, picked
from linops.linalg.methods.method import Method
from linops.linalg.parts import adjoint, norms
from linops.linalg.spectra import hermitian_part


@dataclass(frozen=True)
class LOBPCG(Method):
    """Locally optimal block preconditioned conjugate gradients (Knyazev, 2001), on orthonormal bases.

    A block of k + 4 vectors finds eigenvalues that coincide. It finds algebraically largest and smallest ones; under
    `jax.jit` it makes `max_iterations` steps, 40 where that is None.

    Cost: a product with the block and some 20 n (k + 4)² MACs an iteration.

    Attributes:
        preconditioner: An operator close to A⁻¹ (for smallest eigenvalues), or None.
        max_iterations: The largest number of iterations; None for 500.

    Example:
        >>> import linops as lo, numpy as np
        >>> w, V = lo.linalg.eigsh(lo.Diagonal(np.arange(1., 101.)), 2, which="SA", method=lo.linalg.LOBPCG())
        >>> w.round(6)
        array([1., 2.])
    """

    preconditioner: Any = None
    max_iterations: int | None = None

    def eigenpairs(
        self, product: Callable[[Any], Any], n: int, like: Any, dtype: Any, k: int, which: str, tol: float
    ) -> Found:
        """The k eigenpairs that `which` asks for; see `Lanczos.eigenpairs`."""
        if which not in ("LA", "SA"):
            raise ValueError(
                f"LOBPCG finds the largest and smallest eigenvalues, not which={which!r}: pass which='LA' or 'SA'"
            )
        space: Any = backends.namespace(backends.backend_of(like))
        block = min(n, k + 4)
        X, _ = lapack.qr(noise(like, (n, block), dtype, 0))
        P, count, known = None, 0, lapack.is_known(X)
        limit = self.max_iterations or (500 if known else 40)
        W = product(X)
        scale = space.zeros_like(norms(X)[0])  # the largest eigenvalue that was met: residuals are relative to it
        while True:
            count += block
            values, S = lapack.eigh(hermitian_part(adjoint(X) @ W))
            X, W = X @ S, W @ S
            residual = W - X * values
            wanted = picked(values, k, which)
            scale = space.maximum(scale, space.max(space.abs(values)))
            lengths = norms(residual)[wanted]
            known = known and lapack.is_known(values)
            found = Found(values[wanted], X[:, wanted], lengths, lengths <= tol * scale, scale, count)
            if (known and finished(found.converged)) or count >= limit * block or block == n:
                return found
            R = residual if self.preconditioner is None else self.preconditioner @ residual
            Q, _ = lapack.qr(_independent(space, X, R, P))
            image = product(Q)
            values, S = lapack.eigh(hermitian_part(adjoint(Q) @ image))
            scale = space.maximum(scale, space.max(space.abs(values)))
            best = picked(values, block, which)
            C = S[:, best]
            P = Q @ C - X @ (adjoint(X) @ (Q @ C))
            X, W = Q @ C, image @ C


def _independent(space: Any, X: Any, R: Any, P: Any) -> Any:
    """X, and R and P without what they share with it, of columns of norm 1, as many as there are rows at most."""
    found = [X]
    for part in (R, P):
        if part is not None:
            part = part - X @ (adjoint(X) @ part)
            size = norms(part)
            found.append(part / space.where(size == 0, 1 + 0 * size, size))
    return space.concat(found, axis=1)[:, : X.shape[0]]
