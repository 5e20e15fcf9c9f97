"""Problems of the lab: data, the model that learns it, and how good the model is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from linops.lab.data import Dataset, digest, load
from linops.lab.models import MLP
from linops.lab.text import load_text
from linops.lab.train import Task
from linops.lab.transformer import GPT, ViT

#: examples that are evaluated at once
CHUNK = 4096
#: windows of a text on which a model is scored
EVALUATED = 512


class Problem(Task, Protocol):
    """A task with a model of any width. The models of a problem differ in width, depth and structure alone.

    Attributes:
        name: What it is.
        digest: A hash of its data.
        base_width: The width at which the learning rate means what it says.
        factors: Factors on the rates of structured weights by family and rule, as in ``"btt (naive)"``, for Muon as in
            ``"muon btt"``, tuned at the base width; others take `factor`, and for Muon ``"muon"``.
        factor: The factor of families that are not named.
        width_step: Widths are multiples of it.
    """

    name: str
    digest: str
    base_width: int
    width_step: int
    factors: Mapping[str, float]
    factor: float

    def model(self, width: int, depth: int, base_depth: int | None = None) -> nn.Module:
        """A dense model, newly initialised; branches are multiplied by base_depth / depth, if there is one."""
        ...

    def structured(self, name: str) -> bool:
        """Whether the linear layer of this name is to be structured."""
        ...

    def example(self) -> torch.Tensor:
        """One input, with a batch axis."""
        ...

    def features(self, model: Any, x: Any) -> torch.Tensor:
        """What the head of a model reads, for a batch."""
        ...

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """`train_loss`, `test_loss` and `test_accuracy`."""
        ...


class Classification:
    """A data set of vectors, learnt by the paper's MLP.

    Args:
        data: The data set.
        seed: Of the order of the batches.
        device: Where data and batches are.
    """

    name: str
    digest: str
    seed: int
    num_features: int
    num_classes: int

    base_width = 64
    width_step = 16
    factors: Mapping[str, float] = {
        "dense": 8.0,
        "btt (naive)": 16.0,
        "muon": 2.0,
        "muon btt (renormalized)": 4.0,
        "muon monarch (renormalized)": 4.0,
        "muon kronecker (renormalized)": 4.0,
    }  # Qiu et al., 2024: experiment B of docs/experiments.md; Muon's: docs/evidence.md
    factor: float = 4.0

    def __init__(self, data: Dataset, seed: int = 0, device: Any = "cpu") -> None:
        self.name, self.digest, self.seed = data.name, data.digest, seed
        self.num_features, self.num_classes = data.num_features, data.num_classes
        self.train: tuple[torch.Tensor, torch.Tensor] = _pair(data.x_train, data.y_train, device)
        self.test: tuple[torch.Tensor, torch.Tensor] = _pair(data.x_test, data.y_test, device)

    def model(self, width: int, depth: int = 2, base_depth: int | None = None) -> nn.Module:
        """A dense MLP."""
        return MLP(self.num_features, self.num_classes, width, depth, base_depth)

    def structured(self, name: str) -> bool:
        """The linear layers of the blocks; not the embedding, not the head."""
        return name.startswith("blocks.") and name.endswith((".up", ".down"))

    def example(self) -> torch.Tensor:
        """One input, with a batch axis."""
        return self.train[0][:1]

    def features(self, model: Any, x: Any) -> torch.Tensor:
        """What the head of a model reads, for the inputs of a batch."""
        return model.features(x[0])

    def batch(self, step: int, size: int) -> Any:
        """Examples drawn with replacement, by the seed and the step."""
        x, y = self.train
        chosen = torch.from_numpy(np.random.default_rng((self.seed, step)).integers(len(y), size=size)).to(x.device)
        return x[chosen], y[chosen]

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        """The mean cross-entropy, in nats."""
        x, y = batch
        return cross_entropy(model(x).float(), y)

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """The loss on all training data, and loss and accuracy on all test data."""
        train_loss, _ = _score(model, *self.train)
        test_loss, accuracy = _score(model, *self.test)
        return {"train_loss": train_loss, "test_loss": test_loss, "test_accuracy": accuracy}


class Images(Classification):
    """A data set of images, learnt by a ViT.

    Args:
        data: The data set; it must say the shape of its images.
        seed: Of the order of the batches.
        device: Where data and batches are.

    Raises:
        ValueError: If the inputs are no images.
    """

    name: str
    image: tuple[int, int, int]

    factors: Mapping[str, float] = {"btt (naive)": 4.0, "muon": 2.0}  # docs/experiments.md
    factor: float = 2.0

    def __init__(self, data: Dataset, seed: int = 0, device: Any = "cpu") -> None:
        super().__init__(data, seed, device)
        if data.image is None:
            raise ValueError(
                f"a ViT needs images; those of {data.name!r} have no known shape: "
                "give (samples, channels, height, width)"
            )
        self.name, self.image = f"vit on {data.name}", data.image

    def model(self, width: int, depth: int = 2, base_depth: int | None = None) -> nn.Module:
        """A dense ViT with 16 or 64 patches."""
        patch = 2 if self.image[1] < 16 else 4
        return ViT(self.image, self.num_classes, width, depth, patch=patch, base_depth=base_depth)

    def structured(self, name: str) -> bool:
        """The linear layers of attention and MLP; not the embedding, not the head."""
        return _in_transformer(name)


class Text:
    """The next byte of a text, learnt by a GPT. The last tenth of the text is for testing.

    Args:
        text: (length,) uint8.
        seed: Of the batches.
        device: Where text and batches are.
        context: Bytes in a row.
        name: What the text is.
    """

    name: str
    digest: str
    seed: int
    context: int
    train: torch.Tensor
    test: torch.Tensor

    base_width = 64
    width_step = 16
    factors: Mapping[str, float] = {"btt (naive)": 2.0, "muon": 2.0}  # docs/experiments.md
    factor: float = 0.5
    vocabulary = 256

    def __init__(
        self, text: np.ndarray, seed: int = 0, device: Any = "cpu", context: int = 64, name: str = "text"
    ) -> None:
        self.name, self.digest, self.seed, self.context = f"gpt on {name}", digest(text), seed, context
        cut = int(0.9 * len(text))
        self.train, self.test = (
            torch.from_numpy(part.astype(np.uint8)).to(device) for part in (text[:cut], text[cut:])
        )

    def model(self, width: int, depth: int = 2, base_depth: int | None = None) -> nn.Module:
        """A dense GPT."""
        return GPT(self.vocabulary, self.context, width, depth, base_depth)

    def structured(self, name: str) -> bool:
        """The linear layers of attention and MLP; not the embeddings, not the head."""
        return _in_transformer(name)

    def example(self) -> torch.Tensor:
        """One input, with a batch axis."""
        return self.train[: self.context].long()[None]

    def features(self, model: Any, x: Any) -> torch.Tensor:
        """What the head of a model reads, for the inputs of a batch."""
        return model.features(x[0])

    def batch(self, step: int, size: int) -> Any:
        """Windows drawn by the seed and the step, and the bytes that follow each of theirs."""
        return self._windows(self.train, np.random.default_rng((self.seed, step)), size)

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        """The mean cross-entropy of the next byte, in nats."""
        x, y = batch
        return cross_entropy(model(x).float().flatten(0, 1), y.flatten())

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Losses and accuracy on the same windows for every model."""
        scores = {}
        for part, text in (("train", self.train), ("test", self.test)):
            x, y = self._windows(text, np.random.default_rng(0), EVALUATED)
            found = [_score_sum(model(a).float().flatten(0, 1), b.flatten()) for a, b in zip(x.split(64), y.split(64))]
            scores[f"{part}_loss"] = sum(loss for loss, _ in found) / y.numel()
            scores[f"{part}_accuracy"] = sum(right for _, right in found) / y.numel()
        return scores

    def _windows(self, text: torch.Tensor, random: np.random.Generator, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        starts = torch.from_numpy(random.integers(len(text) - self.context, size=size)).to(text.device)
        windows = text[starts[:, None] + torch.arange(self.context + 1, device=text.device)].long()
        return windows[:, :-1], windows[:, 1:]


def make(model: str, data: str | None, text: str | None, seed: int, device: Any) -> Problem:
    """The problem of a model.

    Args:
        model: ``"mlp"``, ``"vit"`` or ``"gpt"``.
        data: As for `linops.lab.data.load`; None takes ``mnist1d``, and ``digits`` for a ViT.
        text: For a GPT, as for `linops.lab.text.load_text`.
        seed: Of generated data and of the batches.
        device: Where.

    Returns:
        The problem.

    Raises:
        ValueError: If there is no such model, or its data do not fit it.
    """
    if model == "mlp" and text is None:
        return Classification(load(data or "mnist1d", seed), seed, device)
    if model == "vit" and text is None:
        return Images(load(data or "digits", seed), seed, device)
    if model == "gpt" and data is None:
        return Text(load_text(text), seed, device, name=text or "the standard library")
    if model in ("mlp", "vit", "gpt"):
        raise ValueError(
            f"model {model!r} learns {'text' if model == 'gpt' else 'data'}, not {'data' if model == 'gpt' else 'text'}"
        )
    raise ValueError(f"model {model!r}: expected 'mlp', 'vit' or 'gpt'")


def _in_transformer(name: str) -> bool:
    return name.startswith("layers.blocks.") and name.endswith((".q", ".k", ".v", ".out", ".up", ".down"))


def _pair(x: np.ndarray, y: np.ndarray, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)


def _score(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """Mean loss and accuracy."""
    loss = right = 0.0
    for start in range(0, len(y), CHUNK):
        part = _score_sum(model(x[start : start + CHUNK]).float(), y[start : start + CHUNK])
        loss, right = loss + part[0], right + part[1]
    return loss / len(y), right / len(y)


def _score_sum(logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Summed loss and number of right guesses."""
    return cross_entropy(logits, labels, reduction="sum").item(), (logits.argmax(-1) == labels).sum().item()
