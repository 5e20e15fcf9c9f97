"""Layers of every family through every way to export, at batches that were not traced: docs/export.md tells of them.

By default some of each way run, all with `-m full`.
"""

import shutil

import jax
import numpy as np
import pytest
import torch
from export_page import PAGE, page
from exports import BATCHES, ROWS, WAYS, all_at_once, aot_inductor, onnx, quiet, torch_input, torch_layer
from jax import export

import linops as lo
from linops.families import FAMILIES

#: torch's own
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex operators"),
]
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="AOTInductor needs g++")

#: what runs by default beside `torch.fx`, which takes no time
SAMPLE = {
    ("onnx", "circulant"),
    *(("export", row) for row in ("monarch", "complex")),
    ("flax", "low_rank"),
}


def _marks(way, row):
    return () if way == "fx" or (way, row) in SAMPLE else pytest.mark.full


PAIRS = [(way, row) for way in WAYS for row in ROWS if way != "aoti" and way not in ROWS[row].lacks]


def _assert_same(found, layer, x):
    reference = np.asarray(layer(x))
    np.testing.assert_allclose(np.asarray(found), reference, atol=1e-5 * abs(reference).max(), rtol=0)
    assert np.asarray(found).dtype == reference.dtype


@torch.no_grad()
@pytest.mark.parametrize(("way", "row"), [pytest.param(*pair, marks=_marks(*pair)) for pair in PAIRS])
def test_exports(way, row, tmp_path):
    if way == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)
    layer = WAYS[way].layer(row)
    if way in ROWS[row].fails:
        with pytest.raises(Exception, match=r"complex|converted"):
            WAYS[way].exported(layer, tmp_path)(WAYS[way].input(layer, 4))
        return
    exported = WAYS[way].exported(layer, tmp_path)
    for batch in BATCHES:
        x = WAYS[way].input(layer, batch)
        _assert_same(exported(x), layer, x)


@pytest.mark.full
@torch.no_grad()
@pytest.mark.parametrize(("dtype", "error"), [("float64", 1e-12), ("float16", 4e-3)])
@pytest.mark.parametrize("row", ["toeplitz", "btt"])  # onnxruntime has no DFT of length 20 in double precision
def test_dtypes_in_onnxruntime(row, dtype, error, tmp_path):
    pytest.importorskip("onnxruntime")
    layer = torch_layer(row).to(getattr(torch, dtype))
    x = torch_input(layer, 7)
    torch.testing.assert_close(onnx(layer, tmp_path)(x), layer(x), rtol=error, atol=error)


@pytest.mark.full
def test_a_triangular_solve_that_is_traced_already_has_no_form_in_onnx():
    pytest.importorskip("onnxscript")
    layer = torch_layer("householder")
    program = torch.export.export(layer, (torch_input(layer, 4),))
    with quiet(), pytest.raises(torch.onnx.errors.OnnxExporterError, match="solve_triangular"):
        torch.onnx.export(program, dynamo=True, verbose=False)


@needs_compiler
@pytest.mark.full
@torch.no_grad()
def test_compiled_ahead_of_time(tmp_path, monkeypatch):
    """All in one library, for a compiler takes long to start."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    rows = [row for row in ROWS if "aoti" not in ROWS[row].fails]
    layers = all_at_once({row: torch_layer(row) for row in rows})
    compiled = aot_inductor(layers, tmp_path)
    for batch in BATCHES:
        inputs = {row: torch_input(layers[row], batch) for row in rows}
        found = compiled(inputs)
        for row in rows:
            _assert_same(found[row], layers[row], inputs[row])


def _mixed(seed, backend):
    """An operator with every kind of field: leaves, some absent, index arrays, numbers, tags, ranges and texts."""
    n = 6
    terms = [
        2.5 * lo.Permute.random(n, seed=1),
        lo.Sparse(lo.spec(4), [0, 1, 1, 5], [2, 2, 3, 0], (n, n)),
        lo.assume(lo.Dense(lo.spec(n, n)), lo.Tag.SYMMETRIC),
        lo.Einsum("ab,bc->ac", lo.spec(2, 2), in_dims=(2, 3)),
        lo.Block([[lo.spec(2, 3), None], [None, lo.spec(4, 3)]]),
        lo.circulant(2 * n, n)[::2],
    ]
    return sum(terms[1:], terms[0]).init(seed=seed, backend=backend)


class _Product(torch.nn.Module):
    def forward(self, A, x):
        return A @ x


def test_programs_of_torch_take_operators(tmp_path):
    A, x, shapes = _mixed(0, "torch"), torch.randn(6, 4), torch.export.ShapesCollection()
    shapes[x] = {1: torch.export.Dim.DYNAMIC}
    program = torch.export.export(_Product(), (A, x), dynamic_shapes=shapes)
    program.example_inputs = None  # which torch would pickle
    torch.export.save(program, tmp_path / "program.pt2")
    loaded = torch.export.load(tmp_path / "program.pt2").module()
    B, x = _mixed(1, "torch"), torch.randn(6, 7)
    torch.testing.assert_close(loaded(B, x), B @ x)
    with pytest.raises(ValueError, match=r"tree|spec|structure"):
        loaded(2 * B, x)


def test_programs_of_jax_take_operators():
    A, (batch,) = _mixed(0, "jax"), export.symbolic_shape("batch")
    kinds = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), A)
    program = export.export(jax.jit(lambda A, x: A @ x))(kinds, jax.ShapeDtypeStruct((6, batch), np.float32))
    loaded = export.deserialize(program.serialize())
    B, x = _mixed(1, "jax"), jax.random.normal(jax.random.key(0), (6, 7), np.float32)
    np.testing.assert_allclose(loaded.call(B, x), B @ x, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="tree"):
        loaded.call(2 * B, x)


def test_callables_are_in_no_program():
    A = lo.Function((3, 3), lambda x, a: a @ x, params=(lo.spec(3, 3),)).init(seed=0, backend="jax")
    program = export.export(jax.jit(lambda A: A @ jax.numpy.ones(3)))(A)
    with pytest.raises(TypeError, match=r"Function\.product holds a function, which no text can"):
        program.serialize()


def test_classes_may_be_declared_anew():
    """As in a notebook: JAX takes no name twice."""
    from linops.declaration import declare, tree

    for _ in range(2):

        @declare
        class Again(lo.LinearOperator):
            a: object = tree(axes=1)

            @property
            def shape(self):
                """(n, n)."""
                return self.a.shape[0], self.a.shape[0]

        A = Again(jax.numpy.ones(3))
        program = export.export(jax.jit(lambda A: A.a.sum()))(A)
        assert export.deserialize(program.serialize()).call(A) == 3


def test_the_page_is_fresh_and_has_every_family():
    assert set(FAMILIES) <= set(ROWS)
    assert PAGE.read_text(encoding="utf-8") == page(), "stale: python tests/export_page.py --write"
