"""Checks of what frameworks do with an operator: gradients, compilation, vmap, counted FLOPs, layers."""

from __future__ import annotations

from types import FunctionType
from typing import Any

import numpy as np

from linops.testing.check import Subject, check, installed, require, wide
from linops.testing.copies import BATCH


def _numpy_has_no(what: str) -> Any:
    return lambda s: f"NumPy has no {what}" if s.backend == "numpy" else None


def _integers_have_no_gradient(s: Subject) -> str | None:
    return "integers have no gradient" if s.exact else None


@check(_numpy_has_no("gradients"), _integers_have_no_gradient)
def gradient(s: Subject) -> None:
    """Gradients of operand and leaves: the dense matrix's; in double precision finite differences, of both orders."""
    _torch_gradient(s) if s.backend == "torch" else _jax_gradient(s)


def _torch_gradient(s: Subject) -> None:
    import torch

    m, n = s.operator.shape
    fresh = torch.contiguous_format, torch.preserve_format  # an empty array of NumPy has strides that gradcheck refuses
    leaves = [leaf.detach().clone(memory_format=fresh[leaf.numel() > 0]).requires_grad_() for leaf in s.leaves]
    A = s.operator.with_leaves(leaves)
    for shape in ((n,), (n, 3), (2, n, 3)):
        x = s.on(s.array(*shape)).requires_grad_()
        y = A @ x
        weights = s.array(*y.shape)
        (found,) = torch.autograd.grad(y, x, s.on(weights).to(y.dtype))
        expected = s.matrix.conj().T @ wide(weights)
        scale = np.abs(s.matrix).T @ np.abs(weights)
        s.close(f"gradient of x {shape}", found, expected if x.is_complex() else np.real(expected), scale)
    x, w = s.on(s.array(n, 3)), s.on(s.array(m, 3))
    if leaves and m and n:
        y = A @ x
        ours = torch.autograd.grad(y, leaves, w.to(y.dtype), allow_unused=True)
        theirs = torch.autograd.grad(A.to_dense() @ x.to(y.dtype), leaves, w.to(y.dtype), allow_unused=True)
        for (name, leaf), one, other in zip(A.named_leaves(), ours, theirs):
            one, other = (torch.zeros_like(leaf) if each is None else each for each in (one, other))
            other = wide(s.numpy(other))
            s.close(f"gradient of leaf {name}", one, other, s.numpy(w.abs()).sum() * (1 + np.abs(other)))
    if s.precise and m and n:
        x, y = x[:, :2].clone().requires_grad_(), s.on(s.array(2, m)).requires_grad_()

        def products(x: Any, y: Any, *leaves: Any) -> Any:
            A = s.operator.with_leaves(leaves)
            return A @ x, y @ A, A @ x[:, 0]

        require(torch.autograd.gradcheck(products, (x, y, *leaves), fast_mode=True), "gradcheck fails")
        require(
            torch.autograd.gradgradcheck(lambda x, *rest: products(x, y, *rest)[0], (x, *leaves), fast_mode=True),
            "gradgradcheck fails",
        )


def _jax_gradient(s: Subject) -> None:
    import jax

    A = s.operator
    m, n = A.shape
    x, w = s.array(n, 3), s.array(m, 3)

    def gradients(A: Any, x: Any, w: Any) -> Any:
        y, ours = jax.vjp(lambda A, x: A @ x, A, x)
        _, theirs = jax.vjp(lambda A, x: A.to_dense().astype(y.dtype) @ x, A, x)
        return ours(w.astype(y.dtype)), theirs(w.astype(y.dtype))[0] if s.leaves else None

    (of_A, of_x), dense = s.run(gradients, x, w)
    expected = s.matrix.T @ wide(w)  # JAX does not conjugate
    s.close("gradient of x", of_x, expected if s.kind == "c" else np.real(expected), np.abs(s.matrix).T @ np.abs(w))
    require(type(of_A) is type(A), f"the gradient of the operator is a {type(of_A).__name__}")
    if s.leaves:
        for (name, one), (other_name, other) in zip(of_A.named_leaves(), dense.named_leaves(), strict=True):
            require(name == other_name, f"leaf {name} became {other_name}")
            other = wide(s.numpy(other))
            s.close(f"gradient of leaf {name}", one, other, np.abs(w).sum() * (1 + np.abs(other)))
    if s.dtype == np.float64:
        from jax.test_util import check_grads

        @jax.jit
        def loss(A: Any, x: Any) -> Any:
            y = A @ x
            return (y * y.conj()).real.sum() + (x.mT @ A.T).real.sum()

        check_grads(loss, (A, s.on(x)), order=1, modes=["rev"], atol=1e-5, rtol=1e-5)


@check(_numpy_has_no("compiler"))
def compile(s: Subject) -> None:
    """`torch.compile(fullgraph=True)` and `jax.jit` take the operator as an argument; new numbers compile nothing."""
    m, n = s.operator.shape
    x, y = s.array(n, 3), s.array(2, m)
    if s.backend == "torch":
        import torch

        # code of its own: what torch compiled of one operator does not count against another's limit
        function = FunctionType(_products.__code__.replace(), _products.__globals__)
        found = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=False)(
            s.operator, s.on(x), s.on(y)
        )
    else:
        import jax

        traced = 0

        @jax.jit
        def compiled(A: Any, x: Any, y: Any) -> Any:
            nonlocal traced
            traced += 1
            return _products(A, x, y)

        found = compiled(s.operator, s.on(x), s.on(y))
        compiled(s.other_numbers(), s.on(x), s.on(y))
        require(traced == 1, "other numbers of the same structure are traced again")
        traced_out = jax.jit(lambda A: A.H)(s.operator)
        require(
            type(traced_out) is type(s.operator.H), f"through jax.jit the adjoint becomes a {type(traced_out).__name__}"
        )
    s.is_product("compiled A @ x", found[0], s.matrix, x)
    s.is_left_product("compiled x @ A", found[1], y, s.matrix)
    s.is_product("compiled A @ x of a vector", found[2], s.matrix, x[:, 0])


def _products(A: Any, x: Any, y: Any) -> Any:
    return A @ x, y @ A, A @ x[:, 0]


@check(_numpy_has_no("vmap"))
def vmap(s: Subject) -> None:
    """`torch.func.vmap` and `jax.vmap` map over operands alone, and over operators and operands together."""
    if s.backend == "torch":
        import torch

        mapped, stack = (lambda function, axes: torch.func.vmap(function, in_dims=axes)), torch.stack
    else:
        import jax

        mapped, stack = jax.vmap, jax.numpy.stack
    m, n = s.operator.shape
    twin = s.other_numbers()
    pairs = iter([stack(pair) for pair in zip(s.leaves, (leaf for _, leaf in twin.named_leaves()))])
    stacked = s.operator._map(lambda _: next(pairs))
    axes = (0 if s.leaves else None, 0, 0, 0)  # without leaves there is one operator

    def products(A: Any, x: Any, y: Any, X: Any) -> Any:
        alone = mapped(lambda x, y: (A @ x, y @ A), (0, 0))(x, y)
        return (
            alone,
            mapped(lambda A, x, y, X: (A @ x, y @ A, A.T @ y.mT, A @ X), axes)(stacked, x, y, X),
            twin.to_dense(),
        )

    xs, ys, X = s.array(2, n), s.array(2, 3, m), s.array(2, n, 2)
    alone, together, dense = s.run(products, xs, ys, X)
    others = s.matrix, s.numpy(dense) if s.leaves else s.matrix
    for each, other in enumerate(others):
        s.is_product("vmap over operands: A @ x", alone[0][each], s.matrix, xs[each])
        s.is_left_product("vmap over operands: x @ A", alone[1][each], ys[each], s.matrix)
        s.is_product("vmap over operators and operands: A @ x", together[0][each], other, xs[each])
        s.is_left_product("vmap over operators and operands: x @ A", together[1][each], ys[each], other)
        s.is_product("vmap over operators and operands: A.T @ x", together[2][each], other.T, ys[each].T)
        s.is_product("vmap over operators and operands: A @ X", together[3][each], other, X[each])


def _only_torch_counts(s: Subject) -> str | None:
    return None if s.backend == "torch" else "only torch counts the FLOPs of what runs"


@check(_only_torch_counts)
def counted_flops(s: Subject) -> None:
    """The MACs of `cost`, forward and backward, are those that torch's FlopCounterMode counts."""
    from torch.utils.flop_counter import FlopCounterMode

    leaves = [leaf.detach().clone() for leaf in s.leaves]
    x = s.on(s.array(s.operator.shape[1], BATCH))
    for each in (x, *leaves):
        each.requires_grad_(not s.exact)
    A = s.operator.with_leaves(leaves)
    with FlopCounterMode(display=False) as forward:
        y = A @ x
    cost = A.cost(batch=BATCH)
    counted = forward.get_total_flops()
    require(counted == 2 * cost.macs, f"torch counts {counted} FLOPs in contractions, cost says {cost.macs} MACs")
    if not s.exact:
        with FlopCounterMode(display=False) as backward:
            y.real.sum().backward()
        counted = backward.get_total_flops()
        require(
            counted == 2 * cost.backward.macs,
            f"backward torch counts {counted} FLOPs, cost says {cost.backward.macs} MACs",
        )


def _no_layers(s: Subject) -> str | None:
    if s.backend == "numpy":
        return "layers are of torch, flax and equinox"
    if s.exact:
        return "integers do not train"
    if s.backend == "jax" and not any(map(installed, ("flax", "equinox"))):
        return "neither flax nor equinox is installed"
    return None


@check(_no_layers)
def layer(s: Subject) -> None:
    """As a layer it computes x Aᵀ over the last axis from parameters of the leaves' names."""
    names = [name for name, _ in s.operator.named_leaves()]
    x = s.array(2, 3, s.operator.shape[1])
    for framework in ("torch",) if s.backend == "torch" else filter(installed, ("flax", "equinox")):
        made = s.operator.to_layer(bias=False, framework=framework)
        if framework == "torch":
            require(
                [name for name, _ in made.named_parameters()] == names,
                f"its parameters are {list(made.state_dict())}, expected {names}",
            )
            y = made(s.on(x))
            require(not names or y.requires_grad, "its parameters get no gradient")
        elif framework == "flax":
            from flax import nnx

            y = nnx.jit(lambda made, x: made(x))(made, s.on(x))
        else:
            import equinox

            y = equinox.filter_jit(lambda made, x: made(x))(made, s.on(x))
        s.is_left_product(f"layer of {framework}", y, x, s.matrix.T)
