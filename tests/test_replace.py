"""`replace_linear_` on PyTorch models: what is selected, what is kept, what is refused, what is reported."""

import warnings

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import linops as lo
from linops.nn.torch.parts import Parts

Layer = lo.nn.torch.Linear


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        nn.init.zeros_(self.down.weight)

    def forward(self, x):
        return x + self.down(torch.nn.functional.gelu(self.up(self.norm(x))))


def mlp(width=16, **kind):
    torch.manual_seed(0)
    with torch.device(kind.get("device", "cpu")):
        return nn.Sequential(nn.Linear(10, width), Block(width), Block(width), nn.Linear(width, 5))


class Conv1D(nn.Module):
    """As in `transformers.pytorch_utils`: y = x W + b with W (in, out)."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight = nn.Parameter(torch.randn(nx, nf) * 0.02)
        self.bias = nn.Parameter(torch.randn(nf))

    def forward(self, x):
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(*x.shape[:-1], self.nf)


def replaced(model):
    return [name for name, module in model.named_modules() if isinstance(module, (Layer, Parts))]


# ---------------------------------------------------------------- which layers

BLOCKS = ["1.up", "1.down", "2.up", "2.down"]


@pytest.mark.parametrize(
    ("where", "names"),
    [
        (None, ["0", *BLOCKS, "3"]),
        ("*.up", ["1.up", "2.up"]),
        (r"re:\d\.(up|down)", BLOCKS),
        (["1.*", "3"], ["1.up", "1.down", "3"]),
        (lambda name, module: module.in_features == 64, ["1.down", "2.down"]),
        ({"2.*": None, "*.up": "low_rank", "*.down": lo.btt}, ["1.up", "1.down"]),
    ],
)
def test_where(where, names):
    model = mlp()
    report = lo.nn.replace_linear_(model, None if isinstance(where, dict) else "low_rank", where)
    assert replaced(model) == names == [row.name for row in report]


def test_first_match_wins_and_the_family_is_for_the_rest():
    model = mlp()
    where = {"1.up": lambda m, n: lo.btt(m, n, rank=2), "*.up": "monarch", "re:[03]": None}
    lo.nn.replace_linear_(model, "low_rank", where)
    kinds = {name: type(model.get_submodule(name).structure.operator).__name__ for name in replaced(model)}
    assert kinds == {"1.up": "BlockTensorTrain", "1.down": "LowRank", "2.up": "Product", "2.down": "LowRank"}


def test_exclude():
    model = mlp()
    lo.nn.replace_linear_(model, "btt", exclude=["0", "3", lambda name, module: name.startswith("2")])
    assert replaced(model) == ["1.up", "1.down"]


def test_options_go_to_the_family():
    model = mlp()
    lo.nn.replace_linear_(model, "btt", "*.up", rank=2)
    assert model[1].up.structure.operator.ranks == (2,)


def test_nothing_selected_is_a_warning():
    with pytest.warns(UserWarning, match="replaced no layer"):
        report = lo.nn.replace_linear_(mlp(), "btt", "*.attention")
    assert len(report) == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("btx",), ValueError, r"no family 'btx'.*btt"),
        ((None,), TypeError, "no family"),
        (("btt", 3), TypeError, "pattern 3"),
        ((lambda m, n: lo.btt(n, m), "1.up"), ValueError, r"'1.up'.*16×64.*expected 64×16"),
        ((lambda m, n: 3, "1.up"), TypeError, "no operator"),
        ((), TypeError, "no family"),
        (({"1.up": "btt"},), TypeError, "goes to where="),
        (("btt", None, None, "init", 3), TypeError, "positional"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    model = mlp()
    with pytest.raises(error, match=message):
        lo.nn.replace_linear_(model, *arguments)
    assert not replaced(model)


def test_arguments_of_other_kinds():
    with pytest.raises(TypeError, match=r"parts=3.*a dict of pattern"):
        lo.nn.replace_linear_(mlp(), "btt", parts=3)
    with pytest.raises(TypeError, match=r"replace_linear_\(list\): expected a model"):
        lo.nn.replace_linear_([nn.Linear(64, 64)], "btt")
    with pytest.raises(TypeError, match=r"Linear\(64\): expected an operator, as in lo.nn.torch.Linear\(lo.btt"):
        lo.nn.torch.Linear(64, 64)


def test_a_dict_of_families_needs_no_other():
    model = mlp()
    assert [row.name for row in lo.nn.replace_linear_(model, where={"1.up": "btt"})] == ["1.up"]


def test_exclude_that_matches_nothing_is_a_warning():
    with pytest.warns(UserWarning, match=r"exclude='\*.upp', which matches none of the model's .*'\*.up'"):
        lo.nn.replace_linear_(mlp(), "btt", where="1.up", exclude="*.upp")
    lo.nn.replace_linear_(mlp(), "btt", where="1.up", exclude=["*.upp", "*.down"])  # one of these is there


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"zero": "*.upp"}, r"zero='\*.upp', which matches none of the model's"),
        ({"parts": {"*.upp": 2, "*.up": 2}}, r"parts='\*.upp', which matches none of the model's"),
        ({"family": None, "where": {"1.up": "btt", "*.head": "btt"}}, r"where='\*.head', which matches none"),
    ],
    ids=["zero", "parts", "where"],
)
def test_other_patterns_that_match_nothing_are_a_warning(options, match):
    with pytest.warns(UserWarning, match=match) as caught:
        lo.nn.replace_linear_(mlp(), **{"family": "btt", "where": "1.up", **options})
    assert [one.filename == __file__ for one in caught] == [True]


def test_patterns_of_layers_to_leave_may_match_nothing():
    lo.nn.replace_linear_(mlp(), None, {"*.head": None, "1.up": "btt"})


def test_layers_print_the_structure_as_theirs():
    layers = str(nn.Sequential(lo.nn.torch.Linear(lo.btt(64, 64)), lo.nn.torch.Linear(lo.monarch(64, 64))))
    assert "BlockTensorTrain((8, 8) × (8, 8), ranks (1,))  64×64  float32  1,024 parameters)" in layers
    assert "└─ BlockDiag(4 blocks of 16×16)  64×64  float32  1,024 parameters\n" in layers


def test_refusals_of_a_family_name_the_layer_and_change_nothing():
    model = mlp()
    with pytest.raises(ValueError, match=r"layer '2.up' \(64×16\).*allow_dearer"):
        lo.nn.replace_linear_(model, None, {"1.*": "dense", "2.up": lambda m, n: lo.low_rank(m, n, 60)})
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        lo.nn.replace_linear_(model, "btt", "*.up", blocks=2)
    with pytest.raises(ValueError, match="weights='copy'"):
        lo.nn.replace_linear_(model, "btt", "*.up", weights="copy")
    assert not replaced(model)


# ---------------------------------------------------------------- what is kept


def test_bias_dtype_mode_and_frozenness_are_kept():
    model = mlp().to(torch.float64).eval()
    model[1].up.weight.requires_grad_(False)
    bias = model[1].up.bias
    lo.nn.replace_linear_(model, "btt", "1.up")
    layer = model[1].up
    assert layer.bias is bias
    assert layer.cores_0.dtype == torch.float64
    assert not layer.training
    assert not layer.cores_0.requires_grad
    model[1].down = nn.Linear(64, 16, bias=False)
    lo.nn.replace_linear_(model, "btt", "1.down")
    assert model[1].down.bias is None


def test_zero_init_stays_on_one_factor():
    model = mlp()
    report = lo.nn.replace_linear_(model, "btt", "1.*")
    assert {row.name: row.zero_init for row in report} == {"1.up": False, "1.down": True}
    assert model[1].down.cores_0.any()
    assert not model[1].down.cores_1.any()


def test_zero_init_can_be_named():
    model = mlp()
    lo.nn.replace_linear_(model, "btt", "*.*", zero="*.up")
    assert not model[1].up.cores_1.any()
    assert model[1].down.cores_1.any()


def test_meta_device():
    model = mlp(device="meta")
    report = lo.nn.replace_linear_(model, "btt", "*.*", zero="*.down")
    assert all(parameter.is_meta for parameter in model.parameters())
    assert report.new_params < report.old_params
    model.to_empty(device="cpu")
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    assert not model[1].down.cores_1.any()
    assert torch.isfinite(model(torch.randn(3, 10))).all()


def test_a_shared_module_is_replaced_everywhere():
    model = mlp()
    model[2] = model[1]
    lo.nn.replace_linear_(model, "btt", "1.*")
    assert model[2].up is model[1].up
    assert isinstance(model[2].up, Layer)
    shared = nn.Linear(16, 16)
    model = nn.Sequential(shared, nn.GELU(), shared)
    lo.nn.replace_linear_(model, "btt")
    assert model[0] is model[2]
    assert isinstance(model[2], Layer)


def test_tied_linear_layers_stay_tied():
    model = nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 16))
    model[2].weight = model[0].weight
    report = lo.nn.replace_linear_(model, "btt")
    assert model[0].cores_0 is model[2].cores_0
    assert model[0].cores_1 is model[2].cores_1
    assert model[0].bias is not model[2].bias
    assert report.new_params == sum(parameter.numel() for parameter in model.parameters())
    assert "tied to 0" in str(report)


def test_weights_tied_to_other_layers_are_refused():
    model = nn.Sequential(nn.Embedding(20, 16), nn.Linear(16, 16), nn.Linear(16, 20, bias=False))
    model[2].weight = model[0].weight
    with pytest.raises(ValueError, match=r"'2' shares its weight with '0'.*exclude"):
        lo.nn.replace_linear_(model, "btt", "*")
    with pytest.warns(UserWarning, match="'2' alone, which shares its weight with '0'"):
        report = lo.nn.replace_linear_(model, "btt")
    assert replaced(model) == ["1"]
    assert "2" in report.skipped
    assert "left alone: 2: shares its weight" in str(report)


def test_tied_layers_of_which_one_is_selected_are_refused():
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    model[1].weight = model[0].weight
    with pytest.raises(ValueError, match="shares its weight with '1'"):
        lo.nn.replace_linear_(model, "btt", "0")
    with pytest.raises(ValueError, match="would not be replaced in the same way"):
        lo.nn.replace_linear_(model, None, {"0": "btt", "1": "low_rank"})


def test_the_model_itself_and_subclasses_are_refused():
    with pytest.raises(ValueError, match="the whole model"):
        lo.nn.replace_linear_(nn.Linear(16, 16), "btt", "")

    class Scaled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    with pytest.raises(ValueError, match="'0' is a Scaled, a subclass"):
        lo.nn.replace_linear_(nn.Sequential(Scaled(16, 16)), "btt", "0")


# ---------------------------------------------------------------- Conv1D, fused projections, attention


def test_conv1d_is_transposed():
    model = nn.Sequential(Conv1D(32, 16))
    report = lo.nn.replace_linear_(model, "low_rank", rank=2)
    assert report[0].shape == (32, 16)
    assert report[0].fans == {"U": (2, 32), "V": (16, 2)}
    assert model(torch.zeros(2, 3, 16)).shape == (2, 3, 32)
    torch.testing.assert_close(model(torch.zeros(1, 16))[0], model[0].bias)


def test_fused_projection_whole_or_in_parts():
    whole, parts, sizes = (nn.Sequential(Conv1D(48, 16)) for _ in range(3))
    assert lo.nn.replace_linear_(whole, "btt")[0].shape == (48, 16)
    report = lo.nn.replace_linear_(parts, "btt", parts={"0": 3})
    assert [(row.name, row.shape) for row in report] == [("0.0", (16, 16)), ("0.1", (16, 16)), ("0.2", (16, 16))]
    assert report.new_params == sum(parameter.numel() for parameter in parts.parameters())
    assert [row.shape for row in lo.nn.replace_linear_(sizes, "btt", parts={"*": (32, 8, 8)})] == [
        (32, 16),
        (8, 16),
        (8, 16),
    ]
    for model in (parts, sizes):
        x = torch.randn(5, 16)
        joined = torch.cat([part(x) for part in model[0]], -1) + model[0].bias
        torch.testing.assert_close(model(x), joined)
        torch.testing.assert_close(model[0].to_dense()(x), joined)


def test_zero_init_of_parts():
    model = nn.Sequential(nn.Linear(16, 48))
    nn.init.zeros_(model[0].weight)
    lo.nn.replace_linear_(model, "btt", parts={"0": 3})
    assert not any(part.cores_1.any() for part in model[0])
    assert all(part.cores_0.any() for part in model[0])


@pytest.mark.parametrize(
    ("given", "message"), [(5, "48 outputs do not divide into 5"), ((16, 16), "do not add up to 48")]
)
def test_parts_that_do_not_fit(given, message):
    with pytest.raises(ValueError, match=message):
        lo.nn.replace_linear_(nn.Sequential(nn.Linear(16, 48)), "btt", parts={"0": given})


def transformer():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 64, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


def test_attention_is_refused_where_named():
    for name in ("layers.0.self_attn", "layers.0.self_attn.out_proj", "*"):
        with pytest.raises(ValueError, match=r"self_attn.*MultiheadAttention.*exclude"):
            lo.nn.replace_linear_(transformer(), "btt", name)


def test_the_rest_of_a_transformer_layer_is_replaced_and_runs_in_every_mode():
    model = transformer()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = lo.nn.replace_linear_(model, "btt")
    assert [str(warning.message).partition(" to ")[0] for warning in caught] == [
        # one for the kind
        "replace_linear left 2 layers alone ('layers.*.self_attn' (2)): 'layers.0.self_attn' belongs"
    ]
    assert replaced(model) == ["layers.0.linear1", "layers.0.linear2", "layers.1.linear1", "layers.1.linear2"]
    assert len(report.skipped) == 4
    x, mask = torch.randn(2, 5, 16), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    trained = model(x, src_key_padding_mask=mask)
    model.eval()
    with torch.no_grad():  # where torch would take its fused path
        torch.testing.assert_close(model(x, src_key_padding_mask=mask)[0], trained[0])
        torch.testing.assert_close(model(x)[0], trained[0])


# ---------------------------------------------------------------- the report


def test_report_counts_what_is_there():
    model = mlp()
    before = sum(parameter.numel() for parameter in model.parameters())
    report = lo.nn.replace_linear_(model, "monarch", where="*.*")
    after = sum(parameter.numel() for parameter in model.parameters())
    assert report.old_params - report.new_params == before - after
    others = 10 * 16 + 16 * 5
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(7, 10))
    assert counter.get_total_flops() == 2 * 7 * (report.new_macs + others)
    assert report.old_macs == 4 * 16 * 64
    assert report[0].fans == lo.fans(model[1].up.structure.operator)


def test_report_prints_as_a_table():
    text = str(lo.nn.replace_linear_(mlp(), "btt", where="1.*"))
    lines = text.splitlines()
    assert lines[0].split() == ["layer", "out×in", "parameters", "MACs"]
    assert lines[1].split()[:2] == ["1.up", "64×16"]
    assert "fans cores_0 4→8" in lines[2] + lines[3]
    assert lines[4].startswith("1.down")
    assert "zero-init" in lines[5] + lines[6]
    assert lines[7].startswith("2 layers")


def test_weight_norm_option():
    model = mlp()
    lo.nn.replace_linear_(model, "btt", where="1.up", weight_norm=True)
    assert model[1].up.cores_0_gain.shape == (1,)


@pytest.mark.parametrize("family", ["btt", "monarch", "low_rank", "kronecker"])
def test_a_replaced_model_learns(family):
    model = mlp()
    lo.nn.replace_linear_(model, family, where="*.*")
    optimizer = torch.optim.AdamW(lo.nn.param_groups(model, lr=3e-3, base=16))
    x, target = torch.randn(64, 10), torch.randn(64, 5)
    losses = []
    for _ in range(60):
        loss = (model(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
