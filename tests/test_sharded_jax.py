"""`lo.nn.shardings` and `lo.nn.sharded`: where leaves lie on a mesh of JAX, and what products send there."""

import os
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AbstractMesh, PartitionSpec

import linops as lo
from linops.nn.jax_division import Parallel
from linops.nn.sending import STYLES, Communication
from linops.sharding import division

#: of eight devices, which need not be there to say where arrays lie
MESH = AbstractMesh((2, 4), ("data", "model"))
SPLIT, WHOLE = PartitionSpec("model"), PartitionSpec()


def wrong(*words):
    """What `sharded_meshes.py` finds wrong."""
    script = Path(__file__).with_name("sharded_meshes.py")
    environment = os.environ | {"PYTHONPATH": str(script.parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True, env=environment)
    *lines, last = done.stdout.splitlines() or [""]
    assert last == "done", done.stderr[-2000:]
    return lines


@pytest.mark.full
def test_programs_have_the_predicted_collectives_alone():
    assert wrong("kronecker", "sharded", "model", "auto") == []


@pytest.mark.full
@pytest.mark.parametrize("kind", ["auto", "explicit"])
@pytest.mark.parametrize("shape", ["model", "data"])
def test_programs_have_the_predicted_collectives_alone_full(kind, shape):
    assert wrong("families", kind, shape) == []


@pytest.mark.full
def test_derivatives_of_all_modes_and_empty_batches_are_those_of_one_device():
    assert wrong("modes", "auto") == []


@pytest.mark.full
def test_three_steps_are_those_of_one_device():
    assert wrong("training") == []


@pytest.mark.full
def test_checkpoints_are_restored_on_other_meshes():
    assert wrong("checkpoints") == []


@pytest.mark.parametrize("style", ["whole", "colwise", "rowwise", "sharded"])
@pytest.mark.parametrize(
    "A", [lo.btt(64, 64), lo.low_rank(64, 64, rank=4), lo.dense(64, 64)], ids=["btt", "low", "dense"]
)
def test_leaves_lie_as_the_division_has_it(A, style):
    into, out = STYLES[style]
    axes = division(A, 4, into, out).axes
    for operator in (A, A.init(seed=0, backend="jax")):
        found = lo.nn.shardings(operator, MESH, style=style)
        assert jax.tree.structure(found) == jax.tree.structure(operator)
        for name, sharding in found.named_leaves():
            place = axes[name]
            assert sharding.spec == (WHOLE if place is None else PartitionSpec(*[None] * place, "model"))


def traced(style):
    """A btt product on the abstract mesh, to trace, and its operand."""
    product = Parallel(MESH, "model", style)
    A = lo.btt(64, 64).init(seed=0, backend="jax")
    return lambda x: product(A, x), np.ones((2, 64), np.float32)


def test_whole_vectors_are_cut_in_both_modes_and_gathered_backward_alone():
    f, x = traced("whole")
    forward = str(jax.make_jaxpr(lambda x: jax.jvp(f, (x,), (x,)))(x))
    backward = str(jax.make_jaxpr(lambda x, slope: jax.vjp(f, x)[1](slope))(x, x))
    counts = [
        [text.count(name) for name in ("= linops_cut[", "= all_gather_invariant[")] for text in (forward, backward)
    ]
    assert counts == [[2, 2], [1, 2]]


@pytest.mark.parametrize("style", ["whole", "sharded"])
@pytest.mark.parametrize("lead", [(0,), (2, 0)], ids=["rows", "stack"])
def test_empty_batches_have_the_shape_of_others(style, lead):
    f, _ = traced(style)
    assert jax.eval_shape(f, jax.ShapeDtypeStruct((*lead, 64), np.float32)).shape == (*lead, 64)


def test_layers_of_flax_by_patterns():
    rngs = nnx.Rngs(0)
    model = nnx.Dict(
        up=lo.nn.flax.Linear(lo.btt(64, 64), rngs=rngs),
        down=lo.nn.flax.Linear(lo.btt(64, 64), weight_norm=True, rngs=rngs),
        heads=lo.nn.flax.LinearGeneral(lo.btt(64, 64), 64, (4, 16), rngs=rngs),
        odd=lo.nn.flax.LinearGeneral(lo.btt(64, 64), 64, (2, 32), rngs=rngs),
        norm=nnx.LayerNorm(64, rngs=rngs),
    )
    found = lo.nn.shardings(model, MESH, style={"up": "colwise", "re:heads|odd": "sharded", "*": "rowwise"})
    assert jax.tree.structure(found) == jax.tree.structure(nnx.state(model))
    specs = {name: {leaf: one.get_value().spec for leaf, one in own.items()} for name, own in found.items()}
    assert specs["up"] == {"bias": SPLIT, "cores_0": SPLIT, "cores_1": SPLIT}
    assert specs["down"]["bias"] == specs["down"]["cores_0_gain"] == specs["norm"]["scale"] == WHOLE
    assert specs["heads"] == specs["up"]
    assert specs["odd"]["bias"] == WHOLE


@pytest.mark.full
def test_layers_of_equinox_and_those_that_are_stacked():
    keys = jax.random.split(jax.random.key(0), 3)
    stack = eqx.filter_vmap(lambda key: lo.nn.equinox.Linear(lo.low_rank(64, 64, rank=4), key=key))(keys)
    model = {"stack": stack, "head": eqx.nn.Linear(64, 3, key=keys[0]), "operator": lo.btt(64, 64)}
    found = lo.nn.shardings(model, MESH, style="sharded")
    assert found["stack"].operator.U.spec == PartitionSpec(None, "model")
    assert found["stack"].operator.V.spec == PartitionSpec(None, None, "model")
    assert found["stack"].bias.spec == PartitionSpec(None, "model")
    assert found["head"].weight.spec == WHOLE
    assert [one.spec for _, one in found["operator"].named_leaves()] == [SPLIT, SPLIT]


def test_what_stays_whole_is_named():
    model = {"a": lo.toeplitz(64, 64), "b": lo.btt(64, 64)}
    said = r"shardings: 'a' stay whole on each of 4 devices: .*'upp', which matches none of the layers' 2, 'a', 'b'"
    with pytest.warns(UserWarning, match=said):
        lo.nn.shardings(model, MESH, style={"upp": "colwise", "*": "whole"})


def test_errors_name_the_next_step():
    A = lo.btt(64, 64)
    with pytest.raises(ValueError, match="the mesh has no axis 'tensor'; expected axis= one of 'data', 'model'"):
        lo.nn.shardings(A, MESH, axis="tensor")
    with pytest.raises(TypeError, match=r"expected a jax.sharding.Mesh, as jax.make_mesh makes it, got int"):
        lo.nn.shardings(A, 4)
    for style in ({"*": {"up": "whole"}}, ["whole"]):
        with pytest.raises(
            TypeError, match=r"shardings: expected style= one of whole, .* dict of pattern .*, got [{\[]"
        ):
            lo.nn.shardings(A, MESH, style=style)
    with pytest.raises(ValueError, match="style 'columns': expected one of whole, colwise"):
        lo.nn.shardings(A, MESH, style="columns")
    with pytest.raises(ValueError, match=r"layer 'head', style 'sharded': .*66 out_features cannot be shared equally"):
        lo.nn.shardings({"head": lo.dense(66, 64)}, MESH, style="sharded")
    with pytest.raises(TypeError, match=r"symbolic; call A.init"):
        lo.nn.sharded(A, jax.make_mesh((1,), ("model",)))
    with pytest.raises(TypeError, match=r"of Flax, expected a module of flax.nnx"):
        lo.nn.shardings(nnx.state(lo.nn.flax.Linear(A, rngs=nnx.Rngs(0))), MESH)


def test_explicit_axes_must_split_features_as_the_style_has_it():
    mesh = jax.make_mesh((1,), ("model",), axis_types=(jax.sharding.AxisType.Explicit,))
    product = lo.nn.sharded(lo.btt(64, 64).init(seed=0, backend="jax"), mesh, style="rowwise")
    x = jax.device_put(np.ones((2, 64), np.float32), jax.sharding.NamedSharding(mesh, WHOLE))
    with pytest.raises(
        ValueError, match=r"style='rowwise': the features of x .* are split over None; expected 'model'"
    ):
        product(x)
    with pytest.raises(ValueError, match=r"input of shape \(2, 63\); expected \(…, 64\)"):
        product(x[:, :63])


def test_a_product_with_explicit_axes_keeps_features_split():
    mesh = jax.make_mesh((1,), ("model",), axis_types=(jax.sharding.AxisType.Explicit,))
    A = jax.device_put(lo.btt(64, 64).init(seed=0, backend="jax"), lo.nn.shardings(lo.btt(64, 64), mesh))
    x = jax.device_put(np.ones((2, 64), np.float32), jax.sharding.NamedSharding(mesh, PartitionSpec(None, "model")))
    assert (x @ A.T).sharding.spec == PartitionSpec(None, "model")


def test_bytes_of_models_are_those_of_their_layers():
    style = {"up": "colwise", "down": "rowwise"}
    layers = {name: lo.btt(64, 64) for name in style}
    each = [lo.nn.communication(A, 4, 10, style=style[name]) for name, A in layers.items()]
    expected = sum(each, start=Communication())
    flax = nnx.Dict({name: lo.nn.flax.Linear(A, rngs=nnx.Rngs(0)) for name, A in layers.items()})
    equinox = {name: lo.nn.equinox.Linear(A, key=jax.random.key(0)) for name, A in layers.items()}
    for model in (flax, equinox):
        assert lo.nn.communication(model, 4, 10, style=style) == expected
    keys = jax.random.split(jax.random.key(0), 3)
    stacked = jax.vmap(lambda key: lo.nn.equinox.Linear(lo.btt(64, 64), key=key))(keys)
    one = lo.nn.communication(lo.btt(64, 64), 4, 10)
    assert lo.nn.communication(stacked, 4, 10).total == 3 * one.total
    with pytest.raises(TypeError, match=r"communication\(dict\): expected an operator, or a model with structured"):
        lo.nn.communication({"w": jax.numpy.ones(3)}, 4)
