"""Muon for an Equinox model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import optax

from linops.nn.equinox.rates import entries_of
from linops.nn.jax_optimizers import optimizer_of


def muon(
    model: Any,
    lr: float | Callable[[Any], Any],
    weight_decay: float = 0.0,
    base: Any = None,
    decay: str = "coupled",
    *,
    adamw_lr: float | None = None,
    adamw: Any = None,
    matrices: Mapping[Any, str | None] | None = None,
    momentum: float = 0.95,
    nesterov: bool = True,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float | None = None,
    depth: Mapping[Any, float] | None = None,
    renormalize: bool | None = None,
    every: int | None = None,
) -> optax.GradientTransformation:
    """Muon (Jordan et al., 2024) for a model's matrices, AdamW for the rest, with structure-aware rates.

    It steps as `linops.nn.torch.Muon` does with the groups of ``lo.nn.param_groups(…, optimizer="muon")``. Complex
    matrices are orthogonalised as complex ones; to AdamW a complex number is a pair of real ones.

    Args:
        model: The model, or the part of it that is trained, as from `equinox.filter`.
        lr: The rate of a dense layer of the base shape, or a schedule of optax.
        weight_decay: The decay of matrices and embeddings.
        base: The model's base shapes, as in `lr_multipliers`.
        decay: ``"coupled"``, ``"independent"`` or ``"product"``, as in `lo.nn.param_groups`.
        adamw_lr: The rate in the place of `lr` of what falls back to AdamW: vectors, embeddings, convolutions, leaves
            that are no matrices from fan_in to fan_out, and layers of `adamw`; AdamW's multipliers multiply it. It
            stands beside a number `lr`, not beside a schedule. None takes `lr`, as in `lo.nn.param_groups`.
        adamw: Which layers to leave to AdamW too, such as the head: a pattern, predicate or list of those.
        matrices: What arrays are that linops does not know, as in `lr_multipliers`.
        momentum: Of Muon.
        nesterov: Whether Muon's momentum is Nesterov's.
        betas: Of AdamW.
        eps: AdamW's ε at the base width and depth, scaled as in `lo.nn.param_groups`; None takes 1e-8, which is scaled
            with `depth` alone.
        depth: How much deeper the model is than the one that was tuned, as in `lo.nn.param_groups`: ε falls with it.
        renormalize: Whether steps keep their size while factors grow, as in `lo.nn.param_groups`; updates then need the
            parameters. None: those of the layers that Muon steps and that are trained as a whole; layers of which some
            leaves are not trained keep static rates, for updates do not see these. True: such a layer is an error, and
            layers that are left to AdamW are renormalised as `adamw` does it. False: rates are static.
        every: Once in how many steps, after the first 24, the steps of layers are measured, unless `renormalize` is
            false. 1 keeps the size of each single step, which takes more time; else that of their mean is kept. None
            takes 6 for layers of at most four leaves, and 1 for those of more.

    Returns:
        The optimiser, for the parameters ``equinox.filter(model, equinox.is_inexact_array)``.

    Raises:
        ValueError: If there is no such kind of decay, the base model lacks a layer, or `adamw_lr` stands beside a
            schedule, `every` is less than 1 or stands beside ``renormalize=False``, or with ``renormalize=True`` a
            layer is trained in part.

    Warns:
        UserWarning: As `lo.nn.param_groups`: of unknown arrays, of patterns that match none, and of `depth` beside
            coupled decay.

    Example:
        >>> import jax, linops as lo
        >>> layer = lo.nn.equinox.Linear(lo.btt(16, 16), key=jax.random.key(0))
        >>> tx = lo.nn.equinox.muon(layer, lr=0.02)
        >>> updates, _ = tx.update(layer, tx.init(layer), layer)  # as if the parameters were their gradients
        >>> updates.bias.shape
        (16,)
    """
    found, base = entries_of(model, base, matrices)
    return optimizer_of(
        "muon",
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
        adamw_lr=adamw_lr,
        adamw=adamw,
        momentum=momentum,
        nesterov=nesterov,
        every=every,
    )
