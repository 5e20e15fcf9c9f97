"""The functions whose methods are the rewrite rules: each returns what operators become, or None where they stay.

| function | what it sees | when it is asked |
|---|---|---|
| `meet(a, b)` (`linops.algebra.meet`) | neighbouring factors | composing, `simplify`; computes no array of parameters |
| `merge(a, b)` | neighbouring factors | `simplify` |
| `commute(a, b)` | neighbouring factors, to be exchanged | `simplify`, where an exchange lets another rule act |
| `join(a, b)` | two terms of a sum | `simplify` |
| `absorb(a, c)` | an operator and a number or 0-d array | `simplify` |
| `reduce(a)` | one operator | `simplify` |

`simplify` holds every rule to the same guard (`guard.py`): nothing dearer, no other shape, dtype, backend or device. It
asks no `merge`, `commute`, `join` and `absorb` about symbolic operators: their parameters are not there to be merged.
"""

from __future__ import annotations

from typing import Any

from linops.dispatch import generic, generic_pair
from linops.operator import LinearOperator


@generic_pair
def merge(a, b):
    """What two neighbouring factors become: one operator, whose arrays may be new, or None."""


@generic_pair
def commute(a, b):
    """Two factors (b', a') with A B = B' A', or None: the same kinds of operators in the other order."""


@generic_pair
def join(a, b):
    """What two terms of a sum become: one operator, or None."""


@generic
def absorb(a, scalar):
    """The operator c A with the scalar folded into its leaves, or None; the scalar is a number or a 0-d array."""


@generic
def reduce(a):
    """A simpler form of one operator, or None. Of a symbolic operator its leaves must stay the very same."""


# ---------------------------------------------------------------- operators stay as they are, unless a rule says more


@merge.dispatch
def _merge_any(a: LinearOperator, b: LinearOperator):
    return None


@commute.dispatch
def _commute_any(a: LinearOperator, b: LinearOperator):
    return None


@join.dispatch
def _join_any(a: LinearOperator, b: LinearOperator):
    return None


@absorb.dispatch
def _absorb_any(a: LinearOperator, scalar: Any):
    return None


@reduce.dispatch
def _reduce_any(a: LinearOperator):
    return None
