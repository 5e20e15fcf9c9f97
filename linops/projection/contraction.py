"""Contractions of tensors over named axes, in an order of few operations."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from linops import backends
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
    if len(terms) == 1 and len(set(terms[0])) == len(terms[0]) == len(result):
        (axes,), (array,) = terms, arrays
        return array if axes == result else backends.permute(array, tuple([axes.index(axis) for axis in result]))
    shapes = tuple([tuple(array.shape) for array in arrays])
    return _expression(f"{','.join(terms)}->{result}", shapes)(*arrays)


@lru_cache(maxsize=4096)
def _expression(text: str, shapes: tuple[tuple[int, ...], ...]) -> Any:
    """A contraction with its order, which takes longer to find than small contractions take."""
    import opt_einsum  # a dozen modules, which only projection needs

    return opt_einsum.contract_expression(text, *shapes, optimize="greedy" if len(shapes) > 6 else "auto")


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
