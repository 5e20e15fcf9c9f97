"""Small transformers in plain PyTorch, with the shapes of `lo.nn.Transformer`, and what autograd keeps of them."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention, silu


def rotate(x):
    first, second = x.chunk(2, -1)
    return torch.cat((-second, first), -1)


class Block(nn.Module):
    def __init__(self, shapes):
        super().__init__()
        d, self.gated = shapes.d_model, shapes.gated
        self.head = shapes.head_dim or d // shapes.heads
        q, kv, ff = shapes.heads * self.head, (shapes.kv_heads or shapes.heads) * self.head, shapes.ff or 4 * d
        bias = not self.gated
        self.norm1, self.norm2 = (nn.RMSNorm(d) if self.gated else nn.LayerNorm(d) for _ in range(2))
        self.q, self.k, self.v = nn.Linear(d, q, bias), nn.Linear(d, kv, bias), nn.Linear(d, kv, bias)
        self.o = nn.Linear(q, d, bias)
        self.gate = nn.Linear(d, ff, bias) if self.gated else None
        self.up, self.down = nn.Linear(d, ff, bias), nn.Linear(ff, d, bias)

    def forward(self, x, cos=None, sin=None):
        y = self.norm1(x)
        q, k, v = (
            part(y).contiguous().unflatten(-1, (-1, self.head)).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        if self.gated:
            q, k = (part * cos + rotate(part) * sin for part in (q, k))
        mixed = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
        x = x + self.o(mixed.transpose(1, 2).flatten(2))
        y = self.norm2(x)
        return x + self.down(silu(self.gate(y)) * self.up(y) if self.gated else gelu(self.up(y)))


class Decoder(nn.Module):
    def __init__(self, shapes):
        super().__init__()
        self.embed = nn.Embedding(shapes.vocab, shapes.d_model)
        self.positions = None if shapes.gated else nn.Embedding(shapes.seq, shapes.d_model)
        angles = torch.ones(shapes.seq, shapes.head_dim or shapes.d_model // shapes.heads)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.layers = nn.ModuleList(Block(shapes) for _ in range(shapes.layers))
        self.norm = nn.RMSNorm(shapes.d_model) if shapes.gated else nn.LayerNorm(shapes.d_model)
        self.head = nn.Linear(shapes.d_model, shapes.vocab, bias=False)

    def features(self, tokens):
        x = self.embed(tokens)
        x = x if self.positions is None else x + self.positions.weight[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x, self.cos.to(x.dtype), self.sin.to(x.dtype))
        return x

    def forward(self, tokens):
        return self.head(self.norm(self.features(tokens)))


def loss_of(model, tokens):
    return cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())


def kept(model, function):
    """Bytes of tensors, beside parameters and buffers, that autograd keeps of what a function computes."""
    storages, sizes = {one.untyped_storage()._cdata: one for one in (*model.parameters(), *model.buffers())}, []

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in storages:
            storages[storage._cdata] = tensor
            sizes.append(storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        function()
    return sum(sizes)
