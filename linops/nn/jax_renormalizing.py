"""Renormalised steps for JAX, as a transformation of optax.

The rules stand in `linops.nn.torch.layer_steps` and `linops.nn.torch.renormalizing`; the numbers are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from linops.nn.rates import Entry
from linops.nn.renormalizing import (
    FIRST,
    LATER,
    LEAST,
    STEP,
    WEIGHT,
    cadence,
    dense_multiplier,
    is_averaged,
    is_due,
    is_measured,
    normalises,
    partner,
    start,
    starts,
)
from linops.operator import LinearOperator
from linops.partners import evaluate
from linops.scaling import fans


class Layer(NamedTuple):
    """A structured layer whose steps are renormalised.

    Attributes:
        places: Of its leaves in the tree of parameters.
        axes: How many axes each leaf of one copy has; further ones, before those, are of stacked layers.
        start: Gives what is kept before the first step, of power iterations, from the leaves' dtypes.
        shares: (leaves, directions, kept, steps before) of one copy to a factor for each leaf, and what is kept next.
    """

    places: tuple[int, ...]
    axes: tuple[int, ...]
    start: Callable[[Sequence[Any]], tuple[Any, ...]]
    shares: Callable[[Sequence[Any], Sequence[Any], tuple[Any, ...], Any], tuple[tuple[Any, ...], tuple[Any, ...]]]


class RenormalizedState(NamedTuple):
    """The state of `renormalized`.

    Attributes:
        count: How many steps there were.
        kept: Of each layer the vectors of its power iterations, and the factor that is measured at times alone.
    """

    count: Any
    kept: Any


def layers_of(
    where: str,
    entries: Sequence[Entry],
    rules: Sequence[str],
    factors: Sequence[float],
    every: int | None = None,
    *,
    is_asked: bool = True,
) -> list[Layer]:
    """The layers of a model whose steps are renormalised.

    Args:
        where: The public function that asks, for errors.
        entries: The parameters.
        rules: Their optimisers: ``"muon"`` or ``"adamw"``.
        factors: On their rates.
        every: Once in how many steps a layer is measured; None leaves it to `cadence`.
        is_asked: Whether a user has written ``renormalize=True``. Else there are only layers that Muon steps, and of
            these only such as can be measured.

    Returns:
        Those with leaves that other leaves multiply.

    Raises:
        ValueError: If it is asked for, and a leaf of a layer that Muon steps is not among the parameters: its numbers
            are not seen.
    """
    by_muon = {id(entry.layer) for entry, rule in zip(entries, rules) if rule == "muon"}
    named = {entry.name: place for place, entry in enumerate(entries)}
    at: dict[str, list[int]] = {}
    for place, entry in enumerate(entries):
        if entry.operator is not None and not normalises(entry):
            at.setdefault(entry.path, []).append(place)
    found = []
    for unordered in at.values():
        entry = entries[unordered[0]]
        operator: Any = entry.operator
        order = [name for name, _ in operator.named_leaves()]
        places = sorted(unordered, key=lambda place: order.index(entries[place].key))
        if id(entry.layer) not in by_muon:
            if not is_asked:
                continue
            found.append(_multiplied([entries[place] for place in places], places, named))
        elif is_measured(entry, by_muon):
            missing = {*order} - {entries[place].key for place in places}
            if missing and not is_asked:
                continue
            if missing:
                raise ValueError(
                    f"{where}(renormalize=True): layer {entry.path!r} is not trained as to "
                    f"{', '.join(map(repr, sorted(missing)))}, so that updates do not see all of it; train all leaves "
                    "of the layer, or leave renormalize out"
                )
            stepped = next(place for place in places if rules[place] == "muon")
            goal = dense_multiplier(fans(operator), operator.shape, entries[stepped].key, factors[stepped])
            found.append(_measured(operator, places, [factors[place] for place in places], goal, every))
    return [layer for layer in found if layer is not None]


def renormalized(layers: Iterable[Layer]) -> optax.GradientTransformation:
    """A transformation that multiplies directions so that layers move as far as dense ones, while factors grow.

    It comes after the directions of Muon or Adam, and before decay and rates.

    Args:
        layers: Of `layers_of`.

    Returns:
        The transformation; it needs the parameters. Its state has vectors of the sizes of the layers' inputs.
    """
    layers = list(layers)

    def init(params: Any) -> RenormalizedState:
        leaves = jax.tree.leaves(params)
        kept = []
        for layer in layers:
            own = [leaves[place] for place in layer.places]
            lead = own[0].shape[: own[0].ndim - layer.axes[0]]
            kept.append(tuple(jnp.broadcast_to(one, (*lead, *one.shape)) for one in layer.start(own)))
        return RenormalizedState(jnp.zeros((), "int32"), tuple(kept))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, RenormalizedState]:
        if params is None:
            raise ValueError(
                "update needs the parameters, for steps are renormalised, as Muon's are by default: call "
                "update(updates, state, params), or make the optimiser with renormalize=False"
            )
        if not isinstance(state, RenormalizedState):
            raise ValueError(
                "the optimiser's state is of a run whose steps were not renormalised: make the optimiser with "
                "renormalize=False, or a new state with init"
            )
        leaves, (directions, tree) = jax.tree.leaves(params), jax.tree.flatten(updates)
        kept = []
        for layer, before in zip(layers, state.kept):
            own = [leaves[place] for place in layer.places]
            shares = layer.shares
            for _ in range(own[0].ndim - layer.axes[0]):
                shares = jax.vmap(shares, in_axes=(0, 0, 0, None))
            moves = [directions[place] for place in layer.places]
            with jax.default_matmul_precision("highest"):  # differences of products
                found, after = shares([*map(_whole, own)], [*map(_whole, moves)], before, state.count)
            kept.append(after)
            for place, move, axes, share in zip(layer.places, moves, layer.axes, found):
                directions[place] = move * share.reshape(*share.shape, *[1] * axes).astype(move.dtype)
        return tree.unflatten(directions), RenormalizedState(optax.safe_increment(state.count), tuple(kept))

    return optax.GradientTransformation(init, update)


def _measured(operator: LinearOperator, places: list[int], rates: list[float], goal: float, asked: int | None) -> Layer:
    """A layer that Muon steps: all its leaves by min(k, d / ‖Δ‖₂), with Δ what they move it by together."""
    structure, most = operator.structure, len(fans(operator))
    every = cadence(asked, most)
    sizes = [len(leaf.shape) for _, leaf in operator.named_leaves()]

    def kept(leaves: Sequence[Any]) -> tuple[Any, ...]:
        vectors = jnp.asarray(starts(operator.shape[1]), jnp.result_type(*[_wide(leaf.dtype) for leaf in leaves]))
        return vectors, jnp.ones((), vectors.real.dtype)

    def shares(leaves: Any, directions: Any, held: Any, count: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        def measured(held: Any) -> Any:
            then = structure.fill([leaf + STEP * rate * move for leaf, rate, move in zip(leaves, rates, directions)])
            norm, vectors = _difference_norm(structure.fill(leaves), then, held[0], _iterations(count))
            found = jnp.minimum(float(most), goal / norm)
            return vectors, jnp.where(is_averaged(count, every), held[1] ** (1 - WEIGHT) * found**WEIGHT, found)

        after = jax.lax.cond(is_due(count, every), measured, lambda held: held, held)
        return (after[1],) * len(places), after

    return Layer(tuple(places), tuple(sizes), kept, shares)


def _iterations(count: Any) -> Any:
    return jnp.where(count == 0, FIRST, LATER)


def _difference_norm(now: Any, then: Any, vectors: Any, iterations: Any) -> tuple[Any, Any]:
    """The spectral norm of the difference of two operators over `STEP`, by power iteration, from below."""
    adjoints, tiny = (now.H, then.H), jnp.finfo(vectors.dtype).tiny

    def iterate(_: Any, carried: Any) -> Any:
        there = (then @ carried[0] - now @ carried[0]) / STEP
        back = (adjoints[1] @ there - adjoints[0] @ there) / STEP
        lengths = jnp.maximum(jnp.linalg.norm(there, axis=0), tiny)
        return jnp.linalg.qr(back)[0], (jnp.linalg.norm(back, axis=0) / lengths).max()

    vectors, norm = jax.lax.fori_loop(0, iterations, iterate, (vectors, jnp.zeros((), vectors.real.dtype)))
    return norm, vectors


def _multiplied(entries: Sequence[Entry], places: list[int], named: dict[str, int]) -> Layer | None:
    """A layer that AdamW steps: each leaf by the norms, as drawn over as they are, of what multiplies it."""
    partners = {entry.name: partner(entry, entry.name, named) for entry in entries}
    if all(not norm for norm, *_ in partners.values()):
        return None
    sizes = {name: pair for name, (_, _, pair, _) in partners.items()}
    is_matrix = [sizes[entry.name] == entry.size[:-3:-1] for entry in entries]

    def vectors(leaves: Sequence[Any]) -> tuple[Any, ...]:
        found = []
        for entry, leaf, iterated in zip(entries, leaves, is_matrix):
            row = jnp.asarray(start(entry.size[-1])[None, :] if iterated else [], _wide(leaf.dtype))
            found.append(jnp.broadcast_to(row, (*entry.size[:-2], *row.shape)) if iterated else row)
        return tuple(found)

    def shares(leaves: Any, _: Any, held: Any, count: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        norms, after = {}, []
        for entry, leaf, vector, iterated in zip(entries, leaves, held, is_matrix):
            if iterated:
                norms[entry.name], vector = _spectral_norm(leaf, vector, _iterations(count))
            else:
                pair = sizes[entry.name]
                scale = pair[0] ** 0.5 + pair[1] ** 0.5 if pair else 1.0
                norms[entry.name] = scale * jnp.sqrt(jnp.mean(jnp.square(jnp.abs(leaf))))
            after.append(vector)
        found = []
        for norm, initial, *_ in partners.values():
            present = jnp.asarray(evaluate(norm, norms.__getitem__))
            found.append(jnp.where(present > 0, jnp.minimum(1.0, initial / present), 1.0))
        return tuple(found), tuple(after)

    return Layer(tuple(places), tuple([len(entry.size) for entry in entries]), vectors, shares)


def _spectral_norm(matrices: Any, vector: Any, iterations: Any) -> tuple[Any, Any]:
    """The greatest spectral norm of a batch of matrices (…, p, q) by power iteration, from rows (…, 1, q)."""
    least = max(LEAST, float(jnp.finfo(matrices.dtype).tiny))

    def iterate(_: Any, carried: Any) -> Any:
        vector, _ = carried
        back = (vector @ matrices.swapaxes(-1, -2)) @ matrices.conj() + least * vector
        length = jnp.linalg.norm(back, axis=-1, keepdims=True)
        return back / length, length

    begun = vector, jnp.ones((*vector.shape[:-1], 1), vector.real.dtype)
    vector, length = jax.lax.fori_loop(0, iterations, iterate, begun)
    return jnp.sqrt(length.max()), vector


_wide = partial(jnp.promote_types, jnp.float32)


def _whole(leaf: Any) -> Any:
    """All of a leaf, in float32 at least; with explicit axes of a mesh each device gets all."""
    leaf, sharding = leaf.astype(_wide(leaf.dtype)), jax.typeof(leaf).sharding
    if any(part is not None for part in sharding.spec):
        return jax.sharding.reshard(leaf, NamedSharding(sharding.mesh, PartitionSpec()))
    return leaf


__all__ = ["Layer", "RenormalizedState", "layers_of", "renormalized"]
