"""`Hutchinson`, `HutchPP` and `XTrace`: unbiased estimates of traces by products with random vectors.

Each is linear in A once its vectors are fixed, so its derivative is an unbiased estimate of the trace's; the bases that
two of them find are constants to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.parts import adjoint, norms
from linops.linalg.probes import Estimate, applied, inner, normals, require_samples, signs, spread
from linops.operator import LinearOperator


@dataclass(frozen=True)
class TraceEstimator:
    """How to estimate a trace."""

    samples: int
    seed: int

    def trace(self, A: LinearOperator) -> tuple[Any, Estimate]:
        """An estimate of a trace.

        Args:
            A: A square operator of numbers that sums can be taken in.

        Returns:
            The estimate, and what it says of itself.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Hutchinson(TraceEstimator):
    """The mean of zᴴ A z over vectors of random signs (Hutchinson, 1989). The best where the spectrum is flat.

    The variance of a sample is 2 Σ |a_jk|² over j ≠ k for symmetric A: none for a diagonal one.

    Cost: a product a sample.

    Attributes:
        samples: How many vectors.
        seed: Of the random numbers; the same on every framework.

    Raises:
        ValueError: If there is no sample.

    Example:
        >>> import linops as lo, numpy as np
        >>> float(lo.linalg.trace(lo.Diagonal(np.array([1., 2., 3.])), lo.linalg.Hutchinson(10, seed=0)))
        6.0
    """

    samples: int
    seed: int = 0

    def __post_init__(self) -> None:
        require_samples(self, 1)

    def trace(self, A: LinearOperator) -> tuple[Any, Estimate]:
        """The mean of the samples."""
        z = signs(A, self.samples, self.seed)
        found = inner(z, applied(A, z))
        return found.sum() / self.samples, Estimate(spread(found), self.samples)


@dataclass(frozen=True)
class HutchPP(TraceEstimator):
    """Hutch++: exactly on a basis of A times a third of the vectors, Hutchinson's estimate beside it.

    The error falls as 1 / samples, where Hutchinson's falls as 1 / √samples: better where eigenvalues decay (Meyer,
    Musco, Musco & Woodruff, Hutch++: Optimal Stochastic Trace Estimation, 2021).

    Cost: a product a sample, and a QR factorisation of a third as many columns.

    Attributes:
        samples: How many products, at least 3.
        seed: Of the random numbers.

    Raises:
        ValueError: If there are fewer than 3.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.LowRank(np.ones((100, 1)), np.ones((1, 100)))
        >>> round(float(lo.linalg.trace(A, lo.linalg.HutchPP(6, seed=0))), 9)
        100.0
    """

    samples: int
    seed: int = 0

    def __post_init__(self) -> None:
        require_samples(self, 3)

    def trace(self, A: LinearOperator) -> tuple[Any, Estimate]:
        """What the basis sees, and the mean of what it does not."""
        rank = min(self.samples // 3, A.shape[0])
        rest = self.samples - 2 * rank
        z = signs(A, rank + rest, self.seed)
        basis, _ = lapack.qr(lapack.stop_gradient(applied(A, z[:, :rank])))
        basis = lapack.stop_gradient(basis)
        z = z[:, rank:] - basis @ (adjoint(basis) @ z[:, rank:])
        found = inner(z, applied(A, z))
        total = inner(basis, applied(A, basis)).sum() + found.sum() / rest
        return total, Estimate(spread(found), self.samples)


@dataclass(frozen=True)
class XTrace(TraceEstimator):
    """XTrace: every vector serves for the basis of the others, and for what that basis does not see.

    Mostly the least error for the products, where eigenvalues decay (Epperly, Tropp & Webber, XTrace: Making the Most
    of Every Sample in Stochastic Trace Estimation, 2024). Beside each basis the vectors are of one length, as there.

    Cost: a product a sample, and a QR factorisation of half as many columns.

    Attributes:
        samples: How many products, at least 4; of an odd number one less.
        seed: Of the random numbers.

    Raises:
        ValueError: If there are fewer than 4.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.LowRank(np.ones((100, 1)), np.ones((1, 100)))
        >>> round(float(lo.linalg.trace(A, lo.linalg.XTrace(6, seed=0))), 9)
        100.0
    """

    samples: int
    seed: int = 0

    def __post_init__(self) -> None:
        require_samples(self, 4)

    def trace(self, A: LinearOperator) -> tuple[Any, Estimate]:
        """The mean over the vectors that are left out of the basis."""
        n = A.shape[0]
        count = min(self.samples // 2, n)
        z = normals(A, count, self.seed)
        image = applied(A, z)
        fixed = lapack.stop_gradient(image)
        space: Any = backends.namespace(backends.backend_of(z))
        # columns of one length, so that R is as well conditioned as their directions
        scale = norms(fixed)
        basis, triangle = lapack.qr(fixed / space.where(scale == 0, space.ones_like(scale), scale))
        basis, triangle = lapack.stop_gradient(basis), lapack.stop_gradient(triangle)
        # the i-th column is the direction of the whole basis that is not in the basis without the i-th vector
        unit = backends.eye(z, count, z.dtype)
        away = lapack.inverse(adjoint(triangle) + _tiny(space, triangle) * unit)
        away = away / norms(away)
        image_of_basis = applied(A, basis)
        seen = inner(basis, image_of_basis).sum()
        lost = basis @ away  # (n, count): what each basis has not
        left_out = inner(lost, image_of_basis @ away)
        coordinates = adjoint(basis) @ z
        inside = coordinates - away * inner(away, coordinates)
        rest = z - basis @ inside  # each vector beside its own basis
        image_of_rest = image - image_of_basis @ inside
        sizes = space.sum(space.abs(rest) ** 2, axis=0)
        factor = (n - count + 1) / space.where(sizes == 0, space.ones_like(sizes), sizes)
        found = seen - left_out + factor * inner(rest, image_of_rest)
        return found.sum() / count, Estimate(spread(found), 2 * count)


def _tiny(space: Any, triangle: Any) -> Any:
    """What makes a triangle invertible where A has a lower rank than there are vectors."""
    size = space.amax(space.abs(triangle))
    return space.finfo(triangle.dtype).eps * (size + (size == 0))
