"""CIFAR-10 and CIFAR-100 from the user's archive, python or binary (https://www.cs.toronto.edu/~kriz/cifar.html)."""

from __future__ import annotations

import pickle
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (3, 32, 32)

#: all that the archives' pickles need: an archive that names anything else is refused
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _Unpickler(pickle.Unpickler):
    """Reads arrays, numbers, strings, lists and dicts; runs nothing."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no CIFAR archive does")
        return super().find_class(module, name)


def read(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images and labels of an archive such as ``cifar-10-python.tar.gz`` or ``cifar-10-binary.tar.gz``.

    Of CIFAR-100, the fine labels.

    Args:
        path: The archive.

    Returns:
        x_train, y_train, x_test, y_test: (n, 3072) float32 from -1 to 1, channels first, and (n,) int64.

    Raises:
        ValueError: If it is no such archive.
    """
    train, test = [], []
    try:
        with tarfile.open(path) as archive:
            for member in sorted(archive.getmembers(), key=lambda member: member.name):
                name = Path(member.name).name
                stem, binary = name.removesuffix(".bin"), name.endswith(".bin")
                file = archive.extractfile(member)
                if file is None or not (stem in ("train", "test", "test_batch") or stem.startswith("data_batch")):
                    continue
                batch = _records(file.read(), stem) if binary else _Unpickler(file, encoding="bytes").load()
                (test if name.startswith("test") else train).append(_arrays(batch))
    except tarfile.ReadError:
        raise ValueError(f"data {str(path)!r} is no archive") from None
    except (tarfile.TarError, zlib.error, pickle.UnpicklingError, LookupError, OSError, EOFError, *_NO_BATCH) as error:
        raise ValueError(f"data {str(path)!r} is no archive of CIFAR: {error}") from None
    if not train or not test:
        raise ValueError(f"data {str(path)!r} is no archive of CIFAR: it holds no training or no test batch")
    return (*map(np.concatenate, zip(*train)), *map(np.concatenate, zip(*test)))  # type: ignore[return-value]


#: what reading a pickle that is none of a batch may end in
_NO_BATCH = (ValueError, TypeError, AttributeError, ArithmeticError)


def _records(content: bytes, stem: str) -> dict:
    """The records of a binary batch: a label, in CIFAR-100's `train` and `test` after a coarse one, and the pixels."""
    labels = 2 if stem in ("train", "test") else 1
    size = labels + int(np.prod(SHAPE))
    if not content or len(content) % size:
        raise ValueError(f"{stem}.bin has {len(content)} bytes, not a multiple of {size}")
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    return {b"labels": records[:, labels - 1], b"data": records[:, labels:]}


def _arrays(batch: dict) -> tuple[np.ndarray, np.ndarray]:
    labels = np.asarray(batch[b"fine_labels" if b"fine_labels" in batch else b"labels"], np.int64)
    images = np.asarray(batch[b"data"], np.float32) / 127.5 - 1
    if images.shape != (*labels.shape, np.prod(SHAPE)):
        raise ValueError(f"images of shape {images.shape} for labels of shape {labels.shape}")
    return images, labels
