"""Linear algebra: solve, determinants, spectra and functions of operators, with the structure kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from linops.linalg import (
    determinants_of_pencils,
    determinants_of_sparse,
    determinants_of_sums,
    determinants_of_toeplitz,
    function_fallbacks,
    inversion_by_products,
    inversion_of_sums,
    norms_of_diagonals,
    norms_of_sums,
    slices,
    traces_of_products,
    trains,
    tridiagonals,
)
from linops.linalg.chebyshev import HermitianFunction
from linops.linalg.decompositions import eig, eigh, eigvals, eigvalsh, svd, svdvals
from linops.linalg.errors import ConvergenceError, SingularError
from linops.linalg.explanation import explain
from linops.linalg.exponential import Exponential
from linops.linalg.factoring import cholesky, lu, qr
from linops.linalg.fitting import lstsq, pinv
from linops.linalg.functions import expm, funm, logm, matrix_power, sqrtm
from linops.linalg.hints import missing
from linops.linalg.info import Info
from linops.linalg.inputs import DENSE_LIMIT
from linops.linalg.low_rank_preconditioners import Nystrom, PivotedCholesky
from linops.linalg.measures import cond, matrix_rank, norm
from linops.linalg.methods.bicgstab import BiCGStab
from linops.linalg.methods.cg import CG
from linops.linalg.methods.cholesky import Cholesky
from linops.linalg.methods.eigenvectors import Eigh
from linops.linalg.methods.gmres import GMRES
from linops.linalg.methods.lanczos import Arnoldi, Lanczos
from linops.linalg.methods.lobpcg import LOBPCG
from linops.linalg.methods.lsmr import LSMR
from linops.linalg.methods.lu import LU
from linops.linalg.methods.minres import MINRES
from linops.linalg.methods.qr import QR
from linops.linalg.methods.randomized import RandomizedSVD
from linops.linalg.methods.slq import SLQ
from linops.linalg.methods.svd import SVD
from linops.linalg.methods.trace_estimators import Hutchinson, HutchPP, XTrace
from linops.linalg.partial import eigsh
from linops.linalg.partial_svd import svds
from linops.linalg.preconditioners import BlockJacobi, Jacobi
from linops.linalg.solving import det, diagonal, inv, logdet, slogdet, solve, trace

#: modules that hold nothing but rules
_RULES = (
    *(
        tridiagonals,
        determinants_of_pencils,
        determinants_of_sparse,
        determinants_of_sums,
        determinants_of_toeplitz,
        inversion_by_products,
        inversion_of_sums,
    ),
    *(norms_of_diagonals, norms_of_sums, function_fallbacks, slices, trains, traces_of_products),
)

__all__ = [
    "CG",
    "DENSE_LIMIT",
    "GMRES",
    "LOBPCG",
    "LSMR",
    "LU",
    "MINRES",
    "QR",
    "SLQ",
    "SVD",
    "Arnoldi",
    "BiCGStab",
    "BlockJacobi",
    "Cholesky",
    "ConvergenceError",
    "Eigh",
    "Exponential",
    "HermitianFunction",
    "HutchPP",
    "Hutchinson",
    "Info",
    "Jacobi",
    "Lanczos",
    "Nystrom",
    "PivotedCholesky",
    "RandomizedSVD",
    "SingularError",
    "XTrace",
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
    "expm",
    "funm",
    "inv",
    "logdet",
    "logm",
    "lstsq",
    "lu",
    "matrix_power",
    "matrix_rank",
    "norm",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "sqrtm",
    "svd",
    "svds",
    "svdvals",
    "trace",
]


if not TYPE_CHECKING:  # type checkers know the names there are

    def __getattr__(name: str) -> Any:
        raise missing("linops.linalg", name)
