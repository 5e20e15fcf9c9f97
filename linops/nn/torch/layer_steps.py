"""Steps of layers, measured: the leaves of a structured layer move it together as far as a dense layer moves.

An orthogonalised step of a dense layer has spectral norm lr · d, where d = sqrt((out/in) / (base_out/base_in)) is the
layer's multiplier. The leaves of a structured layer share that: leaf i moves by −lr · r_i · D_i, with its direction
D_i and multiplier r_i = d · sqrt((fan_out/fan_in) / (out/in)) / k. How far this moves the layer depends on all other
leaves: to first order by lr · Δ, with Δ the derivative of the operator along the r_i · D_i. So all these steps are
multiplied by

    ρ = min(k, d / ‖Δ‖₂).

With ρ the layer moves by lr · d while its factors grow. It is Muon's default. The bound k, the number of leaves that
multiply activations, is what one leaf moves by if it is alone: so beside factors that start at zero, steps stay
bounded. ρ does not depend on lr. It has the aim of Spectron (Janson, Oyallon and Belilovsky, 2026, arXiv:2602.12429:
steps of two factors, bounded by their spectral norms), but measures the step itself: so it holds for any expression,
sums and repeated leaves included.

Δ x is a difference quotient of two products, Δ x = (A(W + h r D) x − A(W) x) / h, and Δᴴ likewise, so operators need
nothing but their products. ‖Δ‖₂ is found from below, by one power iteration with four orthonormal vectors V that are
kept: the greatest ‖Δᴴ Δ v_j‖ / ‖Δ v_j‖, and then the QR decomposition of Δᴴ Δ V. Curvature makes an error of the order
of h. Where the operator is a network of tensors, Δ x is computed without a difference or in one pass
(`linops.nn.torch.differences`); else two products are subtracted, whose rounding in float32 makes an error of about
2e-5 ‖A‖ / d.

ρ is measured at each of the first 24 steps. Then it is at every sixth in layers of at most four leaves, and at every
one in those of more, such as butterflies (`every` of `linops.nn.torch.Muon` sets one number for all). A ρ that holds
for more than one step is a mean, ρ ← ρ^0.6 · ρ_measured^0.4, since ‖Δ‖₂ scatters from batch to batch (by about 7 %),
and a single measurement would give the scatter of its own step to all that follow. With ``every=1`` each step has its
own ρ. When other leaves move than before (one has no gradient, or is unfrozen) it starts anew.

ρ is one while a leaf of the layer stands behind another array, as by pruning (`torch.nn.utils.prune`) or
parametrization: what its step does to the layer is not known. Where two layers share some leaves but not all, the
shared ones are those of the first: Δ of the second leaves their step out, so it may move further than lr · d.

Cost: at a step that measures six products of each tensor with four vectors (of operators that are no networks four
products of the whole, the adjoint being filled from a structure that is kept, `linops.nn.torch.adjoints`), and a QR
decomposition of (n, 4); 4 n numbers of state a layer. Of sharded layers all leaves and directions are gathered at such
a step, a layer at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from linops.nn.rates import Entry
from linops.nn.renormalizing import (
    FIRST,
    LATER,
    STEP,
    WEIGHT,
    cadence,
    dense_multiplier,
    is_averaged,
    is_due,
    is_measured,
    starts,
)
from linops.nn.torch.adjoints import adjoint
from linops.nn.torch.differences import program
from linops.nn.torch.leaves import held, kinds
from linops.nn.torch.sharded import is_cut
from linops.scaling import fans
from linops.structure import Structure

#: what the state of a layer's first leaf calls the number of steps, ρ, the vectors, and which leaves moved, as bits
COUNT, SHARE, VECTORS, MOVING = KEPT = "layer_steps", "layer_share", "layer_vectors", "layer_moving"

#: types that are no pieces, and dtypes that are measured in
_PLAIN, _WIDE = (Tensor, nn.Parameter), (torch.float32, torch.float64, torch.complex64, torch.complex128)


class Leaf:
    """A leaf of a layer whose steps are measured: what Muon holds of a parameter.

    Attributes:
        layer: The layer, whose parameters may be replaced, as FSDP2 and `lo.nn.grow_` do.
        key: The leaf's name in it.
        parameter: The leaf as groups have it, by which an optimiser knows it while it takes them; None afterwards.
        goal: d of the layer, which stays while it grows; None for a leaf that Muon does not step.
    """

    def __init__(self, layer: nn.Module, key: str, parameter: Any = None, goal: float | None = None) -> None:
        self.layer, self.key, self.parameter, self.goal = layer, key, parameter, goal

    def __repr__(self) -> str:
        return f"{self.key} of {type(self.layer).__name__}"


def leaves_of(parameters: Sequence[Tensor], leaves: Sequence[Leaf | None]) -> list[Leaf | None]:
    """What Muon holds of each parameter of a group, from which some may have been taken, and to which others added.

    Args:
        parameters: Those of the group now.
        leaves: Those of the group as `lo.nn.param_groups` made it, in any order.

    Returns:
        A leaf a parameter, or None.
    """
    given = {id(leaf.parameter): leaf for leaf in leaves if leaf is not None}
    found = [given.get(id(parameter)) for parameter in parameters]
    return [leaf and Leaf(leaf.layer, leaf.key, goal=leaf.goal) for leaf in found]


def leaf_of(entry: Entry, parameter: Tensor, rule: str, factor: float, by_muon: Container[int]) -> Leaf | None:
    """What Muon holds of a parameter.

    Args:
        entry: The parameter's place.
        parameter: The parameter.
        rule: ``"muon"`` or ``"adamw"``, which steps it.
        factor: On its rate.
        by_muon: The ids of layers of which Muon steps a leaf.

    Returns:
        The leaf; None if its layer is not measured (`linops.nn.renormalizing.is_measured`).
    """
    if not is_measured(entry, by_muon):
        return None
    operator: Any = entry.operator
    goal = dense_multiplier(fans(operator), operator.shape, entry.key, factor) if rule == "muon" else None
    return Leaf(entry.layer, entry.key, parameter, goal)


def together(
    groups: Sequence[dict[str, Any]], leaves: Sequence[Sequence[Leaf | None]]
) -> list[list[tuple[Leaf | None, dict[str, Any], int]]]:
    """The parameters of an optimiser, those of one measured layer together.

    Args:
        groups: Its groups.
        leaves: Of each parameter of each group.

    Returns:
        Lists of (leaf, group, place in the group).
    """
    found: dict[Any, list[tuple[Leaf | None, dict[str, Any], int]]] = {}
    for group, own in zip(groups, leaves):
        for place, (leaf, parameter) in enumerate(zip(own, group["params"])):
            key = id(parameter) if leaf is None else ("layer", id(leaf.layer))
            found.setdefault(key, []).append((leaf, group, place))
    return list(found.values())


def share(moves: Sequence[tuple[Any, dict[str, Any], Tensor]], state: dict[str, Any]) -> Any:
    """ρ of a layer, before its step.

    Args:
        moves: Of each leaf that moves: the leaf, its group, and its direction.
        state: Keeps the vectors, and ρ for the steps at which it is not measured. When other leaves move than at the
            step before, as one without a gradient does not, all is found anew.

    Returns:
        A number, or a scalar tensor where reading it would wait for a device.
    """
    layer: Any = moves[0][0].layer
    names, most = _known(layer.structure)
    if any(name not in layer._parameters for name in names):
        state[MOVING] = 0
        return 1.0
    moving = sum([1 << names.index(leaf.key) for leaf, _, _ in moves])
    is_known = state.get(MOVING) == moving
    count, vectors = (state[COUNT], state.get(VECTORS)) if is_known else (0, None)
    state[COUNT], state[MOVING] = count + 1, moving
    every = cadence(moves[0][1]["every"], most)
    if not is_due(count, every):
        return state[SHARE]
    leaves = [_whole(layer._parameters[name]) for name in names]
    steps: list[tuple[Tensor, float] | None] = [None] * len(names)
    goal = None
    for leaf, group, direction in moves:
        steps[names.index(leaf.key)] = _whole(direction), group["lr_multiplier"]
        goal = goal or leaf.goal
    if goal is None:  # the leaves that Muon steps have no gradient
        state[SHARE] = 1.0
        return 1.0
    norm, state[VECTORS] = _norm(layer, leaves, steps, vectors)
    found = (goal / norm).clamp(max=float(most))
    if is_averaged(count, every):
        found = state[SHARE] ** (1 - WEIGHT) * found**WEIGHT
    is_read = found.is_cpu and type(found) is Tensor and not torch.compiler.is_compiling()  # a fake one is not
    state[SHARE] = found.item() if is_read else found
    return state[SHARE]


def _norm(
    layer: Any, leaves: list[Tensor], moves: list[tuple[Tensor, float] | None], vectors: Tensor | None
) -> tuple[Tensor, Tensor]:
    """‖Δ‖₂ of a layer and the vectors, of its leaves, and of each the direction and rate."""
    known = program(layer.structure, leaves)
    if known is not None:
        basis = _basis(vectors, layer.structure.operator.shape[1], leaves[0])
        iterations = LATER if vectors is not None else FIRST
        return _iterated(*known.products(leaves, moves), known.others, basis, iterations)
    indices = held(layer, getattr(layer, "_indices", ()))
    # plans hold for leaves of the layer's own kinds: not for those made wider than bfloat16, nor under compilers
    alike = kinds(leaves) == getattr(layer, "_kinds", None) and not torch.compiler.is_compiling()
    after = [leaf if one is None else torch.add(leaf, one[0], alpha=STEP * one[1]) for leaf, one in zip(leaves, moves)]
    now, then = (layer.structure.fill(own, indices, alike=alike) for own in (leaves, after))
    adjoints = [
        adjoint(operator, layer.structure, own, alike=alike) for operator, own in ((now, leaves), (then, after))
    ]
    return difference_norm(now, then, vectors, adjoints)


def difference_norm(
    now: Any, then: Any, vectors: Tensor | None = None, adjoints: Sequence[Any] | None = None
) -> tuple[Tensor, Tensor]:
    """The spectral norm of the difference of two operators over `STEP`, by power iteration, from below.

    Args:
        now: (m, n) operator of tensors.
        then: Likewise.
        vectors: (n, 4), orthonormal, of the last call; None starts anew, with more iterations.
        adjoints: Of both operators; None makes them.

    Returns:
        The norm, a scalar tensor, and the vectors.

    Example:
        >>> import linops as lo
        >>> now, then = lo.Dense(torch.zeros(2, 2)), lo.Dense(torch.diag(torch.tensor([1.0, 4.0])) / 256)
        >>> round(difference_norm(now, then)[0].item(), 3)
        4.0
    """
    basis = _basis(vectors, now.shape[1], torch.empty((), dtype=now.dtype, device=now.device))
    adjoints = adjoints or (now.H, then.H)
    return _iterated(
        lambda x: (then @ x - now @ x) / STEP,
        lambda y: (adjoints[1] @ y - adjoints[0] @ y) / STEP,
        (0,),
        basis,
        LATER if vectors is not None else FIRST,
    )


def _iterated(
    apply: Callable[[Tensor], Tensor],
    adjoint: Callable[[Tensor], Tensor],
    others: tuple[int, ...],
    basis: Tensor,
    iterations: int,
) -> tuple[Tensor, Tensor]:
    """Power iteration, of products with a difference; `others` are the axes of what it gives but that of vectors."""
    norm = basis.new_zeros(()).real
    for _ in range(iterations):
        there = apply(basis)
        back = adjoint(there)
        lengths = torch.linalg.vector_norm(there, dim=others)
        basis, triangle = torch.linalg.qr(back)  # of columns as long as those of back
        norm = (torch.linalg.vector_norm(triangle, dim=0) / lengths.clamp(torch.finfo(lengths.dtype).tiny)).amax()
    return norm, basis


def _basis(vectors: Tensor | None, size: int, like: Tensor) -> Tensor:
    """The vectors, of a checkpoint of another dtype too; None starts with those of every rank and framework."""
    return (torch.from_numpy(starts(size)) if vectors is None else vectors).to(like.device, like.dtype)


@lru_cache(maxsize=4096)
def _known(structure: Structure) -> tuple[tuple[str, ...], int]:
    """The names of a structure's leaves, and how many of them multiply activations."""
    return structure.names, len(fans(structure.operator))


def _whole(leaf: Any) -> Tensor:
    """All of a leaf, in float32 at least."""
    if type(leaf) not in _PLAIN and is_cut(leaf):
        leaf = leaf.full_tensor()
    leaf = leaf.detach()
    return leaf if leaf.dtype in _WIDE else leaf.to(torch.promote_types(leaf.dtype, torch.float32))
