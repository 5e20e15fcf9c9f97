"""`meet(A, B)`: what two neighbouring factors become without computing parameters."""

from __future__ import annotations

from linops.dispatch import generic_pair
from linops.operator import LinearOperator


@generic_pair
def meet(a, b):
    """What two neighbouring factors become without computing parameters: one operator, or None where they stay two."""


@meet.dispatch
def _meet_any(a: LinearOperator, b: LinearOperator):
    return None
