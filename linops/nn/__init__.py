"""Operators as trainable layers: one module per framework, imported when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from linops.install import command
from linops.nn.communication import communication
from linops.nn.estimate import estimate
from linops.nn.hardware import Hardware
from linops.nn.transformer import Transformer
from linops.operator import LinearOperator, make_layer

if TYPE_CHECKING:  # to type checkers what `__getattr__` loads
    from linops.nn import equinox, flax, optax, torch
    from linops.nn.jax_sharding import sharded, shardings
    from linops.nn.torch import (
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

__all__ = [
    "Hardware",
    "Transformer",
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


def __getattr__(name: str) -> Any:
    if name in FRAMEWORKS:
        return _load(name, name)
    if name in _MODULES:
        return _load(*_MODULES[name])
    if name in ("sharded", "shardings"):
        return getattr(_load("jax_sharding", "jax"), name)
    if name in __all__:  # a function for PyTorch models
        return getattr(_load("torch", "torch"), name)
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
