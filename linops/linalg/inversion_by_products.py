"""Inverses of what is too large to be written out, and has no rule: by iteration. The last rule of all."""

from __future__ import annotations

from linops.linalg.inverse import Inverse
from linops.linalg.inversion import inverse_
from linops.linalg.methods.cg import CG
from linops.linalg.methods.gmres import GMRES
from linops.linalg.methods.minres import MINRES
from linops.linalg.spectra import is_hermitian
from linops.operator import LinearOperator
from linops.tags import Tag


@inverse_.rule(
    "iteration to a tight tolerance: CG if positive definite, MINRES if Hermitian, else GMRES",
    cost="a product an iteration",
)
def _inverse_large(a: LinearOperator, kept: bool):
    if Tag.POSITIVE_DEFINITE in a.tags.yes:
        return Inverse(a, CG(rtol=None), kept)
    return Inverse(a, MINRES(rtol=None) if is_hermitian(a) else GMRES(rtol=None), kept)
