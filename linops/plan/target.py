"""Where a product runs: a backend on a kind of device, with the numbers of the machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache

from linops.plan.machine import Machine
from linops.plan.machine_file import VARIABLE, own
from linops.plan.machines import DATASHEETS, MEASURED
from linops.plan.processors import described, matching, processors


@dataclass(frozen=True, eq=False)  # plans are kept by it: it is hashed at every first product
class Target:
    """Where a product runs, or is imagined to run.

    Attributes:
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.
        device: The kind of device: ``"cpu"``, ``"cuda"``, ``"tpu"``, …
        machine: What steps take there.
        name: What the numbers are of, in words.
        source: Where they are from.

    Example:
        >>> import linops as lo
        >>> lo.plan.Target.named("h100").machine.rate(2)
        989000000000000.0
    """

    backend: str
    device: str
    machine: Machine
    name: str
    source: str = ""

    @staticmethod
    def named(name: str) -> Target:
        """A target by its name.

        Args:
            name: An accelerator (``"a100"``, ``"h100"``, ``"h200"``, ``"b200"``, ``"tpu-v5p"``), or a backend and a
                kind of device of which numbers are known, such as ``"numpy/cpu"``.

        Returns:
            The target.

        Raises:
            ValueError: If there are no numbers of that name; the message lists those that there are.
            TypeError: If it is no text.
        """
        if not isinstance(name, str):
            raise TypeError(f"target {name!r}: expected a name, such as 'h100', or a lo.plan.Target")
        if name in DATASHEETS:
            backend, device = ("jax", "tpu") if name.startswith("tpu") else ("torch", "cuda")
            return Target(backend, device, *DATASHEETS[name])
        backend, _, device = name.partition("/")
        if (found := _targets().get((backend, device))) is not None:
            return found
        known = [*DATASHEETS, *("/".join(key) for key in _targets())]
        raise ValueError(f"target {name!r}: expected one of {', '.join(known)}, or a lo.plan.Target")


def target_of(backend: str | None, device: str = "cpu") -> Target | None:
    """The target that a backend is on a kind of device.

    Args:
        backend: Its name; ``"spec"`` or None: operators without arrays are planned as if torch ran them.
        device: The kind of device.

    Returns:
        The target, with the numbers of the user's machine file where it has some; None where there are none.
    """
    return _targets().get((backend if backend in MEASURED else "torch", device))


def nearest(backend: str | None, device: str) -> Target:
    """The target that a backend is on a kind of device; on a CPU, where there are no numbers of the device.

    Args:
        backend: Its name, ``"spec"`` or None.
        device: The kind of device.

    Returns:
        The target, by which times can be compared, if not predicted.
    """
    return target_of(backend, device) or _targets()[backend if backend in MEASURED else "torch", "cpu"]


@lru_cache(maxsize=1)
def _targets() -> dict[tuple[str, str], Target]:
    """Of all that numbers are known of, but for datasheets."""
    name, machines = own()
    rows = processors()
    row = rows[0] if os.environ.get(VARIABLE) == "" else matching(rows, *described())
    known, source = f"{row.name}, 1 thread", f"python -m benchmarks calibrate: {row.measured}"
    found = {
        (backend, "cpu"): Target(backend, "cpu", machine, known, source) for backend, machine in row.machines.items()
    }
    return found | {key: Target(*key, machine, name, "the user's machine file") for key, machine in machines.items()}


def reload() -> None:
    """Read the user's machine file anew, where plans are made next."""
    _targets.cache_clear()
