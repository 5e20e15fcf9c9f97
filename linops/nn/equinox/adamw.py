"""AdamW for an Equinox model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import optax

from linops.nn.equinox.rates import entries_of
from linops.nn.jax_optimizers import optimizer_of


def adamw(
    model: Any,
    lr: float | Callable[[Any], Any],
    weight_decay: float = 0.0,
    base: Any = None,
    decay: str = "coupled",
    *,
    matrices: Mapping[Any, str | None] | None = None,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float | None = None,
    depth: Mapping[Any, float] | None = None,
    renormalize: bool = False,
) -> optax.GradientTransformation:
    """AdamW with structure-aware rates, decay and ε: what ``lo.nn.param_groups(…, optimizer="adamw")`` is in PyTorch.

    A complex number is a pair of real ones, as in `torch.optim.AdamW`.

    Args:
        model: The model, or the part of it that is trained, as from `equinox.filter`.
        lr: The rate of a dense layer of the base shape, or a schedule of optax.
        weight_decay: The decay of matrices and embeddings.
        base: The model's base shapes, as in `lr_multipliers`.
        decay: ``"coupled"``, ``"independent"`` or ``"product"``, as in `lo.nn.param_groups`.
        matrices: What arrays are that linops does not know, as in `lr_multipliers`.
        betas: Of AdamW.
        eps: ε at the base width and depth, scaled as in `lo.nn.param_groups`; None takes 1e-8, which is scaled with
            `depth` alone.
        depth: How much deeper the model is than the one that was tuned, by patterns over the layers of residual
            branches, as in `lo.nn.param_groups`: ε falls with it (CompleteP); decay is to be ``"independent"`` or
            ``"product"``, as ``"coupled"`` breaks its rule, with a warning.
        renormalize: Whether steps are divided by the growth of the leaves that multiply a leaf, as in
            `lo.nn.param_groups`; updates then need the parameters.

    Returns:
        The optimiser, for the parameters ``equinox.filter(model, equinox.is_inexact_array)``.

    Raises:
        ValueError: If there is no such kind of decay, the base model lacks a layer, or a depth is not positive.

    Warns:
        UserWarning: As `lo.nn.param_groups`: of unknown arrays, of patterns that match none, and of `depth` beside
            coupled decay.

    Example:
        >>> import jax, linops as lo
        >>> layer = lo.nn.equinox.Linear(lo.btt(16, 16), key=jax.random.key(0))
        >>> tx = lo.nn.equinox.adamw(layer, 1e-3, 0.1, decay="product")
        >>> updates, _ = tx.update(layer, tx.init(layer), layer)  # as if the parameters were their gradients
        >>> updates.bias.shape
        (16,)
    """
    found, base = entries_of(model, base, matrices)
    return optimizer_of(
        "adamw",
        found,
        base,
        lr,
        weight_decay,
        decay,
        betas=betas,
        eps=eps,
        depth=depth,
        matrices=matrices,
        renormalize=renormalize,
    )
