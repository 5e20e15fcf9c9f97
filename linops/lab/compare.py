"""Every family at one shape, side by side: parameters, MACs, measured time, share of dense and of the roofline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np

from linops import backends
from linops.lab.measure import Function, Probes, Roofline, Timing, compiler, side_by_side
from linops.lab.structures import Structure
from linops.operator import LinearOperator


@dataclass(frozen=True)
class Row:
    """One structure at the shape; times are seconds a product with the whole batch.

    Attributes:
        structure: The structure as written.
        num_params: Parameters.
        macs: Multiply-accumulates a vector.
        flops: FLOPs a vector.
        share: FLOPs as a share of dense.
        forward: Median time of A @ X.
        forward_ratio: That over dense's, in the same rounds.
        forward_backward: Median time of A @ X and the gradients of X and of all parameters; None where the backend has no gradients.
        forward_backward_ratio: That over dense's.
        roofline_share: The least time for its FLOPs and bytes on this machine, over the forward time.
    """

    structure: str
    num_params: int
    macs: int
    flops: int
    share: float
    forward: float
    forward_ratio: float
    forward_backward: float | None
    forward_backward_ratio: float | None
    roofline_share: float


@dataclass(frozen=True)
class Comparison:
    """What was compared, under which conditions, and what came out.

    Attributes:
        out_features: m.
        in_features: n.
        batch: Number of vectors.
        backend: The backend.
        dtype: The dtype.
        roofline: The machine's best, measured in the same run.
        rows: One row a structure, dense first.
        refused: Structures that have no member of this shape, with the reason.
    """

    out_features: int
    in_features: int
    batch: int
    backend: str
    dtype: str
    roofline: Roofline
    rows: list[Row]
    refused: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON.

        Returns:
            A dict of numbers, strings, lists and dicts.
        """
        return asdict(self)


def compare(
    out_features: int,
    in_features: int,
    structures: Sequence[Structure],
    *,
    batch: int = 256,
    backend: str = "torch",
    dtype: str = "float32",
    seconds: float = 10.0,
) -> Comparison:
    """Counts and times structures at one shape. Dense is always among them.

    Args:
        out_features: m.
        in_features: n.
        structures: What to compare; a structure with no member of this shape is reported as refused.
        batch: Number of vectors; a batch of 1 is a product with a vector.
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.
        dtype: Of parameters and vectors.
        seconds: About how long to measure in all.

    Returns:
        The comparison.

    Raises:
        ValueError: If a size is less than 1 or there is no such backend.
        ImportError: If the backend is not installed.
    """
    if min(out_features, in_features, batch) < 1:
        raise ValueError(f"compare: out {out_features}, in {in_features}, batch {batch}; each must be at least 1")
    backends.load(backend)
    operators, refused = _members(out_features, in_features, structures, dtype)
    vectors = np.random.default_rng(0).standard_normal((in_features, batch) if batch > 1 else in_features)
    x = backends.asarray(vectors, backend, dtype)
    concrete = {name: operator.init(seed=0, backend=backend, dtype=dtype) for name, operator in operators.items()}
    compiled, wait = compiler(backend)
    half = seconds / 2
    moves = {name: _moved(operator, batch) for name, operator in operators.items()}
    probes = Probes(backend, dtype, {_rounded(moved) for moved in moves.values()})  # one serves sizes within a factor of two
    products = {name: _forward(A, x, compiled) for name, A in concrete.items()}
    forward = side_by_side(products | probes.functions, seconds=half, wait=wait)
    backward: dict[str, Timing] = {}
    if backend != "numpy":
        steps = {name: _forward_backward(A, x, backend, compiled) for name, A in concrete.items()}
        backward = side_by_side(steps, seconds=half, wait=wait)
    rows = []
    dense_flops = operators["dense"].flops()
    for name, operator in operators.items():
        limit = probes.roofline(forward, _rounded(moves[name]))
        cost = operator.cost()
        timing, both = forward[name], backward.get(name)
        rows.append(
            Row(
                structure=name,
                num_params=operator.num_params,
                macs=cost.macs,
                flops=cost.flops,
                share=cost.flops / dense_flops,
                forward=timing.median,
                forward_ratio=timing.ratio(forward["dense"]),
                forward_backward=both.median if both else None,
                forward_backward_ratio=both.ratio(backward["dense"]) if both else None,
                roofline_share=limit.seconds(operator.flops(batch), moves[name]) / timing.median,
            )
        )
    largest = probes.roofline(forward, _rounded(max(moves.values())))
    return Comparison(out_features, in_features, batch, backend, dtype, largest, rows, refused)


def _members(
    out_features: int, in_features: int, structures: Sequence[Structure], dtype: str
) -> tuple[dict[str, LinearOperator], dict[str, str]]:
    """The symbolic operators by structure, dense first, and the structures that refused, with the reason."""
    operators: dict[str, LinearOperator] = {"dense": Structure("dense", "dense")(out_features, in_features, dtype=dtype)}
    refused = {}
    for structure in structures:
        try:
            operators[structure.text] = structure(out_features, in_features, dtype=dtype)
        except (ValueError, TypeError) as error:
            refused[structure.text] = str(error)
    return operators, refused


def _moved(operator: LinearOperator, batch: int) -> int:
    """Bytes that any program must move: parameters and input read once, output written once."""
    m, n = operator.shape
    numbers = sum(prod(leaf.shape) for _, leaf in operator.named_leaves()) + batch * (m + n)
    return numbers * backends.itemsize(operator.dtype)


def _rounded(size: int) -> int:
    """The power of two from a size up."""
    return 1 << (size - 1).bit_length()


def _forward(operator: LinearOperator, x: Any, compiled: Callable[[Any], Any]) -> Function:
    product = compiled(lambda A, x: A @ x)
    return lambda: product(operator, x)


def _forward_backward(operator: LinearOperator, x: Any, backend: str, compiled: Callable[[Any], Any]) -> Function:
    """A @ X, and the gradients of X and of all parameters for a gradient of ones."""
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
