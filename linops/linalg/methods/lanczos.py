"""`Lanczos` and `Arnoldi`: a few eigenpairs of a Hermitian operator from its products, restarted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.methods.krylov import Found, finished, orthogonal, picked, start_vector
from linops.linalg.methods.method import Method
from linops.linalg.parts import adjoint, norms
from linops.linalg.spectra import hermitian_part


@dataclass(frozen=True)
class Lanczos(Method):
    """Thick-restart Lanczos with full orthogonalisation (Wu and Simon, 2000), from a start that is always the same.

    Before it answers, it looks once more from another start for eigenvalues that the first did not show, such as
    further copies of one. Under `jax.jit` and `vmap` it makes one basis, without restarts.

    Cost: a product and 4 n m MACs a step, for a basis of m vectors.

    Attributes:
        basis: m, the number of vectors kept; None for max(2 k + 20, 40).
        max_iterations: The number of products after which no restart begins; None for max(1000, 10 n).

    Example:
        >>> import linops as lo, numpy as np
        >>> w, V = lo.linalg.eigsh(lo.Diagonal(np.arange(100.)), 2, method=lo.linalg.Lanczos())
        >>> w.round(9)
        array([98., 99.])
    """

    basis: int | None = None
    max_iterations: int | None = None

    def eigenpairs(
        self, product: Callable[[Any], Any], n: int, like: Any, dtype: Any, k: int, which: str, tol: float
    ) -> Found:
        """The k eigenpairs that `which` asks for.

        Args:
            product: A x of (n, j).
            n: The size.
            like: An array of the framework and device.
            dtype: The dtype of the vectors.
            k: How many.
            which: ``"LM"``, ``"SM"``, ``"LA"`` or ``"SA"``.
            tol: The largest residual, as a share of the largest eigenvalue in absolute value.

        Returns:
            What was found, and whether it converged.
        """
        size = min(n, max(k + 1, self.basis or max(2 * k + 20, 40)))
        limit = self.max_iterations or max(1000, 10 * n)
        space: Any = backends.namespace(backends.backend_of(like))
        vector, filled, count, again = start_vector(like, n, dtype, 0), 0, 0, False
        # of one shape throughout: JAX compiles each shape anew
        Q, W = backends.zeros(like, (n, size), dtype), backends.zeros(like, (n, size), dtype)
        places = backends.indices_beside(Q, np.arange(size))
        while True:
            while filled < size:
                image = product(vector)
                if lapack.is_known(vector):
                    Q, W = lapack.put(Q, 1, filled, vector[:, 0]), lapack.put(W, 1, filled, image[:, 0])
                else:
                    Q, W = space.where(places == filled, vector, Q), space.where(places == filled, image, W)
                filled, count = filled + 1, count + 1
                vector = orthogonal(image, Q, like, count) if filled < n else vector
            values, S = lapack.eigh(hermitian_part(adjoint(Q) @ W))
            order = picked(values, k, which)
            w, s = values[order], S[:, order]
            V = Q @ s
            residuals = norms(W @ s - V * w)
            scale = space.max(space.abs(values))
            found = Found(w, V, residuals, residuals <= tol * scale, scale, count)
            if not lapack.is_known(values) or size == n:
                return found
            done = finished(found.converged)
            if (done and again) or count >= limit:
                return found
            again = done
            if done:  # once more, in what is left over, from another start
                kept = s
                vector = orthogonal(start_vector(like, n, dtype, 1), V, like, count)
            else:
                kept = S[:, picked(values, min(k + (size - k) // 2, size - 1), which)]
            filled = kept.shape[1]
            kept = backends.permute(backends.pad_rows(backends.permute(kept, (1, 0)), size), (1, 0))
            Q, W = Q @ kept, W @ kept


@dataclass(frozen=True)
class Arnoldi(Lanczos):
    """`Lanczos` by its other name: with every new vector orthogonalised against all others the two are one.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.eigsh(lo.Diagonal(np.arange(100.)), 1, method=lo.linalg.Arnoldi())[0].round(9)
        array([99.])
    """
