"""`save_pretrained` and `from_pretrained` of swapped models: the structure is in config.json, and nothing is drawn."""

import copy
import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from helpers import each
from torch import nn
from zoo import DECODER, SPECIAL, ZOO, tokens

import linops as lo
from linops import strict_json
from linops.nn.torch.layer import Linear
from linops.nn.torch.structured import Structured

ROOT = Path(__file__).parents[2]


def llama(**sizes):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**DECODER, **sizes})).eval()


def swapped(family="btt", seed=0, model=None, **options):
    model = llama() if model is None else model
    torch.manual_seed(seed)
    lo.nn.replace_linear_(model, family, **options)
    return model


def loaded(path, **options):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path, **options)


def written(path):
    return json.loads((path / "config.json").read_text())


def changed(path, change):
    content = written(path)
    change(content["quantization_config"]["recipe"])
    (path / "config.json").write_text(json.dumps(content))


def structures(model):
    return {name: module.structure for name, module in model.named_modules() if isinstance(module, Linear)}


def assert_same(one, other, outputs=True):
    assert structures(one) == structures(other)
    a, b = one.state_dict(), other.state_dict()
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert torch.equal(a[name], b[name]), name
    assert not any(layer._blank for layer in other.modules() if isinstance(layer, Structured))
    if outputs:
        with torch.no_grad():
            assert torch.equal(one.eval()(tokens()).logits, other.eval()(tokens()).logits)


@pytest.mark.parametrize("name", each(4, [name for name in ZOO if name.startswith("hf_")]))
def test_models_of_all_kinds(name, tmp_path):
    torch.manual_seed(0)
    trial = ZOO[name]()
    lo.nn.replace_linear_(trial.model, "monarch", **trial.options)
    before = trial.model.config.to_dict()
    trial.model.save_pretrained(tmp_path)
    assert {**trial.model.config.to_dict(), "dtype": 0, "architectures": 0} == {
        **before,
        "dtype": 0,
        "architectures": 0,
    }
    other = type(trial.model).from_pretrained(tmp_path)
    assert_same(trial.model, other, outputs=False)
    with torch.no_grad():
        torch.testing.assert_close(trial.forward(), trial.forward(other), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"weight_norm": True}, {"parts": {"*_proj": 2}}], ids=["plain", "norm", "parts"]
)
@pytest.mark.parametrize(
    "family", ["btt:rank=2", "monarch:blocks=2", "low_rank:rank=2", "kronecker", "butterfly", "blast"]
)
def test_families(family, options, tmp_path):
    model = swapped(family, **options)
    model.save_pretrained(tmp_path)
    assert_same(model, loaded(tmp_path))


@pytest.mark.parametrize("family", ["chain:activation=gelu", "btt_mixture"])
def test_layers_that_are_no_linear_map(family, tmp_path):
    model = swapped(family)
    model.save_pretrained(tmp_path)
    other = loaded(tmp_path)
    assert_same(model, other)
    assert [layer.nonlinear for layer in nonlinear(other)] == [layer.nonlinear for layer in nonlinear(model)] != []


def nonlinear(model):
    return [layer for layer in model.modules() if isinstance(layer, (lo.nn.torch.Chain, lo.nn.torch.BTTMixture))]


def test_gpt2_with_a_fused_projection_and_a_tied_head(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=96, n_embd=64, n_layer=2, n_head=4, n_positions=32, **SPECIAL))
    swapped(model=model, parts={"*.c_attn": 3})
    model.save_pretrained(tmp_path)
    other = loaded(tmp_path)
    assert_same(model, other)
    assert other.lm_head.weight is other.transformer.wte.weight
    assert other.transformer.h[0].attn.c_attn.weight.shape == (64, 192)


def test_index_buffers(tmp_path):
    def shuffled(m, n):
        return lo.Permute.random(m, 0) @ lo.low_rank(m, n, rank=2)

    model = swapped(shuffled)
    model.save_pretrained(tmp_path)
    other = loaded(tmp_path)
    assert_same(model, other)
    assert len(list(model.buffers())) > 10
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), other.buffers()))


@pytest.mark.parametrize(
    "options",
    [{"device_map": "cpu"}, {"device_map": {"": "cpu"}}, {"disable_mmap": True}],
    ids=lambda options: next(iter(options)),
)
def test_options_of_from_pretrained(options, tmp_path):
    model = swapped("monarch")
    model.save_pretrained(tmp_path)
    assert_same(model, loaded(tmp_path, **options))


def test_layers_offloaded_to_disk(tmp_path):
    model = swapped(lambda m, n: lo.Permute.random(m, 0) @ lo.low_rank(m, n, rank=2), where="*.mlp.*")
    model.save_pretrained(tmp_path / "m")
    places = dict.fromkeys(["model.embed_tokens", "model.layers.1", "model.norm", "model.rotary_emb", "lm_head"], "cpu")
    device_map = {**places, "model.layers.0": "disk"}
    other = loaded(tmp_path / "m", device_map=device_map, offload_folder=tmp_path / "offload")
    assert all(one.is_meta for one in other.model.layers[0].mlp.parameters())
    torch.testing.assert_close(other(tokens()).logits, model(tokens()).logits, rtol=1e-5, atol=1e-5)


def test_shards_and_narrow_numbers(tmp_path):
    swapped("monarch").save_pretrained(tmp_path / "wide")
    model = loaded(tmp_path / "wide", dtype=torch.bfloat16)
    assert {one.dtype for one in model.parameters()} == {torch.bfloat16}
    assert_same(swapped("monarch").to(torch.bfloat16), model, outputs=False)  # which narrows the positions too
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert_same(model, loaded(tmp_path))


def test_the_recipe_is_of_the_model_when_it_is_saved(tmp_path):
    model = swapped(where="*.mlp.*")
    lo.nn.grow_(model, "btt:rank=2")
    model.save_pretrained(tmp_path)
    assert_same(model, grown := loaded(tmp_path))
    lo.nn.replace_linear_(grown, "low_rank", where="lm_head", rank=2)
    lo.nn.freeze_(grown.model.layers[1])
    grown.save_pretrained(tmp_path)
    assert_same(grown, other := loaded(tmp_path))
    lo.nn.to_dense_(other)
    other.save_pretrained(tmp_path)
    assert not {"quantization_config", "transformers_weights"} & written(tmp_path).keys()
    assert_same(other, loaded(tmp_path))


def test_a_model_saves_no_other_models_recipe(tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    model = llama()
    teacher = type(model)(model.config)  # of one configuration
    swapped(model=model.model, where="layers.0.*")  # a part of it
    teacher.save_pretrained(tmp_path / "teacher")
    assert_same(teacher, loaded(tmp_path / "teacher"))
    for one, folder in ((model, "part"), (copy.deepcopy(model), "copy"), (pickle.loads(pickle.dumps(model)), "pickle")):
        one.save_pretrained(tmp_path / folder)
        assert_same(model, loaded(tmp_path / folder))
    fresh = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path / "part")).eval()
    fresh.save_pretrained(tmp_path / "fresh")
    assert_same(fresh, loaded(tmp_path / "fresh"))


def test_other_classes_of_one_base(tmp_path):
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

    model = swapped()
    model.save_pretrained(tmp_path / "head")
    base = AutoModel.from_pretrained(tmp_path / "head")
    assert_same(model.model, base, outputs=False)
    base.save_pretrained(tmp_path / "base")
    for path in ("head", "base"):
        classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path / path)
        assert_same(model.model, classifier.model, outputs=False)
    causal = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert_same(model.model, causal.model, outputs=False)
    assert type(causal.lm_head) is nn.Linear


def test_layers_that_share_parameters(tmp_path):
    model = llama()
    one, other = model.model.layers[0].mlp, model.model.layers[1].mlp
    other.up_proj.weight, other.gate_proj.weight = one.up_proj.weight, one.gate_proj.weight
    swapped("monarch", model=model, parts={"*.gate_proj": 2})
    model.save_pretrained(tmp_path)
    again = loaded(tmp_path)
    assert_same(model, again)
    first, second = again.model.layers[0].mlp, again.model.layers[1].mlp
    assert first.up_proj.factors_1_blocks is second.up_proj.factors_1_blocks
    again.save_pretrained(tmp_path / "again")
    assert_same(model, loaded(tmp_path / "again"))


def test_a_loaded_model_is_a_model_as_any_other(tmp_path):
    import peft

    swapped().save_pretrained(tmp_path)
    model = loaded(tmp_path)
    assert not getattr(model, "is_quantized", False)
    assert not hasattr(model, "quantization_method")
    assert getattr(model, "hf_quantizer", None) is None
    assert not hasattr(model.config, "quantization_config")
    assert model.num_parameters() == sum(one.numel() for one in model.parameters() if one.requires_grad)
    assert model.half().dtype == torch.float16
    model.float().train()(tokens(), labels=tokens()).loss.backward()
    assert all(one.grad is not None for one in model.parameters())
    model.eval().generate(tokens(), max_new_tokens=2, do_sample=False, pad_token_id=0)
    twin = copy.deepcopy(model)
    assert_same(model, twin)
    adapted = peft.get_peft_model(twin, peft.LoraConfig(target_modules=["embed_tokens"], r=2))
    adapted.save_pretrained(tmp_path / "adapter")
    peft.PeftModel.from_pretrained(loaded(tmp_path), tmp_path / "adapter")


@pytest.mark.full
def test_trainer(tmp_path):
    from transformers import Trainer, TrainingArguments

    swapped().save_pretrained(tmp_path / "start")
    rows = [{"input_ids": row, "labels": row} for row in tokens(4, 8)]
    options = {"report_to": [], "use_cpu": True, "max_steps": 2, "save_steps": 1, "disable_tqdm": True}
    trainer = Trainer(
        loaded(tmp_path / "start"), TrainingArguments(str(tmp_path / "run"), **options), train_dataset=rows
    )
    with pytest.warns(UserWarning, match="Trainer has made AdamW itself"):
        trainer.train()
    assert_same(trainer.model, loaded(tmp_path / "run" / "checkpoint-2"))
    again = Trainer(loaded(tmp_path / "start"), TrainingArguments(str(tmp_path / "run"), **options), train_dataset=rows)
    again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-1"))
    assert_same(trainer.model, again.model)


@pytest.mark.full
def test_trainer_with_an_optimiser_of_ours(tmp_path):
    from transformers import Trainer, TrainingArguments

    model = swapped()
    rows = [{"input_ids": row, "labels": row} for row in tokens(4, 8)]
    arguments = TrainingArguments(str(tmp_path), report_to=[], use_cpu=True, max_steps=2, disable_tqdm=True)
    optimizer = lo.nn.keep_rates(torch.optim.AdamW(lo.nn.param_groups(model, 1e-3)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Trainer(model, arguments, train_dataset=rows, optimizers=(optimizer, None)).train()
    assert not [one for one in caught if "lo.nn." in str(one.message)]


def test_save_and_load_of_linops(tmp_path):
    model = swapped("monarch")
    lo.nn.save(model, tmp_path / "m.safetensors")
    assert_same(model, lo.nn.load(llama(), tmp_path / "m.safetensors"))


SCRIPT = """
import sys, torch
from vision import make_importable
make_importable()
from transformers import AutoModelForCausalLM
try:
    AutoModelForCausalLM.from_pretrained(sys.argv[1])
    error = None
except ValueError as raised:
    error = str(raised)
import linops.nn.transformers
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
torch.save((error, model(torch.load(sys.argv[2])).logits, model.state_dict()), sys.argv[3])
"""


@pytest.mark.full  # docs/saving.md has one too
def test_a_fresh_process(tmp_path):
    """It has the model bit for bit; without the import it has an error, and no random model."""
    model = swapped("monarch", exclude="lm_head")
    model.save_pretrained(tmp_path / "m")
    torch.save(tokens(), tmp_path / "in")
    command = [sys.executable, "-c", SCRIPT, *(str(tmp_path / name) for name in ("m", "in", "out"))]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}",
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    error, logits, state = torch.load(tmp_path / "out")
    assert error.endswith("layers of this model are structured: import linops.nn.transformers before from_pretrained")
    assert torch.equal(logits, model(tokens()).logits)
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], one) for name, one in model.state_dict().items())


def test_layers_that_are_put_in_by_hand(tmp_path):
    model = llama()
    model.model.layers[0].mlp.up_proj = Linear(lo.btt(128, 64), bias=False)
    model.save_pretrained(tmp_path)
    assert_same(model, loaded(tmp_path))


@pytest.mark.parametrize("where", ["lm_head", "*.q_proj", "*.mlp.*"])
def test_a_dense_checkpoint_is_no_structured_one(where, tmp_path):
    llama().save_pretrained(tmp_path / "dense")
    swapped(where=where, parts={"*.q_proj": 2}).save_pretrained(tmp_path / "m")
    for file in ("config.json", "model.safetensors"):
        (tmp_path / file).write_bytes((tmp_path / ("m" if "config" in file else "dense") / file).read_bytes())
    with pytest.raises(ValueError, match=r"layer '.*' is structured, and the checkpoint has a dense weight of it"):
        loaded(tmp_path)


def test_a_checkpoint_that_lacks_tensors(tmp_path):
    from safetensors.torch import load_file, save_file

    swapped("monarch").save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    held = load_file(file)
    del held["model.layers.1.mlp.up_proj.factors_1_blocks"]
    save_file(held, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"layer 'model\.layers\.1\.mlp\.up_proj' is structured .* 'factors_1_blocks'"):
        loaded(tmp_path)


DAMAGES = {
    "version 99": lambda recipe: recipe.update(version=99),
    "-?Infinity is no number|no number of JSON": lambda recipe: recipe.update(layers=float("inf")),
    "without structures or layers": lambda recipe: recipe.pop("layers"),
    "says no layer": lambda recipe: recipe["layers"].update(lm_head={"structures": [0], "code": "import os"}),
    r"structures \[77\] are not among": lambda recipe: recipe["layers"]["lm_head"].update(structures=[77]),
    "no operator 'os:system'": lambda recipe: recipe["structures"][0]["operators"][0].update({"class": "os:system"}),
    r"the model has no dense layer 'model\.x'": lambda recipe: recipe["layers"].update(
        {"model.x": {"structures": [0]}}
    ),
    "it is tied to 'ghost', which does not stand before": lambda recipe: recipe["layers"]["lm_head"].update(
        tied_to="ghost"
    ),
    "layer 'lm_head' is 96×64 in the model and 64×64": lambda recipe: recipe["layers"].update(
        lm_head=recipe["layers"]["model.layers.0.self_attn.q_proj"]
    ),
    r"the model has no dense layer 'model\.layers\.0\.mlp'": lambda recipe: recipe["layers"].update(
        {"model.layers.0.mlp": {"structures": [0]}}
    ),
    "it lacks layer 'lm_head', of which the checkpoint has 'lm_head.cores_0'": lambda recipe: recipe["layers"].pop(
        "lm_head"
    ),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_damaged_recipes(message, tmp_path):
    swapped().save_pretrained(tmp_path)
    changed(tmp_path, DAMAGES[message])
    with pytest.raises(ValueError, match=rf"the recipe of linops in config\.json: .*{message}"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    "recipe", [None, 3, "text", [], {}, {"version": 1}, {"version": 1, "structures": 1, "layers": []}]
)
def test_what_is_no_recipe(recipe, tmp_path):
    swapped().save_pretrained(tmp_path)
    content = written(tmp_path)
    content["quantization_config"]["recipe"] = recipe
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"the recipe of linops in config\.json: a recipe"):
        loaded(tmp_path)


def test_huge_layers_are_never_made(tmp_path):
    swapped("low_rank:rank=2", where="lm_head").save_pretrained(tmp_path)

    def grow(recipe):
        for record in recipe["structures"][0]["operators"]:
            for name in ("U", "V"):
                sizes = record[name]["shape"]
                sizes[sizes.index(2)] = 10**9

    changed(tmp_path, grow)
    with pytest.raises(ValueError, match=r"its layers have 160,000,000,000 parameters, and the .* bytes"):
        loaded(tmp_path)


def test_what_config_json_cannot_say(tmp_path, monkeypatch):
    model = swapped(lambda m, n: lo.Function((m, n), lambda x: x) @ lo.low_rank(n, n, rank=1), where="*.o_proj")
    with pytest.raises(TypeError, match=r"layer 'model\.layers\.0\.self_attn\.o_proj' cannot be saved: .* a function"):
        model.save_pretrained(tmp_path)
    model = swapped(where="lm_head")
    model.config.quantization_config = {"quant_method": "torchao"}
    with pytest.raises(ValueError, match=r"structured layers \('lm_head' and others\) and is quantised \(torchao\)"):
        model.save_pretrained(tmp_path)
    model = llama()
    model.model.layers[0].self_attn.o_proj = Linear(lo.dense(64, 64), bias=False, dtype=torch.complex64)
    lo.nn.replace_linear_(model, "btt", where="lm_head")
    with pytest.raises(TypeError, match=r"o_proj' has complex parameters, which from_pretrained would make real"):
        model.save_pretrained(tmp_path)
    monkeypatch.setattr(strict_json, "LONGEST", 100)
    with pytest.raises(ValueError, match=r"save_pretrained: the recipe, a text of .* characters; .* use lo\.nn\.save"):
        swapped().save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_gpt2_made_dense_again_is_a_gpt2(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=96, n_embd=64, n_layer=2, n_head=4, n_positions=32, **SPECIAL))
    lo.nn.replace_linear_(model, "btt", where="*attn.c_proj")  # square: transposed it would fit too
    lo.nn.to_dense_(model)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    ids = tokens(2, 5)
    assert type(model.transformer.h[0].attn.c_proj).__name__ == "Conv1D"
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(ids).logits, model.eval()(ids).logits)
