"""What the signs do: ``@``, ``+``, ``*``, ``/``, ``**`` and ``A[…]``.

Only rules that merge no arrays are applied, so that parameters stay the leaves the user wrote: `meet` says what two
neighbouring factors become. To add such a rule, register a method: ``@lo.rules.meet.dispatch`` over a function of two
annotated operators. What `simplify` does beyond that is in `linops.rules`.
"""

from linops.algebra import add, compose, permutations, power, scale, slice
from linops.algebra.meet import meet

__all__ = ["add", "compose", "meet", "permutations", "power", "scale", "slice"]
