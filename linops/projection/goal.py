"""`Goal`: what a projection is to come near to, and in which norm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.declaration import remembered
from linops.linalg.inputs import fits
from linops.linalg.spectra import real_part
from linops.operator import LinearOperator
from linops.operators.dense import Dense
from linops.projection import panels


@dataclass(frozen=True)
class Goal:
    """Minimise ‖A^½ (W − Ŵ) C^½‖_F over the members Ŵ of a structure.

    Attributes:
        source: W, an operator (m, n).
        output_metric: A: None for the identity, a vector (m,) for a diagonal, or a matrix (m, m).
        second_moment: C, likewise of n.
        entries: (m, n) weights of squared errors entry by entry, beside metrics that are diagonal; None where all are
            one. For iterations on leaves of a net: closed forms do not heed them.
    """

    source: LinearOperator
    output_metric: Any = None
    second_moment: Any = None
    entries: Any = None

    @remembered
    def matrix(self) -> Any:
        """W as an array (m, n)."""
        if isinstance(self.source, Dense):
            return self.source.matrix
        if not fits(self.source):
            m, n = self.source.shape
            raise ValueError(
                f"project({self.source._short()}): its matrix has {m * n:,} entries and is not written out unasked; "
                "low_rank takes a few products, and up to 65,536 × 65,536 what is found from panels of columns are "
                "contractions of two leaves or more, diagonals, bands, Toeplitz, circulant and blocks; or pass "
                "A.to_dense()"
            )
        return backends.asarray(self.source.to_dense(), self.backend)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.source.shape

    @property
    def is_large(self) -> bool:
        """Whether W is an operator that is not written out unasked."""
        return not isinstance(self.source, Dense) and not fits(self.source)

    @property
    def backend(self) -> str:
        """Of W."""
        return self.source.backend or "numpy"

    @property
    def space(self) -> Any:
        """The array namespace of W."""
        return backends.namespace(self.backend)

    @property
    def like(self) -> Any:
        """An array of W's backend, dtype and device."""
        return backends.zeros(self.source._like, (1, 1), self.source.dtype)

    @property
    def is_plain(self) -> bool:
        """Whether the norm is Frobenius'."""
        return self.output_metric is None and self.second_moment is None and self.entries is None

    @property
    def has_full(self) -> bool:
        """Whether one of the metrics is no diagonal."""
        return any(map(is_full, self._metrics))

    @property
    def has_two_full(self) -> bool:
        """Whether both are no diagonals."""
        return all(map(is_full, self._metrics))

    @property
    def T(self) -> Goal:
        """The goal of the transpose."""
        A, C = (metric.T if is_full(metric) else metric for metric in self._metrics)
        return Goal(self.source.T, C, A, None if self.entries is None else self.entries.T)

    def plain(self) -> Goal:
        """The same W in Frobenius' norm."""
        return Goal(self.source)

    def of(self, matrix: Any) -> Goal:
        """Another matrix of the same shape, in the same norm."""
        return replace(self, source=Dense(matrix))

    def scaled(self, number: Any) -> Goal:
        """A multiple of W."""
        if isinstance(self.source, Dense):
            return self.of(self.matrix * number)
        return replace(self, source=self.source * number)

    def times(self, exponent: int) -> Goal:
        """W times a power of two, in two steps, which are numbers of its dtype."""
        half = exponent // 2
        return self.scaled(2.0**half).scaled(2.0 ** (exponent - half))

    def constant(self) -> Goal:
        """The same without derivatives, for what iterates."""
        if self.is_large:
            leaves = [lapack.stop_gradient(leaf) for _, leaf in self.source.named_leaves()]
            source = self.source.with_leaves(leaves)
        else:
            source = Dense(lapack.stop_gradient(self.matrix))
        return Goal(
            source,
            *[None if metric is None else lapack.stop_gradient(metric) for metric in (*self._metrics, self.entries)],
        )

    def on_numpy(self) -> Goal:
        """The same in NumPy's arrays, for what iterates on a CPU."""
        arrays = [None if one is None else backends.to_numpy(one) for one in (*self._metrics, self.entries)]
        return Goal(Dense(backends.to_numpy(self.matrix)), *arrays)

    @property
    def _metrics(self) -> tuple[Any, Any]:
        return self.output_metric, self.second_moment

    def weighted(self, E: Any) -> Any:
        """A E C of a matrix (m, n), with weights of entries."""
        A, C = self._metrics
        if self.entries is not None:
            E = E * self.entries
        if C is not None:
            E = E * C if len(C.shape) == 1 else E @ C
        if A is not None:
            E = A[:, None] * E if len(A.shape) == 1 else A @ E
        return E

    def square(self, E: Any) -> Any:
        """‖A^½ E C^½‖², a 0-d array: what rounding makes negative is zero."""
        found = self.space.sum(real_part(backends.conj(E) * self.weighted(E)))
        return self.space.where(found > 0, found, 0 * found)

    def error(self, approximation: Any) -> float:
        """‖A^½ (W − Ŵ) C^½‖ of an array; of an operator from panels."""
        if isinstance(approximation, LinearOperator):
            return sqrt(panels.square(self, self.source - approximation))
        return sqrt(float(self.square(self.matrix - approximation)))

    @remembered
    def norm(self) -> float:
        """‖A^½ W C^½‖."""
        return sqrt(panels.square(self, self.source) if self.is_large else float(self.square(self.matrix)))


def is_full(metric: Any) -> bool:
    """Whether a metric is a matrix."""
    return metric is not None and len(metric.shape) == 2


def root(metric: Any) -> tuple[Any, Any]:
    """(S, S⁺) with S Sᴴ = metric, from its eigenvectors: nothing that is singular is inverted.

    In S⁺ eigenvalues below 1e-12 times their mean, or the dtype's rounding times the largest, count as zero.

    Args:
        metric: A positive semidefinite matrix (…, n, n), stacks too.

    Returns:
        Two arrays (…, n, n).
    """
    space: Any = backends.namespace(backends.backend_of(metric))
    w, V = lapack.eigh(metric)
    n = metric.shape[-1]
    eps = float(space.finfo(w.dtype).eps)
    largest = w[..., -1:]
    floor = space.maximum(1e-12 * space.mean(w, axis=-1, keepdims=True), n * eps * largest)
    kept = (w > floor) & (w > 0)
    safe = space.where(kept, w, space.ones_like(w))
    some = w > 0
    s = space.where(some, space.sqrt(space.where(some, w, space.ones_like(w))), space.zeros_like(w))
    inverse = space.where(kept, 1 / space.sqrt(safe), space.zeros_like(w))
    return V * s[..., None, :], inverse[..., :, None] * adjoint(V)


def adjoint(x: Any) -> Any:
    """The conjugate transpose of a matrix, stacks too."""
    axes = (*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2)
    return backends.conj(backends.permute(x, axes))
