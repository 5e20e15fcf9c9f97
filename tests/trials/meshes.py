"""Products on a mesh of four devices: ``python meshes.py explicit|auto [names]`` prints what is wrong, a line each.

It runs in a process of its own, for JAX takes the number of devices from its environment.
"""

import os
import re
import sys
import time
import warnings
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
os.environ["JAX_PLATFORMS"] = "cpu"
sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
from cases import CASES
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import linops as lo
import linops.backends

jax.config.update("jax_disable_most_optimizations", True)
FAMILIES = {
    "dense": lo.dense(24, 36),
    "low_rank": lo.low_rank(24, 36, rank=3),
    "block_diag": lo.block_diag(24, 36),
    "kronecker": lo.kronecker(24, 36),
    "kronecker of three": lo.kronecker(27, 64, factors=3),
    "monarch": lo.monarch(64, 64),
    "monarch, padded": lo.monarch(30, 50),
    "tensor_train": lo.tensor_train(24, 36, rank=2),
    "tensor_train of three": lo.tensor_train(64, 27, rank=2, cores=3),
    "btt": lo.btt(24, 36, rank=2),
    "btt of three": lo.btt(64, 27, cores=3),
    "einsum": lo.Einsum("air,rbj,ij->ab", lo.spec(4, 6, 3), lo.spec(3, 6, 6)),
    "blast": lo.blast(24, 36, rank=3, blocks=3),
    "butterfly": lo.butterfly(64, 64),
    "circulant": lo.circulant(300, 300),
    "toeplitz": lo.toeplitz(300, 200),
    "low_rank_block": lo.low_rank_block(24, 36, rank=3, blocks=4),
    "low_rank_sparse": lo.low_rank_sparse(24, 36, rank=3, density=0.1),
    "low_rank_semi_structured": lo.low_rank_semi_structured(24, 36, rank=3),
}
#: of which every way to write a product is tried, and layers
EVERYTHING = {"explicit": "monarch", "auto": "tensor_train"}
#: one of each operator, and of each way it takes
OPERATORS = (
    *(
        "diagonal",
        "identity",
        "zero_tall",
        "pad_pads",
        "pad_crops",
        "permute_indices",
        "permute_three_axes",
        "block_diag_of_operators",
    ),
    *(
        "kronecker_of_operators",
        "kronecker_with_identities",
        "nested_kronecker_of_sums",
        "product_monarch",
        "product_of_two",
    ),
    *("sum_with_identity", "scaled_gain", "power_of_product", "triangular_lower", "tridiagonal", "householder_product"),
    *("kronecker_sum_of_operators", "block_with_zeros", "low_rank_plus_diagonal", "circulant_prime", "toeplitz_blocks"),
    *(
        "hadamard_of_two_blocks",
        "dft",
        "dft_ortho",
        "dft_of_parts",
        "butterfly_rising",
        "einsum_two_factors",
        "einsum_scales_and_passes",
    ),
    *("sparse_tall", "sliced_indices", "function_transposed_by_the_framework", "jacobian_tall", "hessian"),
)
DEVICES = 4
COLLECTIVES = ("all-gather", "all-to-all", "collective-permute", "all-reduce")


def named(only):
    """(name, operator in float32) of the table."""
    for name, operator in FAMILIES.items():
        if not only or name in only or "families" in only:
            yield name, operator.init(seed=0, backend="jax")
    for name in OPERATORS:
        if not only or name in only:
            random = np.random.default_rng(0)
            operator, _ = CASES[name](
                lambda *shape, random=random: np.asarray(random.standard_normal(shape), np.float32)
            )
            yield name, operator.to(backend="jax")


def operands(shape, everything):
    """Arrays, and the axis of each that is divided among the devices."""
    (m, n), random = shape, np.random.default_rng(1)
    k = 2 * DEVICES
    shapes = {"left": ((k, m), 0), "columns": ((n, k), 1)}
    if everything:
        shapes |= {"stack": ((k, n, 3), 0), "stacked columns": ((2, n, k), 2), "rows": ((2, k, n), 1)}
    return {name: (np.asarray(random.standard_normal(size), np.float32), axis) for name, (size, axis) in shapes.items()}


def products(operator, x, everything):
    """What users write."""
    found = {"left": x["left"] @ operator, "columns": operator @ x["columns"]}
    if everything:
        found |= {
            "stack": operator @ x["stack"],
            "stacked columns": operator @ x["stacked columns"],
            "rows": x["rows"] @ operator.T,
        }
        found["vmap"] = jax.vmap(lambda row: row @ operator)(x["left"])
    return found


def layers(operator):
    """Layers of Flax and Equinox, as a pytree of arrays and what makes them of it."""
    graph, state = nnx.split(lo.nn.flax.Linear(operator))
    layer = lo.nn.equinox.Linear(operator)

    def outputs(state, layer, x):
        return {"flax": nnx.merge(graph, state)(x), "equinox": jax.vmap(jax.vmap(layer))(x)}

    return (state, layer), outputs


def collectives(compiled):
    """Which collectives a program has."""
    text = compiled.as_text()
    return {name for name in COLLECTIVES if re.search(rf"{name}(-start)?\(", text)}


def close(found, wanted):
    """Whether trees of arrays agree to float32."""
    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True))
    return all(np.allclose(a, b, rtol=1e-4, atol=2e-5 * max(1.0, float(np.abs(b).max(initial=0)))) for a, b in pairs)


def divided(array, axis):
    """Whether an array is divided along one axis, and along no other."""
    local = [size // DEVICES if place == axis else size for place, size in enumerate(array.shape)]
    return array.sharding.shard_shape(array.shape) == tuple(local)


def wrong(operator, mesh, everything, trains):
    """What is wrong with an operator on a mesh: products, a step if it `trains`, and with `everything` layers too."""
    hosts = operands(operator.shape, everything)
    axes = {name: axis for name, (_, axis) in hosts.items()} | {"vmap": 0, "flax": 1, "equinox": 1}
    x = {name: array for name, (array, _) in hosts.items()}
    parts, outputs = layers(operator) if everything else ((), None)

    def energy(parameters, x):
        operator, parts = parameters
        y = products(operator, x, everything) | (outputs(*parts, x["rows"]) if outputs else {})
        return sum(jnp.square(jnp.abs(one)).sum() for one in y.values()), y

    def step(parameters, x):
        if not trains:
            return energy(parameters, x)[1], (), {}
        (_, y), (slopes, dx) = jax.value_and_grad(energy, (0, 1), has_aux=True)(parameters, x)
        return y, jax.tree.map(lambda p, g: p - 0.1 * g, parameters, slopes), dx

    expected = jax.jit(step)((operator, parts), x)
    x = {
        name: jax.device_put(array, NamedSharding(mesh, PartitionSpec(*[None] * axes[name], "data")))
        for name, array in x.items()
    }
    parameters = jax.device_put((operator, parts), NamedSharding(mesh, PartitionSpec()))
    compiled = jax.jit(step).lower(parameters, x).compile()
    if found := collectives(compiled) - ({"all-reduce"} if trains else set()):
        yield f"{sorted(found)}"
    y, after, dx = compiled(parameters, x)
    if everything:
        y["eager"], expected[0]["eager"], axes["eager"] = x["left"] @ parameters[0], expected[0]["left"], 0
    yield from (f"{name}: wrong numbers" for name in y if not close(y[name], expected[0][name]))
    if not isinstance(operator, lo.Zero):  # whose product is a constant
        yield from (f"{name}: {y[name].sharding}" for name in y if not divided(y[name], axes[name]))
    if not close((after, dx), expected[1:]):
        yield "gradients: wrong numbers"
    yield from (f"gradient of {name}: {dx[name].sharding}" for name in dx if not divided(dx[name], axes[name]))


def main(kind, only):
    warnings.simplefilter("error")
    mesh = jax.make_mesh(
        (DEVICES,), ("data",), axis_types=(AxisType.Explicit if kind == "explicit" else AxisType.Auto,)
    )
    linops.backends.load("jax")  # for operators without arrays
    for name, operator in named(only):
        start = time.process_time()
        try:
            with jax.set_mesh(mesh):
                found = list(wrong(operator, mesh, name == EVERYTHING[kind], name in FAMILIES))
        except Exception as error:
            found = [f"{type(error).__name__}: {str(error)[:300]}"]
        if os.environ.get("TIMES"):
            print(name, time.process_time() - start, flush=True)
        for problem in found:
            print(f"{name}: {problem}", flush=True)
    print("done")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
