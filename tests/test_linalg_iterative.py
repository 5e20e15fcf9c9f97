"""Iterative solvers: SciPy's own cases, all right-hand sides at once, derivatives; traps seen elsewhere."""

import warnings

import jax
import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from helpers import as_numpy, every_backend, on
from jax.test_util import check_grads
from scipy.sparse.linalg._isolve.tests.test_iterative import IterativeParams
from torch.autograd import gradcheck, gradgradcheck

import linops as lo
from linops.linalg import CG, GMRES, LSMR, MINRES, BiCGStab, ConvergenceError, solve

METHODS = {"cg": CG, "minres": MINRES, "gmres": GMRES, "bicgstab": BiCGStab, "lsmr": LSMR}
every_method = pytest.mark.parametrize("name", METHODS)
every_complexity = pytest.mark.parametrize("dtype", ["float64", "complex128"])


def randoms(*shape, dtype="float64", seed=0):
    random = np.random.default_rng([seed, *shape])
    return random.standard_normal(shape) + (1j * random.standard_normal(shape) if dtype == "complex128" else 0)


def matrix_for(name, n=12, dtype="float64"):
    """A matrix that a method takes: definite, Hermitian, or any."""
    M = randoms(n, n, dtype=dtype)
    if name == "cg":
        return M @ M.conj().T + n * np.eye(n)
    if name == "minres":
        return M + M.conj().T + np.diag(np.where(np.arange(n) % 2, 9.0, -9.0))
    return M + 2 * n**0.5 * np.eye(n)


def known(M, name):
    """The operator of a matrix, known to be what the method asks for."""
    A = lo.Dense(M)
    tag = {"cg": lo.Tag.POSITIVE_DEFINITE, "minres": lo.Tag.HERMITIAN}.get(name)
    return A if tag is None else lo.assume(A, tag)


# ---------------------------------------------------------------- SciPy's own cases

CASES = {case.name: case for case in IterativeParams().cases}


def scipys(name, A, b, rtol):
    """SciPy's solution and number of iterations; None where it does not converge."""
    calls, reached = [], []

    def callback(x):
        calls.append(1)
        if name == "minres" and np.linalg.norm(b - A @ x) <= rtol * np.linalg.norm(b):
            reached.append(len(calls))

    def product(x):
        calls.append(1)
        return A @ x

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if name == "gmres":
            x, fail = scipy.sparse.linalg.gmres(A, b, rtol=rtol, callback=callback, callback_type="pr_norm")
        elif name == "minres":  # whose own rule to stop is another
            x, fail = scipy.sparse.linalg.minres(A, b, rtol=1e-16, callback=callback, maxiter=10 * len(b))
            return x, reached[0]
        elif name == "bicgstab":  # which does not call back after half an iteration
            counting = scipy.sparse.linalg.LinearOperator(A.shape, product, dtype=A.dtype)
            x, fail = scipy.sparse.linalg.bicgstab(counting, b, rtol=rtol)
            return (x, -(-len(calls) // 2)) if fail == 0 else None
        elif name == "lsmr":
            for count in range(1, 10 * len(b)):
                x = scipy.sparse.linalg.lsmr(
                    A, b.astype(np.result_type(A.dtype, b.dtype)), atol=0, btol=0, conlim=0, maxiter=count
                )[0]
                if np.linalg.norm(b - A @ x) <= rtol * np.linalg.norm(b):
                    return x, count
            return None
        else:
            x, fail = scipy.sparse.linalg.cg(A, b, rtol=rtol, callback=callback)
    return (x, len(calls)) if fail == 0 else None


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_as_scipy_solves_its_own_cases(case, name):
    case = CASES[case]
    A, b = case.A, case.b
    skipped = {solver.__name__ for solver in case.skip}
    hermitian = abs(A - A.conj().T).max() < 1e-6
    if (name == "cg" and name in skipped) or (name == "minres" and not (hermitian and np.isrealobj(A[:1, :1].sum()))):
        return
    if name == "lsmr" and case.name.startswith("poisson2d"):
        return  # SciPy's, counted one by one, would take minutes
    rtol = 1e-8 if A.dtype.char in "dD" else 1e-2
    operator = lo.aslinearoperator(A)
    operator = lo.assume(operator, lo.Tag.HERMITIAN) if hermitian else operator
    expected = scipys(name, A, b, rtol)
    if expected is None:
        assert name in {solver.__name__ for solver in case.nonconvergence}
        with pytest.raises(ConvergenceError):
            solve(operator, b, METHODS[name](rtol=rtol))
        return
    x, info = solve(operator, b, METHODS[name](rtol=rtol), return_info=True)
    assert np.linalg.norm(A @ x - b) <= rtol * np.linalg.norm(b)
    more = info.iterations - expected[1]
    assert -max(2, 0.1 * expected[1]) <= more <= 0.1 * expected[1]  # on an AMD EPYC LSMR takes 13, SciPy's 15
    if len(b) > 1000:
        return
    dense = A if isinstance(A, np.ndarray) else A.toarray()
    exact = np.linalg.solve(dense.astype(complex), b)
    bound = np.linalg.cond(dense) * rtol * np.linalg.norm(exact)
    assert np.linalg.norm(x - exact) <= bound
    assert np.linalg.norm(x - expected[0]) <= 2 * bound


@pytest.mark.parametrize("name", METHODS)
def test_tolerances_as_scipy_tests_them(name):
    random = np.random.default_rng(168441431005389)
    M = random.uniform(size=[10, 10])
    M = M @ M.T + 10 * np.eye(10)
    b = 1e3 * random.uniform(size=10)
    rough = random.standard_normal(size=(10, 10))
    rough = rough @ rough.T
    A = lo.assume(lo.Dense(M), lo.Tag.POSITIVE_DEFINITE)
    tolerances = [0, 1e-9, 1e-3, 100.0, np.inf]
    for preconditioner in (None, 1e-6 * rough, 1e6 * rough):
        for rtol in tolerances:
            for atol in tolerances:
                if rtol or atol:
                    method = METHODS[name](rtol, atol, preconditioner=preconditioner)
                    x, info = solve(A, b, method, return_info=True)
                    size = np.linalg.norm(M @ x - b)
                    assert size <= max(rtol * np.linalg.norm(b), atol)
                    assert float(info.residual) == pytest.approx(size, abs=1e-11)


@every_method
def test_the_exact_inverse_as_preconditioner(name):
    M = matrix_for(name)
    A, b = known(M, name), randoms(12)
    M = M @ M if name == "minres" else M  # it takes definite ones
    inverse = np.linalg.inv(M)
    x, info = solve(known(M, name), b, METHODS[name](1e-10, preconditioner=inverse), return_info=True)
    assert info.iterations == 1
    np.testing.assert_allclose(M @ x, b, atol=1e-8)
    assert A.shape == (12, 12)


# ---------------------------------------------------------------- against dense NumPy, on three backends


@every_backend
@every_complexity
@every_method
def test_against_dense(name, dtype, backend):
    M = matrix_for(name, dtype=dtype)
    A = known(on(backend, M), name)
    method = METHODS[name](1e-12)
    inverse = np.linalg.inv(M)
    b = randoms(12, 3, dtype=dtype, seed=1)
    x, info = solve(A, on(backend, b), method, return_info=True)
    np.testing.assert_allclose(as_numpy(x), inverse @ b, atol=1e-9)
    assert info.converged is True
    assert info.method == method
    assert 0 < info.iterations < 60
    assert as_numpy(info.residual).shape == (3,)
    np.testing.assert_allclose(as_numpy(info.residual), np.linalg.norm(M @ as_numpy(x) - b, axis=0), atol=1e-13)
    if backend == "jax":
        return
    kept = lo.linalg.inv(A, method)
    for ours, theirs in (
        (kept, inverse),
        (kept.T, inverse.T),
        (kept.H, inverse.conj().T),
        (kept.conj(), inverse.conj()),
    ):
        np.testing.assert_allclose(as_numpy(ours @ on(backend, b)), theirs @ b, atol=1e-9)


@every_method
def test_shapes_of_right_hand_sides(name):
    M = matrix_for(name)
    A, inverse = known(M, name), np.linalg.inv(M)
    for shape, kept in (
        ((12,), ()),
        ((12, 2), (2,)),
        ((3, 12, 2), (3, 2)),
        ((2, 1, 12, 3), (2, 1, 3)),
        ((12, 0), (0,)),
    ):
        b = randoms(*shape)
        x, info = solve(A, b, METHODS[name](1e-12), x0=randoms(*shape, seed=2), return_info=True)
        assert x.shape == shape
        assert info.residual.shape == kept
        np.testing.assert_allclose(x, inverse @ b, atol=1e-9)
    mixed = randoms(12, 2, dtype="complex128")
    x, info = solve(A, mixed, METHODS[name](1e-12), x0=0 * mixed, return_info=True)
    np.testing.assert_allclose(x, inverse @ mixed, atol=1e-9)
    np.testing.assert_allclose(info.residual, np.linalg.norm(M @ x - mixed, axis=0), atol=1e-13)


STRUCTURES = {
    "toeplitz": lambda: lo.Toeplitz(np.array([5.0, 1, 0, 0, 0, 0]), np.array([5.0, -1, 0.5, 0, 0, 0])),
    "kronecker sum": lambda: lo.KroneckerSum(randoms(2, 2) + 3 * np.eye(2), randoms(3, 3) + 3 * np.eye(3)),
    "sparse": lambda: lo.aslinearoperator(
        scipy.sparse.diags_array([[1.0] * 5, [4.0] * 6, [-1.0] * 5], offsets=[-1, 0, 1])
    ),
    "sum": lambda: lo.LowRank(randoms(6, 2), randoms(2, 6)) + 9 * lo.Identity(6),
    "no arrays": lambda: 3 * lo.Identity(6) + lo.Permute([1, 2, 3, 4, 5, 0]),
    "complex, no arrays": lambda: 3 * lo.Identity(6) + lo.DFT(6, "ortho"),
}


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("name", ["gmres", "bicgstab", "lsmr"])
def test_structures(name, structure):
    A = STRUCTURES[structure]()
    M, b = A.to_dense(), randoms(6, 2)
    np.testing.assert_allclose(solve(A, b, METHODS[name](1e-12)), np.linalg.solve(M, b), atol=1e-9)
    if A.backend is not None:
        x = solve(A.to(backend="torch"), torch.tensor(b), METHODS[name](1e-12))
        np.testing.assert_allclose(x, np.linalg.solve(M, b), atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float16", "complex64", "int64"])
def test_narrow_dtypes_and_integers(dtype):
    M = np.array([[4, 1, 0], [1, 3, 1], [0, 1, 2]]).astype(dtype)
    b = np.array([5, 5, 3]).astype(dtype)
    for backend in ("numpy", "torch"):
        A = lo.assume(lo.Dense(on(backend, M)), lo.Tag.POSITIVE_DEFINITE)
        for method in (CG(1e-5), MINRES(1e-5), GMRES(1e-5), BiCGStab(1e-5), LSMR(1e-5), CG(None)):
            x = as_numpy(solve(A, on(backend, b), method))
            np.testing.assert_allclose(x.astype(complex), [1, 1, 1], atol=2e-3 if dtype == "float16" else 1e-4)
            assert x.dtype == dtype or dtype == "int64"


# ---------------------------------------------------------------- traps


@every_method
def test_each_right_hand_side_comes_out_as_alone(name):
    M = matrix_for(name, n=30)
    M[:2, 2:], M[2:, :2] = 0, 0
    A, easy = known(M, name), np.eye(30)[0]  # which two iterations solve
    b = np.stack([M @ easy, randoms(30), 1e-200 * randoms(30, seed=1), np.zeros(30), 1e150 * randoms(30, seed=2)], 1)
    steps = []
    for column in b.T:
        x, info = solve(A, column, METHODS[name](1e-9), return_info=True)
        steps.append(info.iterations)
        assert (
            float(info.residual) <= 1e-9 * np.linalg.norm(column / max(abs(column).max(), 1e-300)) * abs(column).max()
        )
    assert len(set(steps)) > 2
    assert steps[3] == 0
    x, info = solve(A, b, METHODS[name](1e-9), return_info=True)
    assert info.iterations == max(steps)
    for k, column in enumerate(b.T):
        alone = solve(A, column, METHODS[name](1e-9))
        np.testing.assert_allclose(x[:, k], alone, rtol=1e-5, atol=1e-7 * max(abs(alone).max(), 1e-300))
    assert not x[:, 3].any()


@every_method
def test_an_exact_guess_comes_back_in_no_iterations(name):
    M = matrix_for(name)
    A, x = known(M, name), randoms(12)
    found, info = solve(A, M @ x, METHODS[name](1e-10), x0=x, return_info=True)
    assert info.iterations == 0
    np.testing.assert_array_equal(found, x)
    close, info = solve(A, M @ x, METHODS[name](1e-5), x0=x + 1e-4 * randoms(12, seed=1), return_info=True)
    far = solve(A, M @ x, METHODS[name](1e-5), return_info=True)[1]
    assert 0 < info.iterations < far.iterations
    np.testing.assert_allclose(close, x, atol=1e-3)


@every_method
def test_zeros_give_exactly_zeros_with_a_finite_gradient(name):
    M = torch.tensor(matrix_for(name), requires_grad=True)
    b = torch.zeros(12, dtype=torch.float64, requires_grad=True)
    x, info = solve(known(M, name), b, METHODS[name](1e-10), x0=torch.ones(12, dtype=torch.float64), return_info=True)
    assert info.iterations == 0
    assert not x.any()
    x.sum().backward()
    np.testing.assert_allclose(b.grad, np.linalg.solve(M.detach().numpy().T, np.ones(12)), atol=1e-8)
    assert not M.grad.any()


@pytest.mark.parametrize("method", [CG(), MINRES()])
def test_operators_not_known_hermitian_are_refused(method):
    M = matrix_for("cg")
    for A in (lo.Dense(M), lo.Dense(np.triu(M))):
        with pytest.raises(ValueError, match=r"not known to be Hermitian.*lo\.assume\(A, lo\.Tag\."):
            solve(A, np.ones(12), method)
        with pytest.raises(ValueError, match="not known to be Hermitian"):
            lo.linalg.inv(A, method) @ np.ones(12)


@every_method
def test_the_residual_is_that_of_the_solution(name):
    """Recursions say 1e-16 where rounding does not let b − A x be so small."""
    Q = np.linalg.qr(randoms(40, 40))[0]
    M = (Q * np.logspace(0, -9, 40)) @ Q.T
    M = (M + M.T) / 2
    A = lo.assume(lo.Dense(M), lo.Tag.POSITIVE_DEFINITE)
    b = randoms(40)
    with pytest.raises(ConvergenceError) as error:
        solve(A, b, METHODS[name](1e-14, max_iterations=4000))
    found = error.value
    assert found.solution.shape == (40,)
    assert float(found.residual) == pytest.approx(np.linalg.norm(b - M @ found.solution), rel=1e-6)
    assert float(found.residual) > 1e-14 * np.linalg.norm(b)
    assert 0 < found.iterations <= 4000


@every_method
def test_what_does_not_converge_says_so(name):
    M, b = matrix_for(name), randoms(12, 2)
    with pytest.raises(
        ConvergenceError, match=r"2 of 2 right-hand sides, after 2 iterations.*Take a larger rtol"
    ) as error:
        solve(known(M, name), b, METHODS[name](1e-12, max_iterations=2))
    assert error.value.iterations == 2
    assert error.value.solution.shape == b.shape
    np.testing.assert_allclose(error.value.residual, np.linalg.norm(b - M @ error.value.solution, axis=0))
    with pytest.raises(ConvergenceError):
        solve(known(M, name) * np.nan, b, METHODS[name]())
    with pytest.raises(ConvergenceError):
        solve(lo.Zero(12, 12), b, METHODS[name]())


@pytest.mark.full
def test_what_does_not_converge_is_not_a_number_when_compiled():
    M, b = on("jax", matrix_for("bicgstab")), on("jax", np.stack([randoms(12), np.zeros(12)], 1))
    method = BiCGStab(1e-12, max_iterations=2)

    def told(M, b):
        x, info = solve(lo.Dense(M), b, method, return_info=True)
        return x, info.residual, info.iterations, info.converged

    x, residual, iterations, converged = jax.jit(told)(M, b)
    assert np.isnan(as_numpy(x[:, 0])).all()
    assert not as_numpy(x[:, 1]).any()
    assert not converged
    assert int(iterations) == 2
    assert float(residual[0]) > 0
    with pytest.raises(ConvergenceError):
        told(M, b)
    with pytest.raises(ConvergenceError):
        jax.grad(lambda M: told(M, b)[0].sum())(M)


def test_derivatives_that_do_not_converge_say_so():
    Q = np.linalg.qr(randoms(12, 12))[0]
    M = torch.tensor(np.triu(Q, 1) + np.eye(12), requires_grad=True)  # b is an eigenvector, its adjoint system's is not
    b = torch.zeros(12, dtype=torch.float64)
    b[0] = 1
    x = solve(lo.Dense(M), b, GMRES(1e-12, max_iterations=2))
    with pytest.raises(ConvergenceError):
        x.sum().backward()


def test_settings_are_checked():
    for wrong in ({"rtol": -1.0}, {"atol": -1.0}, {"max_iterations": -1}):
        with pytest.raises(ValueError, match="must not be negative"):
            CG(**wrong)
    with pytest.raises(ValueError, match="restart must be positive"):
        GMRES(restart=0)
    with pytest.raises(TypeError, match="callback"):
        CG(callback=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="does not fit"):
        solve(np.eye(3), np.ones(3), GMRES(preconditioner=np.eye(4)))
    with pytest.raises(TypeError, match="mixed backends"):
        solve(np.eye(3), np.ones(3), GMRES(preconditioner=torch.eye(3)))
    with pytest.raises(ValueError, match="x0 of shape"):
        solve(np.eye(3), np.ones(3), GMRES(), x0=np.ones(2 * 3).reshape(3, 2))
    with pytest.raises(ValueError, match=r"right-hand side of shape \(2,\)"):
        solve(np.eye(3), np.ones(2), GMRES())
    with pytest.raises(TypeError, match="mixed backends"):
        solve(np.eye(3), torch.ones(3), GMRES())
    assert str(CG(1e-3, preconditioner=lo.linalg.Jacobi())) == "CG(rtol=0.001, preconditioner=Jacobi())"


def test_information_of_rules_and_factorisations():
    A = lo.Kronecker(np.diag([1.0, 2.0]), randoms(3, 3) + 3 * np.eye(3))
    for method in (None, lo.linalg.LU()):
        x, info = solve(A, randoms(2, 6, 3), method, return_info=True)
        assert (info.iterations, info.converged, info.method) == (0, True, method)
        np.testing.assert_allclose(info.residual, np.zeros((2, 3)), atol=1e-14)
        assert x.shape == (2, 6, 3)


@every_backend
def test_callbacks(backend):
    told = []
    method = BiCGStab(1e-10, callback=lambda count, norms: told.append((count, as_numpy(norms).max())))
    M = on(backend, matrix_for("bicgstab"))
    _, info = solve(lo.Dense(M), on(backend, randoms(12, 2)), method, return_info=True)
    jax.effects_barrier()
    assert [count for count, _ in told] == list(range(1, info.iterations + 1))
    assert told[-1][1] <= 1e-9 < told[0][1]


def test_what_is_too_large_to_write_out_iterates(monkeypatch):
    monkeypatch.setattr("linops.linalg.inputs.DENSE_LIMIT", 100)
    b = randoms(12, 2)
    for name, kind in (("cg", CG), ("minres", MINRES), ("gmres", GMRES)):
        M = matrix_for(name)
        x, info = solve(known(M, name), b, return_info=True)
        assert type(info.method) is kind
        assert info.iterations > 0
        np.testing.assert_allclose(x, np.linalg.solve(M, b), atol=1e-8)
        x = solve(known(M.astype("float32"), name), b.astype("float32"))
        assert x.dtype == "float32"
        np.testing.assert_allclose(x, np.linalg.solve(M, b), atol=1e-3)
    with pytest.raises(ConvergenceError):
        solve(lo.Dense(np.diag([*np.ones(11), 0.0])), np.ones(12))
    for M in (randoms(12, 9), randoms(9, 12)):
        A, c = lo.Dense(M), randoms(len(M), 2)
        np.testing.assert_allclose(lo.linalg.lstsq(A, c), np.linalg.pinv(M) @ c, atol=1e-8)
        assert lo.linalg.pinv(A).method == LSMR(rtol=None)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")  # of torch's own
def test_compiled_by_torch():
    M, b = torch.tensor(matrix_for("gmres"), requires_grad=True), torch.tensor(randoms(12, 2))

    def function(M, b):
        return 2 * solve(lo.Dense(2 * M), b + 1, GMRES(1e-10))

    function_compiled = torch.compile(function, backend="eager")
    torch.testing.assert_close(function_compiled(M, b), function(M, b))
    function_compiled(M, b).sum().backward()
    found, M.grad = M.grad, None
    function(M, b).sum().backward()
    torch.testing.assert_close(found, M.grad)


# ---------------------------------------------------------------- derivatives


def _solution(name, M, b):
    A = lo.Dense(M)
    if name in ("cg", "minres"):
        tag = lo.Tag.POSITIVE_DEFINITE if name == "cg" else lo.Tag.HERMITIAN
        A = lo.assume(A @ A.H + 3 * lo.Identity(4), tag)
    else:
        A = A + 6 * lo.Identity(4)
    return solve(A, b, METHODS[name](1e-13, preconditioner=lo.linalg.Jacobi()))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("cg", "float64"),
        *[pytest.param(name, "float64", marks=pytest.mark.full) for name in METHODS if name != "cg"],
        *[pytest.param(name, "complex128", marks=pytest.mark.full) for name in METHODS],
    ],
)
def test_gradients_in_torch(name, dtype):
    M, b = [torch.tensor(randoms(*shape, dtype=dtype), requires_grad=True) for shape in ((4, 4), (4, 2))]
    assert gradcheck(lambda M, b: _solution(name, M, b), (M, b))
    assert gradcheck(lambda M, b: _solution(name, M, b), (M, b), check_forward_ad=True, check_backward_ad=False)
    assert gradgradcheck(lambda M, b: _solution(name, M, b), (M, b))


@pytest.mark.full
@pytest.mark.parametrize("name", METHODS)
def test_gradients_in_jax(name):
    M, b = on("jax", randoms(4, 4)), on("jax", randoms(4, 2))
    check_grads(lambda M, b: _solution(name, jax.numpy.asarray(M), jax.numpy.asarray(b)), (M, b), 2)


@pytest.mark.full
@pytest.mark.parametrize("name", METHODS)
def test_transforms_in_jax_and_torch(name):
    M, b = randoms(2, 4, 4), randoms(2, 4, 2)
    expected = [as_numpy(_solution(name, one, other)) for one, other in zip(M, b)]
    jax_M, jax_b = on("jax", M), on("jax", b)
    many = jax.jit(jax.vmap(lambda M, b: _solution(name, M, b)))(jax_M, jax_b)
    np.testing.assert_allclose(as_numpy(many), expected, atol=1e-10)
    found = torch.func.vmap(lambda M, b: _solution(name, M, b))(torch.tensor(M), torch.tensor(b))
    np.testing.assert_allclose(found, expected, atol=1e-10)
    found = torch.func.vmap(lambda b: _solution(name, torch.tensor(M[0]), b))(torch.tensor(b))
    np.testing.assert_allclose(found[0], expected[0], atol=1e-10)


@pytest.mark.full
def test_unused_outputs_of_a_vmapped_solve_have_finite_gradients():
    M, b = on("jax", randoms(3, 4, 4)), on("jax", randoms(3, 4))

    def loss(M):
        x = jax.vmap(lambda M, b: solve(lo.Dense(M) + 6 * lo.Identity(4), b, BiCGStab(1e-12)))(M, b)
        return x[0].sum()

    gradient = as_numpy(jax.grad(loss)(M))
    assert np.isfinite(gradient).all()
    assert not gradient[1:].any()
