"""Rates of arrays that are no plain matrices of known layers: which are matrices, how shaped (`linops.nn.matrices`)."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import linops as lo
from linops.nn.matrices import by_name


def rates(groups):
    return {name: group["lr"] for group in groups for name in group["names"]}


def decays(groups):
    return {name: group["weight_decay"] for group in groups for name in group["names"]}


def algorithms(groups):
    return {name: group["algorithm"] for group in groups for name in group["names"]}


class Experts(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.randn(4, 2 * width, width))
        self.down_proj = nn.Parameter(torch.randn(4, width, width))
        self.gate_up_proj_bias = nn.Parameter(torch.zeros(4, 2 * width))


class Mixed(nn.Module):
    """A vision transformer's, Swin's, Mamba's and a mixture of experts' own arrays."""

    def __init__(self, width):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos = nn.Parameter(torch.zeros(1, 17, width))
        self.rel_pos_h = nn.Parameter(torch.zeros(13, width // 4))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(169, width // 4))
        self.A_log = nn.Parameter(torch.zeros(2 * width, 8))
        self.layer_scale = nn.Parameter(torch.ones(width, 1, 1))
        self.experts = Experts(width)
        self.attention = nn.MultiheadAttention(width, 2, add_bias_kv=True)
        self.norm = nn.LayerNorm((5, width))
        self.fc = nn.Linear(width, width)


VECTORS = {
    "cls_token",
    "pos",
    "rel_pos_h",
    "relative_position_bias_table",
    "A_log",
    "layer_scale",
    "experts.gate_up_proj_bias",
}
VECTORS |= {"attention.bias_k", "attention.bias_v", "norm.weight", "norm.bias"}
MATRICES = {
    "experts.gate_up_proj",
    "experts.down_proj",
    "attention.in_proj_weight",
    "attention.out_proj.weight",
    "fc.weight",
}


@pytest.mark.parametrize("base", [Mixed(16), 16], ids=["model", "integer"])
def test_trial_08_arrays_that_are_no_matrices_have_the_plain_rate(base):
    found = rates(lo.nn.param_groups(Mixed(64), lr=1.0, base=base))
    assert {name for name, rate in found.items() if rate == 1} >= VECTORS
    assert {name: found[name] for name in MATRICES} == dict.fromkeys(MATRICES, 0.25)


def test_trial_08_neither_muon_nor_decay_take_them_as_matrices():
    decayed = decays(lo.nn.param_groups(Mixed(64), lr=1.0, weight_decay=0.1))
    assert {name for name, decay in decayed.items() if decay} == MATRICES
    found = algorithms(lo.nn.param_groups(Mixed(64), lr=1.0, optimizer="muon"))
    assert {name for name, algorithm in found.items() if algorithm == "muon"} == MATRICES


class Unknown(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(width, 3 * width))
        self.table = nn.Parameter(torch.zeros(3, 5, width))
        self.fc = nn.Linear(width, width)


def test_trial_08_what_is_unknown_is_a_vector_and_said_so_once():
    with pytest.warns(
        UserWarning, match=r"unknown whether.* mix \(64, 192\), table \(3, 5, 64\)\. .*matrices=\{'mix': 'out in'\}"
    ) as record:
        groups = lo.nn.param_groups(Unknown(64), lr=1.0, weight_decay=0.1, base=Unknown(16))
    assert len(record) == 1
    assert record[0].filename == __file__
    assert rates(groups) == {"mix": 1, "table": 1, "fc.weight": 0.25, "fc.bias": 1}
    assert decays(groups)["mix"] == 0
    with pytest.warns(UserWarning, match="unknown"):
        assert algorithms(lo.nn.param_groups(Unknown(64), lr=1.0, optimizer="muon"))["mix"] == "adamw"
    lo.nn.param_groups(Unknown(64), lr=1.0)  # nothing follows from it here: no warning


@pytest.mark.parametrize(("base", "mix"), [(Unknown(16), 0.25), (16, 16 / 64)], ids=["model", "integer"])
def test_trial_08_the_caller_says_what_an_array_is(base, mix):
    matrices = {"mix": "in out", "tab*": None}
    groups = lo.nn.param_groups(Unknown(64), lr=1.0, weight_decay=0.1, base=base, matrices=matrices)
    assert rates(groups)["mix"] == mix
    assert decays(groups)["mix"] == 0.1
    assert decays(groups)["table"] == 0
    groups = lo.nn.param_groups(
        Unknown(64), lr=1.0, optimizer="muon", matrices={"mix": "in out", "table": "copy in out"}
    )
    assert {name for name, algorithm in algorithms(groups).items() if algorithm == "muon"} == {
        "mix",
        "table",
        "fc.weight",
    }


@pytest.mark.parametrize(
    ("matrices", "error", "message"),
    [
        ({"mix": (1, 2)}, TypeError, "names of axes"),
        ({"fc.bias": "out in"}, ValueError, r"fc.bias \(64,\) has too few axes"),
    ],
)
def test_trial_08_wrong_layouts(matrices, error, message):
    with pytest.raises(error, match=message):
        lo.nn.param_groups(Unknown(64), lr=1.0, matrices=matrices)


LAYERS = {
    "linear": (lambda w: nn.Linear(w, 3 * w), {"weight": (0.25, 1)}),
    "conv": (lambda w: nn.Conv1d(w, 3 * w, 3), {"weight": (0.25, 1)}),
    # an output sums over its 3 numbers alone
    "depthwise": (lambda w: nn.Conv1d(w, w, 3, groups=w), {"weight": (1, 4)}),
    "transposed": (lambda w: nn.ConvTranspose1d(w, 8, 3), {"weight": (0.25, 0.25)}),
    "bilinear": (lambda w: nn.Bilinear(w, w, 8), {"weight": (1 / 16, 1 / 16)}),
    "lstm": (lambda w: nn.LSTM(8, w), {"weight_ih_l0": (1, 4), "weight_hh_l0": (0.25, 1)}),
    "cell": (lambda w: nn.GRUCell(8, w), {"weight_ih": (1, 4), "weight_hh": (0.25, 1)}),
    "embedding": (lambda w: nn.Embedding(30, w), {"weight": (1, 4)}),
    "norm": (lambda w: nn.RMSNorm((3, w)), {"weight": (1, 4)}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_trial_08_known_modules(name):
    build, expected = LAYERS[name]
    for column, optimizer in enumerate(("adamw", "sgd")):
        found = rates(lo.nn.param_groups(build(64), lr=1.0, optimizer=optimizer, base=build(16)))
        assert {key: found[key] for key in expected} == {key: pair[column] for key, pair in expected.items()}


def test_trial_08_hugging_faces_modules():
    transformers = pytest.importorskip("transformers")
    sizes = {
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": 32,
        "num_local_experts": 4,
    }

    def model(width, name):
        config = getattr(transformers, f"{name}Config")(
            **sizes, hidden_size=width, intermediate_size=width, head_dim=width // 2
        )
        with torch.device("meta"):
            return getattr(transformers, f"{name}Model")(config)

    for name in ("Mixtral", "GptOss"):
        for base in (model(16, name), 16):
            found = rates(lo.nn.param_groups(model(64, name), lr=1.0, base=base))
            for key, rate in found.items():
                assert rate == (1 if any(part in key for part in ("norm", "embed", "bias", "sinks")) else 0.25)


@pytest.mark.parametrize(
    ("key", "size"),
    [
        ("pos_embed", (17, 64)),
        ("attention_biases", (4, 49)),
        ("gamma", (64, 1, 1)),
        ("queries", (8, 64)),
        ("pos_bias_u", (4, 16)),
        ("pos_embed1", (1, 8, 4, 4)),
    ],
)
def test_trial_08_arrays_known_by_name_or_shape(key, size):
    assert by_name("", key, None, size) == "out"


# ---------------------------------------------------------------- pruned, parametrised


def net(width=64):
    torch.manual_seed(0)
    return nn.Sequential(lo.btt(width, width).to_layer(), nn.Linear(width, width))


class Twice(nn.Module):
    def forward(self, x):
        return 2 * x


def pruned(model):
    prune.l1_unstructured(model[0], "cores_0", amount=0.3)
    prune.l1_unstructured(model[1], "weight", amount=0.3)
    return "0.cores_0_orig", "1.weight_orig"


def parametrized(model):
    nn.utils.parametrize.register_parametrization(model[0], "cores_0", Twice())
    nn.utils.parametrize.register_parametrization(model[1], "weight", Twice())
    return "0.parametrizations.cores_0.original", "1.parametrizations.weight.original"


def weight_normed(model):
    nn.utils.parametrizations.weight_norm(model[0], "cores_0")
    nn.utils.parametrizations.weight_norm(model[1], "weight")
    return "0.parametrizations.cores_0.original1", "1.parametrizations.weight.original1"


def old_weight_normed(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(model[0], "cores_0")
        nn.utils.weight_norm(model[1], "weight")
    return "0.cores_0_v", "1.weight_v"


def spectral_normed(model):
    nn.utils.parametrizations.spectral_norm(model[0], "cores_0")
    nn.utils.spectral_norm(model[1], "weight")
    return "0.parametrizations.cores_0.original", "1.weight_orig"


@pytest.mark.parametrize("change", [pruned, parametrized, weight_normed, old_weight_normed, spectral_normed])
def test_trial_09_a_changed_array_keeps_its_multiplier(change):
    model, base = net(), net(16)
    expected = rates(lo.nn.param_groups(net(), lr=1.0, base=base))
    core, weight = change(model)
    groups = lo.nn.param_groups(model, lr=1.0, weight_decay=0.1, base=base)
    found = rates(groups)
    assert found[core] == expected["0.cores_0"] == lo.lr_multipliers(lo.btt(64, 64))["cores_0"] / 4
    assert found[weight] == expected["1.weight"] == 0.25
    assert decays(groups)[core] == decays(groups)[weight] == 0.1
    for name in set(found) - {core, weight, "0.cores_1"}:
        assert found[name] == 1  # biases, and the magnitudes of weight norm
        assert decays(groups)[name] == 0
    change(base)  # the base model changed alike
    if change in (weight_normed, old_weight_normed):
        assert rates(lo.nn.param_groups(model, lr=1.0, base=base)) == found
    assert rates(lo.nn.param_groups(net(), lr=1.0, base=base)) == expected
    assert {
        name for name, kind in algorithms(lo.nn.param_groups(model, 1.0, optimizer="muon")).items() if kind == "muon"
    } == {
        core,
        weight,
        "0.cores_1",
    }


# ---------------------------------------------------------------- wrappers


def compiled(model):
    return torch.compile(model, backend="eager")


def data_parallel(model):
    return nn.DataParallel(model)


def inner(model):
    model[0] = torch.compile(model[0], backend="eager")
    return model


def checkpointed(model):
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    model[0] = checkpoint_wrapper(model[0])
    return torch.compile(nn.DataParallel(model), backend="eager")


def averaged(model):
    return torch.optim.swa_utils.AveragedModel(model)


def fully_sharded(model):
    """The names that FullyShardedDataParallel makes, without its process group."""
    for index in (0, 1):
        wrapper = nn.Module()
        wrapper._fsdp_wrapped_module = model[index]
        model[index] = wrapper
    return model


@pytest.mark.parametrize("wrap", [fully_sharded, compiled, data_parallel, inner, checkpointed, averaged])
def test_trial_26_wrappers_names_are_left_out(wrap):
    model, base = net(), net(16)
    expected = rates(lo.nn.param_groups(model, lr=1.0, base=base))
    wrapped = wrap(copy.deepcopy(model))
    for narrow in (base, wrap(copy.deepcopy(base)), {"0": 16, "1": 16}):
        groups = lo.nn.param_groups(wrapped, lr=1.0, base=narrow)
        assert list(rates(groups).values()) == list(expected.values())
        assert set(rates(groups)) == set(dict(wrapped.named_parameters()))  # under the model's own names
    assert rates(lo.nn.param_groups(model, lr=1.0, base=wrap(copy.deepcopy(base)))) == expected
