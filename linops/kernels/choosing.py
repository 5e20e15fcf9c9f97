"""Which of several ways to compute the same is fastest here: measured at a first use, and kept.

A `Choices` knows no framework: it is given the ways as functions, something that times them, and something that says
whether two results agree. What it finds is kept by *target* (a device and the versions of what runs there) and by
*case* (what is computed, with sizes in classes), in this process and in a file, ``kernels.json`` beside the user's
machine file (`linops.plan.machine_file`); where that is set to none, no file is read or written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from linops.plan.machine_file import machine_file
from linops.replacing import replacing

FORMAT, VERSION = "linops.kernels", 2
#: by so much must a way be measured to be faster than the plain one: below, the next measurement might say otherwise
GAIN = 1.2

Ways = Mapping[str, Callable[[], Any]]


def choices_file() -> Path | None:
    """Where choices are kept.

    Returns:
        The path; None where there is no machine file either: the user has no home, or wants none.
    """
    try:
        path = machine_file()
    except RuntimeError:
        return None
    return None if path is None else path.with_name("kernels.json")


class Choices:
    """What was measured to be fastest on a target.

    Attributes:
        known: By case, the name of the way that was chosen.
        why: By case that was measured in this process, what each way took in seconds, or why it does not run.

    Args:
        target: What choices are valid for: the device, and the versions of what runs there.
        file: Where they are kept beyond this process; None keeps them in it alone.

    Example:
        >>> choices = Choices("a device")
        >>> ways = {"plain": lambda: 4, "kernel": lambda: 4}
        >>> choices.choose("2 + 2", ways, lambda ways: [{4: 2e-6}[way()] for way in ways], lambda a, b: a == b)
        'plain'
        >>> choices.known
        {'2 + 2': 'plain'}
    """

    def __init__(self, target: str, file: Path | None = None) -> None:
        self.target = target
        self.file = file
        self.known: dict[str, str] = _kept(file).get(target, {})
        self.why: dict[str, dict[str, float | str]] = {}

    def choose(
        self,
        case: str,
        ways: Ways,
        seconds: Callable[[Sequence[Callable[[], Any]]], Sequence[float]],
        agree: Callable[[Any, Any], bool],
    ) -> str:
        """The way to take, by measurement where the case is new.

        Args:
            case: What is computed, with sizes in classes.
            ways: Functions of no arguments by name, the plain one first: it is taken unless another is `GAIN` times as
                fast. One that raises or whose result does not agree with the plain one's is never taken.
            seconds: Times functions, best in turns, so that what else the machine does slows them all alike.
            agree: Whether a result agrees with the plain one, the second.

        Returns:
            The name of a way.
        """
        if self.known.get(case) in ways:
            return self.known[case]
        plain, *others = ways
        expected = ways[plain]()
        able, why = [plain], {}
        for name in others:
            try:
                if agree(ways[name](), expected):
                    able.append(name)
                else:
                    why[name] = "its result is another"
            except Exception as error:
                why[name] = f"{type(error).__name__}: {error}"
        times = dict(zip(able, seconds([ways[name] for name in able]))) if able[1:] else {}
        self.why[case] = {**times, **why}
        self.known[case] = min(able, key=lambda name: times.get(name, 0.0) * (1 if name == plain else GAIN))
        self._keep(case)
        return self.known[case]

    def _keep(self, case: str) -> None:
        """Add a choice to the file, beside what other processes have put there."""
        if self.file is None:
            return
        everything = _kept(self.file)
        everything.setdefault(self.target, {})[case] = self.known[case]
        document = {"format": FORMAT, "version": VERSION, "targets": everything}
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.file) as file:
                file.write((json.dumps(document, indent=1) + "\n").encode())
        except OSError:  # a folder that cannot be written: the next process measures again
            self.file = None


def _kept(file: Path | None) -> dict[str, dict[str, str]]:
    """What a file of choices says; nothing where it is none."""
    try:
        document = json.loads(file.read_text()) if file else {}
        if (document["format"], document["version"]) != (FORMAT, VERSION):
            return {}
        return {
            str(target): {str(case): str(way) for case, way in cases.items()}
            for target, cases in document["targets"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def size_class(size: int) -> int:
    """The power of two from a size down: within a factor of two the same way is fastest.

    Args:
        size: A number of vectors.

    Returns:
        The power of two; 0 for 0.

    Example:
        >>> size_class(1000), size_class(1024)
        (512, 1024)
    """
    return 1 << size.bit_length() >> 1
