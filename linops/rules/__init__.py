"""What `simplify` does: rewrites of expressions.

It applies all rules to a fixpoint (`simplification.py`). The rules are methods of the functions in `functions.py`, a
file for each kind of structure; those for operators of any kind are in `pairs.py`. What every rewrite must pass is in
`guard.py`. What the signs do without being asked is in `linops.algebra`.

To add a rule, register a method: ``@lo.rules.merge.dispatch`` over a function of two annotated operators.
"""

from linops.algebra import meet
from linops.rules import (
    blocks,
    diagonals,
    kroneckers,
    low_ranks,
    permutes,
    powers,
    scalars,
    slices,
    sparses,
    transforms,
    triangles,
)
from linops.rules.functions import absorb, commute, join, merge, reduce
from linops.rules.rewrites import Rewrite, Rewrites
from linops.rules.simplification import simplify

__all__ = ["Rewrite", "Rewrites", "absorb", "commute", "join", "meet", "merge", "reduce", "simplify"]
