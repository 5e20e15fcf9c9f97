"""`watch`: how far training moves each linear layer of a model, as operators: norms of W and ΔW, no dense matrix."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import sqrt
from typing import Any
from weakref import ref

import torch
from torch import nn

from linops.nn.columns import aligned
from linops.nn.hyperparameters import require_hyperparameters
from linops.nn.obstacles import brief, framework_of
from linops.nn.torch.schedules import dense_rate, require_optimizer
from linops.nn.torch.sharded import require_whole
from linops.nn.torch.structured import Structured
from linops.nn.torch.wrong_rates import outside, structured_in
from linops.operator import LinearOperator
from linops.operators.dense import Dense

#: vectors that are multiplied at once, and how often
_VECTORS, _ITERATIONS = 4, 12
#: what stands below the table
_LEGEND = (
    "‖W‖: spectral norm of the layer's matrix now: the most by which it lengthens a vector",
    "‖ΔW‖/lr: that of its change since the last look, over the mean rate lr of a dense layer since then",
    "/√(out/in): the same over √(out/in), which layers of all shapes have alike where rates follow from a base=",
)


@dataclass(frozen=True)
class Moved:
    """A layer between two looks.

    Attributes:
        name: The layer's dotted name.
        structure: The class of its operator.
        shape: (out, in).
        norm: The spectral norm of W now.
        change: That of ΔW, the difference to the look before; divided by the rate, if that is known.
        relative: `change` over sqrt(out / in), which is comparable between layers of all shapes.
        lr: The rate that divided.
    """

    name: str
    structure: str
    shape: tuple[int, int]
    norm: float
    change: float
    relative: float
    lr: float = 1.0


class Watch:
    """What `watch` returns: call `look` between steps.

    Attributes:
        rows: Of the last look; none before the first.
    """

    def __init__(self, model: nn.Module, optimizer: Any = None) -> None:
        self._model, self._optimizer = model, optimizer
        self.rows: list[Moved] = []
        self._by = 1.0
        self._rates = 0.0, 0  # the sum since the last look, and of how many steps
        if hasattr(optimizer, "register_step_post_hook"):
            optimizer.register_step_post_hook(_noting(ref(self)))
        self._before = {name: _copied(operator) for name, operator in _operators(model).items()}

    def look(self, lr: float | None = None) -> list[Moved]:
        """The norms now, and those of what has changed since the last look (or since `watch`).

        Args:
            lr: The rate that changes of all layers are divided by; None takes that of the dense layer from the
                optimiser, the mean of its steps since the last look, or 1; of layers that Muon leaves to AdamW that in
                the ratio of ``adamw_lr`` to it. A rate of 0 divides nothing.

        Returns:
            A row a layer, in the order of the model. Layers that were not there at the last look are left out, once.

        Raises:
            ValueError: If the rate is no number of at least 0.
        """
        ratios: dict[str, float] = {}
        if lr is None:
            lr, ratios = self._rate(), _ratios(self._model, self._optimizer)
        else:
            require_hyperparameters("look", lr=lr)
        self._by, self._rates = float(lr or 1.0), (0.0, 0)
        now = _operators(self._model)
        self.rows = []
        for name, operator in now.items():
            before = self._before.get(name)
            if before is None or before.shape != operator.shape:
                continue
            by = self._by * ratios.get(name, 1.0) or 1.0
            change = spectral_norm(operator - before) / by
            m, n = operator.shape
            self.rows.append(
                Moved(name, type(operator).__name__, (m, n), spectral_norm(operator), change, change / sqrt(m / n), by)
            )
        self._before = {name: _copied(operator) for name, operator in now.items()}
        return self.rows

    def _rate(self) -> float:
        """The rate of a dense layer of the base shape, a mean over steps if these were seen; 1 if it is not known."""
        if self._optimizer is None:
            return 1.0
        total, steps = self._rates
        return total / steps if steps else dense_rate(self._optimizer)

    def __str__(self) -> str:
        """A table of the last look, and what its columns are."""
        if not self.rows:
            return "no look yet: call look() after a step"
        head = ("layer", "structure", "shape", "‖W‖", "‖ΔW‖/lr", "/√(out/in)")
        cells = [
            (
                row.name,
                row.structure,
                f"{row.shape[0]}×{row.shape[1]}",
                *map(_short, (row.norm, row.change, row.relative)),
            )
            for row in self.rows
        ]
        others = {row.lr: [other.name for other in self.rows if other.lr == row.lr] for row in self.rows}
        others.pop(self._by, None)
        rates = [_short(self._by), *(f"{_short(lr)} of {brief(names)}" for lr, names in others.items())]
        return "\n".join([aligned([head, *cells], left=2), *_LEGEND, f"lr: {'; '.join(rates)}"])


def _ratios(model: nn.Module, optimizer: Any) -> dict[str, float]:
    """Of layers that AdamW steps beside Muon, at a rate of its own, that over Muon's."""
    inner = getattr(optimizer, "optimizer", optimizer)  # Accelerate and Lightning wrap it
    groups: Any = zip(getattr(inner, "param_groups", ()), getattr(inner, "rate_ratios", ()))
    known = {id(one): ratio for group, ratio in groups for one in group["params"]}
    found: dict[str, float] = {}
    for name, module in model.named_modules():
        if isinstance(module, (Structured, nn.Linear)):
            leaves = module._leaves() if isinstance(module, Structured) else [module.weight]
            ratios = {known[id(leaf)] for leaf in leaves if id(leaf) in known}
            found[name] = 1.0 if 1.0 in ratios else next(iter(ratios), 1.0)  # one that Muon steps in part is Muon's
    return found


def _noting(of: ref[Watch]) -> Any:
    """A hook of an optimiser that notes the rate of each step, unless it is a tensor, for a watch."""

    def note(optimizer: Any, *_: Any) -> None:
        watched = of()
        if watched is not None and isinstance(optimizer.param_groups[0]["lr"], (int, float)):
            total, steps = watched._rates
            watched._rates = total + dense_rate(optimizer), steps + 1

    return note


def watch(model: nn.Module, optimizer: Any = None) -> Watch:
    """Watch how far steps move each linear layer: ‖W‖₂ and ‖ΔW‖₂ / lr between two looks.

    With rates that hold, ‖ΔW‖₂ / (lr · sqrt(out / in)) of a single step is about the same for all layers, structures
    and widths, and stays so while weights grow; under Muon a dense layer has 0.6 … 1.2. ΔW = A_now − A_before is a
    difference of operators, and norms are found by power iteration with products, so no matrix is formed.

    Cost: a copy of the parameters of these layers; a look takes 96 products of each operator with its transpose and
    back, in all, 4 vectors at a time. Norms are from below, of matrices with close singular values by a few percent;
    ΔW is a difference of two products, so in float32 it is exact to about 1e-6 ‖W‖.

    Args:
        model: Any model; its structured layers and every `torch.nn.Linear` are watched.
        optimizer: Made from `param_groups`: its rate (of a dense layer), the mean since the last look, divides changes;
            with ``adamw_lr`` that is the rate of layers that AdamW steps. None divides by 1.

    Returns:
        A `Watch`: ``look()`` returns rows and keeps the parameters of now; ``print`` shows the last look as a table.
        Its columns are numbers without a unit: ``‖W‖``, the spectral norm of the layer's matrix now, which is the most
        by which it lengthens a vector (`Moved.norm`); ``‖ΔW‖/lr``, that of its change since the last look over the mean
        rate of a dense layer since then (`Moved.change`); ``/√(out/in)``, the same over the root of outputs over inputs
        (`Moved.relative`). The last line has the rates.

    Raises:
        TypeError: If the model is no `torch.nn.Module`, or the optimiser is none.
        ValueError: If there is no such layer, parameters of one are sharded, or the optimiser has none of the model's.

    Warns:
        UserWarning: If the optimiser steps the leaves of structured layers at one rate.

    Example:
        >>> import linops as lo, torch
        >>> model = torch.nn.Sequential(lo.btt(64, 16).to_layer(), torch.nn.Linear(64, 4))
        >>> optimizer = lo.nn.muon.Muon(lo.nn.param_groups(model, lr=0.02, optimizer="muon"))
        >>> watched = watch(model, optimizer)
        >>> model(torch.randn(8, 16)).square().mean().backward(); optimizer.step()
        >>> [(row.name, row.structure, row.shape) for row in watched.look()]
        [('0', 'BlockTensorTrain', (64, 16)), ('1', 'Dense', (4, 64))]
        >>> print(watched)  # doctest: +SKIP
        layer  structure         shape   ‖W‖  ‖ΔW‖/lr  /√(out/in)
        0      BlockTensorTrain  64×16  3.36     1.19       0.593
        1      Dense              4×64  0.75     1.05        4.19
        ‖W‖: spectral norm of the layer's matrix now: the most by which it lengthens a vector
        ‖ΔW‖/lr: that of its change since the last look, over the mean rate lr of a dense layer since then
        /√(out/in): the same over √(out/in), which layers of all shapes have alike where rates follow from a base=
        lr: 0.02
    """
    if not isinstance(model, nn.Module):
        kind = framework_of(model)
        way = f"; it is {kind}: lo.linalg.norm(after - before, 2) of a layer's operators says it there" if kind else ""
        raise TypeError(f"watch({type(model).__name__}): expected a model, a torch.nn.Module{way}")
    if optimizer is not None:
        require_optimizer(f"watch({type(model).__name__}, …)", optimizer)
    if not _operators(model):
        raise ValueError(f"watch({type(model).__name__}): no structured layer and no torch.nn.Linear to watch")
    if optimizer is not None:
        _require_own(model, optimizer)
    return Watch(model, optimizer)


def _require_own(model: nn.Module, optimizer: Any) -> None:
    """Raise if an optimiser has no parameter of a model; warn if it steps leaves of structured layers at one rate."""
    held = {id(one) for group in optimizer.param_groups for one in group["params"]}
    where = f"watch({type(model).__name__}, {type(optimizer).__name__})"
    if held.isdisjoint(map(id, model.parameters())):
        raise ValueError(
            f"{where}: the optimiser has none of the model's parameters, so that its steps do not move this model: "
            "pass the one that trains it, made after the last change of its layers"
        )
    if left := structured_in([group for group in optimizer.param_groups if "lr_multiplier" not in group]):
        warnings.warn(
            f"{where}: leaves of structured layers ({left!r}) have no rates of their own, as the optimiser was not "
            "made from groups: make it from lo.nn.param_groups(model, lr)",
            stacklevel=outside(),
        )


def spectral_norm(operator: LinearOperator) -> float:
    """The spectral norm of an operator of torch tensors by power iteration on a few vectors at once, from below.

    Args:
        operator: The operator; half precision is multiplied in float32.

    Returns:
        The norm; NaN where numbers are not finite.
    """
    with torch.no_grad():
        adjoint, device = operator.H, operator.device
        dtype = torch.promote_types(operator.dtype, torch.float32)
        if operator.dtype != dtype:
            operator, adjoint = operator.to(dtype=dtype), adjoint.to(dtype=dtype)
        start = torch.randn(operator.shape[1], _VECTORS, generator=torch.Generator().manual_seed(0))
        basis = torch.linalg.qr(start.to(device=device, dtype=dtype)).Q
        for _ in range(_ITERATIONS):
            basis = torch.linalg.qr(adjoint @ (operator @ basis)).Q
        image = operator @ basis
        return float(torch.linalg.matrix_norm(image, 2)) if torch.isfinite(image).all() else float("nan")


def _operators(model: nn.Module) -> dict[str, LinearOperator]:
    """The operators of a model's linear layers over its parameters as they are now."""
    found: dict[str, LinearOperator] = {}
    for name, module in model.named_modules():
        if isinstance(module, (Structured, nn.Linear)):
            require_whole("watch", module)
            found[name] = module.operator if isinstance(module, Structured) else Dense(module.weight)
    return {name: operator._map(lambda leaf: leaf.detach()) for name, operator in found.items()}


def _copied(operator: LinearOperator) -> LinearOperator:
    return operator._map(lambda leaf: leaf.clone())


def _short(number: float) -> str:
    return f"{number:.3g}"
