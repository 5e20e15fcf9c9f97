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
from linops.linalg.parts import adjoint

#: after how many steps the basis is looked at, and after how many from another start
SOME, AGAIN = 5, 10


@dataclass(frozen=True)
class Lanczos(Method):
    """Thick-restart Lanczos with full orthogonalisation (Wu and Simon, 2000), from a start that is always the same.

    Before it answers, it looks once more from another start for eigenvalues that the first did not show, such as
    further copies of one, until the next one in what is left over is found or cannot be among those wanted; and so on,
    until a look shows nothing new. Under `jax.jit` and `vmap` it makes one basis, without restarts.

    Cost: a product and 4 n m MACs a step, for a basis of m vectors.

    Attributes:
        basis: m, the largest number of vectors kept; None for max(2 k + 20, 40).
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
        backend = backends.backend_of(like)
        space: Any = backends.namespace(backend)
        vector, count, looks, before = start_vector(like, n, dtype, 0)[:, 0], 0, 0, None
        Q, columns = backends.zeros(like, (size, n), dtype), []  # the basis, in rows, and T = Qᴴ A Q above its diagonal
        left: Any = None
        places = backends.indices_beside(Q, np.arange(size))[:, None]
        # JAX compiles each shape anew, so there a basis is looked at when it is whole
        some, again = (size, size) if backend == "jax" else (SOME, AGAIN)
        end = min(size, k + some)
        while True:
            while len(columns) < end:
                step = len(columns)
                known = lapack.is_known(vector)
                Q = lapack.put(Q, 0, step, vector) if known else space.where(places == step, vector, Q)
                image, count = product(vector[:, None])[:, 0], count + 1
                vector, left, column = orthogonal(image, Q if backend == "jax" else Q[: step + 1], count)
                columns.append(backends.pad_rows(column[:, None], size)[:, 0])
            basis = Q if end == size else Q[:end]
            values, S = lapack.eigh(_hermitian(space.stack(columns, axis=1)[:end]))
            residuals = space.abs(left * S[-1])  # A Q = Q T + left · vector eᵀ
            order = picked(values, k, which)
            w, scale = values[order], space.max(space.abs(values))
            converged, known = residuals[order] <= tol * scale, lapack.is_known(values)
            done = known and finished(converged)
            if done and looks:
                done = _is_beyond(values, residuals, k, which, tol * scale)
            if not done and end < size:
                end = min(size, end + some) if known else size  # one whole basis, where numbers cannot be looked at
                continue
            nothing_new = before is not None and bool(space.max(space.abs(w - before)) <= tol * scale)
            if not known or end == n or (done and nothing_new) or count >= limit:
                V = backends.permute(S[:, order], (1, 0)) @ basis
                return Found(w, backends.permute(V, (1, 0)), residuals[order], converged, scale, count)
            if not done:
                order = picked(values, min(k + (size - k) // 2, size - 1), which)
                w = values[order]
            Q = backends.pad_rows(backends.permute(S[:, order], (1, 0)) @ basis, size)
            columns = list(backends.eye(like, size, Q.dtype)[: w.shape[0]] * space.astype(w, Q.dtype)[:, None])
            end = min(size, len(columns) + some)
            if done:  # once more, in what is left over, from another start
                before, looks, end = w, looks + 1, min(size, k + again)
                vector, _, _ = orthogonal(start_vector(like, n, dtype, looks)[:, 0], Q, count)


def _is_beyond(values: Any, residuals: Any, k: int, which: str, limit: Any) -> bool:
    """Whether the next eigenvalue after the k wanted ones is found, or as far from being one as its residual says."""
    space: Any = backends.namespace(backends.backend_of(values))
    keys = {"LA": values, "SA": -values, "LM": space.abs(values), "SM": -space.abs(values)}[which]
    order = space.argsort(keys)
    n = values.shape[0]
    following, last = order[n - k - 1], order[n - k]
    error = residuals[following]
    return bool((error <= limit) | (keys[following] + error < keys[last]))


def _hermitian(upper: Any) -> Any:
    """A Hermitian matrix of its upper triangle."""
    space: Any = backends.namespace(backends.backend_of(upper))
    return space.triu(upper) + adjoint(space.triu(upper, k=1))


@dataclass(frozen=True)
class Arnoldi(Lanczos):
    """`Lanczos` by its other name: with every new vector orthogonalised against all others the two are one.

    Example:
        >>> import linops as lo, numpy as np
        >>> lo.linalg.eigsh(lo.Diagonal(np.arange(100.)), 1, method=lo.linalg.Arnoldi())[0].round(9)
        array([99.])
    """
