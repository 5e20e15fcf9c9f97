"""`Moments`: the second moment of a layer's inputs, batch by batch, without keeping them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.checks import require_size


class Moments:
    """The mean and second moment of vectors, summed over batches in float64.

    The sums are exact to rounding whatever the number of batches, and take n² numbers, where the batches are (of JAX in
    NumPy). A second moment is never inverted; fewer samples than features are a warning where it
    is used.

    Attributes:
        size: n, the number of features.
        count: How many vectors were added.
        originals: The moments of what the vectors were before other layers changed them, if these were added too.

    Args:
        size: n.

    Example:
        >>> import linops as lo, numpy as np
        >>> moments = lo.Moments(2)
        >>> for batch in np.array([[[1., 0.], [3., 0.]], [[1., 2.], [1., 2.]]]):
        ...     moments.add(batch)
        >>> moments.count, moments.mean, moments.second_moment
        (4, array([1.5, 1. ]), array([[3., 1.],
               [1., 2.]]))
    """

    def __init__(self, size: int) -> None:
        require_size("Moments", "size", size)
        self.size, self.count = size, 0
        self.originals: Moments | None = None
        self._origin: Any = None  # sums are of differences from it: of large numbers that hardly vary none is lost
        self._sum: Any = 0.0
        self._squares: Any = 0.0
        self._crossed: Any = 0.0

    def __repr__(self) -> str:
        beside = " and originals" if self.originals is not None else ""
        return f"Moments({self.size}) of {self.count:,} vectors{beside}"

    def add(self, inputs: Any, originals: Any = None) -> None:
        """Add vectors.

        Args:
            inputs: (…, n) array of any framework: the last axis is that of the features.
            originals: (…, n) array: what each of them is in the original model, where `inputs` are those of one whose
                other layers are compressed already. Given with all inputs or with none.

        Raises:
            ValueError: If the last axis has another size, a number is not finite, or originals are of another number.
        """
        if self.count and (originals is None) != (self.originals is None):
            raise ValueError("Moments.add: originals must be given with all inputs, or with none")
        rows = self._rows(inputs)
        if originals is not None:
            before = self._rows(originals)
            if before.shape != rows.shape:
                raise ValueError(f"Moments.add: {before.shape[0]} originals for {rows.shape[0]} inputs")
            self.originals = self.originals or Moments(self.size)
            before, rows = self.originals._take(before), self._take(rows)
            self._crossed = self._crossed + before.T @ backends.conj(rows)
        else:
            self._take(rows)

    def _take(self, rows: Any) -> Any:
        """Add rows, and return what they differ from the origin by: the mean of the first batch."""
        space: Any = backends.namespace(backends.backend_of(rows))
        if self._origin is None and rows.shape[0]:
            self._origin = rows[0] + space.mean(rows - rows[0], axis=0)
        if self._origin is not None:
            rows = rows - self._origin
        self.count += rows.shape[0]
        self._sum = self._sum + space.sum(rows, axis=0)
        self._squares = self._squares + rows.T @ backends.conj(rows)
        return rows

    def _rows(self, inputs: Any) -> Any:
        """Vectors as finite rows in float64."""
        if not backends.is_array(inputs):
            inputs = np.asarray(inputs)
        shape = tuple(inputs.shape)
        if not shape or shape[-1] != self.size:
            raise ValueError(f"inputs of shape {shape}: expected (…, {self.size}), a vector of features in each row")
        if backends.backend_of(inputs) == "jax":  # which has float64 only by a flag
            inputs = backends.to_numpy(inputs)
        backend = str(backends.backend_of(inputs))
        space: Any = backends.namespace(backend)
        rows = inputs.reshape(-1, self.size)
        dtype = backends.canonical_dtype("complex128" if backends.is_complex(rows.dtype) else "float64", backend)
        rows = lapack.stop_gradient(space.astype(rows, dtype))
        if rows.shape[0] and not bool(space.all(space.isfinite(rows))):
            raise ValueError(f"inputs of shape {shape}: the activations hold NaN or infinity")
        return rows

    @property
    def mean(self) -> Any:
        """(n,) the mean μ."""
        self._require_some()
        return self._origin + self._sum / self.count

    @property
    def second_moment(self) -> Any:
        """(n, n) the mean of x xᴴ."""
        self._require_some()
        return self.covariance + _outer(self.mean, self.mean)

    @property
    def covariance(self) -> Any:
        """(n, n) the second moment about the mean: what is to be matched where a bias takes the mean."""
        self._require_some()
        drift = self._sum / self.count
        return self._squares / self.count - _outer(drift, drift)

    @property
    def cross(self) -> Any:
        """(n, n) the mean of x x̃ᴴ of originals x and inputs x̃: `project`'s `cross`."""
        return self.cross_covariance + _outer(self._require_originals().mean, self.mean)

    @property
    def cross_covariance(self) -> Any:
        """(n, n) the same about the means."""
        before = self._require_originals()
        return self._crossed / self.count - _outer(before._sum / self.count, self._sum / self.count)

    def _require_originals(self) -> Moments:
        self._require_some()
        if self.originals is None:
            raise ValueError("Moments.cross: no originals were added; moments.add(inputs, originals) takes them")
        return self.originals

    def _require_some(self) -> None:
        if not self.count:
            raise ValueError(f"inputs: no vector of {self.size} features was seen; a calibration set must not be empty")


def _outer(x: Any, y: Any) -> Any:
    return x[:, None] * backends.conj(y)[None, :]


def moments_of(inputs: Any, size: int) -> Moments:
    """The moments of an array or of batches.

    Args:
        inputs: An array (…, n), an iterable of them, or moments, which are returned.
        size: n.

    Returns:
        The moments.

    Raises:
        ValueError: If there are none, or shapes or numbers do not fit.
    """
    if isinstance(inputs, Moments):
        moments = inputs
    else:
        moments, whole = Moments(size), backends.is_array(inputs) or not isinstance(inputs, Iterable)
        for batch in (inputs,) if whole else inputs:
            moments.add(batch)
    moments._require_some()
    if moments.count < size:
        warnings.warn(
            f"project: the second moment of {moments.count} inputs of {size} features has rank {moments.count} at "
            "most; what no input reaches is free. Take more samples",
            stacklevel=3,
        )
    return moments
