"""What a command says when it cannot do what it was asked: one line on stderr and an exit status, no traceback."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

#: what commands raise when arguments, files or the machine do not allow what was asked
REFUSALS = (ValueError, TypeError, ArithmeticError, OSError, MemoryError)


class OneLine(TyperGroup):
    """The commands of an app; their refusals are one line on stderr, of status 2 for wrong usage, 1 for the rest."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Runs the command line; exits unless told not to, as click's own does."""
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **extra)
        try:
            status = super().main(*args, standalone_mode=False, **extra)
        except Exception as error:
            line, status = told(error)
            typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
            typer.echo(line, err=True)
        sys.exit(status if isinstance(status, int) else 0)


def told(error: Exception) -> tuple[str, int]:
    """An error of the user's making as a line and an exit status.

    Args:
        error: The error.

    Returns:
        The line, and 2 for wrong usage, 1 for the rest.

    Raises:
        Exception: The error itself, if it is none of the user's making.

    Example:
        >>> told(ValueError("a\\n  b"))
        ('a b', 1)
    """
    if isinstance(error, typer.Abort):
        return "stopped", 130
    if hasattr(error, "format_message"):  # click's own, wherever typer has it from
        usage: Any = error
        command = usage.ctx.command_path if getattr(usage, "ctx", None) else ""
        return _line(usage.format_message()) + (f" ({command} --help)" if command else ""), usage.exit_code
    if isinstance(error, MemoryError) or _is_of_memory(error):
        return f"not enough memory: {_line(str(error))}", 1
    if isinstance(error, REFUSALS) or (isinstance(error, ImportError) and not isinstance(error, ModuleNotFoundError)):
        return _line(str(error)) or type(error).__name__, 1
    raise error


def _line(text: str) -> str:
    return " ".join(text.split())


def _is_of_memory(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("allocate memory", "out of memory")
    )
