"""Divided products on a mesh of eight devices: ``python sharded_meshes.py [words]`` prints what is wrong, a line each.

The words select: names of `FAMILIES`, styles, ``auto`` or ``explicit``, ``model`` (a mesh of eight along one axis) or
``data`` (two by four), and ``modes``, ``training`` and ``checkpoints``. It runs in a process of its own, for JAX takes
the number of devices from its environment.
"""

import os
import re
import sys
import tempfile
import warnings
from collections import Counter
from math import prod

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import linops as lo
from linops.nn.sending import STYLES
from linops.plan.transfer import sent

N, T = 128, 32
FAMILIES = {
    "dense": lo.dense(N, N),
    "low_rank": lo.low_rank(N, N, rank=8),
    "block_diag": lo.block_diag(N, N, blocks=8),
    "kronecker": lo.kronecker(N, N, in_dims=(16, 8), out_dims=(8, 16)),
    "kronecker3": lo.kronecker(512, 512, factors=3),
    "monarch": lo.monarch(N, N, blocks=8),
    "monarch4": lo.monarch(N, N),
    "btt": lo.btt(256, 256),
    "btt4": lo.btt(256, 256, rank=4),
    "btt_of_three": lo.btt(512, 512, rank=2, cores=3),
    "tensor_train": lo.tensor_train(N, N, rank=4),
    "blast": lo.blast(N, N, blocks=8),
    "butterfly": lo.butterfly(N, N),
    "sum": lo.block_diag(N, N, blocks=8) + lo.low_rank(N, N, rank=8),
    "low_rank_block": lo.low_rank_block(N, N, rank=8, blocks=4),
    "low_rank_sparse": lo.low_rank_sparse(N, N, rank=8, density=0.1),
    "low_rank_semi_structured": lo.low_rank_semi_structured(N, N, rank=8),
    "circulant": lo.circulant(N, N),
}
#: of which XLA's partitioner finds the predicted collectives from where the leaves lie
FOUND = ("dense", "low_rank", "block_diag", "btt", "btt4")
KINDS = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}
SIZES = {"f32": 4, "c64": 8, "s32": 4, "u32": 4, "pred": 1}
#: of the shape that a program shows, how many numbers the whole has
WHOLE = {
    "all_reduce": lambda p: 1,
    "all_gather": lambda p: 1,
    "reduce_scatter": lambda p: p,
    "all_to_all": lambda p: p,
}


def mesh_of(shape, kind):
    return jax.make_mesh(shape, ("data", "model"), axis_types=(KINDS[kind],) * 2)


def ranks_of(line):
    """How many devices take part in a collective, which a program says in one of three ways."""
    match = re.search(r"replica_groups=(?:\[\d+,(\d+)\]|\{\{([\d,]*)\}|mesh\[(.*?)\] \{(.*?)\})", line)
    if match[1]:
        return int(match[1])
    if match[2]:
        return len(match[2].split(","))
    sizes = dict(one.split("=") for one in match[3].split(","))
    return prod(int(sizes[name]) for name in match[4].split(","))


def collectives(compiled):
    """Bytes that a device sends by ring algorithms, by collective, as a compiled program has them."""
    found = Counter()
    for line in compiled.as_text().splitlines():
        match = re.search(r"= (.*?) (reduce-scatter|(?:all|collective|ragged)-[a-z-]+?)(?:-start)?\(", line)
        if match is None or match[2].endswith("-done"):
            continue
        name = match[2].replace("-", "_")
        shapes = re.findall(r"(\w+)\[([\d,]*)\]", match[1])
        numbers = sum(SIZES[kind] * prod(map(int, filter(None, dims.split(",")))) for kind, dims in shapes)
        if name == "collective_permute":
            found[name] += numbers
            continue
        p = ranks_of(line)
        found[name] += round(sent(name, p, numbers * WHOLE[name](p)))
    return {name: count for name, count in found.items() if count}


def predicted(product, mesh, style):
    """Bytes of the forward pass, and of forward and backward, with the gradients of data-parallel devices."""
    data, ranks = mesh.devices.shape
    wanted = lo.nn.communication(product.operator, ranks, T // data, style=style)
    found, whole = product.parallel.division(product.operator), Counter(wanted)
    for name, leaf in product.operator.named_leaves() if data > 1 else ():
        size = 4 * leaf.addressable_shards[0].data.size
        whole["all_reduce"] += round(sent("all_reduce", data, size))
        if name in found.partial:  # summed over all devices at once
            whole["all_reduce"] += round(
                sent("all_reduce", data * ranks, size) - sum(sent("all_reduce", p, size) for p in (data, ranks))
            )
    return tuple({name: count for name, count in one.items() if count} for one in (wanted.forward, whole))


def close(found, wanted):
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    return all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max(initial=0)) for a, b in pairs
    )


def numbers(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def wrong(name, symbolic, style, mesh):
    """What is wrong with products of an operator on a mesh."""
    A = symbolic.init(seed=0, backend="jax")
    x, slope = numbers(1, T, A.shape[1]), numbers(2, T, A.shape[0])
    ends = [
        NamedSharding(mesh, PartitionSpec("data", "model" if side == "sharded" else None)) for side in STYLES[style]
    ]
    product = lo.nn.sharded(A, mesh, style=style)
    X, S = jax.device_put(x, ends[0]), jax.device_put(slope, ends[1])

    def pulled(f, x, slope):
        y, pull = jax.vjp(lambda f, x: f(x), f, x)
        return y, pull(slope)

    forward = jax.jit(lambda f, x: f(x)).lower(product, X).compile()
    both = jax.jit(pulled).lower(product, X, S).compile()
    for found, wanted in zip(map(collectives, (forward, both)), predicted(product, mesh, style)):
        if found != wanted:
            yield f"sends {found}, predicted {wanted}"
    y, (dA, dx) = both(product, X, S)
    expected, pull = jax.vjp(lambda A, x: x @ A.T, A, x)
    if not close((y, dA.operator, dx), (expected, *pull(slope))):
        yield "wrong numbers"
    lies = [(y, S), (dx, X), *zip(jax.tree.leaves(dA), jax.tree.leaves(product))]
    if not all(a.sharding.is_equivalent_to(b.sharding, a.ndim) for a, b in lies):
        yield f"lies as {[a.sharding.spec for a, _ in lies]}"
    if name in FOUND and style != "sharded" and mesh.axis_types[0] == AxisType.Auto and mesh.shape["data"] == 1:
        placed = jax.device_put(A, lo.nn.shardings(symbolic, mesh, style=style))
        alone = jax.jit(lambda A, x: x @ A.T, out_shardings=ends[1]).lower(placed, X).compile()
        if collectives(alone) != predicted(product, mesh, style)[0]:
            yield f"XLA alone sends {collectives(alone)}"


def modes(mesh, family):
    """Derivatives forward, of second order and under vmap, and empty batches, are those of one device."""
    A = family(N, N).init(seed=0, backend="jax")
    x = jnp.asarray(numbers(1, 4, N))

    def derivatives(f, A, x):
        slope = jax.grad(lambda x: (f(A, x) ** 4).mean())
        yield "jvp", lambda: jax.jvp(f, (A, x), (A, x))
        yield "jacfwd", lambda: jax.jacfwd(lambda x: f(A, x))(x[0])
        yield "hessian", lambda: jax.jvp(slope, (x,), (x,))
        yield "twice back", lambda: jax.grad(lambda x: (slope(x) ** 2).sum())(x)
        yield "vmap", lambda: jax.vmap(slope)(x)
        yield "empty", lambda: jax.vjp(f, A, x[:0])[1](f(A, x[:0]))

    for style in STYLES:
        product = lo.nn.sharded(A, mesh, style=style)
        pairs = zip(derivatives(lambda f, x: f(x), product, x), derivatives(lambda A, x: x @ A.T, A, x))
        for (name, found), (_, wanted) in pairs:
            if not close(found(), wanted()):
                yield f"{style} {name}: wrong numbers"


def flax_model(family):
    model = nnx.Sequential(
        nnx.Linear(16, N, rngs=nnx.Rngs(0)),
        lo.nn.flax.Linear(family(N, N), rngs=nnx.Rngs(1)),
        nnx.relu,
        lo.nn.flax.Linear(family(N, N), weight_norm=True, rngs=nnx.Rngs(2)),
        nnx.Linear(N, 4, rngs=nnx.Rngs(3)),
    )
    return model, {"layers.1": "colwise", "layers.3": "rowwise"}


def equinox_model(family):
    keys = jax.random.split(jax.random.key(0), 4)
    linear = lo.nn.equinox.Linear
    layers = [
        eqx.nn.Linear(16, N, key=keys[0]),
        linear(family(N, N), key=keys[1]),
        linear(family(N, N), key=keys[2]),
        eqx.nn.Linear(N, 4, key=keys[3]),
    ]
    return eqx.nn.Sequential(layers), {"layers.1": "colwise", "layers.2": "rowwise"}


def trained_flax(model, x, y):
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x, y):
        loss, slopes = nnx.value_and_grad(lambda model: jnp.square(model(x) - y).mean())(model)
        optimizer.update(model, slopes)
        return loss

    losses = [step(model, optimizer, x, y) for _ in range(3)]
    return losses, nnx.state(model, nnx.Param)


def trained(model, x, y, call):
    optimizer = optax.adam(1e-2)
    state = optimizer.init(eqx.filter(model, eqx.is_array))

    @eqx.filter_jit
    def step(model, state, x, y):
        loss, slopes = eqx.filter_value_and_grad(lambda model: jnp.square(call(model, x) - y).mean())(model)
        updates, state = optimizer.update(slopes, state)
        return loss, eqx.apply_updates(model, updates), state

    losses = []
    for _ in range(3):
        loss, model, state = step(model, state, x, y)
        losses.append(loss)
    return losses, eqx.filter(model, eqx.is_array)


def training(mesh, family):
    """Three steps on a mesh are those of one device."""
    x, y = numbers(1, T, 16), numbers(2, T, 4)
    X, Y = jax.device_put((x, y), NamedSharding(mesh, PartitionSpec("data")))
    model, style = flax_model(family)
    found = trained_flax(lo.nn.sharded(model, mesh, style=style), X, Y)
    if not close(found, trained_flax(model, x, y)):
        yield "flax: wrong numbers"
    placed = jax.tree.leaves(lo.nn.shardings(model, mesh, style=style))
    if not all(a.sharding.is_equivalent_to(s, a.ndim) for a, s in zip(jax.tree.leaves(found[1]), placed, strict=True)):
        yield "flax: parameters moved"
    if mesh.axis_types[0] == AxisType.Auto:
        model, style = equinox_model(family)
        found = trained(
            lo.nn.sharded(model, mesh, style=style), X, Y, lambda m, x: jax.vmap(m, spmd_axis_name="data")(x)
        )
        if not close(found, trained(model, x, y, lambda m, x: jax.vmap(m)(x))):
            yield "equinox: wrong numbers"
    A = {"up": family(N, N).init(seed=0, backend="jax"), "down": family(N, N).init(seed=1, backend="jax")}
    x, y = numbers(1, T, N), numbers(2, T, N)
    X, Y = jax.device_put((x, y), NamedSharding(mesh, PartitionSpec("data", "model")))
    found = trained(lo.nn.sharded(A, mesh, style="sharded"), X, Y, lambda A, x: A["down"](jnp.maximum(A["up"](x), 0)))
    expected = trained(A, x, y, lambda A, x: jnp.maximum(x @ A["up"].T, 0) @ A["down"].T)
    if not close(found, expected):
        yield "operators: wrong numbers"


def checkpoints(kind):
    """A model saved on 2 × 4 devices is restored on 1 × 8, and on one, bit for bit."""
    import orbax.checkpoint as ocp

    one = jax.sharding.Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1), ("data", "model"))
    meshes = [mesh_of((2, 4), kind), mesh_of((1, 8), kind), one]
    model, style = flax_model(lo.btt)
    layers = equinox_model(lo.btt)
    with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as files:
        states = {
            "flax": (nnx.state(model), lambda mesh: lo.nn.shardings(model, mesh, style=style)),
            "equinox": (
                eqx.filter(layers[0], eqx.is_array),
                lambda mesh: lo.nn.shardings(layers[0], mesh, style=layers[1]),
            ),
        }
        for name, (state, places) in states.items():
            saved = jax.device_put(state, places(meshes[0]))
            files.save(f"{folder}/{name}", saved)
            files.wait_until_finished()
            for mesh in meshes:
                target = jax.tree.map(
                    lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), state, places(mesh)
                )
                back = files.restore(f"{folder}/{name}", target)
                for a, b, s in zip(*map(jax.tree.leaves, (back, state, places(mesh))), strict=True):
                    if not np.array_equal(a, b) or not a.sharding.is_equivalent_to(s, a.ndim):
                        yield f"{name} on {mesh.shape}: {a.sharding}"


def main(*words):
    warnings.filterwarnings("ignore", ".* stay whole on each of")
    for kind in [one for one in KINDS if one in words] or KINDS:
        for shape, word in (((1, 8), "model"), ((2, 4), "data")):
            mesh = mesh_of(shape, kind)
            if not {"data", "model"} & {*words} or word in words:
                for name, symbolic in FAMILIES.items():
                    if name == "circulant" and shape[0] > 1:  # whose gradient is summed as a spectrum
                        continue
                    for style in STYLES:
                        chosen = {name, "families"} & {*words} and (style in words or not {*STYLES} & {*words})
                        for problem in wrong(name, symbolic, style, mesh) if chosen else ():
                            print(f"{kind} {shape} {name} {style}: {problem}", flush=True)
                if "modes" in words and kind == "auto":
                    for problem in modes(mesh, lo.btt):
                        print(f"{kind} {shape} {problem}", flush=True)
                for problem in training(mesh, lo.btt) if "training" in words else ():
                    print(f"{kind} {shape} {problem}", flush=True)
        for problem in checkpoints(kind) if "checkpoints" in words else ():
            print(f"{kind} checkpoints: {problem}", flush=True)
    print("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
