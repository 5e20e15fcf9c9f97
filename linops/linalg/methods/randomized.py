"""`RandomizedSVD`: the largest singular triplets from a few products with blocks of noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from linops.backends import factorizations as lapack
from linops.linalg.methods.krylov import noise
from linops.linalg.methods.method import Method
from linops.linalg.parts import adjoint
from linops.operator import flat


@dataclass(frozen=True)
class RandomizedSVD(Method):
    """The range of A from products with noise, and the SVD in it (Halko, Martinsson and Tropp, 2011).

    An approximation, whose error falls with the decay of the singular values and with power iterations; it is checked
    against no tolerance unless one is given.

    Cost: 2 (power_iterations + 1) products with blocks of k + oversampling vectors.

    Attributes:
        oversampling: How many vectors more than k.
        power_iterations: How often the block is multiplied by A Aᴴ.
        seed: Of the noise.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.Dense(np.diag(.5 ** np.arange(30.)))
        >>> lo.linalg.svds(A, 2, method=lo.linalg.RandomizedSVD(seed=1))[1].round(9)
        array([1. , 0.5])
    """

    oversampling: int = 10
    power_iterations: int = 4
    seed: int = 0

    def triplets(self, A: Any, like: Any, dtype: Any, k: int) -> tuple[Any, Any, Any]:
        """(U, s, Vᴴ) of the k largest singular values, descending."""
        m, n = A.shape
        adjoint_of_A = A.H
        Q = noise(like, (n, min(m, n, k + self.oversampling)), dtype, self.seed)
        Q, _ = lapack.qr(flat(A @ Q))
        for _ in range(self.power_iterations):
            Q, _ = lapack.qr(flat(adjoint_of_A @ Q))
            Q, _ = lapack.qr(flat(A @ Q))
        U, s, Vh = lapack.svd(adjoint(flat(adjoint_of_A @ Q)))
        return Q @ U[:, :k], s[:k], Vh[:k]
