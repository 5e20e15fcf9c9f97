"""Whether compiled kernels are used: what the user says, and what was measured of each class of products."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final

from linops.plan.machine_file import machine_file
from linops.replacing import replacing

MODES: Final = ("off", "auto", "compiled")
VARIABLE: Final = "LINOPS_KERNELS"
FORMAT: Final = "linops.kernels"
#: by so much must a kernel be faster than the plain products to be used under ``"auto"``
GAIN: Final = 1.2


@dataclass
class _State:
    """What holds for the process.

    Attributes:
        mode: One of `MODES`.
        library: The file of the compiled kernels, once they are built.
        reason: Why there are none; empty if that is not known.
        target: What ratios were measured on: CPU, framework and kernels; empty before the first product.
        ratios: How many times as fast as the plain products the kernel was, by class of products.
    """

    mode: str = "off"
    library: str = ""
    reason: str = ""
    target: str = ""
    ratios: dict[str, float] = field(default_factory=dict)


def _initial() -> _State:
    return _State(_checked(os.environ.get(VARIABLE) or "off", f"the environment variable {VARIABLE}"))


def _checked(mode: object, where: str) -> str:
    if mode not in MODES:
        raise ValueError(f"{where}: mode {mode!r}; expected one of {', '.join(map(repr, MODES))}")
    return str(mode)


STATE: Final = _initial()


class use:
    """Say whether compiled kernels are used from now on; as a context manager, until it ends.

    The mode is that of the process. Until the first call it is ``"off"``, or what the environment variable
    ``LINOPS_KERNELS`` says. A kernel is compiled at the first product that could use it (about 10 s, once for each
    machine and version of torch), by torch's extension machinery, which needs a C++ compiler and ninja. Without one
    products run as ever; `status` says why.

    Args:
        mode: ``"off"``: never. ``"auto"``: where, at the first product of its class, the kernel was measured to be at
            least 1.2 times as fast as the plain products; what was measured is kept in ``kernels.json`` beside the
            machine file. ``"compiled"``: wherever there is one.

    Raises:
        ValueError: If the mode is none of these.

    Example:
        >>> import linops as lo
        >>> with lo.kernels.use("off"):
        ...     lo.kernels.status().mode
        'off'
    """

    def __init__(self, mode: str) -> None:
        self._before = STATE.mode
        STATE.mode = _checked(mode, "lo.kernels.use")

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        STATE.mode = self._before


@dataclass(frozen=True)
class Status:
    """What is known of compiled kernels in this process.

    Attributes:
        mode: What `use` said.
        library: The file of the compiled kernels; empty while there are none.
        reason: Why there are none, if it was tried; else empty.
        ratios: How many times as fast as the plain products the kernel was when it was measured, by class of products;
            it is used from 1.2 on.
    """

    mode: str
    library: str
    reason: str
    ratios: dict[str, float]


def status() -> Status:
    """Whether compiled kernels are there and used, and if not, why.

    Returns:
        The status; it builds and measures nothing.

    Example:
        >>> import linops as lo
        >>> lo.kernels.status().mode
        'off'
    """
    return Status(STATE.mode, STATE.library, STATE.reason, dict(STATE.ratios))


def pays(target: str, key: str, measured: Callable[[], float]) -> bool:
    """Whether a kernel pays for a class of products on a target; measured where it is not known.

    Args:
        target: CPU, framework and kernels, in words.
        key: The class of products, in words.
        measured: How many times as fast as the plain products the kernel is.

    Returns:
        True if at least `GAIN` times as fast.
    """
    if target != STATE.target:
        STATE.target, STATE.ratios = target, _kept(target)
    ratio = STATE.ratios.get(key)
    if ratio is None:
        ratio = STATE.ratios[key] = round(measured(), 3)
        _keep()
    return ratio >= GAIN


def _file() -> Path | None:
    try:
        path = machine_file()
    except RuntimeError:  # a user without a home
        return None
    return None if path is None else path.with_name("kernels.json")


def _kept(target: str) -> dict[str, float]:
    """The ratios of a target that the user's file has; none where it cannot be read."""
    path = _file()
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        if path is not None:
            document = json.loads(path.read_text())
            if (document["format"], document["version"], document["target"]) == (FORMAT, 1, target):
                return {str(key): float(ratio) for key, ratio in document["ratios"].items()}
    return {}


def _keep() -> None:
    """Write the ratios, with those that another process has written; not where it cannot be done."""
    path = _file()
    if path is None:
        return
    ratios = _kept(STATE.target) | STATE.ratios
    text = json.dumps({"format": FORMAT, "version": 1, "target": STATE.target, "ratios": ratios}, indent=2)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(text.encode() + b"\n")
