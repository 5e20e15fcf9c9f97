"""GPT and ViT: small, clean, dense until `linops.nn.replace_linear_` makes them structured; scaled by μP.

Attention scores are scaled by 8/d_head (so that they equal the usual 1/√d_head at d_head = 64), their queries and keys
are normalised; heads have a fixed size, so that width means more of them. What ends a residual branch, and the head,
starts at zero.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from linops.lab.models import Block, linear

#: numbers of an attention head
HEAD = 16


class Attention(nn.Module):
    """x + out(attention(q, k, v of LayerNorm(x))), with LayerNorm on queries and keys; `out` starts at zero.

    Args:
        width: w, a multiple of the head's size.
        causal: Whether a token sees only itself and those before it.
        branch: The residual multiplier.

    Raises:
        ValueError: If the width is no multiple of the head's size.
    """

    q: nn.Linear
    k: nn.Linear
    v: nn.Linear
    q_norm: nn.LayerNorm
    k_norm: nn.LayerNorm

    def __init__(self, width: int, causal: bool, branch: float = 1.0) -> None:
        super().__init__()
        if width % HEAD:
            raise ValueError(f"attention: width {width} is no multiple of the head's size, {HEAD}")
        self.causal, self.branch = causal, branch
        self.norm: nn.LayerNorm = nn.LayerNorm(width)
        self.q, self.k, self.v = (linear(width, width, bias=False) for _ in range(3))
        self.q_norm, self.k_norm = nn.LayerNorm(HEAD), nn.LayerNorm(HEAD)
        self.out: nn.Linear = linear(width, width, zero=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, w) → (batch, tokens, w)."""
        y = self.norm(x)
        q, k, v = (part.unflatten(-1, (-1, HEAD)).transpose(1, 2) for part in (self.q(y), self.k(y), self.v(y)))
        mixed = scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v, is_causal=self.causal, scale=8 / HEAD)
        return x + self.branch * self.out(mixed.transpose(1, 2).flatten(2))

    def own_macs(self, x: torch.Tensor) -> int:
        """MACs of scores and mixing, over all pairs of tokens; a causal mask saves none of them here."""
        batch, tokens, width = x.shape
        return 2 * batch * tokens**2 * width


class Layers(nn.Module):
    """Attention and MLP blocks in turn, and a last LayerNorm.

    Args:
        width: w.
        depth: Number of pairs.
        causal: Whether attention is causal.
        base_depth: As in `linops.lab.models.MLP`.
    """

    def __init__(self, width: int, depth: int, causal: bool, base_depth: int | None = None) -> None:
        super().__init__()
        branch = (base_depth or depth) / depth
        blocks = [nn.Sequential(Attention(width, causal, branch), Block(width, branch)) for _ in range(depth)]
        self.blocks: nn.Sequential = nn.Sequential(*blocks)
        self.norm: nn.LayerNorm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, w) → (batch, tokens, w)."""
        return self.norm(self.blocks(x))


class GPT(nn.Module):
    """A causal transformer over tokens.

    Args:
        vocabulary: Number of tokens.
        context: The most tokens in a row.
        width: w, a multiple of 16.
        depth: Number of attention and MLP pairs.
        base_depth: As in `linops.lab.models.MLP`.

    Shape:
        Input (batch, tokens) integers, output (batch, tokens, vocabulary): logits of the next token.

    Example:
        >>> import torch
        >>> GPT(256, 32, width=32, depth=1)(torch.zeros(2, 32, dtype=torch.int64)).shape
        torch.Size([2, 32, 256])
    """

    def __init__(
        self, vocabulary: int, context: int, width: int = 64, depth: int = 2, base_depth: int | None = None
    ) -> None:
        super().__init__()
        self.tokens: nn.Embedding = nn.Embedding(vocabulary, width)
        self.positions: nn.Embedding = nn.Embedding(context, width)
        self.layers: Layers = Layers(width, depth, True, base_depth)
        self.head: nn.Linear = linear(width, vocabulary, zero=True)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the head reads: (batch, tokens) → (batch, tokens, w)."""
        return self.layers(self.tokens(x) + self.positions.weight[: x.shape[1]])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the next token at every place."""
        return self.head(self.features(x))


class ViT(nn.Module):
    """A transformer over the patches of an image, averaged before the head.

    Args:
        image: (channels, height, width) of an image.
        classes: Numbers of an output.
        width: w, a multiple of 16.
        depth: Number of attention and MLP pairs.
        base_depth: As in `linops.lab.models.MLP`.
        patch: Side of a patch.

    Shape:
        Input (batch, channels · height · width), output (batch, classes): logits.

    Raises:
        ValueError: If patches do not tile the image.

    Example:
        >>> import torch
        >>> ViT((1, 8, 8), 10, width=32, depth=1)(torch.zeros(2, 64)).shape
        torch.Size([2, 10])
    """

    image: tuple[int, int, int]
    patch: int

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        width: int = 64,
        depth: int = 2,
        patch: int = 2,
        base_depth: int | None = None,
    ) -> None:
        super().__init__()
        channels, rows, columns = image
        if rows % patch or columns % patch:
            raise ValueError(f"ViT: patches of {patch}×{patch} do not tile an image of {rows}×{columns}")
        self.image, self.patch = image, patch
        self.embed: nn.Linear = linear(channels * patch**2, width)
        self.positions: nn.Embedding = nn.Embedding(rows * columns // patch**2, width)
        self.layers: Layers = Layers(width, depth, False, base_depth)
        self.head: nn.Linear = linear(width, classes, zero=True)

    def patches(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels · height · width) → (batch, patches, channels · patch²)."""
        images = x.reshape(len(x), *self.image)
        tiles = images.unflatten(2, (-1, self.patch)).unflatten(4, (-1, self.patch))  # (batch, c, rows, p, columns, p)
        return tiles.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the head reads: the mean over patches, (batch, w)."""
        return self.layers(self.embed(self.patches(x)) + self.positions.weight).mean(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the classes."""
        return self.head(self.features(x))
