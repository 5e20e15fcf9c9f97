"""Linear algebra: solve, determinants, spectra and functions of operators, with the structure kept."""

from __future__ import annotations

from linops.linalg import determinants_of_sums, inversion_by_products, inversion_of_sums
from linops.linalg.errors import ConvergenceError, SingularError
from linops.linalg.explanation import explain
from linops.linalg.fitting import lstsq, pinv
from linops.linalg.info import Info
from linops.linalg.inputs import DENSE_LIMIT
from linops.linalg.low_rank_preconditioners import Nystrom, PivotedCholesky
from linops.linalg.methods.bicgstab import BiCGStab
from linops.linalg.methods.cg import CG
from linops.linalg.methods.cholesky import Cholesky
from linops.linalg.methods.eigenvectors import Eigh
from linops.linalg.methods.gmres import GMRES
from linops.linalg.methods.lsmr import LSMR
from linops.linalg.methods.lu import LU
from linops.linalg.methods.minres import MINRES
from linops.linalg.preconditioners import BlockJacobi, Jacobi
from linops.linalg.solving import det, diagonal, inv, logdet, slogdet, solve, trace

#: modules that hold nothing but rules
_RULES = (determinants_of_sums, inversion_by_products, inversion_of_sums)

__all__ = [
    "CG",
    "DENSE_LIMIT",
    "GMRES",
    "LSMR",
    "LU",
    "MINRES",
    "BiCGStab",
    "BlockJacobi",
    "Cholesky",
    "ConvergenceError",
    "Eigh",
    "Info",
    "Jacobi",
    "Nystrom",
    "PivotedCholesky",
    "SingularError",
    "det",
    "diagonal",
    "explain",
    "inv",
    "logdet",
    "lstsq",
    "pinv",
    "slogdet",
    "solve",
    "trace",
]
