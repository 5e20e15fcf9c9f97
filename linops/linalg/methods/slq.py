"""`SLQ`: stochastic Lanczos quadrature, an estimate of the trace of a function of a positive definite operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.backends.matrix_functions import derived
from linops.linalg.lanczos import krylov_solve, tridiagonals
from linops.linalg.probes import Estimate, applied, inner, require_samples, signs, spread
from linops.operator import LinearOperator
from linops.tags import Tag


@dataclass(frozen=True)
class SLQ:
    """The mean of zᴴ log(A) z over random signs z, each by Gauss quadrature from Lanczos' iteration.

    Besides the standard error there is that of the quadrature, which falls as ((√κ − 1) / (√κ + 1))^(2 steps) of the
    condition κ: ask for more steps to see it (Ubaru, Chen & Saad, Fast Estimation of tr(f(A)) via Stochastic Lanczos
    Quadrature, 2017). The derivative is the mean of zᴴ A⁻¹ dA z with the same z, an unbiased estimate, with A⁻¹ z by as
    many steps.

    Cost: samples · steps products with A, and 4 n samples · steps² FLOPs of reorthogonalisation.

    Attributes:
        steps: The dimension of each Krylov space.
        samples: How many vectors.
        seed: Of the random numbers; the same on every framework.

    Raises:
        ValueError: If steps or samples are below 1.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.assume(lo.Dense(np.diag([1., 2., 4.])), lo.Tag.POSITIVE_DEFINITE)
        >>> round(float(lo.linalg.logdet(A, lo.linalg.SLQ(steps=3, samples=4, seed=0))), 9)
        2.079441542
    """

    steps: int
    samples: int
    seed: int = 0

    def __post_init__(self) -> None:
        require_samples(self, 1)
        if isinstance(self.steps, bool) or not isinstance(self.steps, (int, np.integer)) or self.steps < 1:
            raise ValueError(f"SLQ: steps must be an integer of at least 1, got {self.steps!r}")

    def logdet(self, A: LinearOperator) -> tuple[Any, Estimate]:
        """An estimate of log det A.

        Args:
            A: A positive definite operator of numbers that sums can be taken in.

        Returns:
            The estimate, and what it says of itself.

        Raises:
            ValueError: If A is not known to be positive definite, or is seen not to be.
        """
        if Tag.POSITIVE_DEFINITE not in A.tags.yes:
            raise ValueError(
                f"SLQ of {A._short()}: it is not known to be positive definite; "
                "lo.assume(A, lo.Tag.POSITIVE_DEFINITE) declares it"
            )
        n = A.shape[0]
        steps, z = min(self.steps, n), signs(A, self.samples, self.seed)

        def samples(A: LinearOperator) -> Any:
            _, inside, lengths = tridiagonals(A, z, steps)
            nodes, vectors = lapack.eigh(inside)
            space: Any = backends.namespace(backends.backend_of(nodes))
            with np.errstate(all="ignore"):
                return lengths**2 * space.sum(space.abs(vectors[:, 0, :]) ** 2 * space.log(nodes), axis=-1)

        def weights(A: LinearOperator) -> Any:
            return lapack.implicit_solve(z, A, lambda A, b: (krylov_solve(A, b, steps), ()))[0]

        def surrogate(solved: Any, A: LinearOperator) -> Any:
            found = inner(solved, applied(A, z)).sum() / self.samples
            space: Any = backends.namespace(backends.backend_of(found))
            return space.real(found) if backends.is_complex(found.dtype) else found

        found = samples(A._map(lapack.stop_gradient))
        space: Any = backends.namespace(backends.backend_of(found))
        if lapack.is_known(found) and bool(space.isnan(found).any()):
            raise ValueError(
                f"SLQ of {A._short()}: it is not positive definite; lo.linalg.slogdet takes any square operator"
            )
        info, mean = Estimate(spread(found), self.samples * steps), found.sum() / self.samples
        leaf, known = A._first_leaf, lapack.is_known(found)
        if leaf is None:
            return mean, info
        return derived(leaf, A, lambda A: mean if known else samples(A).sum() / self.samples, weights, surrogate), info
