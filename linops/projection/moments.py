"""`Moments`: the second moment of a layer's inputs, batch by batch, without keeping them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack


class Moments:
    """The mean and second moment of vectors, summed over batches in float64.

    The sums are exact to rounding whatever the number of batches, and take n² numbers. A second moment is never
    inverted; where it has not full rank, as with fewer samples than features, that is a warning.

    Args:
        size: n, the number of features.

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
        self.size, self.count = size, 0
        self._sum: Any = 0.0
        self._squares: Any = 0.0

    def add(self, inputs: Any) -> None:
        """Add vectors.

        Args:
            inputs: (…, n) array of any framework: the last axis is that of the features.

        Raises:
            ValueError: If the last axis has another size, or a number is not finite.
        """
        if not backends.is_array(inputs):
            inputs = np.asarray(inputs)
        shape = tuple(inputs.shape)
        if not shape or shape[-1] != self.size:
            raise ValueError(f"inputs of shape {shape}: expected (…, {self.size}), a vector of features in each row")
        backend = str(backends.backend_of(inputs))
        space: Any = backends.namespace(backend)
        rows = inputs.reshape(-1, self.size)
        dtype = backends.canonical_dtype("complex128" if backends.is_complex(rows.dtype) else "float64", backend)
        rows = lapack.stop_gradient(space.astype(rows, dtype))
        if rows.shape[0] and not bool(space.all(space.isfinite(rows))):
            raise ValueError(f"inputs of shape {shape}: the activations hold NaN or infinity")
        self.count += rows.shape[0]
        self._sum = self._sum + space.sum(rows, axis=0)
        self._squares = self._squares + rows.T @ backends.conj(rows)

    @property
    def mean(self) -> Any:
        """(n,) the mean μ."""
        self._require_some()
        return self._sum / self.count

    @property
    def second_moment(self) -> Any:
        """(n, n) the mean of x xᴴ."""
        self._require_some()
        return self._squares / self.count

    @property
    def covariance(self) -> Any:
        """(n, n) the second moment about the mean: what is to be matched where a bias takes the mean."""
        mean = self.mean
        return self.second_moment - mean[:, None] * backends.conj(mean)[None, :]

    def _require_some(self) -> None:
        if not self.count:
            raise ValueError(f"inputs: no vector of {self.size} features was seen; a calibration set must not be empty")


def moments_of(inputs: Any, size: int) -> Moments:
    """The moments of an array or of batches.

    Args:
        inputs: An array (…, n), or an iterable of them.
        size: n.

    Returns:
        The moments.

    Raises:
        ValueError: If there are none, or shapes or numbers do not fit.
    """
    moments = Moments(size)
    whole = backends.is_array(inputs) or not isinstance(inputs, Iterable)
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
