"""Hugging Face models, randomly initialised, structured by two lines. Needs the package transformers."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import linops as lo

transformers = pytest.importorskip("transformers")


def train(model, loss_of, steps=15):
    optimizer = torch.optim.AdamW(lo.nn.param_groups(model, lr=1e-3, base=32))
    losses = []
    for _ in range(steps):
        loss = loss_of(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_gpt2():
    torch.manual_seed(0)
    config = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 32, "bos_token_id": 0, "eos_token_id": 0}
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=100, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, **config)
    )
    tokens = torch.randint(0, 100, (4, 32))
    before = sum(parameter.numel() for parameter in model.parameters())
    with FlopCounterMode(display=False) as dense:
        model(tokens)
    with pytest.warns(UserWarning, match="'lm_head' alone, which shares its weight with 'transformer.wte'"):
        report = lo.nn.replace_linear_(model, "btt", parts={"*.attn.c_attn": 3})
    assert len(report) == 2 * (3 + 1 + 2)
    assert before - sum(parameter.numel() for parameter in model.parameters()) == report.old_params - report.new_params
    with FlopCounterMode(display=False) as structured:
        model(tokens)
    assert dense.get_total_flops() - structured.get_total_flops() == 2 * tokens.numel() * (
        report.old_macs - report.new_macs
    )
    losses = train(model, lambda model: model(tokens, labels=tokens).loss)
    assert losses[-1] < losses[0] - 0.1


def test_vit():
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
    eager = {"attn_implementation": "eager"}  # the fused kernels of attention are not counted
    model = transformers.ViTForImageClassification(
        transformers.ViTConfig(image_size=32, patch_size=8, **sizes, **eager)
    )
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 0, 1])
    before = sum(parameter.numel() for parameter in model.parameters())
    with FlopCounterMode(display=False) as dense:
        model(images)
    report = lo.nn.replace_linear_(model, "monarch", exclude="classifier")
    assert len(report) == 2 * (4 + 2)
    assert before - sum(parameter.numel() for parameter in model.parameters()) == report.old_params - report.new_params
    with FlopCounterMode(display=False) as structured:
        model(images)
    tokens = 4 * (16 + 1)  # patches and the class
    assert dense.get_total_flops() - structured.get_total_flops() == 2 * tokens * (report.old_macs - report.new_macs)
    losses = train(model, lambda model: model(images, labels=labels).loss)
    assert losses[-1] < 0.5 * losses[0]
