"""What goes wrong in users' functions, said in the words of what was asked: the operand, its numbers, the arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.errors import SingularError
from linops.linalg.hints import ARGUMENTS
from linops.operator import LinearOperator

P = ParamSpec("P")
R = TypeVar("R")

#: functions that raise ValueError because of numbers: a determinant that is negative, a matrix that is not Hermitian
_DECIDED_BY_NUMBERS = {"logdet", "eigh", "eigvalsh", "eigsh", "cholesky", "logm", "sqrtm", "funm", "matrix_power"}

#: {function: the place of what is NaN or infinite wherever numbers of the operand that it takes to pieces are so}
_TELLING = {
    **dict.fromkeys(("eigh", "eig", "eigsh"), 0),
    **dict.fromkeys(("qr", "svd", "svds"), 1),
    "lu": 2,
    **dict.fromkeys(("cholesky", "eigvalsh", "eigvals", "svdvals", "cond", "pinv"), None),
}


def asked(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: errors of a function of an operator name the whole operand, and numbers that are not finite.

    Nothing but a result is looked at unless something went wrong.

    Args:
        function: The function, whose first argument is an operator or matrix.

    Returns:
        The function.
    """

    @wraps(function)
    def call(*args: P.args, **given: P.kwargs) -> R:
        try:
            found = function(*args, **given)
        except (ValueError, RuntimeError) as error:  # torch's LinAlgError is a RuntimeError, NumPy's a ValueError
            text = _better(function.__name__, error, args, given)
            if text is not None:
                error.args = (text,)
            raise
        except TypeError:
            _require_known(function, given)
            raise
        if function.__name__ in _TELLING:
            place, whole = _TELLING[function.__name__], cast(Any, found)
            require_finite(function.__name__, args[0] if args else given["A"], whole if place is None else whole[place])
        return found

    return call


def require_finite(name: str, A: Any, found: Any) -> None:
    """Raise if a result is not finite, and numbers of the operand are not either.

    Args:
        name: Who asks.
        A: The operand.
        found: The result, an array or operator; one that cannot be looked at, as in `jax.jit`, is left as it is.

    Raises:
        numpy.linalg.LinAlgError: If so.
    """
    if not backends.is_compiling() and not_finite(found) and (words := not_finite(A)):
        raise np.linalg.LinAlgError(f"linalg.{name}({_short(A)}): A has numbers that are {words}")


def _short(A: Any) -> str:
    return A._short() if isinstance(A, LinearOperator) else f"array of shape {tuple(np.shape(A))}"


def _better(name: str, error: Exception, args: tuple[Any, ...], given: dict[str, Any]) -> str | None:
    """What to say instead; None where it is said."""
    operands = dict(zip(("A", "b"), args)) | {key: given[key] for key in ("A", "b", "x0") if key in given}
    A: Any = operands.get("A")
    text = str(error)
    short = _short(A)
    if _is_of_numbers(name, error):
        for operand, value in operands.items():
            found = not_finite(value)
            if found:
                return f"linalg.{name}({short}): {operand} has numbers that are {found}"
    if not isinstance(error, SingularError) or not isinstance(A, LinearOperator):
        return None
    if short not in text:
        text = f"{short} is singular, as a part of it is: {text}"
    return text if "lo.linalg" in text else f"{text}; lo.linalg.lstsq and pinv give the solution of least squares"


def _is_of_numbers(name: str, error: Exception) -> bool:
    """Whether an error may come of numbers, and not of shapes or sizes."""
    if isinstance(error, np.linalg.LinAlgError) or type(error).__name__ == "_LinAlgError":
        return True
    return name in _DECIDED_BY_NUMBERS and not any(word in str(error) for word in ("expected", "unasked"))


def not_finite(value: Any) -> str:
    """Which numbers an operator or array has that are not finite: ``"NaN"``, ``"infinite"``, both or none.

    Args:
        value: An operator, an array or anything else.

    Returns:
        The words.
    """
    leaves = [leaf for _, leaf in value.named_leaves()] if isinstance(value, LinearOperator) else [value]
    there = set()
    for leaf in leaves:
        leaf = np.asarray(leaf) if isinstance(leaf, np.generic) else leaf
        backend = backends.backend_of(leaf)
        if backend in (None, "spec") or not backends.is_inexact(leaf.dtype) or not lapack.is_known(leaf):
            continue
        space: Any = backends.namespace(backend)
        there |= {word for word, found in (("NaN", space.isnan(leaf)), ("infinite", space.isinf(leaf))) if found.any()}
    return " and ".join(sorted(there))


def _require_known(function: Callable[..., Any], given: dict[str, Any]) -> None:
    """Raise where an argument is given that there is not."""
    known = list(signature(function).parameters)
    for name in given:
        if name not in known:
            hint = f": {ARGUMENTS[name]}" if name in ARGUMENTS else ""
            raise TypeError(
                f"linalg.{function.__name__}: no argument {name!r}{hint}. It takes {', '.join(known)}"
            ) from None
