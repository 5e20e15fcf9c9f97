"""Data sets of vectors for classification: generated, scikit-learn's, or the user's own. Nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from linops.lab import cifar, mnist1d, npz

#: share of the samples that is trained on, where a source does not split them itself
TRAIN_SHARE = 0.8
FIELDS = ("x_train", "y_train", "x_test", "y_test")
#: so many classes may have fewer samples than one each
FEW_CLASSES = 10_000


@dataclass(frozen=True)
class Dataset:
    """Inputs and labels for training and for testing.

    Attributes:
        name: What it is.
        x_train: (samples, features) float32.
        y_train: (samples,) int64, from 0.
        x_test: (samples, features) float32.
        y_test: (samples,) int64.
        image: (channels, height, width) if an input is an image, flattened.

    Raises:
        ValueError: If shapes do not fit together; the message names them.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    image: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            x, y = getattr(self, f"x_{part}"), getattr(self, f"y_{part}")
            if x.ndim != 2 or y.shape != x.shape[:1] or not len(x):
                raise ValueError(
                    f"{self.name}: x_{part} of shape {x.shape} and y_{part} of shape {y.shape}; "
                    "expected (samples, features) and (samples,)"
                )
        if self.x_train.shape[1] != self.x_test.shape[1]:
            raise ValueError(
                f"{self.name}: {self.x_train.shape[1]} features in x_train, {self.x_test.shape[1]} in x_test"
            )
        if self.image is not None and prod(self.image) != self.x_train.shape[1]:
            raise ValueError(f"{self.name}: {self.x_train.shape[1]} features are no images of {self.image}")
        if min(self.y_train.min(), self.y_test.min()) < 0:
            raise ValueError(f"{self.name}: labels count from 0, got {min(self.y_train.min(), self.y_test.min())}")
        samples = len(self.y_train) + len(self.y_test)
        if self.num_classes > max(samples, FEW_CLASSES):
            raise ValueError(
                f"{self.name}: a label of {self.num_classes - 1:,} in {samples:,} samples; "
                "labels count classes from 0 without gaps"
            )

    @property
    def digest(self) -> str:
        """A short hash of all numbers: what tells two files of one name apart."""
        return digest(self.x_train, self.y_train, self.x_test, self.y_test)

    @property
    def num_features(self) -> int:
        """Numbers in an input."""
        return self.x_train.shape[1]

    @property
    def num_classes(self) -> int:
        """One more than the largest label."""
        return int(max(self.y_train.max(), self.y_test.max())) + 1


def digest(*arrays: np.ndarray) -> str:
    """A short hash of arrays.

    Args:
        *arrays: The arrays.

    Returns:
        Sixteen digits.

    Example:
        >>> digest(np.zeros(2)) == digest(np.zeros(2)), digest(np.zeros(2)) == digest(np.zeros(3))
        (True, False)
    """
    made = blake2b(digest_size=8)
    for array in arrays:
        made.update(np.ascontiguousarray(array).data)
    return made.hexdigest()


def load(source: str, seed: int = 0) -> Dataset:
    """A data set by name or file.

    Args:
        source: ``"mnist1d"`` (generated: 32,000 samples to train on, 8,000 to test), ``"digits"`` (scikit-learn's
            scanned 8×8 digits), the path of a ``.npz`` file with arrays `x_train, y_train, x_test, y_test` (inputs of
            shape (samples, channels, height, width) are images), or that of an archive of
            CIFAR-10 or CIFAR-100, python or binary (``.tar.gz``).
        seed: Of the generator, or of the split.

    Returns:
        The data set.

    Raises:
        ValueError: If there is no such source, or arrays are missing or do not fit.

    Example:
        >>> data = load("digits")
        >>> data.num_features, data.num_classes
        (64, 10)
    """
    if source == "mnist1d":
        return _split(source, *mnist1d.generate(seed=seed))
    if source == "digits":
        return _digits(seed)
    path = Path(source)
    if path.suffix == ".npz":
        return _from_npz(path)
    if path.name.endswith((".tar.gz", ".tgz", ".tar")):
        if not path.is_file():
            raise ValueError(f"data {source!r}: no such file")
        return Dataset(path.name, *cifar.read(path), image=cifar.SHAPE)
    raise ValueError(
        f"data {source!r}: expected 'mnist1d', 'digits', "
        f"the path of a .npz file with arrays {', '.join(FIELDS)}, or of a CIFAR archive"
    )


def _split(name: str, x: np.ndarray, y: np.ndarray, image: tuple[int, int, int] | None = None) -> Dataset:
    cut = int(TRAIN_SHARE * len(x))
    return Dataset(name, x[:cut], y[:cut], x[cut:], y[cut:], image)


def _digits(seed: int) -> Dataset:
    from sklearn.datasets import load_digits

    images: Any = load_digits()
    order = np.random.default_rng(seed).permutation(len(images["target"]))
    x = (images["data"][order] / 8 - 1).astype(np.float32)  # grey levels 0 … 16 → -1 … 1
    return _split("digits", x, images["target"][order].astype(np.int64), (1, 8, 8))


def _from_npz(path: Path) -> Dataset:
    if not path.is_file():
        raise ValueError(f"data {str(path)!r}: no such file")
    try:
        x_train, y_train, x_test, y_test = npz.read(path, FIELDS)
        inputs = [_inputs(name, x) for name, x in (("x_train", x_train), ("x_test", x_test))]
        labels = [_labels(name, y) for name, y in (("y_train", y_train), ("y_test", y_test))]
    except ValueError as error:
        raise ValueError(f"data {str(path)!r}: {error}") from None
    image: Any = tuple(map(int, x_train.shape[1:])) if x_train.ndim == 4 else None
    return Dataset(path.name, inputs[0], labels[0], inputs[1], labels[1], image)


def _inputs(name: str, x: np.ndarray) -> np.ndarray:
    """Inputs as (samples, features) float32."""
    if x.dtype.kind not in "fiub" or x.ndim < 2 or not x.size:
        raise ValueError(f"{name} is {x.dtype} of shape {x.shape}; expected real numbers (samples, features, …)")
    with np.errstate(over="ignore", invalid="ignore"):
        flat = x.reshape(len(x), -1).astype(np.float32)
    if not np.isfinite(flat).all():
        raise ValueError(f"{name} holds numbers that are not finite in float32")
    return flat


def _labels(name: str, y: np.ndarray) -> np.ndarray:
    """Labels as int64."""
    if not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"{name} is {y.dtype}; expected integers")
    if y.size and int(y.max()) >= 2**63:
        raise ValueError(f"{name} holds a label of {int(y.max()):,}; labels count classes from 0")
    return y.astype(np.int64)
