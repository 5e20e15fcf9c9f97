"""MNIST-1D: ten one-dimensional digits, each padded, dilated, scaled, translated, made noisy and sheared.

The recipe, its templates and its constants are those of Greydanus and Kobak, "Scaling Down Deep Learning with MNIST-1D"
(ICML 2024; arXiv:2011.14439; https://github.com/greydanus/mnist1d). The generator is ours: it draws all samples at
once, so that 40,000 take a fraction of a second, and its random numbers are its own.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

#: the heights of the ten digits at twelve points
TEMPLATES: np.ndarray = np.array(
    [
        [5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5],
        [5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5],
        [5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5],
        [5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5],
        [5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5],
        [5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5],
        [5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5],
        [5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5],
    ]
)

PADDING = (36, 60)
SCALE = 0.4
MAX_TRANSLATION = 48
CORRELATED_NOISE = 0.25
CORRELATION_LENGTH = 2
IID_NOISE = 0.02
SHEAR = 0.75
LENGTH = 40


def generate(samples: int = 40_000, seed: int = 0, shuffle_seq: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """MNIST-1D signals and their labels, the same for the same seed on every machine.

    Args:
        samples: How many; the ten classes are equally likely to within one sample.
        seed: The seed of all randomness.
        shuffle_seq: Whether to permute the 40 positions, in one and the same way for every sample, so that neighbours
            tell nothing.

    Returns:
        (samples, 40) float32 signals of mean 0 and standard deviation 1 over all, and (samples,) int64 labels, in
        random order.

    Raises:
        ValueError: If `samples` is less than 1.

    Example:
        >>> x, y = generate(100)
        >>> x.shape, sorted(set(y.tolist()))
        ((100, 40), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    if samples < 1:
        raise ValueError(f"mnist1d: samples must be at least 1, got {samples}")
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(samples) % len(TEMPLATES))
    signals, drawn = _dilated(labels, random)
    signals *= 1 + SCALE * random.uniform(-0.5, 0.5, (samples, 1))
    shift = random.integers(MAX_TRANSLATION, size=(samples, 1))
    position = (np.arange(signals.shape[1]) - shift) % signals.shape[1]
    signals, drawn = np.take_along_axis(signals, position, 1), np.take_along_axis(drawn, position, 1)
    noise = gaussian_filter1d(CORRELATED_NOISE * random.standard_normal(signals.shape), CORRELATION_LENGTH, axis=1)
    signals = np.where(drawn, signals, noise) + IID_NOISE * random.standard_normal(signals.shape)
    signals -= SHEAR * random.uniform(-0.5, 0.5, (samples, 1)) * np.linspace(-0.5, 0.5, signals.shape[1])
    signals = _resampled(signals, np.full(samples, signals.shape[1]), LENGTH)
    if shuffle_seq:
        signals = signals[:, random.permutation(LENGTH)]
    return ((signals - signals.mean()) / signals.std()).astype(np.float32), labels


def _dilated(labels: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The templates, with random numbers of zeros, stretched to one length; where the template, not padding, lies."""
    points = TEMPLATES.shape[1]
    templates = (TEMPLATES - TEMPLATES.mean(1, keepdims=True)) / TEMPLATES.std(1, keepdims=True)
    templates = (templates - templates[:, :1]) / 6  # every signal starts and ends at zero
    longest = points + PADDING[1]
    padded = np.zeros((len(labels), longest))
    padded[:, :points] = templates[labels]
    lengths = points + random.integers(PADDING[0], PADDING[1] + 1, len(labels))
    step = (lengths - 1) / (longest - 1)
    return _resampled(padded, lengths, longest), np.arange(longest) * step[:, None] < points


def _resampled(signals: np.ndarray, lengths: np.ndarray, points: int) -> np.ndarray:
    """Linear interpolation of the first `lengths` values of each signal at equally many points."""
    where = np.linspace(0, 1, points) * (lengths[:, None] - 1)
    left = np.minimum(where.astype(int), lengths[:, None] - 2)
    low, high = np.take_along_axis(signals, left, 1), np.take_along_axis(signals, left + 1, 1)
    return low + (where - left) * (high - low)
