"""Callables as operators, and what transformations and deployment make of operators: trials 3, 4, 21, 24, 34, 36-39."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse.linalg
import torch

import linops as lo

ONES = {"numpy": np.ones, "torch": torch.ones, "jax": jnp.ones}


# ---------------------------------------------------------------- 3: what callables write to, return and keep


def _in_place(x):
    x *= 2
    return x


def _kept(ones):
    """A callable that returns the same buffer every time."""
    buffers = {}

    def product(x):
        buffer = buffers.setdefault(tuple(x.shape), ones(tuple(x.shape)))
        buffer[...] = 2 * x
        return buffer

    return product


def _views(ones):
    """A callable that returns another view of the same memory every time."""
    product = _kept(ones)
    return lambda x: product(x)[:]


CALLABLES = {
    "in place": lambda ones: _in_place,
    "its argument": lambda ones: lambda x: _in_place(x)[:],
    "a kept buffer": _kept,
    "views of a kept buffer": _views,
}


def _scipys(product, ones):
    return lo.aslinearoperator(scipy.sparse.linalg.LinearOperator((3, 3), matvec=product, rmatvec=product, dtype="float64"))


def _scipys_adjoint(product, ones):
    scipys = scipy.sparse.linalg.LinearOperator((3, 3), matvec=product, rmatvec=product, dtype="float64")
    return lo.aslinearoperator(scipy.sparse.linalg.aslinearoperator(scipys).H)


def _scipys_matrices(product, ones):
    options = {"matmat": product, "rmatmat": product, "dtype": "float64"}
    return lo.aslinearoperator(scipy.sparse.linalg.LinearOperator((3, 3), matvec=product, rmatvec=product, **options))


WRAPS = {
    "numpy": lambda product, ones: lo.Function((3, 3), product, product),
    "numpy, vectorized": lambda product, ones: lo.Function((3, 3), product, product, vectorized=True),
    "numpy, scipy's": _scipys,
    "numpy, scipy's adjoint": _scipys_adjoint,
    "numpy, scipy's of matrices": _scipys_matrices,
    "torch": lambda product, ones: lo.Function((3, 3), product, product),
    "torch, vectorized": lambda product, ones: lo.Function((3, 3), product, product, vectorized=True),
}

#: expressions of F = 2 I, and how often they are the identity
EXPRESSIONS = {
    "F": (lambda F: F, 2),
    "F + F": (lambda F: F + F, 4),
    "F @ F": (lambda F: F @ F, 4),
    "F ** 3": (lambda F: F**3, 8),
    "mixed": (lambda F: (F @ lo.Identity(3)) @ F + lo.Identity(3), 5),
    "F.H": (lambda F: F.H, 2),
    "block": (lambda F: lo.Block([[F + F]]), 4),
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("kind", CALLABLES)
def test_trial_03_operands_are_not_written_to_and_results_are_fresh(kind, wrap):
    ones = ONES[wrap.partition(",")[0]]
    for name, (expression, times) in EXPRESSIONS.items():
        A = expression(WRAPS[wrap](CALLABLES[kind](ones), ones))
        shapes = [(3,), (3, 2)] if wrap != "torch" or "kept" not in kind else [(3,)]  # torch's vmap refuses kept buffers by itself
        for shape in shapes:
            x = ones(shape)
            first, second = A @ x, A @ (3 * x)
            left = (x if x.ndim == 1 else x.mT) @ A
            assert (x == 1).all(), name
            assert all((y == value * times).all() for y, value in ((first, 1), (second, 3), (left, 1))), name
            first[...] = 0  # a caller may write to a result
            assert all((y == value * times).all() for y, value in ((second, 3), (A @ x, 1))), name


def test_trial_03_columns_of_a_kept_buffer_are_not_all_the_last_one():
    X = np.arange(6.0).reshape(3, 2)
    for wrap in ("numpy", "numpy, scipy's", "numpy, scipy's adjoint"):
        A = WRAPS[wrap](_kept(np.ones), np.ones)
        assert np.array_equal(A @ X, 2 * X)
        assert np.array_equal(A.H @ X, 2 * X)
        assert np.array_equal(A.to_dense(), 2 * np.eye(3))


def test_trial_03_numpy_copies_no_result_that_is_fresh():
    made = []

    def product(x):
        y = 2 * x
        made.append(y.__array_interface__["data"])
        return y

    assert (lo.Function((3, 3), product) @ np.ones(3)).__array_interface__["data"] == made[0]


def test_trial_03_layers_of_callables_leave_their_input():
    layer = lo.Function((3, 3), _in_place, _in_place).to_layer(bias=False, framework="torch")
    x = torch.ones(2, 3)
    assert (layer(x) == 2).all()
    assert (x == 1).all()


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_trial_03_derivatives_of_functions_that_write_to_their_argument(mode):
    x, v = torch.ones(3), torch.ones(3)
    J = lo.Jacobian(lambda x: _in_place(x) ** 2, x, mode=mode)
    H = lo.Hessian(lambda x: (_in_place(x) ** 2).sum(), x, mode=mode)
    for A in (J, H):
        assert (A @ v == 8).all()
        assert (v @ A == 8).all()
        assert ((A + A) @ v == 16).all()
        assert (A.to_dense() == 8 * torch.eye(3)).all()
    assert (x == 1).all()
    assert (v == 1).all()
    same = lo.Jacobian(lambda x: x, x, mode=mode) @ v
    same += 1
    assert (v == 1).all()


# ---------------------------------------------------------------- 4: what a function does not differentiate


def _no_grad(x):
    with torch.no_grad():
        y = 2 * x
    return x + y


@torch.no_grad()
def _decorated(x):
    return 2 * x


def _switched(x):
    torch.set_grad_enabled(False)
    y = 2 * x
    torch.set_grad_enabled(True)
    return x + y


def _nested(x):
    with torch.no_grad():
        with torch.enable_grad():
            y = x + 0
        z = 2 * x
    return y + z


def _inference(x):
    with torch.inference_mode():
        y = 2 * x
    return x + y


CUT = {
    "no_grad": _no_grad,
    "decorator": lambda x: x + _decorated(x),
    "set_grad_enabled": _switched,
    "enable_grad inside": _nested,
    "inference_mode": _inference,
    "detach": lambda x: x + 2 * x.detach(),
    "stop_gradient": lambda x: x + jax.lax.stop_gradient(2 * x),
}


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("cut", CUT)
def test_trial_04_what_is_cut_from_the_graph_is_constant_in_both_modes(cut, mode):
    f, ones = CUT[cut], ONES["jax" if cut == "stop_gradient" else "torch"]
    x, v = ones(3), ones(3)
    J = lo.Jacobian(f, x, mode=mode)
    H = lo.Hessian(lambda x: (f(x) ** 3).sum(), x, mode=mode)
    for A, entry in ((J, 1), (H, 18)):
        assert all((y == entry).all() for y in (A @ v, v @ A, A @ ones((3, 2)))), A
        assert (A.to_dense() == entry * np.eye(3)).all()


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_trial_04_products_in_no_grad_are_the_same_and_have_no_graph(around):
    x = torch.ones(3, requires_grad=True)
    with around():
        for A, entry in ((lo.Jacobian(_no_grad, x), 1), (lo.Hessian(lambda x: (_no_grad(x) ** 3).sum(), x), 18)):
            products = A @ torch.ones(3), torch.ones(3) @ A, A.to_dense()[0, 0]
            assert all((y == entry).all() and not y.requires_grad for y in products)
    assert torch.is_grad_enabled()
    assert torch._C._is_fwd_grad_enabled()
    assert (lo.Jacobian(lambda x: x**2, x) @ torch.ones(3)).requires_grad


def test_trial_04_compiled_products_are_the_same():
    torch._dynamo.reset()
    J = lo.Jacobian(_no_grad, torch.ones(3))
    product = torch.compile(lambda A, x: A.__matmul__(x), fullgraph=True, backend="eager")
    assert (product(J, torch.ones(3)) == 1).all()
    assert (product(J, torch.ones(3, 2)) == 1).all()


def test_trial_04_a_function_without_forward_mode_is_told_of_the_other():
    class Square(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x):
            return x**2

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, gradient):
            return 2 * ctx.saved_tensors[0] * gradient

    with pytest.raises(NotImplementedError, match="mode='reverse'"):
        lo.Jacobian(Square.apply, torch.ones(3)) @ torch.ones(3)
    reverse = lo.Jacobian(Square.apply, torch.ones(3), mode="reverse")
    assert (reverse @ torch.ones(3) == 2).all()
    assert (reverse @ torch.ones(3, 2) == 2).all()


# ---------------------------------------------------------------- 21: derivatives that are constant


SHAPES = [(3,), (3, 4), (3, 0), (2, 3, 4), (0, 3, 4)]


@pytest.mark.parametrize("backend", ["torch", "jax"])
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_trial_21_hessians_of_linear_and_constant_functions(backend, mode):
    ones = ONES[backend]
    for f in (lambda x: x.sum(), lambda x: ones(()), lambda x: x[:1].sum() * 2):
        for params in ((), (ones(3),)):
            A = lo.Hessian(lambda x, *params, f=f: f(x), ones(3), params, mode=mode)
            for shape in SHAPES:
                y = A @ ones(shape)
                assert tuple(y.shape) == shape
                assert (y == 0).all()
            assert (A.to_dense() == 0).all()
            assert A.to_dense().shape == (3, 3)


@pytest.mark.parametrize("backend", ["torch", "jax"])
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_trial_21_jacobians_of_constant_and_linear_functions(backend, mode):
    ones = ONES[backend]
    functions = {"constant": (lambda x: ones(3), 0), "linear": (lambda x: 2 * x, 2), "unused": (lambda x, p: 3 * p, 0)}
    for name, (f, factor) in functions.items():
        J = lo.Jacobian(f, ones(3), (ones(3),) if name == "unused" else (), mode=mode)
        for A in (J, J.T):
            for shape in SHAPES:
                y = A @ ones(shape)
                assert tuple(y.shape) == shape
                assert (y == factor).all()
                if backend == "torch":
                    y += 1  # not one number for all columns
            assert (A.to_dense() == factor * np.eye(3)).all()
