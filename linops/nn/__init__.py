"""Operators as trainable layers: one module per framework, imported when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from linops.install import command
from linops.operator import LinearOperator, make_layer

if TYPE_CHECKING:  # to type checkers what `__getattr__` loads
    from linops.nn import equinox, flax, optax, torch
    from linops.nn.estimation import estimate
    from linops.nn.hardware import Hardware
    from linops.nn.jax_sharding import sharded, shardings
    from linops.nn.nonlinear import btt_mixture, chain
    from linops.nn.sending import communication
    from linops.nn.torch import (
        balance_loss,
        clip_grad_norm_,
        compress,
        divisions,
        freeze_,
        from_linear,
        grow_,
        keep_rates,
        load,
        muon,
        parallelize_,
        param_groups,
        replace_linear_,
        save,
        schedules,
        set_lr,
        to_dense_,
        watch,
    )
    from linops.nn.transformer import Transformer

__all__ = [
    "Hardware",
    "Transformer",
    "balance_loss",
    "btt_mixture",
    "chain",
    "clip_grad_norm_",
    "communication",
    "compress",
    "divisions",
    "equinox",
    "estimate",
    "flax",
    "freeze_",
    "from_linear",
    "grow_",
    "keep_rates",
    "load",
    "muon",
    "optax",
    "parallelize_",
    "param_groups",
    "replace_linear_",
    "save",
    "schedules",
    "set_lr",
    "sharded",
    "shardings",
    "to_dense_",
    "torch",
    "watch",
]

FRAMEWORKS = ("torch", "flax", "equinox")

#: modules by their public names: where they are, and the extra that they need
_MODULES = {"muon": ("torch.muon", "torch"), "schedules": ("torch.schedules", "torch"), "optax": ("optax", "flax")}

#: functions and classes that are not those of PyTorch: where they are, and the extra that they need, if any
_HOMES = {
    "Hardware": ("hardware", ""),
    "Transformer": ("transformer", ""),
    "btt_mixture": ("nonlinear", ""),
    "chain": ("nonlinear", ""),
    "communication": ("sending", ""),
    "estimate": ("estimation", ""),
    "sharded": ("jax_sharding", "jax"),
    "shardings": ("jax_sharding", "jax"),
}


def __getattr__(name: str) -> Any:
    if name in FRAMEWORKS:
        return _load(name, name)
    if name in _MODULES:
        return _load(*_MODULES[name])
    if name in __all__:  # else a function for PyTorch models
        return getattr(_load(*_HOMES.get(name, ("torch", "torch"))), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)


def _load(module: str, extra: str) -> Any:
    """A module of this package; what its framework comes with is named if it is not installed."""
    try:
        return import_module(f"linops.nn.{module}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("linops"):
            raise
        raise ImportError(f"linops.nn.{module} needs {error.name}: {command(error.name, extra)}") from error


@make_layer.dispatch
def _make_layer(a: LinearOperator, bias: bool, framework: Any):
    if framework is None:
        framework = "torch" if a.backend in (None, "spec") else a.backend
    if framework not in FRAMEWORKS:
        raise ValueError(
            f"to_layer of {a._short()}: no layers for framework {framework!r}; "
            f"pass framework= one of {', '.join(FRAMEWORKS)}"
        )
    return _load(framework, framework).Linear(a, bias=bias)
