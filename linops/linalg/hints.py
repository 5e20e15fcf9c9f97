"""What users of NumPy, SciPy and other libraries try by habit in linear algebra, and what to write instead."""

from __future__ import annotations

from typing import Any

_CALLS = "lo.linalg.solve(A, b, lo.linalg.{}())"

#: name that `lo.linalg` does not have → what to write
NAMES = {
    name: hint
    for names, hint in {
        "cg": _CALLS.format("CG"),
        "gmres lgmres fgmres gcrotmk": _CALLS.format("GMRES"),
        "minres symmlq": _CALLS.format("MINRES"),
        "bicgstab bicg cgs qmr tfqmr": _CALLS.format("BiCGStab"),
        "lsqr lsmr lsq_linear": "lo.linalg.lstsq(A, b, lo.linalg.LSMR(damp=0))",
        "spsolve solve_triangular solve_banded solveh_banded solve_toeplitz solve_circulant cho_solve lu_solve "
        "tensorsolve linear_solve inv_quad": (
            "lo.linalg.solve(A, b) takes the structure of A: lo.Sparse, lo.Triangular, lo.Tridiagonal, lo.Toeplitz, …"
        ),
        "cho_factor lu_factor splu spilu factorized ldl": (
            "lo.linalg.inv(A) keeps its factorisation for many right-hand sides"
        ),
        "inverse I": "lo.linalg.inv(A)",
        "pinvh": "lo.linalg.pinv(A)",
        "eigs eigh_partial lobpcg arpack lanczos": (
            "lo.linalg.eigsh(A, k) of a Hermitian operator, lo.linalg.eigvals(A) of any other"
        ),
        "eig_banded eigh_tridiagonal": "lo.linalg.eigh(A), of lo.Tridiagonal",
        "eigvalsh_tridiagonal eigvals_banded": "lo.linalg.eigvalsh(A), of lo.Tridiagonal",
        "expm_multiply expmv expm_krylov": "lo.linalg.expm(A) @ x forms nothing where A is large",
        "fractional_matrix_power power": "lo.linalg.matrix_power(A, p)",
        "log_det logabsdet inv_quad_logdet": "lo.linalg.logdet(A), or lo.linalg.slogdet(A)",
        "rank": "lo.linalg.matrix_rank(A)",
        "diag": "lo.linalg.diagonal(A)",
        "matrix_norm normest onenormest svd_norm": "lo.linalg.norm(A, ord)",
        "chol": "lo.linalg.cholesky(A)",
        "randomized_svd svd_lowrank": "lo.linalg.svds(A, k, method=lo.linalg.RandomizedSVD())",
        "kron block_diag toeplitz circulant hadamard dft hankel tridiagonal": (
            "operators are made by lo itself: lo.kron, lo.BlockDiag, lo.Toeplitz, lo.Circulant, lo.Hadamard, lo.DFT, …"
        ),
        "LinearOperator aslinearoperator": "lo.Function(shape, f) of a function, lo.aslinearoperator(A) of an operator",
    }.items()
    for name in names.split()
}

_PRECONDITIONER = "a preconditioner is given to a method: method=lo.linalg.CG(preconditioner=M)"
_ITERATIONS = "iterations are limited in a method: method=lo.linalg.CG(max_iterations=…)"
_TOLERANCE = "tolerances are given to a method: method=lo.linalg.CG(rtol=…, atol=…)"
_HERMITIAN = "lo.assume(A, lo.Tag.HERMITIAN) says so of A"

#: argument that functions do not have → what to write
ARGUMENTS = {
    **dict.fromkeys(("M", "preconditioner", "precond", "P"), _PRECONDITIONER),
    **dict.fromkeys(("maxiter", "max_iter", "max_iters", "max_iterations", "iter_lim", "max_steps"), _ITERATIONS),
    **dict.fromkeys(("tol", "rtol", "atol", "btol"), _TOLERANCE),
    **dict.fromkeys(("rcond", "cond"), "rtol=… is the share of the largest singular value that counts as zero"),
    "damp": "method=lo.linalg.LSMR(damp=…)",
    "callback": "method=lo.linalg.CG(callback=…)",
    **dict.fromkeys(("assume_a", "sym_pos"), "lo.assume(A, lo.Tag.POSITIVE_DEFINITE) says so of A"),
    **dict.fromkeys(("hermitian", "symmetric"), _HERMITIAN),
    **dict.fromkeys(("UPLO", "lower"), "the whole matrix is read; lo.Triangular(a, lower=True) is one triangle"),
    "full_matrices": "it is always thin",
    "compute_uv": "lo.linalg.svdvals(A) gives the singular values alone",
    "eigvals_only": "lo.linalg.eigvalsh(A) gives the eigenvalues alone",
    "mode": "it is always thin",
    "offset": "lo.linalg.trace and diagonal are of the main diagonal",
    "num_samples": "method=lo.linalg.Hutchinson(samples, seed)",
    **dict.fromkeys(("overwrite_a", "overwrite_b", "check_finite"), "leave it out"),
}

#: setting that methods do not have → what to write
SETTINGS = {
    **dict.fromkeys(("tol", "btol", "eps"), "rtol, as a share of ‖b‖, and atol"),
    **dict.fromkeys(("maxiter", "max_iter", "max_iters", "iter_lim", "max_steps", "iterations"), "max_iterations"),
    **dict.fromkeys(("M", "Minv", "P", "precond"), "preconditioner, an approximate inverse"),
    "restrt": "restart",
    "x0": "x0 of lo.linalg.solve",
    "lam": "damp, of lo.linalg.LSMR",
    "rcond": "rtol",
}


def missing(module: str, name: str) -> AttributeError:
    """The error that a module has no such name, with a hint where there is one."""
    hint = f": {NAMES[name]}" if name in NAMES else ""
    return AttributeError(f"module {module!r} has no attribute {name!r}{hint}")


def called(method: Any, name: str) -> str:
    """What to write for a class, or the name, of a method."""
    if isinstance(method, type):
        return f"; {method.__name__} is a class, call it: {name}=lo.linalg.{method.__name__}()"
    if isinstance(method, str) and method.lower() in NAMES:
        return f"; {NAMES[method.lower()]}"
    return ""
