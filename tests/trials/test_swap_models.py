"""Replacing layers of models of transformers, timm, torchvision, peft and torchao, built with random weights."""

import copy
import importlib
import logging
import warnings
from contextlib import suppress

import pytest
import torch
from torch import nn

import linops as lo

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs; ours are asserted


@pytest.fixture(scope="module", autouse=True)
def packages():
    """The packages. PyPI's torchvision beside a CPU build of torch misses two operators that its import asks for."""
    for name in ("transformers", "timm", "torchvision"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}")
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        with suppress(RuntimeError):  # they are there
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    importlib.import_module("torchvision")
    logging.getLogger("transformers").setLevel(logging.ERROR)


def said_of(model, family="low_rank", **options):
    """The report with where=None, and what was said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = lo.nn.replace_linear_(model, family, **options)
    return report, " ".join(str(warning.message) for warning in caught)


def densified(model):
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for key, child in list(parent._modules.items()):
            if hasattr(child, "to_dense") and hasattr(child, "operator"):
                parent._modules[key] = child.to_dense()
    return model


TOKENS = torch.tensor([[1, 5, 7, 2, 9, 3], [4, 4, 8, 6, 1, 2]])
IMAGES = torch.linspace(-1, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)
TINY = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1}


def hugging_face(kind, **options):
    transformers = importlib.import_module("transformers")
    config = getattr(transformers, f"{kind}Config")(**options)
    name = f"{kind}ForConditionalGeneration" if kind == "T5" else f"{kind}ForCausalLM"
    return getattr(transformers, name)(config)


def t5():
    return hugging_face("T5", vocab_size=64, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4, dropout_rate=0.0)


def mamba():
    return hugging_face("Mamba", **TINY, state_size=4, conv_kernel=3)


def rwkv():
    return hugging_face("Rwkv", **TINY | {"num_hidden_layers": 2}, attention_hidden_size=32, intermediate_size=64)


def timm_model(name, **options):
    return lambda: importlib.import_module("timm").create_model(name, num_classes=10, **options)


def swin():
    module = importlib.import_module("torchvision.models.swin_transformer")
    return module.SwinTransformer([4, 4], 24, [1, 1], [2, 2], [4, 4], num_classes=10, stochastic_depth_prob=0.0)


def logits(model):
    return model(TOKENS).logits


def text_to_text(model):
    return model(input_ids=TOKENS, decoder_input_ids=TOKENS).logits


def image(model):
    return model(IMAGES)


SIZES = {"img_size": 64, "embed_dim": 48, "depth": 1, "num_heads": 3}
MODELS = {
    "t5": (t5, text_to_text),
    "mamba": (mamba, logits),
    "eva": (timm_model("eva_giant_patch14_224", patch_size=16, **SIZES), image),
    "beit": (timm_model("beit_base_patch16_224", **SIZES), image),
    "swinv2": (
        timm_model("swinv2_tiny_window8_256", img_size=64, embed_dim=24, depths=(1,), num_heads=(2,), window_size=4),
        image,
    ),
    "swin": (swin, image),
}


@pytest.mark.parametrize("name", MODELS)
def test_trial_15_models_that_read_weights_equal_their_dense_twins_and_train(name):
    torch.manual_seed(0)
    make, call = MODELS[name]
    model = make()
    report, _ = said_of(model, "low_rank", rank=2)
    twin = densified(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*multiplied out")  # their products run by the structure
        for training in (True, False):
            y = call(model.train(training))
            torch.testing.assert_close(y, call(twin.train(training)), rtol=1e-4, atol=1e-5)
        loss = (y - 1).square().mean()
        loss.backward()
    trained = [parameter for name, parameter in model.named_parameters() if name.endswith((".U", ".V"))]
    assert len(trained) == 2 * len(report)
    before = loss.item()
    optimizer = torch.optim.AdamW(lo.nn.param_groups(model, lr=1e-3))
    optimizer.step()
    for _ in range(3):
        optimizer.zero_grad()
        (call(model) - 1).square().mean().backward()
        optimizer.step()
    assert all(parameter.grad.isfinite().all() for parameter in trained)
    assert (call(model) - 1).square().mean() < before


def test_trial_15_a_model_that_writes_into_weights_is_told_and_runs_without_those_layers():
    torch.manual_seed(0)

    def run(model):
        return model(TOKENS, use_cache=False).logits

    model = rwkv()  # which rescales two layers of each block when it is evaluated
    said_of(model)
    run(model)
    model.eval()
    with pytest.raises(RuntimeError, match=r"weight of layer 'rwkv.blocks.0.attention.output' is computed.*exclude it"):
        run(model)
    model = rwkv()
    said_of(model, exclude=["*.attention.output", "*.feed_forward.value"])
    twin = densified(model)
    for training in (True, False):
        model.train(training), twin.train(training)
        torch.testing.assert_close(run(model), run(twin), rtol=1e-4, atol=1e-5)


def test_trial_18_adapters_are_left_alone():
    peft = pytest.importorskip("peft")
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32))
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["0"], r=4))
    adapted.requires_grad_(True)
    report, said = said_of(adapted)
    assert [row.name for row in report] == ["base_model.model.1"]
    assert "left 3 layers alone" in said
    assert "belongs to an adapter (Linear); replace before adding adapters, or after merge_and_unload()" in said
    adapted(torch.randn(2, 32)).sum().backward()
    with pytest.raises(ValueError, match="base_layer' belongs to an adapter"):
        lo.nn.replace_linear_(adapted, "low_rank", where="*.base_layer")
    report, _ = said_of(adapted.merge_and_unload())
    assert [row.name for row in report] == ["0"]


def test_trial_18_quantised_layers_are_left_alone():
    quantization = pytest.importorskip("torchao.quantization")
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig(), filter_fn=lambda _, name: name == "0")
    report, said = said_of(model)
    assert [row.name for row in report] == ["1"]
    assert "'0' alone, which has a weight of Int8Tensor" in said
    assert model(torch.randn(2, 64)).shape == (2, 64)
    with pytest.raises(ValueError, match="replace before quantising"):
        lo.nn.replace_linear_(model, "low_rank", where="0")


def structured(kind, family, **options):
    """A class that replaces its layers in `__init__`, so that `from_pretrained` builds and loads the structure."""
    transformers = importlib.import_module("transformers")
    name = f"{kind}ForConditionalGeneration" if kind == "T5" else f"{kind}ForCausalLM"
    base = getattr(transformers, name)

    def __init__(self, config):
        base.__init__(self, config)
        self.report, self.said = said_of(self, family)

    return (
        type(f"Structured{kind}", (base,), {"__init__": __init__}),
        base,
        getattr(transformers, f"{kind}Config")(**options),
    )


def shuffled(out_features, in_features):
    """A structure with an index array, which is in no checkpoint."""
    return lo.low_rank(out_features, in_features, rank=4) @ lo.Permute.random(in_features, seed=0)


LLAMA = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64, **TINY}
T5 = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4}


@pytest.mark.parametrize(("kind", "options", "call"), [("Llama", LLAMA, logits), ("T5", T5, text_to_text)])
def test_trial_29_a_class_that_replaces_in_init_loads_what_it_saved_and_draws_what_is_missing(
    kind, options, call, tmp_path
):
    torch.manual_seed(0)
    cls, base, config = structured(kind, shuffled, **options, tie_word_embeddings=True)
    model = cls(config).eval()
    model.save_pretrained(tmp_path / "structured")
    loaded = cls.from_pretrained(tmp_path / "structured").eval()
    torch.testing.assert_close(call(loaded), call(model), rtol=0, atol=0)
    base(config).save_pretrained(tmp_path / "dense")
    loaded = cls.from_pretrained(tmp_path / "dense").eval()  # which has none of the factors
    stds = {
        name: lo.initial_stds(loaded.get_submodule(name.rpartition(".")[0]).structure.operator)
        for name, _ in loaded.named_parameters()
        if name.endswith("_U")
    }
    assert stds
    for name, expected in stds.items():
        factor = loaded.get_parameter(name)
        assert factor.std().item() == pytest.approx(expected[name.rpartition(".")[2]], rel=0.5)
        assert factor.abs().max() < 6 * expected[name.rpartition(".")[2]]
    assert call(loaded).isfinite().all()


def test_trial_19_a_tied_head_in_from_pretrained_stays_tied(tmp_path):
    cls, base, config = structured("Llama", "low_rank", **LLAMA, tie_word_embeddings=True)
    base(config).save_pretrained(tmp_path)
    model = cls.from_pretrained(tmp_path)
    assert (
        "'lm_head' alone, which is to share its weight with 'model.embed_tokens.weight', by _tied_weights_keys"
        in model.said
    )
    assert model.lm_head.weight is model.model.embed_tokens.weight
    logits(model)
    cls, base, config = structured("Llama", "low_rank", **LLAMA, tie_word_embeddings=False)
    base(config).save_pretrained(tmp_path)
    assert "lm_head" not in cls.from_pretrained(tmp_path).said


def test_trial_30_experts_and_routers_are_in_the_report():
    transformers = importlib.import_module("transformers")
    with torch.device("meta"):
        model = transformers.MixtralForCausalLM(transformers.MixtralConfig(**LLAMA, num_local_experts=4))
    report, _ = said_of(model)
    left = {one.kind: one for one in report.left}
    assert left["MixtralExperts [gate_up_proj, down_proj]"].params == 4 * 3 * 64 * 32
    assert left["MixtralTopKRouter"].names == ("model.layers.0.mlp.gate",)
    assert "MixtralExperts" in str(report)
