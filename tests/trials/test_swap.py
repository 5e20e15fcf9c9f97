"""Replacing a PyTorch model's layers: obstacles, the weight to be read, the report."""

import copy
import operator
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import linear
from torch.nn.utils import prune

import linops as lo
from linops.declaration import declare, tree
from linops.nn.torch.layer import Linear as Layer


def left_alone(model, family="low_rank", **options):
    """The report of a call with where=None, and its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = lo.nn.replace_linear_(model, family, **options)
    return report, [str(warning.message) for warning in caught]


def densified(model):
    """A copy with dense layers of the same weights."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for key, child in list(parent._modules.items()):
            if hasattr(child, "to_dense") and hasattr(child, "operator"):
                parent._modules[key] = child.to_dense()
    return model


def two(width=16):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, width), nn.Linear(width, width))


# ---------------------------------------------------------------- obstacles


@pytest.fixture
def gloo(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("where", [None, "0"])
def test_trial_10_a_sharded_model_is_refused_before_anything_is_changed(gloo, bias, where):
    model = nn.Sequential(nn.Linear(16, 16, bias), nn.Linear(16, 16, bias))
    fully_shard(model, mesh=gloo)
    before = list(model.children())
    with pytest.raises(ValueError, match=r"layer '0' has a sharded weight \(DTensor\).*replace before sharding"):
        lo.nn.replace_linear_(model, "btt", where=where)
    assert list(model.children()) == before


def test_trial_10_other_wrappers_that_synchronise_parameters_are_refused(gloo):
    model = nn.parallel.DistributedDataParallel(two())
    with pytest.raises(
        ValueError, match=r"'module.0' is inside DistributedDataParallel.*replace before sharding or wrapping"
    ):
        lo.nn.replace_linear_(model, "btt")
    model = two()
    model[1].weight = nn.Parameter(torch.zeros(0))  # as DeepSpeed leaves it
    with pytest.raises(ValueError, match=r"'1' has a weight of shape \(0,\) for \(16, 16\)"):
        lo.nn.replace_linear_(model, "btt")
    assert all(type(layer) is nn.Linear for layer in model)


class FullyShardedDataParallel(nn.Sequential):
    """Stands for torch's older one, which needs an accelerator: it is known by its name."""


def test_trial_10_the_older_fully_sharded_data_parallel():
    with pytest.raises(
        ValueError, match=r"'0.1' is inside FullyShardedDataParallel.*replace before sharding or wrapping the model"
    ):
        lo.nn.replace_linear_(nn.Sequential(FullyShardedDataParallel(nn.ReLU(), *two())), "btt")


def test_trial_13_hooks_are_kept_and_the_scale_is_told():
    model, seen = two(), []
    with torch.no_grad():
        model[0].weight.mul_(0.01)
    handle = model[0].register_forward_hook(lambda module, args, output: seen.append("forward"))
    model[0].register_forward_pre_hook(lambda module, args, kwargs: seen.append("before"), with_kwargs=True)
    model[0].register_full_backward_hook(lambda module, *gradients: seen.append("backward"))
    model[0].register_full_backward_pre_hook(lambda module, gradients: seen.append("before backward"))
    model[0].register_forward_hook(lambda module, args, output: 2 * output)
    report = lo.nn.replace_linear_(model, "low_rank", rank=4, scale="structure")
    x = torch.randn(3, 16, requires_grad=True)
    y = model[0](x)
    y.sum().backward()
    assert seen == ["before", "forward", "before backward", "backward"]
    torch.testing.assert_close(y, 2 * model[0].to_dense()(x))
    handle.remove()
    model[0](x)
    assert seen.count("forward") == 1
    assert report[0].scale == pytest.approx(100 * report[1].scale, rel=0.3)
    assert 0.5 < report[1].scale < 4
    assert f"initial scale ×{report[1].scale:.2g} to ×{report[0].scale:.2g}" in str(report)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.complex64])
@pytest.mark.parametrize("family", ["circulant", "monarch"])
def test_trial_13_the_scale_is_that_of_the_entries_in_every_precision(family, dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64, dtype=dtype))
    before, drawn = model[0].weight.detach().abs().float(), torch.get_rng_state()
    report = lo.nn.replace_linear_(model, family)
    after = model[0].operator.to(dtype=torch.promote_types(dtype, torch.float32)).to_dense().detach().abs().float()
    expected = after.square().mean().sqrt() / before.square().mean().sqrt()
    assert report[0].scale == pytest.approx(expected.item(), rel=0.4)  # by four random vectors
    torch.set_rng_state(drawn)
    twin = lo.nn.torch.Linear(
        model[0].structure.operator, dtype=dtype
    )  # the measurement draws nothing of the model's numbers
    assert all(torch.equal(*pair) for pair in zip(list(twin.parameters())[:-1], list(model[0].parameters())))


def test_trial_13_what_hooks_on_the_weight_and_the_state_dict_know_is_no_longer_there():
    model = two()
    model[0].weight.register_hook(lambda gradient: 0 * gradient)
    model[1]._register_state_dict_hook(lambda module, state, prefix, local: state)
    for name, reason in (("0", "hooks on its weight's gradient"), ("1", "hooks on its state dict")):
        with pytest.raises(ValueError, match=f"'{name}' has {reason}.*register them after replacing"):
            lo.nn.replace_linear_(model, "btt", where=name)


def computed(how):
    """A model whose first layer computes its weight or bias."""
    model = two()
    if how == "weight_norm":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's word that there is a newer one
            nn.utils.weight_norm(model[0])
    elif how == "spectral_norm":
        nn.utils.spectral_norm(model[0])
    elif how == "prune":
        prune.l1_unstructured(model[0], "weight", 0.5)
    elif how == "prune bias":
        prune.l1_unstructured(model[0], "bias", 0.5)
    else:
        nn.utils.parametrizations.weight_norm(model[0])
    return model


@pytest.mark.parametrize("how", ["weight_norm", "spectral_norm", "prune", "prune bias", "parametrize"])
def test_trial_16_computed_weights_are_left_alone_and_do_not_disturb_others(how):
    model = computed(how)
    lo.nn.replace_linear_(model, "low_rank", where="1")
    assert isinstance(model[1], Layer)
    model = computed(how)
    first = model[0]
    with pytest.raises(ValueError, match=r"'0' computes its (weight|bias) of .*make that permanent first"):
        lo.nn.replace_linear_(model, "low_rank", where="0")
    report, said = left_alone(model)
    assert len(said) == 1
    assert "layer '0' alone, which computes its" in said[0]
    assert [row.name for row in report] == ["1"]
    assert model[0] is first
    model(torch.randn(2, 16)).sum().backward()


def test_trial_16_a_layer_where_no_structure_pays_is_left_alone_if_it_is_not_named():
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 1), nn.Linear(1, 64))
    report, said = left_alone(model, "btt")
    assert [row.name for row in report] == ["0"]
    assert len(said) == 1  # one for the kind
    assert "left 2 layers alone ('*' (2)): '1' is refused by its family: btt(1, 64): 72 MACs" in said[0]
    assert report.skipped.keys() == {"1", "2"}
    with pytest.raises(ValueError, match=r"layer '0' \(1×64\): btt\(1, 64\)"):
        lo.nn.replace_linear_(nn.Sequential(nn.Linear(64, 1)), "btt")  # nothing would be replaced
    for where in ("1", {"1": "btt"}, lambda name, _: name == "1"):
        with pytest.raises(ValueError, match=r"layer '1' \(1×64\): btt\(1, 64\)"):
            lo.nn.replace_linear_(model, "btt", where=where)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        lo.nn.replace_linear_(two(), "btt", blocks=3)


class Wrapped(nn.Linear):
    """A subclass with a forward of its own."""

    def forward(self, x):
        return 2 * super().forward(x)


class Initialised(nn.Linear):
    """A subclass with nothing but an initialisation of its own."""

    def __init__(self, *sizes, note="", **options):
        super().__init__(*sizes, **options)
        self.note = note

    def reset_parameters(self):
        nn.init.normal_(self.weight, std=0.02)


def test_trial_30_subclasses_are_replaced_where_the_forward_is_that_of_linear():
    model = nn.Sequential(Initialised(16, 16, note="kept"), *(Wrapped(16, 16) for _ in range(3)))
    report, said = left_alone(model)
    assert [row.name for row in report] == ["0"]
    assert model[0].note == "kept"
    assert len(said) == 1
    assert (
        "left 3 layers alone ('*' (3)): '1' is a Wrapped, a subclass of torch.nn.Linear with its own 'forward'"
        in said[0]
    )
    offloaded = two()
    offloaded[0].forward = lambda x: x  # as accelerate does
    with pytest.raises(ValueError, match="'0' has another forward than its class"):
        lo.nn.replace_linear_(offloaded, "low_rank", where="0")
    more = two()
    more[0].register_buffer("mask", torch.ones(16))
    with pytest.raises(ValueError, match="'0' has more than a weight and a bias: 'mask'"):
        lo.nn.replace_linear_(more, "low_rank", where="0")


def test_trial_18_frozen_layers_do_not_become_frozen_noise_unasked():
    model = two()
    model[0].requires_grad_(False)
    report, said = left_alone(model)
    assert [row.name for row in report] == ["1"]
    assert "'0' alone, which is frozen" in said[0]


def test_trial_18_weights_in_other_arithmetics():
    class Quantised(torch.Tensor):
        pass

    model = two()
    model[0].weight = nn.Parameter(model[0].weight.detach().as_subclass(Quantised))
    with pytest.raises(
        ValueError, match="'0' has a weight of Quantised, a tensor of another arithmetic; replace before quantising"
    ):
        lo.nn.replace_linear_(model, "low_rank", where="0")
    report, _ = left_alone(model)
    assert [row.name for row in report] == ["1"]
    lazy = nn.Sequential(nn.LazyLinear(16), nn.Linear(16, 16))
    with pytest.raises(ValueError, match="'0' has no weight yet, being lazy; run the model once first"):
        lo.nn.replace_linear_(lazy, "low_rank", where="0")
    report, _ = left_alone(lazy)
    assert [row.name for row in report] == ["1"]


def test_trial_19_weights_of_one_memory_are_one_weight():
    model = nn.Sequential(nn.Embedding(16, 16), nn.Linear(16, 16, bias=False))
    model[1].weight.data = model[0].weight.data
    with pytest.raises(ValueError, match="'1' shares its weight with '0'"):
        lo.nn.replace_linear_(model, "low_rank", where="1")


class Tied(nn.Module):
    """A head that transformers is going to tie, as its models are before `from_pretrained` has read the checkpoint."""

    def __init__(self, tie, keys):
        super().__init__()
        self.embed, self.fc, self.head = nn.Embedding(32, 16), nn.Linear(16, 16), nn.Linear(16, 32, bias=False)
        self.config, self._tied_weights_keys = type("Config", (), {"tie_word_embeddings": tie}), keys


@pytest.mark.parametrize("keys", [{"head.weight": "embed.weight"}, ["head.weight"], {r"he.d.*": "embed"}])
def test_trial_19_a_head_that_is_to_be_tied_is_left_alone(keys):
    with torch.device("meta"):
        model, outer, free = Tied(True, keys), nn.ModuleDict({"lm": Tied(True, keys)}), Tied(False, keys)
    report, said = left_alone(model)
    assert [row.name for row in report] == ["fc"]
    assert "'head' alone, which is to share its weight with" in said[0]
    with pytest.raises(ValueError, match=r"'lm.head' is to share its weight.*tie_word_embeddings = False"):
        lo.nn.replace_linear_(outer, "low_rank", where="*")
    assert len(left_alone(free)[0]) == 2


# ---------------------------------------------------------------- the weight


class Reader(nn.Module):
    """Reads its layers' weights in the ways that models do."""

    def __init__(self):
        super().__init__()
        self.wo, self.qkv, self.dt, self.out = (nn.Linear(16, 16) for _ in range(4))
        self.extra = nn.Parameter(torch.randn(16))

    def forward(self, x):
        if isinstance(self.wo.weight, torch.Tensor) and x.dtype != self.wo.weight.dtype:  # T5
            x = x.to(self.wo.weight.dtype)
        x = self.wo(x.to(self.wo.weight.device))
        x = linear(x, weight=self.qkv.weight, bias=torch.cat([self.extra[:8], self.extra[8:]]))  # BEiT
        x = (self.dt.weight @ x.transpose(-1, -2)).transpose(-1, -2) + self.dt.bias  # Mamba
        return x @ self.out.weight.T + self.out.weight.norm(dim=1)


@pytest.mark.parametrize(("family", "parts"), [("low_rank", None), ("btt", {"*": 2}), ("circulant", None)])
def test_trial_15_models_read_the_weight(family, parts):
    torch.manual_seed(0)
    model = Reader()
    lo.nn.replace_linear_(model, family, parts=parts)
    twin, x = densified(model), torch.randn(2, 3, 16, dtype=torch.float64)
    with pytest.warns(UserWarning, match=r"16×16 weight of layer 'out' is multiplied out here"):  # the norm alone
        y = model(x)
    torch.testing.assert_close(y, twin(x))
    y.square().sum().backward()
    assert all(parameter.grad.any() for name, parameter in model.named_parameters() if not name.endswith("bias"))
    assert not any(name.endswith("weight") for name in model.state_dict())
    assert not any(name.endswith("weight") for name, _ in model.named_parameters())


def test_trial_15_what_it_is_costs_nothing():
    layer = lo.nn.torch.Linear(lo.btt(4096, 4096), device="meta", dtype=torch.bfloat16)
    weight = layer.weight  # of a meta layer: nothing can be computed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (weight.dtype, weight.device.type, weight.shape, weight.ndim) == (
            torch.bfloat16,
            "meta",
            (4096, 4096),
            2,
        )
        assert (weight.requires_grad, weight.is_floating_point(), weight.is_meta, weight.grad) == (
            True,
            True,
            True,
            None,
        )
        assert (weight.numel(), weight.size(0), len(weight), weight.T.shape) == (4096**2, 4096, 4096, (4096, 4096))
        assert (weight.data.dtype, weight.data.requires_grad) == (torch.bfloat16, False)
        assert isinstance(weight, torch.Tensor)
        assert not layer.requires_grad_(False).weight.requires_grad
        assert layer.to(torch.float64).weight.dtype == torch.float64
        assert lo.nn.torch.Linear(lo.DFT(8)).weight.dtype == torch.complex64


WRITES = {
    "data": lambda w: w.data.normal_(),
    "init": nn.init.normal_,
    "xavier": nn.init.xavier_uniform_,
    "orthogonal": nn.init.orthogonal_,
    "truncated": nn.init.trunc_normal_,
    "row": lambda w: w.__setitem__(0, 1),
    "view": lambda w: w.data[:2].zero_(),
    "transposed": lambda w: w.T.copy_(torch.ones(16, 16)),
    "chunk": lambda w: w.view(-1).chunk(2)[0].mul_(2),
    "augmented": lambda w: operator.itruediv(w, 2),
    "out": lambda w: torch.add(torch.ones(16, 16), 1, out=w),
    "foreach": lambda w: torch._foreach_mul_([w], 2.0),
    "freeze": lambda w: w.requires_grad_(False),
    "frozen": lambda w: setattr(w, "requires_grad", False),
    "assigned": lambda w: setattr(w, "data", torch.ones(16, 16)),
    "hook": lambda w: w.register_hook(print),
}


@pytest.mark.filterwarnings("ignore:the 16×16 weight")
@pytest.mark.parametrize("write", WRITES)
def test_trial_15_writing_is_refused(write):
    model = two()
    lo.nn.replace_linear_(model, "low_rank")
    before = copy.deepcopy(model.state_dict())
    with (
        torch.no_grad(),
        pytest.raises(
            RuntimeError, match=r"weight of layer '1' is computed from its factors.*before replace_linear_, or exclude"
        ),
    ):
        WRITES[write](model[1].weight)
    torch.testing.assert_close(model.state_dict(), before)


@pytest.mark.parametrize("value", [torch.zeros(16, 16), nn.Parameter(torch.zeros(16, 16)), None])
@pytest.mark.parametrize("parts", [None, {"*": 2}])
def test_trial_15_assigning_is_refused(value, parts):
    model = two()
    lo.nn.replace_linear_(model, "low_rank", parts=parts)
    with pytest.raises(RuntimeError, match=r"layer.weight = \w+: the weight of layer '0' is computed"):
        model[0].weight = value


def test_trial_15_no_gradient_is_lost_in_functions_that_torch_does_not_see_through():
    class Fused(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight):
            ctx.save_for_backward(x)
            return linear(x, weight)

        @staticmethod
        def backward(ctx, gradient):
            return None, gradient.T @ ctx.saved_tensors[0]

    layer = lo.nn.torch.Linear(lo.low_rank(16, 16))
    with pytest.raises(RuntimeError, match="a gradient reached the weight of a structured layer and not its factors"):
        Fused.apply(torch.ones(2, 16), layer.weight).sum().backward()
    with torch._C.DisableTorchFunctionSubclass(), pytest.raises(NotImplementedError, match="has no memory of its own"):
        layer.weight + 1


def test_trial_15_conv1d_has_its_own_layout():
    class Conv1D(nn.Module):
        def __init__(self, nf, nx):
            super().__init__()
            self.nf = nf
            self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.zeros(nf))

        def forward(self, x):
            return torch.addmm(self.bias, x, self.weight)

    model = nn.Sequential(Conv1D(16, 16), Conv1D(32, 16))
    lo.nn.replace_linear_(model, "low_rank", parts={"1": 2})
    x = torch.randn(3, 16)
    for layer in model:
        torch.testing.assert_close(x @ layer.weight + layer.bias, layer(x))
    assert model[1].weight.shape == (16, 32)
    with pytest.warns(UserWarning, match="multiplied out"):
        torch.testing.assert_close(model[1].weight + 0, model[1].to_dense().weight.T)


def test_trial_15_the_weight_follows_autocast_and_functional_calls_as_the_layer_does():
    layer = lo.nn.torch.Linear(lo.low_rank(16, 16))
    x = torch.randn(3, 16)
    with torch.autocast("cpu", torch.bfloat16):
        y = linear(x, layer.weight, layer.bias)
        assert y.dtype == torch.bfloat16
        assert torch.equal(y, layer(x))
    reader = nn.Module()
    reader.layer, reader.forward = layer, lambda x: linear(x.to(reader.layer.weight.dtype), reader.layer.weight)
    doubled = {f"layer.{name}": (2 * value).double() for name, value in layer.named_parameters()}
    y = torch.func.functional_call(reader, doubled, (x,))
    torch.testing.assert_close(y, 4 * linear(x, layer.weight).double(), rtol=1e-5, atol=1e-5)
    stacked = {name: torch.stack([value, 3 * value]) for name, value in doubled.items()}
    batched = torch.func.vmap(lambda leaves: torch.func.functional_call(reader, leaves, (x,)))(stacked)
    torch.testing.assert_close(batched, torch.stack([y, 9 * y]))


def test_trial_15_a_leaf_of_that_name_is_a_leaf():
    @declare
    class Scale(lo.LinearOperator):
        weight: Any = tree()
        shape = property(lambda self: (self.weight.shape[0],) * 2)

        def _columns(self, x):
            return self.weight[:, None] * x

        def _transpose(self):
            return self

        def _lower(self, batch):
            return ()

    layer = lo.nn.torch.Linear(Scale(torch.arange(1.0, 5.0)), bias=False)
    assert isinstance(layer.weight, nn.Parameter)
    assert list(layer.state_dict()) == ["weight"]
    torch.testing.assert_close(layer(torch.ones(2, 4)), torch.arange(1.0, 5.0).expand(2, 4))


class Simple(Reader):
    """Reads them in the ways that torch.compile takes in one graph."""

    def forward(self, x):
        if isinstance(self.wo.weight, torch.Tensor) and x.dtype != self.wo.weight.dtype:
            x = x.to(self.wo.weight.dtype)
        x = self.wo(x.to(self.wo.weight.device))
        x = linear(x, weight=self.qkv.weight, bias=self.extra)
        x = (self.dt.weight @ x.transpose(-1, -2)).transpose(-1, -2) + self.dt.weight[0] * self.dt.weight.size(0)
        return x @ self.out.weight.T + torch.cat([self.out.weight, self.wo.weight]).sum()


class Writer(Reader):
    """Writes into a weight as it runs."""

    def forward(self, x):
        with torch.no_grad():
            self.wo.weight.div_(2)
        return self.wo(x)


@pytest.mark.full
def test_trial_15_compiled_and_exported_models_read_it_too_and_cannot_write():
    torch.manual_seed(0)
    model, writer = Simple(), Writer()
    for one in (model, writer):
        lo.nn.replace_linear_(one, "low_rank")
    x = torch.randn(2, 3, 16)
    expected = densified(model)(x)
    compiled = torch.compile(model, fullgraph=True, backend="eager")(x)
    assert type(compiled) is torch.Tensor
    torch.testing.assert_close(compiled, expected)
    compiled.sum().backward()
    assert model.out.U.grad.any()
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), expected)
    with pytest.raises(RuntimeError, match="is computed from its factors"):
        torch.compile(writer, backend="eager")(x)


def test_trial_15_the_fused_path_of_a_transformer_is_not_taken():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 64, dropout=0.0, batch_first=True)
    layer.linear1 = lo.nn.torch.Linear(lo.btt(64, 16))  # by hand, so that nothing tells torch
    x = torch.randn(2, 5, 16)
    expected = layer(x)
    with torch.no_grad():
        torch.testing.assert_close(layer.eval()(x), expected)
        torch.testing.assert_close(nn.TransformerEncoder(layer, 1).eval()(x), expected)


# ---------------------------------------------------------------- torch.fx


@pytest.mark.parametrize("weight_norm", [True, False])
def test_trial_20_symbolic_trace(weight_norm):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 16)
    layer = lo.nn.torch.Linear(lo.Permute.random(16, seed=0) @ lo.btt(16, 16), weight_norm=weight_norm)
    traced = torch.fx.symbolic_trace(layer)
    torch.testing.assert_close(traced(x), layer(x))
    assert {name for name, _ in traced.named_parameters()} == {name for name, _ in layer.named_parameters()}
    traced(x).sum().backward()
    assert layer.factors_1_cores_0.grad.any()
    model = nn.Sequential(nn.Linear(16, 48), nn.GELU(), layer)
    lo.nn.replace_linear_(model, "low_rank", where="0", parts={"0": 3})
    model = nn.Sequential(model[0], nn.Flatten(-2), nn.Unflatten(-1, (9, 16)), layer)
    traced = torch.fx.symbolic_trace(model)
    assert {"0.0", "0.1", "0.2", "3"} <= {node.target for node in traced.graph.nodes if node.op == "call_module"}
    torch.testing.assert_close(copy.deepcopy(traced)(x), model(x))


# ---------------------------------------------------------------- the report


class Experts(nn.Module):
    """A mixture's experts as one parameter."""

    def __init__(self):
        super().__init__()
        self.gate_up = nn.Parameter(torch.zeros(4, 32, 16))


def test_trial_30_the_report_says_what_was_left():
    model = nn.Sequential(
        nn.Embedding(10, 16),
        nn.Linear(16, 16),
        Experts(),
        nn.MultiheadAttention(16, 2),
        nn.Linear(16, 1),
        nn.Linear(16, 16),
    )
    before = sum(parameter.numel() for parameter in model.parameters())
    report, _ = left_alone(model, "low_rank", exclude="5", rank=2)
    after = sum(parameter.numel() for parameter in model.parameters())
    assert report.totals == (before, after)
    assert [(one.kind, one.names, one.params) for one in report.left] == [
        ("Experts [gate_up]", ("2",), 2048),
        ("MultiheadAttention [in_proj_weight, in_proj_bias]", ("3",), 816),
        ("NonDynamicallyQuantizableLinear", ("3.out_proj",), 272),
        ("Linear", ("5",), 272),
        ("Embedding", ("0",), 160),
        ("Linear", ("4",), 17),
    ]
    assert sum(one.params for one in report.left) + report.new_params == after
    assert sum(one.params for one in report.left) + report.old_params == before
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(str(report).split())
    assert f"left: Experts [gate_up]: 2,048 parameters, {100 * 2048 / after:.3g} % of the model: '2'" in text
    assert "left: Linear (not selected): 272 parameters" in text
    assert f"whole model {before:,} → {after:,}" in text


def test_trial_30_the_table_fits_a_terminal_whatever_the_names_and_sizes():
    with torch.device("meta"):
        block = nn.ModuleDict(
            {"a_module_of_a_very_long_name_that_fills_the_line_nearly_to_its_end": nn.Linear(16384, 53248)}
        )
        model = nn.Sequential(*(copy.deepcopy(block) for _ in range(12)))
    report, _ = left_alone(model, "btt")
    assert len(report) == 12
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1] == "*.a_module_of_a_very_long_name_that_fills_the_line_nearly_to_its_end"
    assert "12 × 53248×16384  10.47 G → " in lines[2]


def test_trial_43_a_call_that_matches_nothing_lists_the_names():
    model = nn.ModuleDict(
        {"blocks": nn.ModuleList(nn.ModuleDict({"up": nn.Linear(16, 16)}) for _ in range(3)), "head": nn.Linear(16, 16)}
    )
    for where, shown in (("*.attn", r"'\*.attn'"), ({"*.attn": "btt"}, r"\['\*.attn'\]")):
        with pytest.warns(
            UserWarning,
            match=rf"where={shown} matches none of the model's 4, 'blocks.\*.up' \(3\), 'head'; patterns are globs",
        ):
            lo.nn.replace_linear_(model, "btt" if isinstance(where, str) else None, where=where)
    with pytest.warns(UserWarning, match="replaced no layer: none is selected of the model's 4, 'blocks"):
        lo.nn.replace_linear_(model, "btt", where=lambda name, _: False)
    with pytest.warns(UserWarning, match="replaced no layer: the model has no linear layer"):
        lo.nn.replace_linear_(nn.Sequential(nn.ReLU()), "btt")


def test_trial_43_a_family_with_options_is_one_string():
    model = two(64)
    lo.nn.replace_linear_(model, None, where={"0": "btt:rank=2", "1": "low_rank:rank=3"})
    assert model[0].structure.operator.ranks == (2,)
    assert model[1].structure.operator.U.shape == (64, 3)
    one, other = two(64), two(64)
    other[1].weight = other[0].weight  # tied layers of one family stay tied
    lo.nn.replace_linear_(one, "btt:rank=2")
    lo.nn.replace_linear_(other, None, where={"0": "btt:rank=2", "1": "btt:rank=2"})
    assert one[1].structure.operator.ranks == (2,)
    assert other[0].cores_0 is other[1].cores_0
    with pytest.raises(ValueError, match=r"'btt:rank': option 'rank'; expected name=integer"):
        lo.nn.replace_linear_(two(), "btt:rank")
    with pytest.raises(ValueError, match=r"no family 'bt'; expected one of dense"):
        lo.nn.replace_linear_(two(), "bt:rank=2")


# ---------------------------------------------------------------- deployment


@pytest.mark.parametrize("convert", [lo.nn.freeze_, lo.nn.to_dense_])
def test_layers_over_one_parameter_share_no_weights_where_their_structures_differ(convert):
    blocks = torch.randn(2, 4, 4)
    orders = ([1, 2, 3, 4, 5, 6, 7, 0], [7, 6, 5, 4, 3, 2, 1, 0], [1, 2, 3, 4, 5, 6, 7, 0])
    layers = [
        Layer(lo.BlockDiag(blocks) @ lo.Permute(order) + lo.Dense(torch.ones(8, 8)), bias=False) for order in orders
    ]
    for layer in layers[1:]:
        for name, parameter in layers[0].named_parameters():
            layer.register_parameter(name, parameter)
    model, x = nn.Sequential(*layers), torch.randn(3, 8)
    expected = [layer(x) for layer in model]
    report = convert(model)
    for layer, y in zip(model, expected):
        torch.testing.assert_close(layer(x), y)
    assert [row.tied_to for row in report] == [None, None, "0"]
    assert next(iter(model[0].parameters())) is next(iter(model[2].parameters()))


def test_frozen_layers_keep_their_place_in_errors():
    model = nn.Sequential(nn.Linear(64, 64))
    lo.nn.replace_linear_(model, lambda m, n: lo.low_rank(m, n) + lo.low_rank(m, n))
    lo.nn.freeze_(model)
    with pytest.raises(RuntimeError, match="the weight of layer '0'"):
        model[0].weight.zero_()


# ---------------------------------------------------------------- the weight inside transformations


class _Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = lo.btt(16, 16).to_layer(bias=False)

    def forward(self, change=False):
        if change:
            self.layer.weight[0].add_(1)
        return self.layer.weight.square().sum()


@pytest.mark.filterwarnings("ignore:.*multiplied out")
def test_the_weight_is_read_and_not_written_inside_torch_func():
    models = [_Norm(), _Norm()]
    parameters = dict(models[0].named_parameters())
    models[0]().backward()
    gradients = torch.func.grad(lambda values: torch.func.functional_call(models[0], values, ()))(parameters)
    for name, parameter in parameters.items():
        torch.testing.assert_close(gradients[name], parameter.grad)
    stacked, _ = torch.func.stack_module_state(models)
    found = torch.func.vmap(lambda values: torch.func.functional_call(models[0], values, ()))(stacked)
    torch.testing.assert_close(found, torch.stack([model() for model in models]))
    with pytest.raises(RuntimeError, match="computed from its factors"):
        torch.func.grad(lambda values: torch.func.functional_call(models[0], values, (True,)))(parameters)


@pytest.mark.filterwarnings("ignore:.*multiplied out")
def test_the_weight_becomes_a_sparse_tensor():
    layer = lo.btt(16, 16).to_layer()
    torch.testing.assert_close(layer.weight.to_sparse().to_dense(), layer.to_dense().weight)
