"""Function, Jacobian, Hessian: what the generic tests over cases do not see."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from cases import functions as f
from helpers import as_numpy, assert_close, assert_left_product, assert_product, build, on, randoms, uses
from torch.utils.flop_counter import FlopCounterMode

import linops as lo

array = randoms("functions", "float64")
W = array(3, 4)


def norm_of_residual(x, w):
    return ((w * x).sum(-1) ** 2).sum() + (x**3).sum()


@pytest.mark.full
@uses("torch")
@pytest.mark.parametrize(
    "case",
    [
        "function_wide",
        "function_of_matrices",
        "function_transposed_by_the_framework",
        "function_with_complex_entries",
        "jacobian_tall",
        "jacobian_reverse",
        "hessian",
        "hessian_reverse",
    ],
)
def test_torch_compiles_products_written_as_methods(case):
    torch._dynamo.reset()
    operator, matrix, array = build(case, "float64", "torch")
    dtype = str(matrix.dtype)
    x, y = array(matrix.shape[1], 3), array(2, matrix.shape[0])

    @torch.compile(fullgraph=True, backend="aot_eager")
    def products(operator, x, y):
        return (
            operator.__matmul__(x),
            operator.__rmatmul__(y),
            operator.__matmul__(x[:, 0]),
            operator._linear(x.mT),
            operator.H.__matmul__(y.mT),
        )

    one, two, three, four, five = products(operator, on("torch", x), on("torch", y))
    assert_product(one, matrix, x, dtype)
    assert_left_product(two, y, matrix, dtype)
    assert_product(three, matrix, x[:, 0], dtype)
    assert_left_product(four, x.T, matrix.T, dtype)
    assert_product(five, matrix.conj().T, y.T, dtype)


def test_torch_compiles_the_operator_sign_with_a_graph_break():
    torch._dynamo.reset()
    operator = lo.Jacobian(f.squares, torch.from_numpy(array(4)), (torch.from_numpy(W),))
    x = torch.from_numpy(array(4))
    torch.testing.assert_close(torch.compile(lambda A, x: A @ x, backend="eager")(operator, x), operator @ x)
    torch._dynamo.reset()
    # should this pass some day, the docstrings can forget it
    with pytest.raises(torch._dynamo.exc.Unsupported, match="proxy"):
        torch.compile(lambda A, x: A @ x, backend="eager", fullgraph=True)(operator, x)


class TestFunction:
    def test_numpy_without_the_adjoint(self):
        A = lo.Function((3, 4), f.multiply, params=(W,))
        np.testing.assert_allclose(A @ np.eye(4), W)
        with pytest.raises(NotImplementedError, match=r"Function\(4×3, float64, numpy\).*NumPy.*multiply.*rmatvec"):
            A.T @ np.ones(3)

    def test_numpy_of_no_columns(self):
        assert (lo.Function((3, 4), f.multiply, params=(W,)) @ np.ones((4, 0))).shape == (3, 0)

    def test_without_params_it_runs_on_what_it_meets(self):
        A = lo.Function((3, 4), lambda x: x[1:] - x[:-1])
        assert A.backend is None
        for backend in ("numpy", "torch", "jax"):
            np.testing.assert_array_equal(as_numpy(A @ on(backend, np.arange(4.0) ** 2)), [1, 3, 5])

    def test_callables_that_return_or_write_their_operand(self):
        def halve(x):
            x /= 2
            return x

        for function, factor in ((lambda x: x, 1), (halve, 0.5)):
            for vectorized in (False, True):
                x = np.ones((3, 2))
                y = lo.Function((3, 3), function, vectorized=vectorized) @ x
                y[...] += 0
                assert np.array_equal(x, np.ones((3, 2)))
                assert np.array_equal(y, factor * x)

    def test_only_the_adjoint_is_given(self):
        A = lo.Function((3, 4), rmatvec=f.multiply_adjoint, params=(torch.from_numpy(W),))
        assert_close(A.to_dense(), W)
        assert_close(A.H.to_dense(), W.T)

    @pytest.mark.parametrize("calls", [1, 2])
    def test_macs_where_the_framework_transposes(self, calls):
        A = lo.Function((3, 4), f.multiply, params=(torch.from_numpy(W),), vectorized=calls == 2, macs=12)
        with FlopCounterMode(display=False) as counter:
            A.H @ torch.ones(3, 5, dtype=torch.float64)
        assert counter.get_total_flops() == A.H.flops(5) == calls * A.flops(5) == calls * 2 * 12 * 5

    def test_it_pickles_if_the_callable_does(self):
        A = lo.Function((3, 4), functools.partial(f.multiply, a=W))
        np.testing.assert_allclose(pickle.loads(pickle.dumps(A)) @ np.eye(4), W)
        with pytest.raises((AttributeError, pickle.PicklingError)):
            pickle.dumps(lo.Function((3, 4), lambda x: x[:3]))

    def test_jit_compiles_once_for_a_function_of_a_module(self):
        compiled = 0

        @jax.jit
        def product(A, x):
            nonlocal compiled
            compiled += 1
            return A @ x

        for scale in (1, 2):
            A = lo.Function((3, 4), f.multiply, params=(jnp.asarray(scale * W),))
            assert_close(product(A, jnp.ones(4)), scale * W.sum(1))
        assert compiled == 1

    def test_symbolic_until_its_params_are_there(self):
        A = lo.Function((3, 4), f.multiply, f.multiply_adjoint, (lo.spec(3, 4),), macs=12)
        assert A.is_symbolic
        assert (A.T.shape, A.num_params, A.flops(2)) == ((4, 3), 12, 48)
        assert_close(A.with_leaves([W]).T.to_dense(), W.T)


class TestDerivatives:
    @pytest.mark.full
    def test_jacobians_and_hessians_are_those_of_the_frameworks(self):
        x, w = array(4), W
        ours = lo.Hessian(norm_of_residual, torch.from_numpy(x), (torch.from_numpy(w),))
        assert_close(
            ours.to_dense(), torch.func.hessian(norm_of_residual)(torch.from_numpy(x), torch.from_numpy(w)).numpy()
        )
        theirs = jax.hessian(norm_of_residual)(jnp.asarray(x), jnp.asarray(w))
        assert_close(ours.to(backend="jax").to_dense(), np.asarray(theirs))
        jacobian = lo.Jacobian(f.squares, jnp.asarray(x), (jnp.asarray(w),))
        assert_close(jacobian.T.to_dense().T, np.asarray(jax.jacrev(f.squares)(jnp.asarray(x), jnp.asarray(w))))

    def test_jax_finds_the_shape_without_numbers(self):
        def refuses_numbers(x):
            assert isinstance(x, jax.core.Tracer)
            return x[:2]

        assert lo.Jacobian(refuses_numbers, jnp.ones(3)).shape == (2, 3)
        assert lo.Jacobian(refuses_numbers, lo.spec(3), out_features=2).T.shape == (3, 2)

    def test_functions_without_forward_mode(self):
        @jax.custom_vjp
        def sine(x):
            return jnp.sin(x)

        sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, y: (y * jnp.cos(x),))
        x = jnp.asarray(array(3))
        with pytest.raises(TypeError, match="custom_vjp"):
            lo.Jacobian(sine, x) @ x
        assert_close(lo.Jacobian(sine, x, mode="reverse") @ x, np.asarray(jnp.cos(x) * x))
        assert_close(lo.Hessian(lambda x: sine(x).sum(), x, mode="reverse") @ x, np.asarray(-jnp.sin(x) * x))

    @pytest.mark.full
    def test_functions_of_reals_and_complex_vectors(self):
        point = jnp.asarray(array(4))
        A, B = (lo.Jacobian(f.squares, point, (jnp.asarray(W),), mode=mode) for mode in ("forward", "reverse"))
        x, y = randoms("vectors", "complex128")(4, 2), randoms("vectors", "complex128")(3, 2)
        matrix = as_numpy(A.to_dense())
        for operator in (A, B):
            assert_product(operator @ jnp.asarray(x), matrix, x, "complex128")
            assert_product(operator.H @ jnp.asarray(y), matrix.T, y, "complex128")
        narrow = lo.Jacobian(f.squares, jnp.asarray(array(4), "float32"), (jnp.asarray(W, "float32"),))
        assert ((narrow @ jnp.ones(4)).dtype, (narrow.T @ jnp.ones(3)).dtype) == ("float64", "float64")
        assert (narrow @ jnp.ones(4, int)).dtype == "float32"

    @pytest.mark.parametrize("name", ["forward", "transposed", "hessian"])
    def test_torch_does_not_mix_dtypes(self, name):
        x, w = torch.from_numpy(array(4)), torch.from_numpy(W)
        jacobian = lo.Jacobian(f.squares, x, (w,))
        A = {"forward": jacobian, "transposed": jacobian.T, "hessian": lo.Hessian(norm_of_residual, x, (w,))}[name]
        with pytest.raises(TypeError, match=r"float64, torch\) @ array of torch.float32: torch does not mix"):
            A @ torch.ones(A.shape[1], dtype=torch.float32)

    def test_gradients_and_stacks_of_points(self):
        points, w, v = torch.from_numpy(array(5, 4)), torch.from_numpy(W), torch.from_numpy(array(4))
        products = torch.func.vmap(lambda x: lo.Hessian(norm_of_residual, x, (w,)) @ v)(points)
        for x, product in zip(points, products, strict=True):
            torch.testing.assert_close(product, torch.func.hessian(norm_of_residual)(x, w) @ v)
        gradient = torch.func.grad(lambda A: (A @ v).sum())(lo.Hessian(norm_of_residual, points[0], (w,)))
        torch.testing.assert_close(gradient.x, 6 * v)  # of Σ 6 x[i] v[i]; the rest is quadratic

    def test_steps_are_named_and_uncounted(self):
        x, w = torch.from_numpy(array(4)), torch.from_numpy(W)
        A = lo.Jacobian(f.squares, x, (w,))
        assert [step.kind for step in (*A._lower(1), *A.T._lower(1))] == ["jvp", "vjp"]
        assert "squares: (4, 2) → (3, 2)" in A.explain(2)
        assert A.flops(2) == 0
        assert "squares, reverse, transposed, conjugated" in repr(lo.Jacobian(f.squares, x, (w,), mode="reverse").H)

    def test_a_hessian_is_symmetric(self):
        assert lo.Hessian(norm_of_residual, jnp.asarray(array(4)), (jnp.asarray(W),)).is_hermitian is True
        complex_point = randoms("point", "complex128")(4)
        A = lo.Hessian(f.chain, jnp.asarray(complex_point), (jnp.asarray(complex_point[:3]),))
        assert (A.is_symmetric, A.is_hermitian) == (True, None)

    def test_leaves_of_another_size_are_noticed(self):
        A = lo.Jacobian(lambda x: 2 * x, torch.ones(3)).with_leaves([torch.ones(4)])
        with pytest.raises(ValueError, match=r"Jacobian\(3×4.*4 numbers, expected 3"):
            A @ torch.ones(4)
