"""The ``linops`` command: `main` says what to install if something is missing; commands are in `linops.lab.app`."""

from __future__ import annotations

import sys
from importlib import import_module

from linops.install import command

#: which extra brings a package
EXTRAS = {"jax": "jax", "jaxlib": "jax", "flax": "flax", "equinox": "equinox", "optax": "flax"}


def main() -> None:
    """Runs the command line of this process; exits with status 1 if a package is missing."""
    if sys.argv[1:] == ["--version"]:  # which a core installation can say
        print(f"linops {import_module('linops').__version__}")
        return
    try:
        import_module("linops.lab.app").app(prog_name="linops")
    except ModuleNotFoundError as missing:
        sys.exit(missing_message(missing))


def missing_message(missing: ModuleNotFoundError) -> str:
    """What to install for a package that could not be imported.

    Args:
        missing: The error.

    Returns:
        A line for the terminal.

    Raises:
        ModuleNotFoundError: The error itself, if it is a module of linops that is missing.

    Example:
        >>> print(missing_message(ModuleNotFoundError("No module named 'rich'", name="rich")).partition("; ")[2])
        install it with: pip install rich, or pip install -e '.[lab]' in a checkout of linops
    """
    package = (missing.name or "").partition(".")[0]
    if package in ("linops", ""):
        raise missing
    return f"linops: this command needs {package}; install it with: {command(package, EXTRAS.get(package, 'lab'))}"


if __name__ == "__main__":
    main()
