"""Every family against dense in the same rounds: forward and training, with the share of the roofline.

Ratios are times over times of the same rounds. Beside dense: for BTT and Monarch on torch the paper's formulation; for
one vector the best plain form. On torch with up to 64 vectors, where there are compiled kernels, also the products with
those, forward and training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Any

from benchmarks import kernels
from benchmarks.paper import paper_of
from benchmarks.plain import forms
from benchmarks.progress import progress
from linops.lab.parsing import parse, parse_list
from linops.lab.products import Candidates, Products, forward_step, needed_flops, products, training_step
from linops.operator import LinearOperator

#: a tensor train of rank 1 is a Kronecker product, hence rank 4
STRUCTURES = (
    "dense,low_rank,block_diag,kronecker,monarch,tensor_train:rank=4,btt,btt:rank=4,blast,butterfly,circulant,toeplitz"
)
#: rounds of products so large that a single call takes its share of the time
LEAST_ROUNDS = 3


def measure(
    sizes: tuple[int, ...] = (256, 1024, 4096),
    batches: tuple[int, ...] = (1, 16, 256, 2048),
    backends: tuple[str, ...] = ("numpy", "torch", "jax"),
    structures: str = STRUCTURES,
    seconds: float = 16.0,
    known: Iterable[dict[str, Any]] = (),
) -> Iterator[dict[str, Any]]:
    """Families against dense in the same rounds: forward, training, roofline, the paper's formulation, plain forms.

    Args:
        sizes: d = in = out.
        batches: Numbers of vectors.
        backends: Of numpy, torch, jax (compiled, with operators as arguments).
        structures: Families with options, with commas between.
        seconds: About how long to measure each size, batch and backend, forward and training together.
        known: Rows that need not be measured again.

    Yields:
        A row for each structure.
    """
    wanted = {structure.text: structure for structure in parse_list("dense," + structures)}
    done = {(row["backend"], row["d"], row["batch"], row["structure"]) for row in known}
    cells = [cell for cell in product(backends, sizes, batches) if not all((*cell, name) in done for name in wanted)]
    for backend, d, batch in progress(cells, "families"):
        operators = {name: structure(d, d) for name, structure in wanted.items()}
        found = products(
            operators,
            batch=batch,
            backend=backend,
            seconds=seconds,
            others=_others(backend, batch),
            least_rounds=LEAST_ROUNDS,
        )
        for name in operators:
            yield {"backend": backend, "d": d, "batch": batch, "structure": name, **_row(found, name)}


def _others(backend: str, batch: int) -> Callable[[dict[str, LinearOperator], Any, Callable[[Any], Any]], Candidates]:
    """What runs beside the operators, named ``"kind: structure: form"``."""

    def make(concrete: dict[str, LinearOperator], x: Any, compiled: Callable[[Any], Any]) -> Candidates:
        others = Candidates()
        for name, operator in concrete.items():
            family = parse(name).family
            if batch == 1:
                for form, function in forms(family, backend).items():
                    others.forward[f"plain: {name}: {form}"] = _bound(compiled(function), operator, x)
            if backend == "torch" and family in ("btt", "monarch"):
                paper, rows = paper_of(operator), x.reshape(x.shape[0], -1).T.contiguous()
                others.forward[f"paper: {name}"] = paper.forward(rows)
                others.training[f"paper: {name}"] = paper.training(rows)
            if backend == "torch" and batch <= kernels.FEW and kernels.are_there():
                others.forward[f"compiled: {name}"] = forward_step(operator, x, compiled)
                others.training[f"compiled: {name}"] = training_step(operator, x, backend, compiled)
                others.within[f"compiled: {name}"] = kernels.with_kernels
        return others

    return make


def _bound(function: Callable[[Any, Any], Any], operator: Any, x: Any) -> Callable[[], Any]:
    return lambda: function(operator, x)


def _row(found: Products, name: str) -> dict[str, Any]:
    """The numbers of one structure."""
    forward, training, operator = found.forward, found.training, found.operators[name]
    row: dict[str, Any] = {
        "params": operator.num_params,
        "flops_share": needed_flops(operator, found.batch) / found.operators["dense"].flops(found.batch),
        "forward_us": 1e6 * forward[name].median,
        "forward_ratio": forward[name].ratio(forward["dense"]),
        "roofline": found.roofline_share(name),
    }
    if training:
        row |= {
            "training_us": 1e6 * training[name].median,
            "training_ratio": training[name].ratio(training["dense"]),
            "training_roofline": found.roofline_share(name, training=True),
        }
    if (paper := f"paper: {name}") in forward:
        row |= {
            "paper_ratio": forward[name].ratio(forward[paper]),
            "paper_training_ratio": training[name].ratio(training[paper]),
        }
    if (compiled := f"compiled: {name}") in forward:
        row |= {
            "compiled_us": 1e6 * forward[compiled].median,
            "compiled_ratio": forward[compiled].ratio(forward["dense"]),
            "compiled_training_us": 1e6 * training[compiled].median,
            "compiled_training_ratio": training[compiled].ratio(training["dense"]),
        }
    if plain := [other for other in forward if other.startswith(f"plain: {name}: ")]:
        best = min(plain, key=lambda other: forward[other].median)
        row |= {"plain_ratio": forward[name].ratio(forward[best]), "plain": best.rpartition(": ")[2]}
        if compiled in forward:
            row["compiled_plain_ratio"] = forward[compiled].ratio(forward[best])
    return row
