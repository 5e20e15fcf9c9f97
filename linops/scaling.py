"""Fans, initial scale and learning-rate multipliers of any expression: structure-aware μP.

Every leaf that multiplies activations is a (batch of) matrix with a fan_in and a fan_out in its own contraction. From
those follow, per leaf (Qiu et al., "Compute Better Spent", ICML 2024, after Yang et al., "A Spectral Condition for
Feature Learning", 2023):

* initial std  sqrt(1/fan_in) · min(1, sqrt(fan_out/fan_in)),  so that each factor's spectral norm is about
  sqrt(fan_out/fan_in);
* Adam's learning-rate multiplier  in_features / fan_in / k,  with k such leaves in the operator;
* SGD's  (fan_out/fan_in) / (out_features/in_features) / k.

The multipliers multiply the rate that a dense layer of the same shape would get. A scalar leaf has multiplier 1.
"""

from __future__ import annotations

from collections.abc import Collection
from math import sqrt
from typing import Any

import numpy as np

from linops import backends
from linops.checks import generator
from linops.operator import LinearOperator, initialize
from linops.specs import Spec, dtype_name
from linops.starting import matrix_axes, orthogonal, spectral_norm

#: optimisers whose step does not depend on the gradient's size; they share Adam's rule
SIGN_BASED = ("adam", "adamw", "lion")
#: how `init` draws
SCHEMES = ("mup", "orthogonal", "spectral")


def fans(operator: LinearOperator) -> dict[str, tuple[int, int]]:
    """(fan_in, fan_out) of each leaf: how many numbers each output sums over, and how many outputs each input reaches.

    Args:
        operator: Any operator, symbolic or not.

    Returns:
        A dict with the names and order of `named_leaves`; leaves that multiply no activations (scalars) are left out.

    Example:
        >>> import linops as lo
        >>> lo.fans(lo.low_rank(6, 4, rank=2))
        {'U': (2, 6), 'V': (4, 2)}
    """
    found = {prefix + name: pair for prefix, node in operator._nodes() for name, pair in node._leaf_fans().items()}
    return {name: found[name] for name, _ in operator.named_leaves() if name in found}


def lr_multipliers(operator: LinearOperator, optimizer: str = "adam") -> dict[str, float]:
    """The factor on a dense layer's learning rate for each leaf.

    Args:
        operator: Any operator, symbolic or not.
        optimizer: ``"adam"``, ``"adamw"``, ``"lion"`` or ``"sgd"``.

    Returns:
        A dict with the names and order of `named_leaves`.

    Raises:
        ValueError: If there is no rule for the optimiser.

    Example:
        >>> import linops as lo
        >>> lo.lr_multipliers(lo.low_rank(8, 4, rank=2))
        {'U': 1.0, 'V': 0.5}
    """
    if optimizer not in (*SIGN_BASED, "sgd"):
        rules = ", ".join((*SIGN_BASED, "sgd"))
        raise ValueError(f"optimizer {optimizer!r}: expected one of {rules}; for Muon's groups see lo.nn.param_groups")
    out_features, in_features = operator.shape
    leaves = fans(operator)
    count = len(leaves)

    def multiplier(fan_in: int, fan_out: int) -> float:
        if not (fan_in and fan_out and in_features and out_features):
            return 1.0  # as for scalars: nothing to learn
        if optimizer == "sgd":
            return (fan_out / fan_in) / (out_features / in_features) / count
        return in_features / fan_in / count

    return {name: multiplier(*leaves[name]) if name in leaves else 1.0 for name, _ in operator.named_leaves()}


def initial_std(fan_in: int, fan_out: int) -> float:
    """The initial standard deviation of a leaf: sqrt(1/fan_in) · min(1, sqrt(fan_out/fan_in)).

    Args:
        fan_in: How many numbers each output sums over.
        fan_out: How many outputs each input reaches.

    Returns:
        The standard deviation.

    Example:
        >>> initial_std(16, 4)
        0.125
    """
    return sqrt(1 / fan_in) * min(1.0, sqrt(fan_out / fan_in)) if fan_in and fan_out else 0.0


def initial_stds(operator: LinearOperator) -> dict[str, float | None]:
    """The initial standard deviation of each leaf; None for a scalar, which starts at one.

    Args:
        operator: Any operator, symbolic or not.

    Returns:
        A dict with the names and order of `named_leaves`.
    """
    leaves = fans(operator)
    return {name: initial_std(*leaves[name]) if name in leaves else None for name, _ in operator.named_leaves()}


def shares(operator: LinearOperator, counted: Collection[str] | None = None) -> dict[str, float]:
    """The share of each leaf in the size of the operator: scaled by c ** share each, leaves scale the operator by c.

    Of k leaves that are multiplied (a product's, a Kronecker product's, a train's) each has 1/k. The terms of a sum,
    and the blocks of a block matrix, have a whole each. A part of a product has as much as leaves are multiplied in it,
    at most: in (U V + B) C those of U, V and C are 1/3, that of B is 2/3.

    Args:
        operator: Any operator, symbolic or not.
        counted: The leaves that are scaled; None: all that multiply activations.

    Returns:
        A dict with the names and order of `named_leaves`; 0 for other leaves.

    Example:
        >>> import linops as lo
        >>> shares(lo.low_rank(6, 4, rank=2) + lo.dense(6, 4))
        {'terms_0_U': 0.5, 'terms_0_V': 0.5, 'terms_1_matrix': 1.0}
    """
    counted = fans(operator) if counted is None else counted
    nodes = dict(operator._nodes())  # by the prefix of leaves' names, each before those below it
    parts = {
        prefix: [
            (f"{prefix}{name}{'_' * isinstance(child, LinearOperator)}", child) for name, child in node._children()
        ]
        for prefix, node in nodes.items()
    }
    degrees: dict[str, int] = {}
    for prefix, node in reversed(nodes.items()):
        below = [degrees[name] if name in nodes else int(name in counted) for name, _ in parts[prefix]]
        degrees |= {name: degree for (name, _), degree in zip(parts[prefix], below)}
        degrees[prefix] = node._repeats * (max(below, default=0) if node._adds else sum(below))
    found = {"": 1.0}
    for prefix, node in nodes.items():
        total = sum(degrees[name] for name, _ in parts[prefix])
        for name, _ in parts[prefix]:
            share = (degrees[name] > 0) if node._adds else degrees[name] / total if total else 0.0
            found[name] = found[prefix] * share / node._repeats if node._repeats else 0.0
    return {name: found[name] for name, _ in operator.named_leaves()}


def require_scheme(where: str, scheme: Any) -> None:
    """Raise unless there is such a scheme of drawing.

    Args:
        where: What asks, for errors.
        scheme: One of `SCHEMES`.

    Raises:
        ValueError: If there is none.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"{where}(scheme={scheme!r}): expected {', '.join(map(repr, SCHEMES))}")


@initialize.dispatch
def _initialize(a: LinearOperator, seed: Any, backend: str, dtype: Any, device: Any, scheme: str):
    require_scheme("init", scheme)
    backends.load(backend)
    random = generator("init", seed)
    stds = initial_stds(a)
    drawn: dict[str, np.ndarray] = {}
    for name, leaf in a.named_leaves():
        if isinstance(leaf, Spec):
            wanted = dtype or leaf.dtype
            if not backends.is_inexact(wanted):
                raise TypeError(
                    f"init of {a._short()}: "
                    f"random parameters need a floating or complex dtype, got {dtype_name(wanted)}"
                )
            drawn[name] = draw(random, leaf.shape, stds[name], backends.is_complex(wanted))
        elif backends.backend_of(leaf) != backend:
            raise TypeError(
                f"init(backend={backend!r}) of {a._short()}: "
                f"it has a {backends.backend_of(leaf)} leaf of shape {tuple(leaf.shape)}"
            )
    if scheme != "mup":
        drawn |= _normed(a, {name: leaf for name, leaf in drawn.items() if stds[name]}, scheme == "orthogonal")
    return a.with_leaves(
        [
            backends.asarray(drawn[name], backend, dtype or leaf.dtype, device) if name in drawn else leaf
            for name, leaf in a.named_leaves()
        ]
    )


def _normed(a: LinearOperator, drawn: dict[str, np.ndarray], orthogonal_: bool) -> dict[str, np.ndarray]:
    """Leaves with which the operator has spectral norm sqrt(out/in), if it is zero where they are; else as drawn."""
    if orthogonal_:
        axes = matrix_axes(a, fans(a))
        drawn = {name: orthogonal(leaf, axes[name]) if name in axes else leaf for name, leaf in drawn.items()}
    if not drawn or not {*a._output_leaves()} & drawn.keys() or {*drawn} != {*fans(a)}:
        return drawn
    ones = [drawn.get(name, np.ones(leaf.shape)) for name, leaf in a.named_leaves()]  # gains
    norm = spectral_norm(a.with_leaves(ones))
    factor = sqrt(a.shape[0] / a.shape[1]) / norm if norm else 1.0
    exponents = shares(a, drawn)
    return {name: leaf * factor ** exponents[name] for name, leaf in drawn.items()}


def draw(random: np.random.Generator, shape: tuple[int, ...], std: float | None, is_complex: bool) -> np.ndarray:
    """Numbers for a leaf: normal, or ones.

    Args:
        random: Where they come from.
        shape: Of the leaf.
        std: Their standard deviation; None for ones.
        is_complex: Whether real and imaginary part are drawn.

    Returns:
        An array in double precision.
    """
    if std is None:
        return np.ones(shape)
    if is_complex:  # real and imaginary parts share the variance
        return std * (random.standard_normal(shape) + 1j * random.standard_normal(shape)) / sqrt(2)
    return std * random.standard_normal(shape)


__all__ = ["draw", "fans", "initial_std", "initial_stds", "lr_multipliers", "require_scheme", "shares"]
