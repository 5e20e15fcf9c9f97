"""What goes wrong in linear algebra is said in the words of what was asked."""

import numpy as np
import pytest
import torch
from helpers import every_backend, on

import linops as lo
from linops.linalg import CG, GMRES, LSMR, LU, Jacobi, solve

NAN, INFINITE = np.array([[np.nan, 1], [1, 2.0]]), np.array([[np.inf, 1], [1, 2.0]])


def definite(M):
    return lo.assume(lo.Dense(M), lo.Tag.POSITIVE_DEFINITE)


@pytest.mark.parametrize("name", ["eigh", "eigvalsh", "cholesky"])
@every_backend
def test_numbers_that_are_not_finite_are_named(name, backend):
    for M, what in ((NAN, "NaN"), (INFINITE, "infinite")):
        with pytest.raises(ValueError, match=rf"linalg\.{name}\(.*A has numbers that are {what}"):
            getattr(lo.linalg, name)(on(backend, M))


@pytest.mark.parametrize("name", ["svd", "svdvals", "cond", "matrix_rank", "pinv", "eig", "eigvals"])
def test_lapack_does_not_fail_silently_of_them(name):
    for kind in (np.asarray, torch.tensor)[: 1 if "eig" in name else 2]:  # torch gives NaN
        with pytest.raises((np.linalg.LinAlgError, RuntimeError), match=rf"linalg\.{name}\(.*that are NaN"):
            getattr(lo.linalg, name)(kind(NAN))


DECOMPOSITIONS = {
    **{name: getattr(lo.linalg, name) for name in ("lu", "qr", "eig", "eigvals", "svd", "svdvals", "cond")},
    "matrix_rank": lo.linalg.matrix_rank,
    "pinv": lo.linalg.pinv,
    "norm": lambda A: lo.linalg.norm(A, 2),
    "eigsh": lambda A: lo.linalg.eigsh(A, 1),
    "svds": lambda A: lo.linalg.svds(A, 1, method=lo.linalg.Lanczos()),
}
NUMBERS = {
    **{name: getattr(lo.linalg, name) for name in ("det", "logdet", "trace", "norm")},
    "slogdet": lambda A: lo.linalg.slogdet(A)[1],
    "by columns": lambda A: lo.linalg.norm(A, 1),
}


@pytest.mark.parametrize("name", DECOMPOSITIONS)
@every_backend
def test_decompositions_of_what_is_not_finite_are_errors(name, backend):
    above = np.array([[1.0, 7, np.nan], [0, 2, 0], [0, 0, 3]])  # which no pivot shows
    for M, what in ((NAN, "NaN"), (INFINITE, "infinite"), (above, "NaN")):
        words = rf"linalg\.{name}\(.*A has numbers that are {what}"
        with np.errstate(all="ignore"), pytest.raises((ValueError, RuntimeError), match=words):
            DECOMPOSITIONS[name](on(backend, M))
    large = on(backend, np.array([[1e200, 2e200], [3e200, 1e200]]))
    if name not in ("eigsh", "svds"):  # it is not Hermitian, and has no squares
        DECOMPOSITIONS[name](large)


FUNCTIONS = {
    "logm": lo.linalg.logm,
    "sqrtm": lo.linalg.sqrtm,
    "funm": lambda A: lo.linalg.funm(A, lambda x: x**3),
    "matrix_power": lambda A: lo.linalg.matrix_power(A, 0.3),
}
KINDS = {
    "matrix": lambda M: M,
    "Hermitian": lambda M: lo.assume(lo.Dense(M), lo.Tag.POSITIVE_DEFINITE),
    "Diagonal": lambda M: lo.Diagonal(M[0]),
    "Circulant": lambda M: lo.Circulant(M[1]),
    "Kronecker": lambda M: lo.Kronecker(lo.Dense(M), lo.Dense(M)),
    "BlockDiag": lambda M: lo.BlockDiag(M[None]),
    "multiple": lambda M: 2 * lo.Dense(M),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@every_backend
def test_functions_of_what_is_not_finite_are_errors(name, backend):
    for number, what in ((np.nan, "NaN"), (np.inf, "infinite")):
        for kind in KINDS.values():
            A = kind(on(backend, np.array([[number, 1, 0], [1, number, 0], [0, 0, 2]])))
            with pytest.raises(np.linalg.LinAlgError, match=rf"linalg\.{name}\(.*A has numbers that are {what}"):
                FUNCTIONS[name](A)


@pytest.mark.parametrize("name", NUMBERS)
@every_backend
def test_numbers_of_what_is_not_finite_are_so_too(name, backend):
    with np.errstate(invalid="ignore"):  # of which NumPy warns
        assert np.isnan(float(NUMBERS[name](on(backend, NAN))))
    parts = lo.DirectSum([lo.Dense(on(backend, NAN)), lo.Identity(2)])
    if name != "by columns":
        with np.errstate(invalid="ignore"):
            assert np.isnan(float(NUMBERS[name](parts)))


@every_backend
@pytest.mark.parametrize("method", [CG(), GMRES(), LSMR(), None])
def test_solving_says_whose_numbers_are_not_finite(method, backend):
    if method is not None:
        with pytest.raises(
            lo.linalg.ConvergenceError, match=r"linalg\.solve\(Dense.*: b has numbers that are NaN"
        ) as e:
            solve(definite(on(backend, np.eye(2))), on(backend, np.array([np.nan, 1])), method)
        assert e.value.iterations == 0
    if backend != "jax" or method is not None:  # JAX does not look at numbers
        with pytest.raises(np.linalg.LinAlgError, match=r"linalg\.solve\(Dense.*: A has numbers that are NaN"):
            solve(definite(on(backend, NAN)), on(backend, np.ones(2)), method)


def test_errors_of_shapes_stay():
    with pytest.raises(ValueError, match="expected a square operator"):
        lo.linalg.eigh(np.full((2, 3), np.nan))
    with pytest.raises(ValueError, match=r"right-hand side of shape \(3,\)"):
        solve(NAN, np.ones(3))


@pytest.mark.parametrize("method", [None, LU(), GMRES()])
def test_right_hand_sides_and_guesses_that_do_not_fit(method):
    A = np.array([[2.0, 1], [1, 3]])
    for b in (np.ones(3), np.ones((3, 2)), np.ones((2, 3, 2))):
        with pytest.raises(ValueError, match=r"linalg\.solve\(Dense\(2×2, float64, numpy\)\): right-hand side of"):
            solve(A, b, method)
    with pytest.raises(TypeError, match=r"linalg\.solve\(Dense.*torch array of shape \(2,\): mixed backends"):
        solve(A, torch.ones(2), method)
    for b in ("x", None):
        with pytest.raises(TypeError, match=r"linalg\.solve\(Dense.*expected an array as right-hand side"):
            solve(A, b, method)
    for x0 in (np.ones(3), np.ones((2, 1)), np.ones((2, 2))):
        with pytest.raises(ValueError, match=r"linalg\.solve\(Dense.*x0 of shape"):
            solve(A, np.ones(2), method, x0=x0)


SINGULAR = np.ones((2, 2))
PARTS = {
    "Kronecker": lo.Kronecker(SINGULAR, np.eye(3)),
    "DirectSum": lo.DirectSum([lo.Dense(SINGULAR), lo.Dense(np.eye(3))]),
    "KroneckerSum": lo.KroneckerSum(np.diag([1.0, -1]), np.diag([1.0, 2])),
    "Scaled": 2 * lo.Kronecker(lo.Diagonal(np.array([0.0, 1])), np.eye(2)),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_that_are_singular_name_the_whole(name):
    with pytest.raises(lo.linalg.SingularError, match=rf"^{name}\(.* is singular.*lo\.linalg\.lstsq"):
        solve(PARTS[name], np.ones(PARTS[name].shape[0]))


def test_square_operators_are_asked_for_with_advice_that_fits():
    advice = {
        "solve": "lstsq and pinv",
        "eigvals": "svd and svdvals",
        "eigh": "svd and svdvals",
        "lu": r"lo\.linalg\.qr",
    }
    for name, words in advice.items():
        with pytest.raises(ValueError, match=f"expected a square operator.*{words}"):
            getattr(lo.linalg, name)(np.ones((3, 2)), *[np.ones(3)] * (name == "solve"))
    for name in ("expm", "sqrtm"):
        with pytest.raises(ValueError, match=r"expected a square operator$"):
            getattr(lo.linalg, name)(np.ones((3, 2)))


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: CG(tol=1e-3), r"CG: no setting 'tol'; it is called rtol"),
        (lambda: CG(maxiter=3), r"it is called max_iterations"),
        (lambda: GMRES(M=np.eye(2)), r"it is called preconditioner"),
        (lambda: LU(foo=1), r"LU: no setting 'foo'. It has none"),
        (lambda: solve(np.eye(2), np.ones(2), M=np.eye(2)), r"linalg\.solve: no argument 'M'.*preconditioner=M"),
        (lambda: solve(np.eye(2), np.ones(2), rtol=1), r"method=lo\.linalg\.CG\(rtol"),
        (lambda: lo.linalg.lstsq(np.eye(2), np.ones(2), rcond=1), r"rtol=… is the share"),
        (lambda: solve(np.eye(2), np.ones(2), "cg"), r"'cg'.*lo\.linalg\.CG\(\)"),
        (lambda: solve(np.eye(2), np.ones(2), CG), r"CG is a class, call it"),
        (lambda: CG(preconditioner=Jacobi), r"preconditioner Jacobi is a class; call it"),
        (lambda: CG(preconditioner=lambda x: x), r"lo\.Function\(\(n, n\), f\)"),
    ],
)
def test_other_libraries_arguments_are_explained(ask, words):
    with pytest.raises(TypeError, match=words):
        ask()


def test_names_of_other_libraries_have_hints():
    for module, name, words in (
        (lo.linalg, "cg", r"lo\.linalg\.CG\(\)"),
        (lo.linalg, "lsqr", "LSMR"),
        (lo.linalg, "eigs", "eigsh"),
        (lo.linalg, "solve_triangular", r"lo\.Triangular"),
        (lo.linalg, "expm_multiply", r"expm\(A\) @ x"),
        (lo.linalg, "nothing_like_it", "'nothing_like_it'$"),
        (lo, "solve", r"lo\.linalg\.solve"),
    ):
        with pytest.raises(AttributeError, match=words):
            getattr(module, name)
    assert not set(lo.linalg.hints.NAMES) & set(lo.linalg.__all__)
