"""`lo.nn.save` and `lo.nn.load` for PyTorch: a fresh model becomes the saved one, bit for bit, or stays as it was."""

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import linops as lo
from linops.nn.torch.layer import Linear
from linops.safetensors import opened


class Block(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width, bias=False)
        self.register_buffer("mask", torch.arange(3), persistent=False)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        return x + self.out(q * k + v)


def dense():
    return nn.Sequential(nn.Linear(8, 16), Block(), Block(), nn.Linear(16, 4))


def swapped(family="btt", **options):
    torch.manual_seed(0)
    model = dense()
    lo.nn.replace_linear_(model, family, exclude="3", parts={"*.qkv": 3}, **options)
    return model


def assert_same(one, other):
    a, b = one.state_dict(), other.state_dict()
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert torch.equal(a[name], b[name]), name
    x = torch.randn(5, 8, dtype=next(one.parameters()).dtype)
    assert torch.equal(one.eval()(x), other.eval()(x))


@pytest.mark.parametrize("options", [{}, {"weight_norm": True}], ids=["plain", "weight_norm"])
@pytest.mark.parametrize(
    "family",
    [
        *("btt:rank=2", "monarch:blocks=2", "low_rank:rank=2", "kronecker", "butterfly", "low_rank_sparse:rank=2"),
        *(pytest.param(f"low_rank_{one}:rank=1", marks=pytest.mark.full) for one in ("block", "semi_structured")),
    ],
)
def test_a_fresh_model_becomes_the_saved_one(family, options, tmp_path):
    model = swapped(family, **options)
    model(torch.randn(5, 8))  # statistics of the norms
    lo.nn.save(model, tmp_path / "m")
    state = torch.get_rng_state()
    assert_same(model, lo.nn.load(dense(), tmp_path / "m"))
    torch.set_rng_state(state)
    assert_same(model, lo.nn.load(swapped(family, **options), tmp_path / "m"))  # that has the layers already
    assert_same(model, lo.nn.load(swapped("low_rank:rank=1"), tmp_path / "m"))  # that has others
    with torch.device("meta"):
        empty = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4))
    other = nn.Sequential(model[0], model[3])
    lo.nn.save(other, tmp_path / "n")
    found = lo.nn.load(empty, tmp_path / "n")
    assert not any(one.is_meta for one in [*found.parameters(), *found.buffers()])
    assert_same(other, found)


def test_nothing_is_drawn(tmp_path):
    model = swapped()
    lo.nn.save(model, tmp_path / "m")
    fresh = dense()
    before = torch.get_rng_state()
    lo.nn.load(fresh, tmp_path / "m")
    assert torch.equal(torch.get_rng_state(), before)


def test_hooks_modes_and_gradients_stay(tmp_path):
    lo.nn.save(swapped(), tmp_path / "m")
    fresh, seen = dense(), []
    fresh[1].out.register_forward_hook(lambda *_: seen.append(1))
    fresh[1].out.eval()
    fresh[2].out.requires_grad_(False)
    lo.nn.load(fresh, tmp_path / "m")
    fresh(torch.randn(5, 8)).sum().backward()
    assert seen == [1]
    assert not fresh[1].out.training
    assert fresh[1].training
    assert all(one.grad is None for one in fresh[2].out.parameters())
    assert all(one.grad is not None for one in fresh[1].out.parameters())


def test_names_are_those_of_the_state_dict(tmp_path):
    model = swapped()
    lo.nn.save(model, tmp_path / "m")
    found, state = load_file(tmp_path / "m"), model.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)
    other = swapped()
    other.load_state_dict(found)
    assert_same(model, other)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)
        self.two.weight = self.one.weight
        self.head = nn.Linear(8, 10, bias=False)
        self.head.weight = self.embed.weight
        self.again = self.one

    def forward(self, x):
        return self.head(self.again(self.two(self.one(self.embed(x)))))


@pytest.mark.filterwarnings("ignore:replace_linear left")
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tied_layers_stay_tied(device, tmp_path):
    model = Tied()
    lo.nn.replace_linear_(model, "btt", where=["one", "two"])
    lo.nn.save(model, tmp_path / "m")
    assert len(opened(tmp_path / "m").entries) == len({id(one) for one in model.state_dict(keep_vars=True).values()})
    with torch.device(device):
        fresh = Tied()
    other = lo.nn.load(fresh, tmp_path / "m")
    assert other.two.cores_0 is other.one.cores_0
    assert other.two.bias is not other.one.bias
    assert other.again is other.one
    assert other.head.weight is other.embed.weight
    x = torch.arange(10)
    assert torch.equal(model(x), other(x))


def test_layers_of_all_kinds(tmp_path):
    class Own(nn.Module):
        def __init__(self, arrays=True):
            super().__init__()
            sparse = lo.Permute.random(40_000, 0) @ lo.Diagonal(np.arange(40_000.0))
            self.long = Linear(sparse if arrays else sparse.structure.operator, bias=False, dtype=torch.float32)
            self.frozen = Linear(lo.dense(8, 8) + lo.low_rank(8, 8, rank=1))
            self.double = Linear(lo.DFT(8) @ lo.Diagonal(np.ones(8) * 1j), dtype=torch.complex128)

    model = Own()
    lo.nn.freeze_(model)
    lo.nn.save(model, tmp_path / "m")
    assert "linops.index.0" in opened(tmp_path / "m").entries
    other = lo.nn.load(Own(), tmp_path / "m")
    assert type(other.frozen.operator) is lo.Dense
    a, b = model.state_dict(), other.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert other.long.structure == model.long.structure


def test_grown_and_half_precision_models(tmp_path):
    model = swapped().to(torch.bfloat16)
    lo.nn.grow_(model, "btt:rank=2")
    lo.nn.save(model, tmp_path / "m")
    assert_same(model, lo.nn.load(dense().to(torch.bfloat16), tmp_path / "m"))


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
def test_wrapped_models(tmp_path):
    model = swapped()
    lo.nn.save(torch.compile(model), tmp_path / "m")
    assert_same(model, lo.nn.load(torch.compile(dense()), tmp_path / "m")._orig_mod)


def test_what_does_not_fit_is_refused_and_the_model_stays(tmp_path):
    model = swapped()
    lo.nn.save(model, tmp_path / "m")

    def refused(fresh, match):
        before = copy.deepcopy(fresh)
        with pytest.raises(ValueError, match=match):
            lo.nn.load(fresh, tmp_path / "m")
        assert repr(fresh) == repr(before)
        assert all(torch.equal(a, b) for a, b in zip(fresh.state_dict().values(), before.state_dict().values()))

    refused(dense().double(), "is float64 in the model and float32 in the file: convert the model first")
    refused(dense()[:3], r"its tensors are not those of the model; the file has beside it '3.weight', '3.bias'")
    refused(nn.Sequential(*dense(), nn.Linear(4, 4)), r"the file lacks '4.weight', '4.bias'")
    refused(nn.Sequential(*dense()[:2]), "the model has no dense layer .2.qkv.: build the same model as was saved")
    refused(
        nn.ModuleDict({"a": nn.Linear(4, 4)}), r"with modules of the same names \(this one's dense layers: 'a'\); an"
    )
    refused(nn.Sequential(nn.GELU()), r"\(this one's dense layers: none\)")
    wide = dense()
    wide[1].out = nn.Linear(16, 32, bias=False)
    refused(wide, r"layer '1.out' is 32×16 in the model and 16×16 in the file, BlockTensorTrain")
    other = dense()
    other[1].out = nn.GELU()
    refused(other, "the model has no dense layer .1.out.")


def test_files_that_hold_no_model(tmp_path):
    save_file(dense().state_dict(), tmp_path / "dense")
    with pytest.raises(ValueError, match="linops did not save it"):
        lo.nn.load(swapped(), tmp_path / "dense")
    with pytest.raises(FileExistsError, match="take another path"):
        lo.nn.save(swapped(), tmp_path / "dense")
    lo.save(tmp_path / "operator", lo.Identity(3))
    with pytest.raises(ValueError, match=r"it holds one operator and no model; lo\.load reads it"):
        lo.nn.load(swapped(), tmp_path / "operator")
    lo.nn.save(swapped(), tmp_path / "model")
    with pytest.raises(TypeError, match=r"holds a model: build it, and call lo\.nn\.load"):
        lo.load(tmp_path / "model")


def test_models_that_cannot_be_saved(tmp_path):
    with pytest.raises(TypeError, match=r"lo\.nn\.save\(int\)"):
        lo.nn.save(3, tmp_path / "m")
    with torch.device("meta"), pytest.raises(ValueError, match="on the meta device"):
        lo.nn.save(nn.Linear(2, 2), tmp_path / "m")

    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"a": 1}

    with pytest.raises(TypeError, match="_extra_state' is a dict, which cannot be saved: it is no tensor"):
        lo.nn.save(nn.Sequential(Extra(2, 2)), tmp_path / "m")
    layer = Linear(lo.Function((3, 3), lambda x: x) @ lo.Diagonal(torch.ones(3)))
    with pytest.raises(TypeError, match=r"layer '0' cannot be saved: .* holds a function"):
        lo.nn.save(nn.Sequential(layer), tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_an_untied_file_is_no_tied_model(tmp_path):
    model = Tied()
    model.head.weight = nn.Parameter(torch.randn(10, 8))
    lo.nn.save(model, tmp_path / "m")
    fresh = Tied()
    before = fresh.embed.weight.detach().clone()
    with pytest.raises(ValueError, match=r"'embed\.weight' and 'head\.weight' are one tensor in the model, and two in"):
        lo.nn.load(fresh, tmp_path / "m")
    assert torch.equal(fresh.embed.weight, before)
    model.head.weight = nn.Parameter(model.embed.weight.detach().clone())
    lo.nn.save(model, tmp_path / "m")
    lo.nn.load(fresh, tmp_path / "m")
    assert torch.equal(fresh.embed.weight, model.embed.weight)


def test_a_model_that_is_one_layer(tmp_path):
    layer = Linear(lo.btt(8, 8))
    lo.nn.save(layer, tmp_path / "m")
    other = Linear(lo.btt(8, 8))
    lo.nn.load(other, tmp_path / "m")
    assert all(torch.equal(a, b) for a, b in zip(layer.parameters(), other.parameters()))
    with pytest.raises(ValueError, match="is the whole model"):
        lo.nn.load(nn.Linear(8, 8), tmp_path / "m")


def test_swapped_arguments():
    with pytest.raises(TypeError, match=r"lo\.nn\.save\('m', …\): the model comes first"):
        lo.nn.save("m", dense())


def test_buffers_that_no_file_has(tmp_path):
    lo.nn.save(swapped(), tmp_path / "m")
    with torch.device("meta"):
        fresh = dense()
    with pytest.raises(ValueError, match=r"buffer '1\.mask' is on the meta device, and in no state dict"):
        lo.nn.load(fresh, tmp_path / "m")
    assert isinstance(fresh[1].out, nn.Linear)
