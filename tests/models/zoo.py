"""The models of the trial: small configurations with random weights, each with an input and a loss.

A model of the table is a function that returns `Trial`. Nothing is downloaded: models are built from configurations.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

WIDTH, TOKENS, VOCABULARY = 64, 12, 96


@dataclass(frozen=True)
class Trial:
    """A model to be swapped, and what is done with it.

    Attributes:
        model: The model, in evaluation mode.
        inputs: Keyword arguments of its forward.
        output: The tensor of what the forward returns.
        generate: Keyword arguments of `generate`, or None if it has none.
        options: Arguments of `replace_linear_`.
    """

    model: nn.Module
    inputs: dict[str, Any]
    output: Callable[[Any], torch.Tensor] = lambda result: result.logits
    generate: dict[str, Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def forward(self, model: nn.Module | None = None) -> torch.Tensor:
        """The output of the model, or of another like it."""
        return self.output((self.model if model is None else model)(**self.inputs))

    def loss(self, model: nn.Module | None = None) -> torch.Tensor:
        """A loss that training can lower: the output is to be one class everywhere."""
        output = self.forward(model).flatten(0, -2)
        return nn.functional.cross_entropy(output, torch.zeros(len(output), dtype=torch.int64))


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(4, VOCABULARY, shape or (2, TOKENS), generator=torch.Generator().manual_seed(1))


def images(size: int) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


# ---------------------------------------------------------------- Hugging Face


def language(config: Any, **options: Any) -> Trial:
    """A causal language model of a configuration."""
    from transformers import AutoModelForCausalLM

    generate = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    return Trial(
        AutoModelForCausalLM.from_config(config).eval(), {"input_ids": tokens()}, generate=generate, options=options
    )


SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
DECODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    **SPECIAL,
}


def hf_gpt2() -> Trial:
    from transformers import GPT2Config

    config = GPT2Config(
        vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=2, n_head=4, n_positions=32, bos_token_id=1, eos_token_id=2
    )
    return language(config, parts={"*.attn.c_attn": 3})


def hf_llama() -> Trial:
    from transformers import LlamaConfig

    return language(LlamaConfig(**DECODER))


def hf_qwen3() -> Trial:
    from transformers import Qwen3Config

    return language(Qwen3Config(**DECODER, head_dim=16))


def hf_gemma2() -> Trial:
    from transformers import Gemma2Config

    return language(Gemma2Config(**DECODER, head_dim=16))


def hf_phi3() -> Trial:
    from transformers import Phi3Config

    return language(Phi3Config(**DECODER))


def hf_mixtral() -> Trial:
    from transformers import MixtralConfig

    return language(MixtralConfig(**DECODER, num_local_experts=4, num_experts_per_tok=2))


def hf_mamba() -> Trial:
    from transformers import MambaConfig

    return language(MambaConfig(vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=2, state_size=8, **SPECIAL))


def hf_rwkv() -> Trial:
    from transformers import RwkvConfig

    sizes = {
        "hidden_size": WIDTH,
        "attention_hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
    }
    plain = {"use_cache": False, "rescale_every": 0}  # rescaling writes into weights: test_orders.py
    return language(
        RwkvConfig(vocab_size=VOCABULARY, context_length=32, **plain, **sizes, bos_token_id=1, eos_token_id=2)
    )


def hf_opt() -> Trial:
    from transformers import OPTConfig

    sizes = {
        "hidden_size": WIDTH,
        "ffn_dim": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "word_embed_proj_dim": WIDTH,
    }
    return language(OPTConfig(vocab_size=VOCABULARY, max_position_embeddings=32, **sizes, **SPECIAL))


def hf_t5() -> Trial:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": WIDTH, "d_kv": 16, "d_ff": 2 * WIDTH, "num_layers": 2, "num_heads": 4}
    model = T5ForConditionalGeneration(
        T5Config(vocab_size=VOCABULARY, **sizes, decoder_start_token_id=0, pad_token_id=0, eos_token_id=2)
    )
    inputs = {"input_ids": tokens(), "decoder_input_ids": tokens(2, 6)}
    return Trial(model.eval(), inputs, generate={"max_new_tokens": 4, "do_sample": False})


def hf_bert() -> Trial:
    from transformers import BertConfig, BertForMaskedLM

    sizes = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4}
    return Trial(
        BertForMaskedLM(BertConfig(vocab_size=VOCABULARY, max_position_embeddings=32, **sizes)).eval(),
        {"input_ids": tokens()},
    )


def hf_deberta() -> Trial:
    from transformers import DebertaV2Config, DebertaV2ForMaskedLM

    sizes = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4}
    relative = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
    model = DebertaV2ForMaskedLM(
        DebertaV2Config(vocab_size=VOCABULARY, max_position_embeddings=32, type_vocab_size=0, **sizes, **relative)
    )
    return Trial(model.eval(), {"input_ids": tokens()})


def hf_vit() -> Trial:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, num_labels=8, **sizes))
    return Trial(model.eval(), {"pixel_values": images(16)}, options={"exclude": "classifier"})


def hf_whisper() -> Trial:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    sizes = {
        "d_model": WIDTH,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
    }
    sizes |= {"encoder_ffn_dim": 2 * WIDTH, "decoder_ffn_dim": 2 * WIDTH, "num_mel_bins": 8, "max_source_positions": 16}
    config = WhisperConfig(
        vocab_size=VOCABULARY, max_target_positions=32, decoder_start_token_id=1, suppress_tokens=[], **sizes, **SPECIAL
    )
    inputs = {
        "input_features": torch.randn(2, 8, 32, generator=torch.Generator().manual_seed(1)),
        "decoder_input_ids": tokens(2, 6),
    }
    return Trial(WhisperForConditionalGeneration(config).eval(), inputs)


# ---------------------------------------------------------------- timm and torchvision


def vision(name: str, size: int, **options: Any) -> Trial:
    """A model of timm by name."""
    import timm

    model = timm.create_model(name, num_classes=8, **options)
    return Trial(model.eval(), {"x": images(size)}, lambda result: result, options={"exclude": "head*"})


SMALL_VIT = {"img_size": 16, "patch_size": 8, "embed_dim": WIDTH, "depth": 2, "num_heads": 4}


def timm_vit() -> Trial:
    return vision("vit_tiny_patch16_224", 16, **SMALL_VIT)


def timm_eva() -> Trial:
    return vision("eva02_tiny_patch14_224", 16, **SMALL_VIT)


def timm_beit() -> Trial:
    return vision("beit_base_patch16_224", 16, **SMALL_VIT)


def timm_swinv2() -> Trial:
    return vision(
        "swinv2_tiny_window8_256", 32, img_size=32, window_size=4, embed_dim=32, depths=(1, 1), num_heads=(2, 4)
    )


def timm_mixer() -> Trial:
    from timm.models.mlp_mixer import MlpMixer

    model = MlpMixer(num_classes=8, img_size=16, patch_size=8, embed_dim=WIDTH, num_blocks=2)
    return Trial(model.eval(), {"x": images(16)}, lambda result: result, options={"exclude": "head"})


def timm_convnext() -> Trial:
    return vision("convnext_tiny", 32, depths=(1, 1, 1, 1), dims=(32, 32, 64, 64))


def torchvision_swin() -> Trial:
    from torchvision.models.swin_transformer import SwinTransformer, SwinTransformerBlockV2

    sizes = {
        "patch_size": [4, 4],
        "embed_dim": 32,
        "depths": [1, 1],
        "num_heads": [2, 4],
        "window_size": [4, 4],
        "num_classes": 8,
    }
    model = SwinTransformer(**sizes, block=SwinTransformerBlockV2, stochastic_depth_prob=0.0)
    return Trial(model.eval(), {"x": images(32)}, lambda result: result, options={"exclude": "head"})


# ---------------------------------------------------------------- PyTorch


class Encoder(nn.Module):
    """PyTorch's own transformer, with a head."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(WIDTH, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x))


def torch_encoder() -> Trial:
    x = torch.randn(2, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))
    return Trial(Encoder().eval(), {"x": x}, lambda result: result, options={"exclude": "head"})


ZOO: dict[str, Callable[[], Trial]] = {
    name: make for name, make in vars().items() if name.startswith(("hf_", "timm_", "torchvision_", "torch_"))
}
