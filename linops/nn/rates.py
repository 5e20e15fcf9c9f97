"""The learning rate of every parameter of a model. Needs no framework: each finds its parameters; the rules are here.

The rate of a parameter is lr · d · s: d scales its layer, as if dense, from the base shape (base_out, base_in) to (out,
in), and s is the share of a leaf with (fan_in, fan_out) in a structure of k leaves.

* adam, adamw: d = base_in / in and s = in / fan_in / k. Vectors, scalars and embeddings (their vocabulary is no
  width): 1. Yang et al., "Tensor Programs V" (2022), table 3; Qiu et al., "Compute Better Spent" (ICML 2024).
* lion: as adam, for its step is a sign, whatever the gradient's size. Chen et al., "Symbolic Discovery of Optimization
  Algorithms" (2023).
* sgd: d = (out / in) / (base_out / base_in) and s = (fan_out / fan_in) / (out / in) / k. Vectors and embeddings of
  width out: out / base_out. Yang, Simon and Bernstein, "A Spectral Condition for Feature Learning" (2023); "Tensor
  Programs V", table 3.
* muon: d = sqrt((out / in) / (base_out / base_in)) and s = sqrt((fan_out / fan_in) / (out / in)) / k, for an
  orthogonalised step has spectral norm 1 and should have sqrt(fan_out / fan_in). Jordan et al., "Muon" (2024);
  Bernstein, "Deriving Muon" (2025). Batched matrices are orthogonalised block by block, as the norm of a block-diagonal
  matrix is that of its largest block. Leaves of more axes, such as a tensor train's cores, are the matrices that they
  multiply as. All else (vectors, embeddings, convolutions, diagonals, circulants) falls back to AdamW and its rule,
  and so do the values of a sparse matrix: what is orthogonal is dense, and cut to their positions it is not orthogonal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from math import sqrt
from typing import Any

from linops.nn.hyperparameters import is_positive, require_base
from linops.nn.matrices import EMBEDDING, axes, is_matrix
from linops.nn.patterns import matches
from linops.operator import LinearOperator
from linops.scaling import SIGN_BASED, fans, lr_multipliers, shares
from linops.starting import MatrixAxes, matrix_axes

OPTIMIZERS = (*SIGN_BASED, "sgd")
DECAYS = ("coupled", "independent", "product")


@dataclass(frozen=True)
class Entry:
    """A parameter, and what its rate follows from.

    Attributes:
        path: The dotted path of its layer.
        key: Its name in the layer.
        layer: The layer.
        size: Its shape; that of a leaf of a structure is the shape of one copy.
        layout: The names of its axes, as in `linops.nn.matrices`; None if they are unknown, or those of a structure's
            leaf.
        operator: That of its layer, if it is a leaf of one.
        share: Of its layer in the outputs of the layer above, which may be one layer in the base model.
        is_beside: Whether it is a matrix beside an operator's leaves, whose outputs are no features of the model: the
            scores of a mixture. No width multiplies them.
    """

    path: str
    key: str
    layer: Any
    size: tuple[int, ...]
    layout: str | None = None
    operator: LinearOperator | None = None
    share: float = 1.0
    is_beside: bool = False

    @property
    def name(self) -> str:
        """The dotted name of the parameter, by which callers say what it is."""
        return f"{self.path}.{self.key}" if self.path else self.key

    @property
    def is_known(self) -> bool:
        """Whether it is known what the parameter is."""
        return self.layout is not None or self.operator is not None

    @property
    def shape(self) -> tuple[int, int] | None:
        """(out, in) of its layer, if a matrix of it multiplies activations; of one copy, if there are several."""
        if self.operator is not None:
            return self.operator.shape
        found = axes(self.layout, self.size) if self.layout else {}
        return (found["out"], found["in"]) if {"in", "out"} <= set(found) else None

    @property
    def width(self) -> int:
        """The width of a vector or embedding; 1 for a scalar."""
        return axes(self.layout, self.size).get("out", 1) if self.layout and self.size else 1

    @property
    def is_matrix(self) -> bool:
        """Whether it is a (batch of) matrix from fan_in to fan_out, which Muon can orthogonalise."""
        if self.operator is None:
            return self.layout is not None and is_matrix(self.layout)
        return self.matrix_axes is not None

    @property
    def matrix_axes(self) -> MatrixAxes | None:
        """Of a leaf that is a batch of matrices from fan_in to fan_out: its axes of copies, of rows and of columns."""
        if self.operator is None:
            return None
        copies, rows, columns = matrix_axes(self.operator, fans(self.operator)).get(self.key, ((), (), ()))
        return (copies, rows, columns) if rows and columns else None

    @property
    def decays(self) -> bool:
        """Whether weight decay is for it: a matrix's entries and embeddings; no vectors, scalars, or what is unknown.

        A leaf of one axis holds a matrix's entries if outputs sum over several of its numbers (sparse values, bands,
        circulants), and is a vector if it multiplies elementwise (a diagonal).
        """
        if self.operator is not None:
            return len(self.size) > 1 or max(fans(self.operator).get(self.key, (1, 1))) > 1
        return self.shape is not None or self.layout == EMBEDDING


def multipliers(entries: Iterable[Entry], optimizer: str | Iterable[str], base: Any) -> list[float]:
    """The factor d · s on the learning rate of each parameter.

    Args:
        entries: The parameters.
        optimizer: ``"adamw"``, ``"adam"``, ``"lion"`` or ``"sgd"``; or one for each, among them ``"muon"`` for
            matrices.
        base: The parameters of the base model; a number, the base_in and base_out of every layer; a dict of patterns
            over layer names to such numbers, other layers being of base shape; or None: every layer is.

    Returns:
        A factor for each, of 12 digits: another order of operations makes no other group.

    Raises:
        ValueError: If there is no such optimiser, the base model lacks a layer, or a base width is not positive.
    """
    if isinstance(optimizer, str) and optimizer not in OPTIMIZERS:
        raise ValueError(f"lr_multipliers(optimizer={optimizer!r}): expected one of {', '.join(OPTIMIZERS)}")
    base = require_base("lr_multipliers", base)
    rules = repeat(optimizer) if isinstance(optimizer, str) else optimizer
    if isinstance(base, Iterable) and not isinstance(base, Mapping):
        base = _Layers(base)
    return [float(f"{_multiplier(entry, rule, _base_shape(entry, base)):.12g}") for entry, rule in zip(entries, rules)]


def epsilons(entries: Iterable[Entry], base: Any, depth: Mapping[Any, float]) -> list[float]:
    """The factor on Adam's ε of each parameter, as the size of its gradient falls with width and depth: CompleteP.

    It is 1 / (m_N m_L): m_N is how much wider the layer is than its base, m_L how much deeper the model. Dey et al.,
    "Don't be lazy: CompleteP enables compute-efficient deep transformers" (2025), table 1, α = 1.

    Args:
        entries: The parameters.
        base: As for `multipliers`.
        depth: Patterns over the layers of residual branches to m_L; other layers have 1.

    Returns:
        A factor for each, of 12 digits.
    """
    if isinstance(base, Iterable) and not isinstance(base, Mapping):
        base = _Layers(base)
    found = []
    for entry in entries:
        wide, at = 1.0, _base_shape(entry, base)
        if at is not None:
            size = entry.shape or (entry.width, 1)
            wide = max(size[0] / at[0], size[1] / at[1] if entry.shape else 0.0)
        deep = next((one for pattern, one in depth.items() if matches(pattern, entry.path, entry.layer)), 1.0)
        found.append(float(f"{1 / (wide * deep):.12g}"))
    return found


def require_depth(where: str, depth: Any) -> None:
    """Raise unless a depth is as `epsilons` takes it, or None.

    Args:
        where: The public function that was given it.
        depth: Patterns over layers to positive numbers.

    Raises:
        ValueError: If it is not.
    """
    if depth is not None and (not isinstance(depth, Mapping) or not all(map(is_positive, depth.values()))):
        raise ValueError(f"{where}(depth={depth!r}): expected patterns to positive numbers, as {{'blocks.*': 6.0}}")


def decay_shares(entries: Iterable[Entry]) -> list[float]:
    """The share of weight decay of each parameter, with which the matrix of each layer decays by the whole.

    Args:
        entries: The parameters that are trained.

    Returns:
        Of each 1 if it is a layer's matrix or an embedding; 1/k if it is one of k factors that decay, as
        `linops.scaling.shares` has it; 0 if it does not decay.
    """
    entries = list(entries)
    decayed: dict[int, set[str]] = {}
    for entry in entries:
        if entry.operator is not None and entry.decays:
            decayed.setdefault(id(entry.layer), set()).add(entry.key)
    known: dict[int, dict[str, float]] = {}
    found = []
    for entry in entries:
        if entry.operator is None or not entry.decays:
            found.append(float(entry.decays))
            continue
        if id(entry.layer) not in known:
            known[id(entry.layer)] = shares(entry.operator, decayed[id(entry.layer)])
        found.append(known[id(entry.layer)][entry.key])
    return found


def weight_decays(
    entries: Sequence[Entry],
    rules: Sequence[str],
    factors: Sequence[float],
    weight_decay: float,
    decay: str,
    main: str,
    ratio: float = 1.0,
) -> list[float]:
    """The weight decay of each parameter, which its optimiser multiplies by the rate.

    Args:
        entries: The parameters that are trained.
        rules: Their optimisers.
        factors: On their rates; see `multipliers`.
        weight_decay: λ.
        decay: One of `DECAYS`.
        main: The optimiser whose rate is lr.
        ratio: lr over the rate of other optimisers.

    Returns:
        A number for each.

    Raises:
        ValueError: If there is no such kind of decay.
    """
    if decay not in DECAYS:
        raise ValueError(f"decay={decay!r}: expected one of {', '.join(DECAYS)}")
    if decay != "product":
        return [
            weight_decay / (1 if decay == "coupled" else factor) if entry.decays else 0.0
            for entry, factor in zip(entries, factors)
        ]
    whole = {id(entry.layer) for entry, rule in zip(entries, rules) if rule == main}  # layers that decay by lr
    return [
        weight_decay * share / factor * (ratio if rule != main and entry.operator and id(entry.layer) in whole else 1)
        for entry, rule, factor, share in zip(entries, rules, factors, decay_shares(entries))
    ]


def _multiplier(entry: Entry, optimizer: str, base: tuple[float, float] | None) -> float:
    if not entry.is_known:
        return 1.0
    if entry.shape is None:
        return entry.width / base[0] if optimizer == "sgd" and base else 1.0
    if optimizer == "muon":  # the root of sgd's, but for 1 / k
        return sqrt(_multiplier(entry, "sgd", base) / (len(fans(entry.operator)) if entry.operator else 1))
    (out, into), (base_out, base_in) = entry.shape, base or entry.shape
    dense = (out / into) / (base_out / base_in) if optimizer == "sgd" else base_in / into
    return dense * (lr_multipliers(entry.operator, optimizer)[entry.key] if entry.operator else 1)


def _base_shape(entry: Entry, base: Any) -> tuple[float, float] | None:
    """The base shape (out, in) of a parameter; that of a vector is (width, 1); None is its own."""
    # a scalar, such as a gain that the base model need not have
    if not entry.is_known or (entry.shape is None and entry.width == 1):
        return None
    if isinstance(base, _Layers):
        return base.counterpart(entry)
    if isinstance(base, Mapping):
        base = next((width for pattern, width in base.items() if matches(pattern, entry.path, entry.layer)), None)
    return None if base is None else (base, base)


class _Layers:
    """The parameters of a base model, by layer."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.at: dict[str, list[Entry]] = {}
        for entry in entries:
            self.at.setdefault(entry.path, []).append(entry)

    def counterpart(self, entry: Entry) -> tuple[float, float]:
        """A parameter's shape here; a leaf's is its layer's, which may be dense, or its share of the layer above."""
        places = [(entry.path, 1.0), (entry.path.rpartition(".")[0], entry.share)]
        for path, share in places if entry.operator else places[:1]:
            for other in self.at.get(path, ()):
                if entry.shape is None and other.key == entry.key:
                    return other.width, 1
                same = other.key == entry.key or (
                    entry.operator and (other.operator or other.key in ("weight", "kernel"))
                )
                if same and entry.shape and other.shape:
                    return other.shape[0] * share, other.shape[1]
            for other in self.at.get(path, ()) if entry.is_beside else ():
                if entry.shape and other.shape:
                    return entry.shape[0], other.shape[1]
        raise ValueError(f"the base model has no counterpart of {entry.key!r} of layer {entry.path!r}")
