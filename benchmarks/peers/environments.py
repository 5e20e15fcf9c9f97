"""The peers, and the virtual environments in which they and linops are measured."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.plum import PLUM

ROOT = Path(__file__).parents[2]
#: where the environments are made, each some 1.6 GB, and kept
ENVIRONMENTS = ROOT / "benchmarks" / ".environments"
#: what linops itself needs, without the parts of it that the peers do not touch
LINOPS = ("numpy", "scipy", "array-api-compat", "opt_einsum", "torch", "ml_dtypes", "jax")


@dataclass(frozen=True)
class Peer:
    """A library to compare with.

    Attributes:
        requirements: What pip installs, the library itself first.
        backends: Where its arrays live.
        environment: The name of the virtual environment.
    """

    requirements: tuple[str, ...]
    backends: tuple[str, ...]
    environment: str = "common"

    @property
    def distribution(self) -> str:
        """The name under which it is installed."""
        return self.requirements[0].partition("==")[0]

    @property
    def places(self) -> set[tuple[str, str]]:
        """The environment with each of the backends: a process each."""
        return {(self.environment, backend) for backend in self.backends}


#: each is a module of this package
PEERS = {
    "cola": Peer(("cola-ml==0.0.7", "beartype==0.18.5"), ("torch", "jax"), "cola"),
    "linear_operator": Peer(("linear_operator==0.6.1",), ("torch",)),
    "pylops": Peer(("pylops==2.8.0",), ("numpy",)),
    "lineax": Peer(("lineax==0.1.1",), ("jax",)),
    "linox": Peer(("linox==0.0.3",), ("jax",)),
    "lazylinop": Peer(("lazylinop==1.24.28", "psutil", "pandas"), ("numpy", "torch")),  # imports more than it asks for
    "scipy": Peer(("scipy",), ("numpy",)),
    "tensorly": Peer(("tensorly==0.10.0", "packaging"), ("numpy", "torch", "jax")),
}


def python_of(environment: Path) -> Path:
    """The interpreter of a virtual environment.

    Args:
        environment: Its directory.

    Returns:
        The path.
    """
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def prepare(directory: Path, names: Iterable[str], say: Callable[[str], None] = print) -> dict[str, str]:
    """Make the environments of some peers, or what is missing of them.

    Args:
        directory: Where the environments are.
        names: Keys of `PEERS`.
        say: Called with what happens.

    Returns:
        Of each peer that could not be installed, the reason.
    """
    reasons: dict[str, str] = {}
    bases: dict[str, str] = {}
    for name in names:
        peer = PEERS[name]
        environment = directory / peer.environment
        if peer.environment not in bases:
            bases[peer.environment] = _base(environment, say)
        reason = bases[peer.environment] or _install(environment, peer.requirements, say)
        if reason:
            reasons[name] = f"cannot be installed: {reason}"
    return reasons


def _base(environment: Path, say: Callable[[str], None]) -> str:
    """Make an environment for linops, plum-dispatch apart where a peer brings its fork; the reason if that fails."""
    if not python_of(environment).exists():
        say(f"making {environment}")
        made = subprocess.run([sys.executable, "-m", "venv", str(environment)], capture_output=True, text=True)
        if made.returncode:
            return _last_line(made.stderr or made.stdout)
    if environment.name == "common":
        return _install(environment, (*LINOPS, "plum-dispatch"), say)
    return _install(environment, LINOPS, say) or _install(environment, ("plum-dispatch",), say, environment / PLUM)


def _install(
    environment: Path, requirements: tuple[str, ...], say: Callable[[str], None], target: Path | None = None
) -> str:
    """Install with pip what has not been installed yet; the reason if that fails."""
    done = environment / "installed.txt"
    line = " ".join([*requirements, *([f"--target={target.name}"] if target else [])])
    if done.exists() and line in done.read_text().splitlines():
        return ""
    say(f"installing {line} in {environment}")
    command = [
        str(python_of(environment)),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--constraint",
        str(ROOT / "constraints.txt"),
    ]
    command += ["--target", str(target)] if target else []
    run = subprocess.run([*command, *requirements], capture_output=True, text=True)
    if run.returncode:
        return _last_line(run.stderr)
    with done.open("a") as file:
        file.write(line + "\n")
    return ""


def _last_line(text: str) -> str:
    """The last line of an error."""
    return ([line for line in text.splitlines() if line.strip()] or ["no message"])[-1].strip()
