"""Layers and the ways to export them: what `test_export.py` runs, and of what `export_page.py` makes its table."""

import logging
import os
from collections import namedtuple
from contextlib import contextmanager
from functools import partial

import linops as lo
from linops.families import FAMILIES

#: sizes that most families pad
M, N = 20, 13
#: batches that an exported layer runs, traced at another
BATCHES = (1, 7)

#: a kind of layer: what the table calls it, its operator, the options of the layer, and reasons why ways fail
Row = namedtuple("Row", ("title", "operator", "options", "fails", "lacks"), defaults=({}, {}, {}))

NO_COMPLEX = "onnxruntime has no complex numbers, nor has PyTorch's exporter all of their operations"
NO_PARTS = "`Parts`, as of a fused query-key-value projection, is a layer of PyTorch alone"


def _permuted():
    """Index arrays on both sides of a structure."""
    return lo.Permute.random(M, seed=1) @ lo.monarch(M, N, blocks=2) @ lo.Permute.random(N, seed=2)


def _sparse():
    return lo.Sparse(lo.spec(30), [k % M for k in range(30)], [7 * k % N for k in range(30)], (M, N))


def _reflected():
    return lo.Householder(lo.spec(3, M)) @ lo.low_rank(M, N, 2)


def _complex():
    return lo.circulant(M, N, dtype="complex64", allow_dearer=True) + lo.low_rank(M, N, 2, dtype="complex64")


ROWS = {
    name: Row(f"`{name}`", partial(family, M, N, **({} if name == "dense" else {"allow_dearer": True})))
    for name, family in FAMILIES.items()
} | {
    "permute": Row("index arrays of `Permute`", _permuted),
    "sparse": Row("`Sparse`", _sparse),
    "householder": Row("`Householder` of several reflections", _reflected),
    "weight_norm": Row("with `weight_norm=True`", partial(lo.btt, M, N), {"weight_norm": True}),
    "parts": Row("`Parts`", partial(lo.low_rank, M, N, 2), {}, {}, dict.fromkeys(("flax", "equinox"), NO_PARTS)),
    "complex": Row("complex numbers", _complex, {}, {"onnx": NO_COMPLEX}),
}


# ---------------------------------------------------------------- PyTorch


def torch_layer(name):
    """A layer of a row, with random numbers everywhere."""
    import torch

    from linops.nn.torch.parts import Parts

    row = ROWS[name]
    torch.manual_seed(0)
    layer = lo.nn.torch.Linear(row.operator(), **row.options)
    if name == "parts":
        layer = Parts([layer, lo.nn.torch.Linear(lo.monarch(8, N, blocks=2), bias=False)], bias=True)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return layer.eval()


def torch_input(layer, batch):
    """Rows of random numbers for a layer."""
    import torch

    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, layer.in_features, generator=generator, dtype=next(layer.parameters()).dtype)


def torch_export(layer, folder):
    """The layer from a file of torch.export."""
    import torch

    path, batch = os.path.join(folder, "layer.pt2"), torch.export.Dim("batch", min=1, max=4096)
    with torch.no_grad():
        program = torch.export.export(layer, (torch_input(layer, 4),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    return torch.export.load(path).module()


def torch_fx(layer, folder):
    """The layer as a graph of torch.fx."""
    import torch

    return torch.fx.symbolic_trace(layer)


def onnx(layer, folder):
    """The layer in onnxruntime, from a file of ONNX."""
    import onnxruntime
    import torch

    path = os.path.join(folder, "layer.onnx")
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    with torch.no_grad(), quiet():
        program = torch.onnx.export(layer, (torch_input(layer, 4),), dynamo=True, dynamic_shapes=shapes, verbose=False)
    program.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return lambda x: torch.from_numpy(session.run(None, {given.name: x.numpy()})[0])


def all_at_once(layers):
    """A model that runs each of some layers, for compiling takes long: of a dict of inputs, a dict of outputs."""
    import torch

    class Layers(torch.nn.ModuleDict):
        def forward(self, inputs):
            return {name: layer(inputs[name]) for name, layer in self.items()}

    return Layers(layers)


def aot_inductor(layers, folder):
    """A model of `all_at_once` as a library compiled ahead of time."""
    import torch

    batch, path = torch.export.Dim("batch", min=1, max=4096), os.path.join(folder, "layers.pt2")
    inputs = {name: torch_input(layer, 4) for name, layer in layers.items()}
    with torch.no_grad():
        program = torch.export.export(layers, (inputs,), dynamic_shapes=({name: {0: batch} for name in inputs},))
    options = {"aot_inductor.compile_wrapper_opt_level": "O0"}  # of what calls the kernels: sooner compiled
    torch._inductor.aoti_compile_and_package(program, package_path=path, inductor_configs=options)
    return torch._inductor.aoti_load_package(path)


@contextmanager
def quiet():
    """Without what the exporter logs of packages that are not there."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)


# ---------------------------------------------------------------- JAX


def flax_layer(name):
    """A layer of Flax of a row."""
    from flax import nnx

    return lo.nn.flax.Linear(ROWS[name].operator(), **ROWS[name].options, rngs=nnx.Rngs(0))


def equinox_layer(name):
    """A layer of Equinox of a row."""
    import jax

    return lo.nn.equinox.Linear(ROWS[name].operator(), **ROWS[name].options, key=jax.random.key(0))


def jax_input(layer, batch):
    """Rows of random numbers for a layer."""
    import jax

    return jax.random.normal(jax.random.key(batch), (batch, layer.in_features), layer.bias.dtype)


def jax_export(layer, folder):
    """The layer from the bytes of jax.export."""
    import jax
    from jax import export

    (batch,) = export.symbolic_shape("batch")
    x = jax.ShapeDtypeStruct((batch, layer.in_features), layer.bias.dtype)
    return export.deserialize(export.export(jax.jit(lambda x: layer(x)))(x).serialize()).call


#: a way to export: what the table calls it, the layer of a row, its input, what is exported
Way = namedtuple("Way", ("title", "layer", "input", "exported"))
WAYS = {
    "export": Way("`torch.export`", torch_layer, torch_input, torch_export),
    "fx": Way("`torch.fx`", torch_layer, torch_input, torch_fx),
    "onnx": Way("ONNX", torch_layer, torch_input, onnx),
    "aoti": Way("AOTInductor", torch_layer, torch_input, aot_inductor),
    "flax": Way("`jax.export`, Flax", flax_layer, jax_input, jax_export),
    "equinox": Way("`jax.export`, Equinox", equinox_layer, jax_input, jax_export),
}
