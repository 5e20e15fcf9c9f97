"""Renormalised steps as plain data: which rule a leaf has, what multiplies it, where norms start. Needs no framework.

The rules stand in `linops.nn.torch.layer_steps`, for layers that Muon steps, and `linops.nn.torch.renormalizing`, for
AdamW. `linops.nn.jax_renormalizing` has both for JAX, with the same numbers.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from math import sqrt
from typing import Any

import numpy as np

from linops.nn.rates import Entry
from linops.partners import Norm, evaluate, initial_norms, partners, renamed
from linops.scaling import fans

#: where difference quotients of a layer are taken
STEP = 1 / 256
#: vectors of the power iterations of a layer
VECTORS = 4
#: iterations with new vectors, and with those that were kept
FIRST, LATER = 8, 1
#: after so many steps, in which factors that start at zero grow, a layer of few leaves is measured at every sixth alone
SETTLED, EVERY, FEW = 24, 6, 4
#: the weight of a new ρ in the geometric mean with those before, where it holds for more than one step
WEIGHT = 0.4
#: what is added to squares of norms of leaves
LEAST = 1e-12

#: what multiplies a parameter, that as `init` draws it, its (fan_in, fan_out), if any, and the number of its first axes
#: of copies, each with norms of its own: an expert's leaves multiply no other expert's
Partner = tuple[Norm, float, "tuple[int, int] | None", int]
#: of what nothing multiplies
ALONE: Partner = ((), 1.0, None, 0)


def start(size: int) -> np.ndarray:
    """A vector of length one from which power iterations start, the same on every rank and in every framework.

    Args:
        size: How many numbers.

    Returns:
        The vector, in double precision.

    Example:
        >>> round(float(np.linalg.norm(start(5))), 12)
        1.0
    """
    drawn = np.random.default_rng(0).standard_normal(size)
    return drawn / np.linalg.norm(drawn)


def starts(size: int) -> np.ndarray:
    """Orthonormal vectors from which the power iteration of a layer starts.

    Args:
        size: Of the layer's inputs, n.

    Returns:
        (n, 4), or as many as there are inputs.
    """
    return np.linalg.qr(np.random.default_rng(0).standard_normal((size, min(size, VECTORS))))[0]


def is_measured(entry: Entry, by_muon: Container[int]) -> bool:
    """Whether a parameter is of a layer that Muon steps, and something multiplies it, so that its step is measured.

    Args:
        entry: The parameter.
        by_muon: The ids of layers of which Muon steps a leaf.

    Returns:
        True or False; False where a layer is a single leaf that nothing multiplies, not even itself as in a power; in
        one with weight normalisation, which caps norms itself; in one that is no linear map; and in one with an empty
        leaf: their leaves keep their rates under Muon.
    """
    operator = entry.operator
    if operator is None or not is_linear(entry) or normalises(entry):
        return False
    if id(entry.layer) not in by_muon:
        return False
    sizes = fans(operator)
    return (len(sizes) > 1 or any(partners(operator).values())) and all(map(all, sizes.values()))


def is_linear(entry: Entry) -> bool:
    """Whether the layer of a parameter is its operator: chains and mixtures (`linops.nn.nonlinear`) are not."""
    return getattr(entry.layer, "nonlinear", None) is None


def require_every(where: str, every: int | None) -> None:
    """Raise if layers cannot be measured once in so many steps.

    Args:
        where: The public name of what asks, for errors.
        every: So many; None leaves it to `cadence`.

    Raises:
        ValueError: If it is no integer, or less than 1.
    """
    if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
        raise ValueError(f"{where}(every={every!r}): expected a number of steps, at least 1; 1 measures at every step")


def require_renormalized(where: str, every: int | None, renormalizes: bool, how: str) -> None:
    """Raise if it is said how often steps are measured, and none are.

    Args:
        where: The public name of what asks, for errors.
        every: Once in so many steps, or None.
        renormalizes: Whether any are measured.
        how: What a user writes for that, for errors.

    Raises:
        ValueError: If none are, or `renormalizes` is neither True nor False.
    """
    if not isinstance(renormalizes, bool):
        raise ValueError(f"{where}(renormalize={renormalizes!r}): expected True, False or None")
    if every is not None and not renormalizes:
        raise ValueError(
            f"{where}(every={every}): no steps are measured, as none are renormalised; {how}, or leave every out"
        )


def cadence(every: int | None, leaves: int) -> int:
    """Once in how many steps a layer is measured.

    Args:
        every: What was asked for, or None.
        leaves: How many leaves of the layer multiply activations.

    Returns:
        A number of steps: of what nobody asked for, 6 for layers of at most four leaves, and 1 for those of more.

    Example:
        >>> cadence(None, 2), cadence(None, 7), cadence(6, 7)
        (6, 1, 6)
    """
    return every or (EVERY if leaves <= FEW else 1)


def is_due(count: Any, every: int) -> Any:
    """Whether layers are measured at a step: always at first, and then once in so many.

    Args:
        count: How many steps there were, a number or a traced one.
        every: So many.

    Returns:
        True or False, or a traced one.

    Example:
        >>> [[step for step in range(22, 37) if is_due(step, every)] for every in (6, 4)]
        [[22, 23, 24, 30, 36], [22, 23, 24, 28, 32, 36]]
    """
    return (count < SETTLED) | (count % every == 0)


def is_averaged(count: Any, every: int) -> Any:
    """Whether ρ of a step that measures is averaged with those before: where it is to hold for further steps.

    Args:
        count: How many steps there were, a number or a traced one.
        every: Once in how many steps layers are measured.

    Returns:
        True or False, or a traced one.
    """
    return (count >= SETTLED) & (every > 1)


def normalises(entry: Entry) -> bool:
    """Whether the layer of a parameter has weight normalisation."""
    return bool(getattr(entry.layer, "weight_norm", False))


def dense_multiplier(sizes: Mapping[str, tuple[int, int]], shape: tuple[int, int], key: str, rate: float) -> float:
    """What a dense layer of an operator's shape has in the place of the multiplier of a leaf, under Muon.

    Args:
        sizes: The fans of the operator's leaves.
        shape: (out, in) of the operator.
        key: The name of a leaf that Muon steps.
        rate: Its multiplier.

    Returns:
        d of `linops.nn.rates`.

    Example:
        >>> import linops as lo
        >>> round(dense_multiplier(lo.fans(lo.low_rank(64, 16, rank=4)), (64, 16), "V", 0.125), 12)
        1.0
    """
    fan_in, fan_out = sizes[key]
    return rate * len(sizes) * sqrt(shape[0] / shape[1] * fan_in / fan_out)


def partner(entry: Entry, name: str, trained: Container[str], same: Mapping[str, str] | None = None) -> Partner:
    """What multiplies a parameter, in plain data that a state dict holds.

    Args:
        entry: The parameter.
        name: Its name in the model.
        trained: The names of parameters that the optimiser has; the norms of others are what `init` draws.
        same: Of names of parameters that several layers share those under which the optimiser has them.

    Returns:
        The norm over names of parameters; nothing for one that stands alone, or in a layer with weight normalisation.
    """
    operator = entry.operator
    if operator is None or not name.endswith(entry.key) or normalises(entry):
        return ALONE
    norm, initial, place = partners(operator)[entry.key], initial_norms(operator), name.removesuffix(entry.key)
    same = same or {}
    found = renamed(
        norm, lambda leaf: same.get(place + leaf, place + leaf) if place + leaf in trained else initial[leaf]
    )
    described = getattr(entry.layer, "nonlinear", None)
    copies = int(described is not None and described.copies > 0)
    return found, evaluate(norm, initial.__getitem__), fans(operator).get(entry.key), copies
