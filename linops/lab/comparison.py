"""Every family at one shape, side by side: parameters, MACs, measured time, share of dense and of the roofline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from linops import backends
from linops.families.choice import structured
from linops.lab import memory
from linops.lab.measure import Roofline, nothing
from linops.lab.parsing import Variant
from linops.lab.products import products
from linops.operator import LinearOperator
from linops.plan import natural_order
from linops.specs import numpy_dtype


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
        forward_backward: Median time of A @ X and the gradients of X and of all parameters; None where the backend has
            no gradients.
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
        seconds: How long measuring took.
        rounds: How often every structure had its turn, forward.
    """

    out_features: int
    in_features: int
    batch: int
    backend: str
    dtype: str
    roofline: Roofline
    rows: list[Row]
    refused: dict[str, str]
    seconds: float
    rounds: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON.

        Returns:
            A dict of numbers, strings, lists and dicts.
        """
        return asdict(self)


def compare(
    out_features: int,
    in_features: int,
    structures: Sequence[Variant],
    *,
    batch: int = 256,
    backend: str = "torch",
    dtype: str = "float32",
    seconds: float = 10.0,
    tell: Callable[[str], Any] = nothing,
) -> Comparison:
    """Counts and times structures at one shape. Dense is always among them.

    Args:
        out_features: m.
        in_features: n.
        structures: What to compare; a structure with no member of this shape is reported as refused.
        batch: Number of vectors; a batch of 1 is a product with a vector.
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.
        dtype: Of parameters and vectors.
        seconds: About how long to measure in all. However little it is, each structure is called twice, and twice with
            gradients.
        tell: Called with what is being done.

    Returns:
        The comparison.

    Raises:
        ValueError: If a size is less than 1 or there is no such backend.
        MemoryError: If matrices and vectors do not fit this machine's memory.
        ImportError: If the backend is not installed.
    """
    if min(out_features, in_features, batch) < 1:
        raise ValueError(f"compare: out {out_features}, in {in_features}, batch {batch}; each must be at least 1")
    backends.load(backend)
    what, vectors = f"dense {out_features}×{in_features} and {batch:,} vectors", batch * (out_features + in_features)
    itemsize = numpy_dtype(dtype).itemsize
    memory.require(itemsize * (out_features * in_features + vectors), what)
    operators, refused = _members(out_features, in_features, structures, dtype)
    numbers = sum(operator.num_params for operator in operators.values()) + vectors
    memory.require(
        (1 if backend == "numpy" else 2) * itemsize * numbers, what.replace("dense", f"{len(operators)} structures of")
    )
    start = perf_counter()
    found = products(operators, batch=batch, backend=backend, dtype=dtype, seconds=seconds, least_rounds=1, tell=tell)
    took = perf_counter() - start
    rows = []
    dense_flops = operators["dense"].flops()
    for name, operator in operators.items():
        with natural_order():  # of the structure, whatever is faster on a machine
            cost = operator.cost()
        timing, both = found.forward[name], found.training.get(name)
        rows.append(
            Row(
                structure=name,
                num_params=operator.num_params,
                macs=cost.macs,
                flops=cost.flops,
                share=cost.flops / dense_flops,
                forward=timing.median,
                forward_ratio=timing.ratio(found.forward["dense"]),
                forward_backward=both.median if both else None,
                forward_backward_ratio=both.ratio(found.training["dense"]) if both else None,
                roofline_share=found.roofline_share(name),
            )
        )
    rounds = len(found.forward["dense"].seconds)
    return Comparison(
        out_features, in_features, batch, backend, dtype, found.largest_limit, rows, refused, took, rounds
    )


def _members(
    out_features: int, in_features: int, structures: Sequence[Variant], dtype: str
) -> tuple[dict[str, LinearOperator], dict[str, str]]:
    """The symbolic operators by structure, dense first, and the structures that refused, with the reason."""
    operators: dict[str, LinearOperator] = {"dense": Variant("dense", "dense")(out_features, in_features, dtype=dtype)}
    refused = {}
    for structure in structures:
        try:
            operators[structure.text] = structured(structure, out_features, in_features, dtype=dtype)
        except (ValueError, TypeError) as error:
            refused[structure.text] = str(error)
    return operators, refused
