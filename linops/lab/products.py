"""Timing products of operators, forward and with all gradients, in the same rounds, with the machine's roofline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from linops import backends
from linops.lab.measure import Function, Probes, Roofline, Timing, compiler, nothing, side_by_side
from linops.operator import LinearOperator
from linops.plan import natural_order


@dataclass(frozen=True)
class Candidates:
    """What runs beside the operators.

    Attributes:
        forward: Functions of no arguments by name, timed in the rounds of the products.
        training: The same, in the rounds of the products with gradients.
        within: Makes, for those of both by name, the context in which each of their samples is taken.
    """

    forward: dict[str, Function] = field(default_factory=dict)
    training: dict[str, Function] = field(default_factory=dict)
    within: dict[str, Callable[[], AbstractContextManager[Any]]] = field(default_factory=dict)


#: makes further candidates of the concrete operators, the vectors, and what to wrap a function in (`jax.jit` or
#: nothing)
Others = Callable[[dict[str, LinearOperator], Any, Callable[[Any], Any]], Candidates]


@dataclass(frozen=True)
class Products:
    """What products took.

    Attributes:
        operators: The symbolic operators by name.
        batch: Number of vectors.
        forward: Times of A @ X, of the other candidates and of the probes of the roofline.
        training: Times of A @ X with the gradients of X and of all parameters; empty where the backend has no
            gradients.
        limits: The machine's best for each operator's number of bytes.
    """

    operators: dict[str, LinearOperator]
    batch: int
    forward: dict[str, Timing]
    training: dict[str, Timing]
    limits: dict[str, Roofline]

    def roofline_share(self, name: str, training: bool = False) -> float:
        """The least time that an operator's FLOPs and bytes need on this machine, over the time they took.

        Parameters and input are read once and the output is written once. Training counts thrice the FLOPs (the
        product, the gradient of the input and the gradient of the parameters) and twice the bytes (each of those arrays
        has a gradient).

        Args:
            name: The operator's name.
            training: Whether with gradients.

        Returns:
            A share of 1.
        """
        operator = self.operators[name]
        flops, moved = needed_flops(operator, self.batch), bytes_moved(operator, self.batch)
        if training:
            return self.limits[name].seconds(3 * flops, 2 * moved) / self.training[name].median
        return self.limits[name].seconds(flops, moved) / self.forward[name].median

    @property
    def largest_limit(self) -> Roofline:
        """The roofline of the operator that moves most bytes."""
        return self.limits[max(self.operators, key=lambda name: bytes_moved(self.operators[name], self.batch))]


def products(
    operators: Mapping[str, LinearOperator],
    *,
    batch: int,
    backend: str,
    dtype: str = "float32",
    seconds: float = 10.0,
    others: Others | None = None,
    least_rounds: int | None = None,
    tell: Callable[[str], Any] = nothing,
) -> Products:
    """Times products of operators, and of other candidates, with the same vectors.

    JAX's are compiled, with operators as arguments.

    Args:
        operators: Symbolic operators by name, all with as many columns.
        batch: Number of vectors; a batch of 1 is a product with a vector.
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.
        dtype: Of parameters and vectors.
        seconds: About how long to measure in all.
        others: Makes further candidates.
        least_rounds: As for `side_by_side`.
        tell: Called with what is being done.

    Returns:
        The times.

    Raises:
        ImportError: If the backend is not installed.

    Example:
        >>> import linops as lo
        >>> found = products({"btt": lo.btt(16, 16)}, batch=2, backend="numpy", seconds=0.01)
        >>> found.forward["btt"].median > 0, found.training, found.roofline_share("btt") > 0
        (True, {}, True)
    """
    columns = next(iter(operators.values())).shape[1]
    vectors = np.random.default_rng(0).standard_normal((columns, batch) if batch > 1 else columns)
    x = backends.asarray(vectors, backend, dtype)
    concrete = {name: operator.init(seed=0, backend=backend, dtype=dtype) for name, operator in operators.items()}
    compiled, wait = compiler(backend)
    more = others(concrete, x, compiled) if others else Candidates()
    moves = {name: _rounded(bytes_moved(operator, batch)) for name, operator in operators.items()}
    share = seconds / (1 if backend == "numpy" else 2)
    probes = Probes(backend, dtype, set(moves.values()), share)  # one serves sizes within a factor of two
    steps = {name: forward_step(A, x, compiled) for name, A in concrete.items()}
    timed: Any = {"seconds": share, "least_rounds": least_rounds, "wait": wait, "within": more.within}
    forward = side_by_side(
        steps | more.forward | probes.functions,
        **timed,
        tell=lambda text: tell(f"forward, {text}"),
    )
    training: dict[str, Timing] = {}
    if backend != "numpy":
        steps = {name: training_step(A, x, backend, compiled) for name, A in concrete.items()}
        training = side_by_side(steps | more.training, **timed, tell=lambda text: tell(f"forward and backward, {text}"))
    limits = {name: probes.roofline(forward, moved) for name, moved in moves.items()}
    return Products(dict(operators), batch, forward, training, limits)


def needed_flops(operator: LinearOperator, batch: int) -> int:
    """FLOPs that a structure needs: the fewer of its natural order and its plan, which may run more in less time.

    Args:
        operator: The operator.
        batch: Number of vectors.

    Returns:
        The number of FLOPs.

    Example:
        >>> import linops as lo
        >>> needed_flops(lo.dense(4, 8), batch=2)
        128
    """
    with natural_order():
        flops = operator.flops(batch)
    return min(flops, operator.flops(batch))


def bytes_moved(operator: LinearOperator, batch: int) -> int:
    """Bytes that any program must move: parameters and input read once, output written once.

    Args:
        operator: The operator.
        batch: Number of vectors.

    Returns:
        Bytes.

    Example:
        >>> import linops as lo
        >>> bytes_moved(lo.dense(4, 8), batch=2) == 4 * (4 * 8 + 2 * (4 + 8))
        True
    """
    m, n = operator.shape
    numbers = sum(prod(leaf.shape) for _, leaf in operator.named_leaves()) + batch * (m + n)
    return numbers * backends.itemsize(operator.dtype)


def _rounded(size: int) -> int:
    """The power of two from a size down: no less fits a cache that the size itself fits."""
    return 1 << (size.bit_length() - 1)


def forward_step(operator: LinearOperator, x: Any, compiled: Callable[[Any], Any]) -> Function:
    """A @ X as a function of no arguments.

    Args:
        operator: A concrete operator.
        x: The vectors.
        compiled: What to wrap the product in; it gets the operator as an argument.

    Returns:
        The function.
    """
    product = compiled(lambda A, x: A @ x)
    return lambda: product(operator, x)


def training_step(operator: LinearOperator, x: Any, backend: str, compiled: Callable[[Any], Any]) -> Function:
    """A @ X, and the gradients of X and of all parameters for a gradient of ones, as a function of no arguments.

    Args:
        operator: A concrete operator.
        x: The vectors.
        backend: ``"torch"`` or ``"jax"``.
        compiled: What to wrap JAX's function in.

    Returns:
        The function.
    """
    if backend == "jax":
        import jax
        import jax.numpy as jnp

        def both(A: Any, x: Any) -> Any:
            y, pullback = jax.vjp(lambda A, x: A @ x, A, x)
            return y, pullback(jnp.ones_like(y))

        step = compiled(both)
        return lambda: step(operator, x)
    import torch

    leaves = [leaf.detach().requires_grad_() for _, leaf in operator.named_leaves()]
    operator, x = operator.with_leaves(leaves), x.detach().requires_grad_()
    ones = torch.ones_like(operator @ x)
    return lambda: torch.autograd.grad(operator @ x, [x, *leaves], ones)
