"""Products of many vectors in JAX, in parts: those of all at once, with derivatives of every kind."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linops as lo
from linops.backends import jax_parts
from linops.operators import choosing, planned
from linops.plan import natural_order
from linops.plan.plan import Plans

FAMILIES = {
    "btt": lo.btt(8, 18, rank=2),
    "monarch": lo.monarch(16, 12),
    "tensor_train": lo.tensor_train(16, 16, rank=2),
    "butterfly": lo.butterfly(16, 16),
    "low_rank": lo.low_rank(8, 12, rank=3),
    "kronecker": lo.kronecker(16, 8),
    "product": lo.dense(6, 8) @ lo.btt(8, 18) + 2.0 * lo.low_rank(6, 18, rank=2),
}
COUNT = 24


@pytest.fixture
def small(monkeypatch):
    """All products are cut, into parts of eight vectors; how many were is counted."""
    taken = []

    def vectors_at_once(x, count):
        taken.append(size := VECTORS_AT_ONCE(x, count))
        return size

    monkeypatch.setattr(planned, "JAX_PARTS", 0)
    monkeypatch.setattr(jax_parts, "JAX_PART", 8)
    monkeypatch.setattr(choosing, "PLANS", Plans(bound=4096))
    monkeypatch.setattr(planned.backends, "vectors_at_once", vectors_at_once)
    monkeypatch.setattr(jax, "device_count", lambda: 1)  # other tests may have asked for more
    return taken


VECTORS_AT_ONCE = planned.backends.vectors_at_once


def numbers(seed, shape, dtype):
    random = np.random.default_rng(seed)
    found = random.standard_normal(shape)
    return jnp.asarray(found + 1j * random.standard_normal(shape) if dtype == "complex64" else found, dtype)


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, dtype) for name in FAMILIES for dtype in ("float32", "complex64")],
)
def test_products_and_derivatives_are_those_of_all_vectors(small, name, dtype):
    A = FAMILIES[name].init(seed=0, backend="jax", dtype=dtype)
    m, n = A.shape
    ways = {
        "columns": (lambda A, x: A @ x, (n, COUNT), (m, COUNT)),
        "rows": (lambda A, x: x @ A.T, (COUNT, n), (COUNT, m)),
        "from the left": (lambda A, x: x @ A, (COUNT, m), (COUNT, n)),
    }
    for way, (product, into, out) in ways.items():
        x, slope = numbers(1, into, dtype), numbers(2, out, dtype)

        def whole(A, x, product=product):
            with natural_order():
                return product(A, x)

        def pulled(product, A, x, slope):
            y, pull = jax.vjp(product, A, x)
            return y, pull(slope)

        def pushed(product, A, x, slope):
            return jax.jvp(product, (A, x), (A, x))

        def twice(product, A, x, slope):
            return jax.grad(lambda x: (abs(jax.grad(lambda x: (abs(product(A, x)) ** 4).sum())(x)) ** 2).sum())(x)

        for derivative in (pulled, pushed, twice):
            found = jax.jit(derivative, static_argnums=0)(product, A, x, slope)
            wanted = jax.jit(derivative, static_argnums=0)(whole, A, x, slope)
            for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
                assert one.dtype == other.dtype
                np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(other).max(), err_msg=way)
    assert 8 in small


@pytest.mark.full
@pytest.mark.parametrize(
    "around",
    [
        jax.jit,
        jax.checkpoint,
        lambda f: jax.jit(jax.checkpoint(f)),
    ],
)
def test_derivatives_of_what_was_traced_before(small, around):
    A = lo.btt(16, 36, rank=2).init(seed=0, backend="jax", dtype="float32")
    dense = A.to_dense()
    for product, matrix, shape in (
        (lambda x: A @ x, lambda x: dense @ x, (36, COUNT)),
        (lambda x: x @ A.T, lambda x: x @ dense.T, (COUNT, 36)),
    ):
        x, traced = numbers(1, shape, "float32"), around(product)
        for derivative in (
            lambda f, x: jax.grad(lambda x: (f(x) ** 2).sum())(x),
            lambda f, x: jax.jvp(f, (x,), (x,))[1],
            lambda f, x: jax.vmap(lambda x: jax.grad(lambda x: (f(x) ** 3).sum())(x))(x[None])[0],
            lambda f, x: jax.linear_transpose(f, x)(f(x))[0],
            lambda f, x: jax.grad(lambda x: jax.lax.scan(lambda c, _: (c + f(x), None), f(x), None, 2)[0].sum())(x),
        ):
            wanted = derivative(matrix, x)
            np.testing.assert_allclose(derivative(traced, x), wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
    assert 8 in small


@pytest.mark.full
def test_shard_map_over_one_device(small):
    A = lo.btt(16, 36, rank=2).init(seed=0, backend="jax", dtype="float32")
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    for product, spec, shape in (
        (lambda x: A @ x, jax.P(None, "d"), (36, COUNT)),
        (lambda x: x @ A.T, jax.P("d"), (COUNT, 36)),
    ):
        x = numbers(1, shape, "float32")
        divided = jax.jit(jax.shard_map(product, mesh=mesh, in_specs=spec, out_specs=spec))
        np.testing.assert_allclose(divided(x), product(x), atol=1e-4)
        gradients = [jax.grad(lambda x, f=f: (f(x) ** 2).sum())(x) for f in (divided, product)]
        np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-3)
    assert 8 in small


def test_batches_stacks_and_layers(small):
    A = lo.btt(16, 16, rank=2).init(seed=0, backend="jax")
    x = numbers(1, (3, 16, COUNT), "float32")
    dense = A.to_dense()
    for product in (lambda x: A @ x, jax.vmap(lambda x: A @ x), lambda x: jnp.matrix_transpose(x.mT @ A.T)):
        np.testing.assert_allclose(jax.jit(product)(x), dense @ x, atol=1e-4)
    assert 8 in small
    layer = lo.nn.equinox.Linear(lo.btt(16, 16, rank=2), key=jax.random.key(0))
    rows = numbers(2, (2, 12, 16), "float32")
    before = layer.operator.to_dense()
    np.testing.assert_allclose(jax.jit(lambda x: layer(x))(rows), rows @ before.T + layer.bias, atol=1e-4)


def test_what_has_no_divisor_and_what_is_not_traced_is_multiplied_at_once(small):
    A = lo.btt(16, 16, rank=2).init(seed=0, backend="jax")
    x = numbers(1, (16, 23), "float32")
    np.testing.assert_allclose(jax.jit(lambda x: A @ x)(x), A @ x, atol=1e-5)
    assert set(small) == {0}
    program = str(jax.make_jaxpr(lambda x: A @ x)(x[:, :16]))
    assert "while" in program or "scan" in program
    with natural_order():
        program = str(jax.make_jaxpr(lambda x: A @ x)(x[:, :16]))
    assert "while" not in program
    assert "scan" not in program


def test_few_numbers_are_multiplied_at_once(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    A = lo.btt(512, 512, rank=4).init(seed=0, backend="jax")  # at 256 plans make the matrix
    for count, cut in ((512, False), (4096, True), (4093, False)):
        program = str(jax.make_jaxpr(lambda x: A @ x)(jnp.ones((512, count), "float32")))
        assert ("while" in program or "scan" in program) == cut, count
        program = str(jax.make_jaxpr(lambda x: x @ A.T)(jnp.ones((count, 512), "float32")))
        assert ("scan" in program) == cut, count


@pytest.mark.full
def test_what_is_between_is_not_kept_for_gradients(monkeypatch):
    """Of 2²⁴ numbers between two products of blocks, gradients of rows hold those of one part."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    A = lo.btt(1024, 1024, rank=4).init(seed=0, backend="jax")
    x = jnp.ones((4096, 1024), "float32")

    def held(product):
        step = jax.jit(jax.grad(lambda A, x: (product(A, x) ** 2).sum()))
        analysis: Any = step.lower(A, x).compile().memory_analysis()
        return analysis.temp_size_in_bytes

    def whole(A, x):
        with natural_order():
            return x @ A.T

    assert held(lambda A, x: x @ A.T) < held(whole) / 3
