"""What torch.compile keeps in the graphs that it traces."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])


def assume_constant_result(function: F) -> F:
    """Mark a function that torch.compile runs, and whose result its graph keeps, in the place of tracing it.

    As `torch.compiler.assume_constant_result` does, which loads torch's compiler, and so takes seconds.

    Args:
        function: The function.

    Returns:
        The function itself.

    Example:
        >>> @assume_constant_result
        ... def answer() -> int:
        ...     return 42
        >>> answer()
        42
    """
    setattr(function, "_dynamo_marked_constant", True)
    return function
