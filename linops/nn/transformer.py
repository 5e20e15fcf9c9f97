"""`Transformer`: the shapes of a decoder, for estimates: from sizes, or from a config.json of Hugging Face."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linops.families import dense
from linops.nn.description import Description, Part

#: the block's name, and so the layers' ``layers.q``, ``layers.up``, …
BLOCK = "layers"
#: where configs have what: the first that is there
_KEYS = {
    "d_model": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "layers"),
    "heads": ("num_attention_heads", "n_head", "heads"),
    "kv_heads": ("num_key_value_heads", "kv_heads"),
    "head_dim": ("head_dim",),
    "ff": ("intermediate_size", "n_inner", "ff"),
    "vocab": ("vocab_size", "vocab"),
    "seq": ("max_position_embeddings", "n_positions", "seq"),
    "tied": ("tie_word_embeddings", "tied"),
    "gated": ("gated",),
    "bias": ("bias",),
}
#: kinds of models whose shapes are these: with a gate, RMSNorm and without biases; and with biases and positions
GATED, PLAIN = ("llama", "mistral", "qwen3", "smollm3"), ("gpt2",)


@dataclass(frozen=True)
class Transformer:
    """The shapes of a decoder: attention and an MLP in turn, a head, cross-entropy.

    Attributes:
        d_model: Width d.
        layers: Number of blocks.
        heads: Of queries.
        kv_heads: Of keys and values; None: as many.
        head_dim: Of a head; None: d / heads.
        ff: Width of the MLP; None: 4 d.
        vocab: Number of tokens that there are.
        seq: Tokens in a row.
        gated: Whether the MLP is SwiGLU with RMSNorms (Llama), or GELU with LayerNorms and positions that are learned
            (GPT-2).
        bias: Whether linear layers but the head have biases; None: where there is no gate.
        tied: Whether the head is the embedding.

    Raises:
        ValueError: If a size is less than 1, or heads do not divide what they are to.

    Example:
        >>> llama = Transformer(4096, 32, 32, kv_heads=8, ff=14336, vocab=128256, seq=8192, gated=True)
        >>> sum([part.operator.num_params for part in llama.description().parts if part.operator])
        743440384
    """

    d_model: int
    layers: int
    heads: int = 0
    kv_heads: int | None = None
    head_dim: int | None = None
    ff: int | None = None
    vocab: int = 50257
    seq: int = 1024
    gated: bool = False
    bias: bool | None = None
    tied: bool = False

    def __post_init__(self) -> None:
        if not self.heads:
            object.__setattr__(self, "heads", max(self.d_model // 64, 1) if isinstance(self.d_model, int) else 1)
        for name in ("d_model", "layers", "heads", "kv_heads", "head_dim", "ff", "vocab", "seq"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ValueError(f"Transformer: {name} must be a whole number of at least 1, got {value!r}")
        if self.head_dim is None and self.d_model % self.heads:
            raise ValueError(f"Transformer: {self.heads} heads do not divide d_model {self.d_model}; give head_dim")
        if self.kv_heads is not None and self.heads % self.kv_heads:
            raise ValueError(f"Transformer: {self.kv_heads} kv_heads do not divide {self.heads} heads")

    @staticmethod
    def from_config(config: Mapping[str, Any] | str | Path, seq: int | None = None) -> Transformer:
        """The shapes that a config says.

        Args:
            config: A config.json of Hugging Face, of models like Llama or GPT-2, or what stands in one; or a mapping
                with the names of this class.
            seq: Tokens in a row; None: as many as the model takes.

        Returns:
            The shapes.

        Raises:
            ValueError: If it is of another kind of model, or a size is missing or wrong.
            OSError: If the file cannot be read.
        """
        where, found = ("config", config) if isinstance(config, Mapping) else (str(config), _read(Path(config)))
        kind = found.get("model_type")
        if kind is not None and kind not in (*GATED, *PLAIN):
            raise ValueError(
                f"{where}: model_type {kind!r}; expected one of {', '.join((*GATED, *PLAIN))}, or sizes of your own "
                "(lo.nn.Transformer)"
            )
        sizes: dict[str, Any] = {}
        for name, keys in _KEYS.items():
            value = next((found[key] for key in keys if found.get(key) is not None), None)
            if value is not None:
                sizes[name] = value
        sizes |= {"gated": kind in GATED} if kind else {}
        sizes.setdefault("tied", kind in PLAIN)
        sizes |= {"seq": seq} if seq is not None else {}
        if missing := [name for name in ("d_model", "layers") if name not in sizes]:
            raise ValueError(f"{where}: no {missing[0]}; expected one of {', '.join(_KEYS[missing[0]])}")
        return Transformer(**sizes)

    def description(self) -> Description:
        """Its layers: ``embed``, ``layers.q, k, v, o, gate, up, down`` and what is between them, ``head``.

        Returns:
            The description. Attention counts half of all pairs of tokens, and keeps queries, keys, values and one
            number a head (as fused kernels do); an activation keeps what it reads, a gate both factors too; the loss
            keeps the vocabulary's logarithms in float32.
        """
        d, ff, norm = self.d_model, self.ff or 4 * self.d_model, 1 if self.gated else 2
        head = self.head_dim or d // self.heads
        q, kv = self.heads * head, (self.kv_heads or self.heads) * head
        bias = not self.gated if self.bias is None else self.bias

        def linear(name: str, m: int, n: int, style: str, shares: bool = False) -> Part:
            return Part(f"{BLOCK}.{name}", dense(m, n), bias, style=style, shares=shares, block=BLOCK)

        def normed(name: str, block: str = "") -> Part:
            path = f"{block}.{name}" if block else name
            return Part(path, shapes=((d,),) * norm, saved=d, moved=5 * d, block=block)

        gates = [linear("gate", ff, d, "colwise")] if self.gated else []
        embeddings = [Part("embed", shapes=((self.vocab, d),), moved=2 * d, follows=True, groups=self.vocab, sends=d)]
        embeddings += [] if self.gated else [Part("positions", shapes=((self.seq, d),), moved=d)]
        parts = (
            *embeddings,
            normed("norm1", BLOCK),
            linear("q", q, d, "colwise"),
            linear("k", kv, d, "colwise", shares=True),
            linear("v", kv, d, "colwise", shares=True),
            Part(
                f"{BLOCK}.attention",
                saved=q + 2 * kv,
                singles=self.heads,
                flops=2 * self.seq * q,
                moved=2 * q + 2 * kv + (2 * (q + kv) if self.gated else 0),
                follows=True,
                groups=self.kv_heads or self.heads,
                block=BLOCK,
            ),
            linear("o", d, q, "rowwise"),
            normed("norm2", BLOCK),
            *gates,
            linear("up", ff, d, "colwise", shares=self.gated),
            Part(
                f"{BLOCK}.activation",
                saved=(3 if self.gated else 1) * ff,
                moved=(5 if self.gated else 2) * ff,
                follows=True,
                groups=ff,
                block=BLOCK,
            ),
            linear("down", d, ff, "rowwise"),
            normed("norm"),
            Part("head", dense(self.vocab, d), style="colwise", tied=self.tied),
            Part("loss", singles=self.vocab, moved=7 * self.vocab, follows=True, groups=self.vocab),
        )
        name = f"transformer of {self.layers} × {d}"
        return Description(name, parts, {BLOCK: self.layers}, {BLOCK: d}, self.seq, "tokens")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no config.json: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no config.json: expected an object, got {type(found).__name__}")
    return found
