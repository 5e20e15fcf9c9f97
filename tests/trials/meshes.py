"""A table of products on a mesh of four devices: ``python meshes.py explicit|auto [names]`` prints what is wrong, a line each.

It runs in a process of its own, for JAX takes the number of devices from its environment.
"""

import os
import re
import sys
import warnings
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
os.environ["JAX_PLATFORMS"] = "cpu"
sys.path.insert(0, str(Path(__file__).parents[1]))

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from cases import CASES
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import linops as lo

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
}
#: one of each operator, and of each way it takes
OPERATORS = (
    *("diagonal", "identity", "zero_tall", "pad_pads", "pad_crops", "permute_indices", "permute_three_axes", "block_diag_of_operators"),
    *("kronecker_of_operators", "kronecker_with_identities", "nested_kronecker_of_sums", "product_monarch", "product_of_two"),
    *("sum_with_identity", "scaled_gain", "power_of_product", "triangular_lower", "tridiagonal", "householder_product"),
    *("kronecker_sum_of_operators", "block_with_zeros", "low_rank_plus_diagonal", "circulant_prime", "toeplitz_blocks"),
    *("hadamard_of_two_blocks", "dft", "dft_ortho", "dft_of_parts", "butterfly_rising", "einsum_two_factors", "einsum_scales_and_passes"),
    *("sparse_tall", "sliced_indices", "function_transposed_by_the_framework", "jacobian_tall", "hessian"),
)
DEVICES = 4
COLLECTIVES = ("all-gather", "all-to-all", "collective-permute", "all-reduce")


def named():
    """(name, operator in float32) of the table."""
    for name, operator in FAMILIES.items():
        yield name, operator.init(seed=0, backend="jax")
    for name in OPERATORS:
        random = np.random.default_rng(0)
        operator, _ = CASES[name](lambda *shape: np.asarray(random.standard_normal(shape), np.float32))  # noqa: B023
        yield name, operator.to(backend="jax")


def operands(shape):
    """Arrays, and the axis of each that is divided among the devices."""
    (m, n), random = shape, np.random.default_rng(1)
    k = 2 * DEVICES
    shapes = {
        "left": ((k, m), 0),
        "columns": ((n, k), 1),
        "stack": ((k, n, 3), 0),
        "stacked columns": ((2, n, k), 2),
        "rows": ((2, k, n), 1),
    }
    return {name: (np.asarray(random.standard_normal(size), np.float32), axis) for name, (size, axis) in shapes.items()}


def products(operator, x):
    """What users write."""
    return {
        "left": x["left"] @ operator,
        "columns": operator @ x["columns"],
        "stack": operator @ x["stack"],
        "stacked columns": operator @ x["stacked columns"],
        "rows": x["rows"] @ operator.T,
    }


def energy(operator, x):
    """A number to differentiate."""
    return sum(jnp.square(jnp.abs(y)).sum() for y in products(operator, x).values())


def collectives(compiled):
    """Which collectives a program has."""
    text = compiled.as_text()
    return {name for name in COLLECTIVES if re.search(rf"{name}(-start)?\(", text)}


def close(found, wanted):
    """Whether trees of arrays agree to float32."""
    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True))
    return all(np.allclose(a, b, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(b).max(initial=0)))) for a, b in pairs)


def divided(array, axis):
    """Whether an array is divided along one axis, and along no other."""
    local = [size // DEVICES if place == axis else size for place, size in enumerate(array.shape)]
    return array.sharding.shard_shape(array.shape) == tuple(local)


def wrong(operator, mesh):
    """What is wrong with an operator's products and gradients on a mesh."""
    everywhere = NamedSharding(mesh, PartitionSpec())
    hosts = operands(operator.shape)
    axes = {name: axis for name, (_, axis) in hosts.items()}
    x = {name: array for name, (array, _) in hosts.items()}
    expected, slopes = jax.jit(products)(operator, x), jax.jit(jax.grad(energy, (0, 1), allow_int=True))(operator, x)
    spread = {name: NamedSharding(mesh, PartitionSpec(*[None] * axis, "data")) for name, axis in axes.items()}
    x = {name: jax.device_put(array, spread[name]) for name, array in x.items()}
    operator = jax.device_put(operator, everywhere)
    forward = jax.jit(products).lower(operator, x).compile()
    if found := collectives(forward):
        yield f"products: {sorted(found)}"
    for how, results in (("jit", forward(operator, x)), ("eager", products(operator, x))):
        yield from (f"{how}, {name}: wrong numbers" for name, y in results.items() if not close(y, expected[name]))
        yield from (f"{how}, {name}: {y.sharding}" for name, y in results.items() if not divided(y, axes[name]))
    backward = jax.jit(jax.grad(energy, (0, 1), allow_int=True)).lower(operator, x).compile()
    if found := collectives(backward) - {"all-reduce"}:
        yield f"gradients: {sorted(found)}"
    parameters, inputs = backward(operator, x)
    if not close((parameters, inputs), slopes):
        yield "gradients: wrong numbers"
    yield from (f"gradient of {name}: {dx.sharding}" for name, dx in inputs.items() if not divided(dx, axes[name]))
    found = jax.jit(jax.vmap(lambda row: row @ operator))(x["left"])
    if not close(found, expected["left"]) or not divided(found, 0):
        yield "vmap"


def wrong_layers(operator, mesh):
    """What is wrong with a step of training of its layers."""
    (m, n), random = operator.shape, np.random.default_rng(2)
    x, y = (np.asarray(random.standard_normal((2 * DEVICES, 3, size)), np.float32) for size in (n, m))
    batch = NamedSharding(mesh, PartitionSpec("data"))

    def flax_step(layer, x, y):
        loss, slopes = nnx.value_and_grad(lambda layer: jnp.square(layer(x) - y).mean())(layer)
        optimizer = nnx.Optimizer(layer, optax.sgd(0.1), wrt=nnx.Param)
        optimizer.update(layer, slopes)
        return loss, nnx.state(layer, nnx.Param)

    def equinox_step(layer, x, y):
        loss, slopes = eqx.filter_value_and_grad(lambda layer: jnp.square(jax.vmap(jax.vmap(layer))(x) - y).mean())(layer)
        return loss, eqx.apply_updates(layer, jax.tree.map(lambda g: -0.1 * g, slopes))

    for name, layer, step in (("flax", lo.nn.flax.Linear(operator), flax_step), ("equinox", lo.nn.equinox.Linear(operator), equinox_step)):
        graph, leaves = nnx.split(layer) if name == "flax" else eqx.partition(layer, eqx.is_array)[::-1]

        def run(leaves, x, y, name=name, graph=graph, step=step):
            return step(nnx.merge(graph, leaves) if name == "flax" else eqx.combine(leaves, graph), x, y)

        expected = jax.jit(run)(leaves, x, y)
        leaves = jax.device_put(leaves, NamedSharding(mesh, PartitionSpec()))
        arguments = leaves, jax.device_put(x, batch), jax.device_put(y, batch)
        compiled = jax.jit(run).lower(*arguments).compile()
        if found := collectives(compiled) - {"all-reduce"}:
            yield f"{name} step: {sorted(found)}"
        if not close(compiled(*arguments), expected):
            yield f"{name} step: wrong numbers"


def main(kind, only):
    warnings.simplefilter("error")
    mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Explicit if kind == "explicit" else AxisType.Auto,))
    for name, operator in named():
        if only and name not in only:
            continue
        checks = [wrong, *[wrong_layers] * (name in FAMILIES)]
        for check in checks:
            try:
                with jax.set_mesh(mesh):
                    found = list(check(operator, mesh))
            except Exception as error:
                found = [f"{check.__name__}: {type(error).__name__}: {str(error)[:300]}"]
            for problem in found:
                print(f"{name}: {problem}", flush=True)
    print("done")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
