"""The algebra's rewrites.

`compose.py`, `add.py`, `scale.py` and `power.py` are what ``@``, ``+``, ``*`` and ``**`` do: they apply only rules that merge no arrays, so
that parameters stay the leaves the user wrote. `simplify.py` applies all rules to a fixpoint. The rules are methods of the functions in
`functions.py`, a file for each kind of structure; those for operators of any kind are in `pairs.py`. What every rewrite must pass is in
`guard.py`.

To add a rule, register a method: ``@lo.rules.merge.dispatch`` over a function of two annotated operators.
"""

from linops.rules import (
    add,
    blocks,
    compose,
    diagonals,
    kroneckers,
    low_ranks,
    parts,
    permutes,
    power,
    powers,
    scalars,
    scale,
    slice,
    sparses,
    transforms,
    triangles,
)
from linops.rules.freeze import freeze
from linops.rules.functions import absorb, join, meet, merge, reduce, swap
from linops.rules.simplify import simplify
from linops.rules.steps import Rewrite, Rewrites

__all__ = ["Rewrite", "Rewrites", "absorb", "freeze", "join", "meet", "merge", "reduce", "simplify", "swap"]
