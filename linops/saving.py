"""`save` and `load`: operators in safetensors files, numbers and structure.

A file holds the leaves as tensors by their names in `LinearOperator.named_leaves`, and the structure as text in its
metadata (`linops.encoding`, `linops.writing`). So any reader of safetensors finds the numbers, and `load` gives the
operator. Nothing in a file is ever run: it is no pickle, and is read within bounds of memory and time,
whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from linops import backends
from linops.operator import LinearOperator
from linops.reading import Reader
from linops.safetensors import opened
from linops.writing import Contents


def save(path: str | Path, value: Any) -> None:
    """Write an operator, or operators and arrays by name, to a safetensors file.

    The file is written beside the old one of this name and put in its place when it is whole and on the disk, so a
    fault or a full disk leaves the old one. Leaves are written one after the other, each by way of one copy in host
    memory at most. A leaf that stands in several places is written once.

    Args:
        path: The file; ``.safetensors`` is the usual suffix. One that holds something else than operators of linops is
            not replaced.
        value: An operator of any backend, which may be symbolic; or a dict of names to operators and arrays.

    Raises:
        TypeError: If an operator holds a callable, as `Function` does, or a dtype that the format has not.
        ValueError: If two tensors would have one name, or a tensor has no numbers.
        FileExistsError: If the file is there and is none of linops.
        OSError: If it cannot be written.

    Cost: one pass over the numbers.

    Example:
        >>> import linops as lo, tempfile, os
        >>> A = lo.btt(64, 16).init(seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     lo.save(os.path.join(folder, "a.safetensors"), A)
        ...     B = lo.load(os.path.join(folder, "a.safetensors"))
        >>> B.structure == A.structure, bool((A.to_dense() == B.to_dense()).all())
        (True, True)
    """
    if isinstance(path, LinearOperator):
        raise TypeError("lo.save(path, operator): the path comes first")
    single = isinstance(value, LinearOperator)
    if not single and not isinstance(value, Mapping):
        raise TypeError(
            f"lo.save({str(path)!r}, …): expected an operator or a dict of them, got {type(value).__name__}"
        )
    contents = Contents()
    for name, item in [("", value)] if single else value.items():
        if not isinstance(name, str):
            raise TypeError(f"lo.save({str(path)!r}, …): names are texts, got {name!r:.60}")
        contents.add(name, item)
    contents.write(path, "operator" if single else "dict")


def load(path: str | Path, backend: str = "numpy", device: Any = None) -> Any:
    """The operator, or the operators and arrays by name, that a file holds.

    On NumPy and on torch's CPU numbers are mapped into memory: pages are read when they are first used, and copied when
    they are written to; the file stays as it is.

    Args:
        path: A file from `save` or ``linops compress``; it need not be trusted.
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.
        device: A device of the framework; None takes its default.

    Returns:
        What was saved, with its dtypes and tags: an operator, or a dict.

    Raises:
        ValueError: If it is no such file, is damaged, or of a newer version.
        TypeError: If it holds a model, or if the backend cannot hold a dtype, as JAX without x64 cannot hold float64.
        OSError: If it cannot be read.
    """
    backends.load(backend)
    file = opened(path)
    try:
        reader = Reader(file, backend, device)
        if reader.holds == "model":
            raise TypeError(
                f"{file.path} holds a model: build it, and call lo.nn.load(model, path), for Flax and Equinox "
                "lo.nn.flax.load and lo.nn.equinox.load"
            )
        found = dict(reader.items())
        if reader.holds == "operator" and set(found) != {""}:
            raise ValueError(f"it holds one operator and has {len(found)} things")
    except TypeError as error:
        if backend != "jax" or "jax_enable_x64" not in str(error):
            raise
        said = str(error).split(", or ask")[0]
        raise TypeError(f"{file.path}: {said}, or load on NumPy and use A.to(backend='jax', dtype=…)") from None
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{file.path}: {error!s:.500}") from None
    return found[""] if reader.holds == "operator" else found
