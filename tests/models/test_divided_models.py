"""Models of Hugging Face divided among gloo processes, by the plans that they have."""

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from vision import make_importable

import linops as lo


def full(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def qwen():
    make_importable()
    import transformers

    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        vocab_size=17,
    )
    model = transformers.Qwen3ForCausalLM(config).double()
    lo.nn.replace_linear_(model, "btt", where=["*.self_attn.*", "*.mlp.gate_proj", "*.mlp.up_proj"])
    return model


def hugging_face():
    """A model of Hugging Face is divided by the plan that it has: heads and hidden features stay divided."""
    mesh = init_device_mesh("cpu", (2,))
    one, model = qwen(), qwen()
    divided = lo.nn.parallelize_(model, mesh)
    tokens = torch.arange(12).reshape(2, 6) % 17
    losses = [m(input_ids=tokens, labels=tokens).loss for m in (one, model)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    for name, parameter in one.named_parameters():
        torch.testing.assert_close(full(model.get_parameter(name).grad), parameter.grad)
    with lo.nn.torch.CommunicationMode() as mode:
        model(input_ids=tokens, labels=tokens).loss.backward()
    assert dict(mode.counted) == dict(divided.communication(tokens.numel()))
    with pytest.raises(ValueError, match=r"save_pretrained: '.*' lies on several ranks; call lo.nn.save"):
        model.save_pretrained("nowhere")
    return {row.name.rpartition(".")[2]: row.style for row in divided}


@pytest.mark.full
def test_models_of_hugging_face(processes):
    for styles in processes(2, hugging_face):
        assert styles == {
            **dict.fromkeys(["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"], "colwise"),
            **dict.fromkeys(["o_proj", "down_proj"], "rowwise"),
            **dict.fromkeys(["q_norm", "k_norm"], "replicated"),
        }
