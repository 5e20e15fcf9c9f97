"""Callables as operators, and what transformations and deployment make of operators: trials 3, 4, 21, 24, 34, 36-39."""

import copy
import re
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from flax import nnx
from helpers import build, every_case

import linops as lo
from linops.nn.torch.parts import Parts

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
    return lo.aslinearoperator(
        scipy.sparse.linalg.LinearOperator((3, 3), matvec=product, rmatvec=product, dtype="float64")
    )


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
        # torch's vmap refuses kept buffers by itself
        shapes = [(3,), (3, 2)] if wrap != "torch" or "kept" not in kind else [(3,)]
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


@pytest.mark.full
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


@pytest.mark.full
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


@pytest.mark.full
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


# ---------------------------------------------------------------- 39: FLOPs as a budget

FAMILIES = (
    lo.dense,
    lo.monarch,
    lo.block_diag,
    lo.btt,
    lo.low_rank,
    lo.blast,
    lo.butterfly,
    lo.einsum,
    lo.kronecker,
    lo.tensor_train,
    lo.circulant,
    lo.toeplitz,
)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_trial_39_the_natural_order_is_a_budget(family):
    M = family(300, 64)
    for A in (M, M.T, M.T @ M, M + M, 2 * M, lo.vstack(M, M)):
        costs = [A.cost(batch, order="natural") for batch in (0, 1, 2, 3, 31, 32, 1000, 10**5)]
        for count in ("macs", "flops", "bytes_read", "bytes_written"):
            counts = [getattr(cost, count) for cost in costs]
            assert counts == sorted(counts), (A, count)
        assert [A.flops(batch, order="natural") for batch in (1, 1000)] == [costs[1].flops, costs[6].flops]


def test_trial_39_both_counts_are_there_and_named():
    A = lo.dense(64, 1024) @ lo.Dense(lo.spec(1024, 1024))
    assert A.flops(127) > A.flops(128)  # what runs
    assert 128 * A.flops(127, order="natural") == 127 * A.flops(128, order="natural")
    assert A.cost(128).flops == A.flops(128) < A.cost(128, order="natural").flops
    natural = f"{A.flops(128, order='natural'):,}"
    assert f"by a plan (in the natural order {natural} FLOPs)" in A.explain(128).split("\nstep")[0]
    assert natural in A.explain(128, order="natural").split("\n")[-1]
    assert "by a plan" not in A.explain(127) + A.explain(128, order="natural")
    with pytest.raises(ValueError, match=r"'planned'.*'natural'.*'best'"):
        A.flops(1, order="best")


# ---------------------------------------------------------------- 24: compiled as the first thing in a process


@pytest.mark.parametrize(
    ("mode", "operators"), [("static", ("Dense", "Kronecker")), ("dynamic", ("Permute.axes", "Identity"))]
)
@pytest.mark.full
def test_trial_24_operators_compile_as_the_first_thing_in_a_process(mode, operators):
    script = Path(__file__).with_name("compile_first.py")  # by hand: all operators
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, mode, *operators], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------- 36: stacks of operators outside vmap


def _stacked(A, *lead):
    return A._map(lambda leaf: np.broadcast_to(leaf, (*lead, *leaf.shape)))


@every_case
@pytest.mark.parametrize("lead", [(3,), (2, 3)])
def test_trial_36_a_stack_of_operators_says_so(case, lead):
    A, _, _ = build(case, "float64", "numpy")
    unknown = {"Function", "ScipyOperator"}  # of callables, whose arrays may have any axes
    if not list(A.named_leaves()) or unknown & {type(node).__name__ for _, node in A._nodes()}:
        pytest.skip("it has no arrays with axes of its own")
    if any(type(node).__name__ == "Householder" and node.v.ndim == 1 for _, node in A._nodes()):
        pytest.skip("vectors in rows are reflections one after the other: one axis fewer leads than was put there")
    stack = _stacked(A, *lead)
    said = f"leaves carry {len(lead)} leading ax{'is' if len(lead) == 1 else 'es'} {lead}"
    m, n = A.shape
    uses = {
        "shape": lambda: stack.shape,
        "matrix": lambda: stack @ np.ones((n, 2)),
        "vector": lambda: stack @ np.ones(n),
        "left": lambda: np.ones(m) @ stack,
        "dense": lambda: stack.to_dense(),
        "cost": lambda: stack.cost(),
        "explain": lambda: stack.explain(),
        "rates": lambda: lo.lr_multipliers(stack),
        "T": lambda: stack.T,
        "sum": lambda: stack + stack,
        "product": lambda: stack @ stack.H,
        "multiple": lambda: (2 * stack) @ np.ones(n),
        "freeze": lambda: lo.freeze(stack),
        "simplify": lambda: lo.simplify(stack),
    }
    own = not isinstance(A, (lo.Sum, lo.Product, lo.Scaled, lo.Power))
    for name, use in uses.items():
        if name in ("shape", "sum", "rates") and not own:
            continue  # of a composite some part's shape may do
        with pytest.raises(ValueError, match=re.escape(said)):
            pytest.fail(f"{name} gives {use()}")
    assert said in repr(stack)
    assert repr(A) == repr(A._map(lambda leaf: leaf))


def test_trial_36_stacks_multiply_inside_vmap_and_are_named_outside():
    make = jax.vmap(lambda number: lo.LowRank(number * jnp.ones((4, 2)), jnp.ones((2, 4))))
    stack = make(jnp.arange(3.0))
    assert (jax.vmap(lambda A, x: A @ x, in_axes=(0, None))(stack, jnp.ones(4)) == 8 * jnp.arange(3.0)[:, None]).all()
    with pytest.raises(ValueError, match=r"LowRank: leaves carry 1 leading axis \(3,\): U \(3, 4, 2\).*inside vmap"):
        stack @ jnp.ones(4)
    with pytest.raises(ValueError, match=r"LowRank: leaves do not have the axes that they should"):
        _ = jax.tree.map(lambda leaf: leaf[0], lo.LowRank(jnp.ones((4, 2)), jnp.ones((2, 4)))).shape


# ---------------------------------------------------------------- 37: frozen sums, layers and models


def _freezables():
    array = np.random.default_rng(0).standard_normal
    D, E = lo.Dense(array((24, 24))), lo.Dense(array((24, 24)))
    copying = lo.Function((24, 24), np.copy, np.copy)
    return {
        "two matrices": (D + E, 24 * 24),
        "a matrix and a diagonal": (D + lo.Diagonal(array(24)) + lo.Identity(24), 24 * 24),
        "a low-rank update": (D + lo.LowRank(array((24, 1)), array((1, 24))), 24 * 24),
        "a multiple": (2 * D, 24 * 24),
        "a product of sums": ((D + E) @ (D - lo.Identity(24)), 24 * 24),
        "with a callable": (D + copying + E, 24 * 24),
        "blocks": (lo.Block([[D, E], [E, D]]), 48 * 48),
        "integers": (lo.Dense(np.full((3, 3), 100, np.int8)) + lo.Identity(3), 9),
        "where it does not pay": (
            lo.Diagonal(array(2000)) + lo.Tridiagonal(array(1999), array(2000), array(1999)),
            3 * 2000 - 2 + 2000,
        ),
    }


@pytest.mark.parametrize("name", _freezables())
def test_trial_37_a_frozen_sum_is_one_matrix(name):
    A, numbers = _freezables()[name]
    B, x = lo.freeze(A), np.random.default_rng(1).standard_normal((A.shape[1], 2)).astype(A.dtype)
    assert B.num_params == numbers, B
    assert B.dtype == A.dtype
    np.testing.assert_allclose(B @ x, A @ x, rtol=1e-12, atol=1e-12)
    assert lo.freeze(lo.dense(64, 64) + lo.low_rank(64, 64)).num_params == 64 * 64  # symbolic


def _sums():
    return lo.dense(8, 8) + lo.low_rank(8, 8, rank=2)


def test_trial_37_a_torch_model_is_frozen_or_dense_in_one_call():
    tied = lo.nn.torch.Linear(_sums())
    other = lo.nn.torch.Linear(_sums())
    for name, parameter in tied.named_parameters():
        if name != "bias":
            other.register_parameter(name, parameter)
    normalized = lo.nn.torch.Linear(lo.btt(8, 8, allow_dearer=True), weight_norm=True).requires_grad_(False)
    parts = Parts([lo.nn.torch.Linear(_sums(), bias=False), lo.nn.torch.Linear(_sums(), bias=False)], bias=True)
    model = torch.nn.Sequential(tied, other, torch.nn.Sequential(normalized, normalized), torch.nn.GELU(), parts).eval()
    calls, x = [], torch.randn(3, 8)
    handle = tied.register_forward_hook(lambda *_: calls.append(1))
    expected, bias = model(x), other.bias
    for to in (lambda model: lo.nn.freeze_(model, batch=3), lo.nn.to_dense_):
        copied = copy.deepcopy(model)
        del calls[:]
        report = to(copied)
        torch.testing.assert_close(copied(x), expected)
        assert calls == [1]
        weights = [
            [parameter for name, parameter in copied[place].named_parameters() if name != "bias"] for place in (0, 1)
        ]
        assert len(weights[0]) == 1
        assert weights[0][0] is weights[1][0]  # still tied
        assert copied[1].bias is not copied[0].bias
        assert copied[2][0] is copied[2][1]
        assert not copied[2][0].training
        assert [parameter.requires_grad for parameter in copied[2][0].parameters()] == [False] * 2
        assert all(parameter.requires_grad for parameter in copied[0].parameters())
        assert report.rows[1].tied_to == "0"
        assert "whole model" in str(report)
        assert report.totals == tuple(sum(p.numel() for p in one.parameters()) for one in (model, copied))
    assert isinstance(copied[4], torch.nn.Linear)
    assert bias is other.bias
    handle.remove()


def test_trial_37_layers_say_how_they_are_frozen():
    layer = lo.nn.torch.Linear(_sums())
    with pytest.raises(TypeError, match=r"layer\.operator.*lo\.nn\.freeze_"):
        lo.freeze(layer)
    with pytest.raises(ValueError, match=r"lo\.freeze\(layer\.operator, 2\)"):
        lo.nn.freeze_(layer, batch=2)
    with pytest.raises(ValueError, match=r"layer\.to_dense\(\)"):
        lo.nn.to_dense_(layer)


@pytest.mark.full
def test_trial_37_jax_models_are_frozen_or_dense_in_one_call():
    x = jnp.ones((3, 8))
    model = {"a": lo.nn.equinox.Linear(_sums(), weight_norm=True, key=jax.random.key(0)), "b": None}
    for to, kind in ((lo.nn.equinox.freeze, lo.nn.equinox.Linear), (lo.nn.equinox.to_dense, eqx.nn.Linear)):
        changed = to(model)
        assert type(changed["a"]) is kind
        assert sum(leaf.size for leaf in jax.tree.leaves(changed)) == 72
        np.testing.assert_allclose(jax.vmap(changed["a"])(x), model["a"](x), rtol=1e-5)
    for to, kind in ((lo.nn.flax.freeze, lo.nn.flax.Linear), (lo.nn.flax.to_dense, nnx.Linear)):
        flax = nnx.Sequential(lo.nn.flax.Linear(_sums(), weight_norm=True, rngs=nnx.Rngs(0)))
        expected, bias = flax(x), flax.layers[0].bias
        assert to(flax) is None
        assert type(flax.layers[0]) is kind
        assert flax.layers[0].bias is bias
        assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(flax, nnx.Param))) == 72
        np.testing.assert_allclose(flax(x), expected, rtol=1e-5)


@pytest.mark.full
def test_trial_37_layers_over_several_axes_stay_so():
    attention = nnx.MultiHeadAttention(num_heads=4, in_features=64, decode=False, rngs=nnx.Rngs(0))
    lo.nn.flax.replace_linear(attention, "btt", rngs=nnx.Rngs(1))
    x = jax.random.normal(jax.random.key(0), (2, 5, 64))
    expected = attention(x)
    for change in (lo.nn.flax.freeze, lo.nn.flax.to_dense):
        twin = nnx.clone(attention)
        change(twin)
        np.testing.assert_allclose(twin(x), expected, atol=1e-5)


# ---------------------------------------------------------------- 34: callables of a framework, without arrays of their
# own


@pytest.mark.parametrize("backend", ["torch", "jax", "numpy"])
def test_trial_34_a_function_says_what_it_runs_on(backend):
    ones = ONES[backend]
    diagonal = 2 * ones(3)
    options = {"runs_on": backend, "vectorized": True}
    F = lo.Function((3, 3), lambda x: diagonal[:, None] * x, lambda x: diagonal[:, None] * x, **options)
    matrix = lo.Dense(ones((3, 3)))
    for A, entry in ((F, 2), (F.T, 2), (F.H.conj(), 2), (F + F, 4), (F @ F, 4), (2 * F, 4), (lo.freeze(F + F), 4)):
        assert A.backend == backend
        assert type(A.to_dense()) is type(ones(3))
        assert (A.to_dense() == entry * np.eye(3)).all()
        assert (A[0] == ones(3) * np.eye(3)[0] * entry if backend != "torch" else A[0] == entry * torch.eye(3)[0]).all()
        assert A[1, 1] == entry
    assert ((F + matrix) @ ones(3) == 5).all()
    assert ((matrix + F) @ ones(3) == 5).all()
    assert ((matrix @ F) @ ones(3) == 6).all()
    other = "numpy" if backend != "numpy" else "torch"
    with pytest.raises(TypeError, match=f"mixed backends; convert one, as in .*{backend}|mixed backends"):
        F @ ONES[other](3)
    with pytest.raises(TypeError, match=f"runs on {backend} alone"):
        F.to(backend=other)
    with pytest.raises(TypeError, match=f"params are {other} arrays, runs_on='{backend}'"):
        lo.Function((3, 3), lambda x, p: p * x, params=(ONES[other](3),), runs_on=backend)


def test_trial_34_without_it_the_error_names_the_way():
    w, v = jnp.ones(3), torch.ones(3, 3)
    for use in (lo.Function.to_dense, lambda F: F[0], lambda F: (F + F)[:, 0]):
        with pytest.raises(TypeError, match=r"matvec returned ArrayImpl.*runs_on='jax'"):
            use(lo.Function((3, 3), lambda x: w * x, lambda x: w * x))
        with pytest.raises(TypeError) as raised:
            use(lo.Function((3, 3), lambda x: torch.matmul(v, x), lambda x: torch.matmul(v, x)))
        assert "runs_on=" in raised.value.__notes__[0]
    with pytest.raises(ValueError, match="tpu"):
        lo.Function((3, 3), lambda x: x, runs_on="tpu")


# ---------------------------------------------------------------- 38: numbers under jax.jit and scan


def test_trial_38_one_program_for_all_numbers_that_are_arguments():
    B, x = lo.Dense(jnp.ones((4, 4), "bfloat16")), jnp.ones(4, "bfloat16")
    multiple = jax.jit(lambda c, B, x: ((c * B) @ x, (B / c).to_dense(), (c * lo.Identity(4)) @ x))
    product = jax.jit(lambda A, x: A @ x)
    for c in (0.5, 0.25, 2.0):
        found = multiple(c, B, x)
        for y, value in zip(found, (4 * c, 1 / c, c)):
            assert y.dtype == "bfloat16"  # as weak as Python's number
            assert (y == value).all()
        A = jnp.asarray(c) * B
        assert A.dtype == "bfloat16"
        assert (product(A, x) == 4 * c).all()
    assert multiple._cache_size() == product._cache_size() == 1
    assert (jnp.asarray(1j) * B).dtype == (1j * B).dtype
    assert (jnp.asarray(0.5, "float32") * B).dtype == "float32"  # an array with a dtype of its own promotes


def test_trial_38_numbers_are_no_parameters():
    A = 0.5 * lo.Dense(jnp.ones((2, 2)))
    assert A.num_params == 4
    assert [name for name, _ in A.named_leaves()] == ["base_matrix"]
    gradient = jax.grad(lambda A: (A @ jnp.ones(2)).sum())(A)
    assert len(jax.tree.leaves(gradient)) == 1
    assert (gradient.base.matrix == 0.5).all()


def test_trial_38_multiples_by_arrays_and_simplified_ones_are_carries_of_scan():
    B, x = lo.Dense(jnp.ones((4, 4))), jnp.ones(4)
    steps = {
        "0.5 * B": (lambda B: 0.5 * B, jnp.asarray(1.0) * B),
        "B / 2": (lambda B: B / 2, jnp.asarray(1.0) * B),
        "of a multiple": (lambda B: 0.5 * B, jnp.asarray(1.0) * (1.0 * B)),
        "simplified": (lambda B: lo.simplify(0.5 * B), B),
    }
    for name, (step, first) in steps.items():
        last, products = jax.lax.scan(lambda B, _, step=step: (step(B), (B @ x)[0]), first, length=3)
        assert products.tolist() == [4, 2, 1], name
        assert (last @ x == 0.5).all(), name
