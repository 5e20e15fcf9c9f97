"""What to install, in one place: the words of every error that a missing or a replaced package leads to."""

from __future__ import annotations

from typing import Any

#: import name → name on the index, where they differ
_DISTRIBUTIONS = {"sklearn": "scikit-learn", "plum": "plum-dispatch"}


def command(package: str, extra: str | None = None) -> str:
    """What to type so that a package can be imported.

    linops is installed from a checkout, so its extras are those of the folder, not of a name on an index.

    Args:
        package: The package that is missing.
        extra: The extra of linops that brings it and what goes with it; None for a package alone.

    Returns:
        The words, from ``pip install`` on.

    Example:
        >>> command("torch", "torch")
        "pip install torch, or pip install -e '.[torch]' in a checkout of linops"
        >>> command("sklearn")
        'pip install scikit-learn'
    """
    plain = f"pip install {_DISTRIBUTIONS.get(package, package)}"
    return plain if extra is None else f"{plain}, or pip install -e '.[{extra}]' in a checkout of linops"


def require_plum(plum: Any) -> None:
    """Raise unless a module is the plum that linops runs on.

    Another distribution, cola-plum-dispatch, which cola-ml brings along, installs an older one of the same name over
    it.

    Args:
        plum: The module.

    Raises:
        ImportError: If it is another.
    """
    try:
        function = plum.Dispatcher().abstract(lambda argument: None)
        if callable(function.dispatch) and callable(function.resolve_method):
            return
    except (AttributeError, TypeError):
        pass
    raise ImportError(
        f"linops needs the module plum of plum-dispatch>=2.10, but {getattr(plum, '__file__', plum)} (version "
        f"{getattr(plum, '__version__', 'unknown')}) is another: cola-ml brings cola-plum-dispatch, which replaces it. "
        "Either keep the two in environments of their own, or (after which cola does not run) pip uninstall "
        "cola-plum-dispatch && pip install --force-reinstall plum-dispatch"
    )
