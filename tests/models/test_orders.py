"""The order of operations with other libraries: what comes before a swap, what after, what is refused otherwise."""

import warnings

import pytest
import torch
from checks import fresh, structured
from zoo import hf_llama, hf_rwkv

import linops as lo

ATTENTION = "*self_attn*"


def llama(exclude=None):
    torch.manual_seed(0)
    trial = hf_llama()
    if exclude:
        lo.nn.replace_linear_(trial.model, "btt", exclude=exclude)
    return trial


def lora(model, *targets):
    import peft

    return peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=list(targets)))


def test_lora_after_the_swap_adapts_what_stays_dense():
    trial = llama(exclude=ATTENTION)
    before = trial.forward().detach()
    names = structured(trial.model)
    adapted = lora(trial.model, "q_proj", "v_proj")
    torch.testing.assert_close(trial.forward(adapted), before)  # adapters start at zero
    trainable = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert len(trainable) == 2 * 2 * 2
    assert all("lora_" in name for name in trainable)
    optimizer = torch.optim.AdamW(lo.nn.param_groups(adapted, lr=1e-2))
    losses = []
    for _ in range(5):
        loss = trial.loss(adapted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    merged = adapted.merge_and_unload()
    assert structured(merged) == names


def test_lora_refuses_structured_layers_by_itself():
    trial = llama(exclude="lm_head")
    with pytest.raises(ValueError, match="not supported"):
        lora(trial.model, "q_proj")


def test_swap_after_lora_leaves_adapted_layers():
    adapted = lora(llama().model, "q_proj")
    with pytest.warns(UserWarning, match="left"):
        report = lo.nn.replace_linear_(adapted, "btt")
    assert not structured(adapted)
    reasons = {name.split(".model.model.")[-1]: str(reason) for name, reason in report.skipped.items()}
    assert "adapter" in reasons["layers.0.self_attn.q_proj.base_layer"]
    assert "frozen" in reasons["layers.0.mlp.up_proj"]  # by peft: new weights would never be trained
    assert len(report) == 0
    with pytest.raises(ValueError, match="before adding adapters"):
        lo.nn.replace_linear_(adapted, "btt", where="*.q_proj.base_layer")


def test_quantising_after_the_swap_takes_what_stays_dense():
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    trial = llama(exclude=ATTENTION)
    before, names = trial.forward().detach(), structured(trial.model)
    state = {key: value.clone() for key, value in trial.model.get_submodule(names[0]).state_dict().items()}
    quantize_(trial.model, Int8WeightOnlyConfig())
    assert structured(trial.model) == names
    for key, value in trial.model.get_submodule(names[0]).state_dict().items():
        assert torch.equal(value, state[key])
    assert type(trial.model.model.layers[0].self_attn.q_proj.weight) is not torch.nn.Parameter
    error = (trial.forward() - before).norm() / before.norm()
    assert 0 < error < 0.05


def test_swap_after_quantising_leaves_quantised_layers():
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    trial = llama()
    quantize_(trial.model, Int8WeightOnlyConfig())
    with pytest.warns(UserWarning, match="left"):
        report = lo.nn.replace_linear_(trial.model, "btt")
    assert len(report) == 0
    with pytest.raises(ValueError, match="q_proj"):
        lo.nn.replace_linear_(trial.model, "btt", where="*.q_proj")


def test_a_model_that_rescales_its_weights_is_refused_where_it_does():
    torch.manual_seed(0)
    trial = hf_rwkv()
    trial.model.config.rescale_every = 1
    lo.nn.replace_linear_(trial.model, "btt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError, match="exclude"):
            trial.forward()


def test_gradient_checkpointing_gives_the_same_gradients():
    one, other = fresh("hf_llama"), fresh("hf_llama")
    other.trial.model.gradient_checkpointing_enable()
    found = []
    for each in (one, other):
        each.trial.model.train()
        each.trial.loss().backward()
        found.append({name: parameter.grad for name, parameter in each.trial.model.named_parameters()})
    assert other.trial.model.is_gradient_checkpointing
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient)


def test_a_model_in_bfloat16_stays_so():
    torch.manual_seed(0)
    trial = hf_llama()
    trial.model.to(torch.bfloat16)
    lo.nn.replace_linear_(trial.model, "btt")
    assert {parameter.dtype for parameter in trial.model.parameters()} == {torch.bfloat16}
    output = trial.forward()
    assert output.dtype == torch.bfloat16
    assert output.isfinite().all()
