"""Linear algebra: solve, determinants, spectra and functions of operators, with the structure kept."""

from __future__ import annotations

from linops.linalg import determinants_of_sums, inversion_of_sums
from linops.linalg.decompositions import eig, eigh, eigvals, eigvalsh, svd, svdvals
from linops.linalg.errors import ConvergenceError, SingularError
from linops.linalg.explanation import explain
from linops.linalg.factoring import cholesky, lu, qr
from linops.linalg.inputs import DENSE_LIMIT
from linops.linalg.measures import cond, matrix_rank, norm
from linops.linalg.methods.cholesky import Cholesky
from linops.linalg.methods.eigenvectors import Eigh
from linops.linalg.methods.lanczos import Arnoldi, Lanczos
from linops.linalg.methods.lobpcg import LOBPCG
from linops.linalg.methods.lu import LU
from linops.linalg.methods.randomized import RandomizedSVD
from linops.linalg.partial import eigsh
from linops.linalg.partial_svd import svds
from linops.linalg.solving import det, diagonal, inv, logdet, slogdet, solve, trace

#: modules that hold nothing but rules
_RULES = (determinants_of_sums, inversion_of_sums)

__all__ = [
    "DENSE_LIMIT",
    "LOBPCG",
    "LU",
    "Arnoldi",
    "Cholesky",
    "ConvergenceError",
    "Eigh",
    "Lanczos",
    "RandomizedSVD",
    "SingularError",
    "cholesky",
    "cond",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigsh",
    "eigvals",
    "eigvalsh",
    "explain",
    "inv",
    "logdet",
    "lu",
    "matrix_rank",
    "norm",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svds",
    "svdvals",
    "trace",
]
