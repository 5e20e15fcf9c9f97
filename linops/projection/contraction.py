"""Contractions of tensors over named axes, in an order of few operations."""

from __future__ import annotations

from typing import Any

from linops.plan.network import alphabet


def contract(terms: list[str], result: str, *arrays: Any) -> Any:
    """As `numpy.einsum`, an axis that stands twice in a term being its diagonal.

    Args:
        terms: The axes of each array, a letter each.
        result: The axes of the result.
        *arrays: The arrays.

    Returns:
        An array.
    """
    import opt_einsum  # a dozen modules, which only projection needs

    optimize = "greedy" if len(terms) > 6 else "auto"
    return opt_einsum.contract(f"{','.join(terms)}->{result}", *arrays, optimize=optimize)


def primes(axes: str, taken: str) -> dict[str, str]:
    """New names for axes.

    Args:
        axes: Names.
        taken: Names that are not free.

    Returns:
        Axis → its new name.

    Example:
        >>> primes("ab", "abc")
        {'a': 'd', 'b': 'e'}
    """
    fresh = (letter for letter in alphabet() if letter not in taken)
    return dict(zip(axes, fresh))
