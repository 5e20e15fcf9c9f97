"""Whether compiled kernels are used: what the user says, and what was measured of each class of products."""

from __future__ import annotations

import os
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import Final

from linops.kernels.choosing import Choices
from linops.tracing import assume_constant_result

MODES: Final = ("off", "auto", "compiled")
VARIABLE: Final = "LINOPS_KERNELS"


@dataclass
class _State:
    """What holds for the process.

    Attributes:
        library: The file of the compiled kernel that was loaded last.
        reasons: Why there is none, of each source that cannot be built or loaded.
        choices: What was measured here; None before the first product that asks.
        asked: Whether kernels may be wanted somewhere: until then products do not look further.
    """

    library: str = ""
    reasons: dict[str, str] = field(default_factory=dict)
    choices: Choices | None = None
    asked: bool = bool(os.environ.get(VARIABLE))


STATE: Final = _State()
#: what `use` says; empty where it says nothing
MODE: Final[ContextVar[str]] = ContextVar("mode", default="")


def _checked(mode: object, where: str) -> str:
    if mode not in MODES:
        raise ValueError(f"{where}: mode {mode!r}; expected one of {', '.join(map(repr, MODES))}")
    return str(mode)


@cache
def _environment() -> str:
    found = _checked(os.environ.get(VARIABLE) or "off", f"the environment variable {VARIABLE}")
    STATE.asked = STATE.asked or found != "off"
    return found


@assume_constant_result  # contexts cannot be traced
def mode() -> str:
    """What `use` says here, or else the environment.

    Returns:
        One of `MODES`.

    Raises:
        ValueError: If the environment says another.
    """
    return MODE.get() or _environment()


class use:
    """Say whether compiled kernels are used from now on; as a context manager, until it ends.

    The mode is that of this thread or task (a `contextvars` context); elsewhere, and until the first call, it is what
    the environment variable ``LINOPS_KERNELS`` says, or ``"off"``. A graph of `torch.compile` keeps the mode under
    which it was traced. A kernel is compiled at the first product that could use it (10 to 40 s, once for each
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
        self._before = MODE.get()
        MODE.set(_checked(mode, "lo.kernels.use"))
        STATE.asked = STATE.asked or mode != "off"

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        MODE.set(self._before)


@dataclass(frozen=True)
class Status:
    """What is known of compiled kernels in this process.

    Attributes:
        mode: What `use` said here, or else the environment.
        library: The file of the compiled kernel that was loaded last; empty while there is none.
        reason: Why there are none, if it was tried; else empty.
        chosen: Which way was measured to be faster, ``"plain"`` or ``"compiled"``, by class of products.
    """

    mode: str
    library: str
    reason: str
    chosen: dict[str, str]


def status() -> Status:
    """Whether compiled kernels are there and used, and if not, why.

    Returns:
        The status; it builds and measures nothing.

    Example:
        >>> import linops as lo
        >>> lo.kernels.status().mode
        'off'
    """
    chosen = {} if STATE.choices is None else dict(STATE.choices.known)
    reasons = "; ".join(dict.fromkeys(STATE.reasons.values()))
    return Status(mode(), STATE.library, reasons, chosen)
