"""Structures that are no linear maps: operators with an activation or a choice between. Needs no framework.

A `Nonlinear` says what replacing, reports, rates and files ask of one: an operator whose leaves are its parameters, in
how many copies, and which dense matrices stand beside them. Each framework has one layer for each kind, which computes
it. A kind is a class here, a function of sizes that makes it (as a family makes an operator), and those layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from dataclasses import replace as replaced
from math import isfinite
from typing import Any, ClassVar

from linops.families import btt, low_rank
from linops.families.text import NONLINEAR
from linops.operators import LowRank
from linops.plan import natural_order
from linops.scaling import fans, initial_std, initial_stds
from linops.specs import Spec
from linops.structure import Structure

#: activations by name; every framework has them
ACTIVATIONS = ("silu", "gelu", "relu", "tanh", "sigmoid")


@dataclass(frozen=True)
class Nonlinear:
    """What a layer computes that has parameters of an operator, and is no linear map. It holds no numbers.

    Attributes:
        structure: That of the operator whose leaves are parameters.
        kind: The name by which `replace_linear_` and files call such structures.
        copies: How many operators there are, along a first axis of each leaf; 0 is one, without such an axis.
        matrices: Dense matrices beside them, by name: (out, in). Their outputs are no features of the model.
    """

    structure: Structure
    kind: ClassVar[str] = ""

    @property
    def copies(self) -> int:
        """How many operators there are; 0 is one, whose leaves have no axis for that."""
        return 0

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """The dense matrices beside the operator: (out, in) by name."""
        return {}

    @property
    def operator(self) -> Any:
        """The operator, symbolic; one of the copies."""
        return self.structure.operator

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.operator.shape

    @property
    def leaves(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the parameters by name, those of `matrices` too."""
        lead = (self.copies,) if self.copies else ()
        own = {name: (*lead, *leaf.shape) for name, leaf in self.operator.named_leaves()}
        return own | dict(self.matrices)

    @property
    def num_params(self) -> int:
        """The number of parameters."""
        return max(self.copies, 1) * self.operator.num_params + sum(m * n for m, n in self.matrices.values())

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a vector, of what is used for it."""
        with natural_order():
            return self.operator.cost().macs

    @property
    def fans(self) -> dict[str, tuple[int, int]]:
        """(fan_in, fan_out) of each parameter."""
        return fans(self.operator) | {name: (n, m) for name, (m, n) in self.matrices.items()}

    @property
    def stds(self) -> dict[str, float | None]:
        """The standard deviation with which each parameter starts; None is one that starts at one."""
        return initial_stds(self.operator) | {name: initial_std(n, m) for name, (m, n) in self.matrices.items()}

    @property
    def plain(self) -> dict[str, Any]:
        """What a file says of it beside the structure.

        Raises:
            TypeError: If a part of it is a function.
        """
        found = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "structure"}
        if functions := [name for name, value in found.items() if callable(value)]:
            raise TypeError(f"its {functions[0]} is a function; give one by its name, as {ACTIVATIONS[0]!r}")
        return found

    def of_dtype(self, dtype: Any) -> Any:
        """The same over leaves of another dtype."""
        specs = [Spec(tuple(leaf.shape), dtype) for _, leaf in self.operator.named_leaves()]
        return replaced(self, structure=self.structure.fill(specs).structure)

    def _output_leaves(self) -> tuple[str, ...]:
        return self.operator._output_leaves()


@dataclass(frozen=True)
class Chain(Nonlinear):
    """x ↦ U σ(V x).

    Attributes:
        structure: That of U V.
        activation: σ: a name of `ACTIVATIONS`, or a function of arrays.
    """

    activation: Any = "silu"
    kind: ClassVar[str] = "chain"

    def __post_init__(self) -> None:
        if type(self.operator) is not LowRank:
            raise ValueError(f"a chain of {self.operator._short()}: expected two matrices, U V")
        if not callable(self.activation) and self.activation not in ACTIVATIONS:
            raise ValueError(
                f"chain(activation={self.activation!r:.40}): expected a function or one of {', '.join(ACTIVATIONS)}"
            )

    @property
    def rank(self) -> int:
        """The number of hidden features, r."""
        return self.operator.U.shape[1]

    def __str__(self) -> str:
        name = self.activation if isinstance(self.activation, str) else getattr(self.activation, "__name__", "function")
        return f"Chain(rank {self.rank}, {name})"


@dataclass(frozen=True)
class Mixture(Nonlinear):
    """x ↦ Σ g_e A_e x over the experts e that x scores highest; g is the softmax of their scores G x.

    Attributes:
        structure: That of an expert A_e.
        experts: How many there are.
        active: How many of them a vector uses.
        balance: The factor of the balance loss.
    """

    experts: int = 8
    active: int = 2
    balance: float = 0.01
    kind: ClassVar[str] = "btt_mixture"

    def __post_init__(self) -> None:
        for name in ("experts", "active"):
            if type(value := getattr(self, name)) is not int:
                raise TypeError(f"btt_mixture({name}={value!r:.40}): expected an integer")
        if not 1 <= self.active <= self.experts:
            raise ValueError(
                f"btt_mixture: {self.active} of {self.experts} experts active; expected at least 1 and at most all"
            )
        if type(self.balance) not in (int, float) or not (isfinite(self.balance) and self.balance >= 0):
            raise ValueError(f"btt_mixture(balance={self.balance!r:.40}): expected a number of at least 0")
        indices: list[Any] = []
        self.operator._map(lambda leaf: leaf, indices.append)
        if indices or not self.structure.names:
            raise ValueError(f"a mixture of {self.operator._short()}: expected experts with leaves, without indices")

    @property
    def copies(self) -> int:
        """The number of experts."""
        return self.experts

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """G, (experts, n)."""
        return {"gate": (self.experts, self.shape[1])}

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a vector: those of the active experts, and of the scores."""
        return self.active * super().macs + self.experts * self.shape[1]

    def __str__(self) -> str:
        expert = f"{type(self.operator).__name__}({self.operator._detail()})"
        return f"Mixture({self.active} of {self.experts} experts, each {expert})"


def chain(
    out_features: int, in_features: int, rank: int | None = None, activation: Any = "silu", *, dtype: Any = None
) -> Chain:
    """Two linear maps with an activation between: U σ(V x). Fans, initial scale and rates are those of low rank.

    Source: Liu et al., "CoLA: Compute-Efficient Pre-Training of LLMs via Low-Rank Activation" (2025), which takes SiLU.

    Cost: r (m + n) MACs a vector, and r activations.

    Args:
        out_features: m.
        in_features: n.
        rank: r; None takes that of `linops.low_rank`.
        activation: σ: ``"silu"``, ``"gelu"`` (the exact one), ``"relu"``, ``"tanh"``, ``"sigmoid"``, or a function of
            arrays, with which a layer cannot be saved.
        dtype: Of the leaves.

    Returns:
        The chain, without numbers.

    Raises:
        ValueError: If it costs more than dense, or there is no such activation.

    Example:
        >>> found = chain(64, 16, rank=4)
        >>> print(found, found.num_params, found.macs)
        Chain(rank 4, silu) 320 320
    """
    options = {"allow_dearer": rank is not None} | ({} if dtype is None else {"dtype": dtype})
    operator: Any = low_rank(out_features, in_features, rank, **options)
    if type(operator) is not LowRank:
        raise ValueError(f"chain({out_features}, {in_features}): no rank is as cheap as dense; leave the layer dense")
    found, dense = Chain(operator.structure, activation), out_features * in_features
    if found.macs > dense:
        most = dense // (out_features + in_features)
        way = f"lower the rank to at most {most}, or leave" if most else "leave"
        raise ValueError(
            f"chain({out_features}, {in_features}): {found.macs:,} MACs a vector are more than dense's {dense:,}; "
            f"{way} the layer dense"
        )
    return found


def btt_mixture(
    out_features: int,
    in_features: int,
    experts: int = 8,
    active: int = 2,
    balance: float = 0.01,
    *,
    allow_dearer: bool = False,
    **options: Any,
) -> Mixture:
    """A mixture of experts, each a BTT: a BTT of rank `experts`, of which every vector uses `active` ranks.

    Parameters grow with the number of experts, MACs but by the scores. Each expert has the fans, initial scale and
    rates of its BTT, and the scores those of a dense matrix.

    Sources: Potapczynski, Qiu et al., "Searching for Efficient Linear Layers over a Continuous Space of Structured
    Matrices" (NeurIPS 2024) for the mixture; Fedus, Zoph, Shazeer, "Switch Transformers" (2022) for the balance loss.

    Cost: that of `active` experts, and in_features · experts MACs for the scores.

    Args:
        out_features: m.
        in_features: n.
        experts: Their number.
        active: How many of them a vector uses. Of one alone the weight is 1, so that the scores learn by the balance
            loss only.
        balance: The factor on experts · Σ_e f_e p_e, which `lo.nn.balance_loss` gives; 0 for no such loss.
        allow_dearer: Whether it may cost more than dense.
        **options: Of `linops.btt`, as ``rank=2``.

    Returns:
        The mixture, without numbers.

    Raises:
        ValueError: If it costs more than dense, or fewer experts than one are active, or more than all.
        TypeError: If an option is none, or numbers of experts are no integers.

    Example:
        >>> found = btt_mixture(64, 16, experts=4, active=2)
        >>> print(found.num_params, found.macs)
        1600 832
    """
    operator = btt(out_features, in_features, **options, allow_dearer=True)  # what all experts cost is looked at below
    found = Mixture(operator.structure, experts, active, balance)
    if found.macs > out_features * in_features and not allow_dearer:
        raise ValueError(
            f"btt_mixture({out_features}, {in_features}): {found.macs:,} MACs a vector are more than dense's "
            f"{out_features * in_features:,}; lower active=, experts= or rank=, use lo.dense, or pass allow_dearer=True"
        )
    return found


#: the functions and classes by kind
MAKERS: dict[str, Callable[..., Nonlinear]] = {"chain": chain, "btt_mixture": btt_mixture}
KINDS: dict[str, type[Nonlinear]] = {one.kind: one for one in (Chain, Mixture)}
assert tuple(MAKERS) == tuple(KINDS) == NONLINEAR


def from_plain(given: Any, structure: Structure) -> Nonlinear:
    """What a file says, checked.

    Args:
        given: ``{"kind": …}`` with `Nonlinear.plain`; it is not trusted.
        structure: That of the operator.

    Returns:
        The structure that is no linear map.

    Raises:
        ValueError: If it says none.
        TypeError: If a part of it is of another type.
    """
    kind = KINDS.get(given.get("kind", "")) if isinstance(given, Mapping) and type(given.get("kind")) is str else None
    if kind is None:
        raise ValueError(f"{given!r:.100} says no structure; this linops has {', '.join(KINDS)}")
    options = {name: value for name, value in given.items() if name != "kind"}
    if options.keys() != {one.name for one in fields(kind) if one.default is not MISSING}:
        raise ValueError(f"{given!r:.100} says no {kind.kind}")
    if not all(type(value) in (int, float, str) for value in options.values()):
        raise TypeError(f"{given!r:.100} says no {kind.kind}")
    return kind(structure, **options)
