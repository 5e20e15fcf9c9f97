"""How a Flax NNX model is run on a calibration set, and tells what its layers are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import jax
import numpy as np
from flax import nnx

from linops.nn.calibration import Calls, Listener, Runner, Watch
from linops.nn.jax_calibration import Telling, is_traced, tell
from linops.nn.swap import Found

CALLS = Calls((jax.Array, np.ndarray), lambda model, args, kwargs: model(*args, **kwargs), lambda model: model)
#: what `nnx.Module.eval` sets, and where NNX keeps which attributes hold arrays
_MODES = ("deterministic", "use_running_average", "_pytree__nodes")


@contextmanager
def evaluating(*models: nnx.Module) -> Iterator[None]:
    """Models in evaluation mode; each module's own mode is restored."""
    kept = [(module, dict(vars(module))) for model in models for _, module in nnx.iter_modules(model)]
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for module, before in kept:
            for name in _MODES:
                if name in before:
                    vars(module)[name] = before[name]
                else:
                    vars(module).pop(name, None)


def watching(model: nnx.Module, run: Runner, layers: Mapping[str, Found], original: nnx.Module | None = None) -> Watch:
    """What runs a model and tells what its layers are given: their calls are others while it runs.

    Args:
        model: The model, in evaluation mode.
        run: What runs it.
        layers: The layers by name.
        original: The model as it was, in evaluation mode.

    Returns:
        The function.
    """

    def watch(
        heard: Mapping[str, Listener],
        enough: Callable[[], bool],
        before: Mapping[str, Listener] | None = None,
        first: Callable[[], object] = bool,
    ) -> None:
        telling = Telling()
        with ExitStack() as calls:
            for name, listener in heard.items():
                calls.enter_context(_called(layers[name].layer, _first_told(telling.to(listener))))
            if before is not None and original is not None:
                others = {".".join(map(str, path)): module for path, module in nnx.iter_modules(original)}
                for name, listener in before.items():
                    calls.enter_context(_called(others[name], _first_told(telling.to(listener))))
                calls.enter_context(_called(model, _after(original, telling.settled(lambda: bool(first())))))
            run(model, telling.settled(enough))
            telling.settle()

    return watch


def _first_told(listener: Listener) -> Callable[..., Any]:
    """A layer's call that tells its input, however it is given."""

    def call(own: Any, *args: Any, **kwargs: Any) -> Any:
        if args:
            return own(tell(listener, args[0]), *args[1:], **kwargs)
        name = next(iter(kwargs))
        return own(**{**kwargs, name: tell(listener, kwargs[name])})

    return call


def _after(original: Any, first: Callable[[], object]) -> Callable[..., Any]:
    """A model's call after that of another one."""

    def call(own: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_traced(args, kwargs):
            first()
        original(*args, **kwargs)
        return own(*args, **kwargs)

    return call


@contextmanager
def _called(module: nnx.Module, call: Callable[..., Any]) -> Iterator[None]:
    """A module with another call, which is given its own first; in copies too, such as those within `nnx.jit`."""
    kind = type(module)
    object.__setattr__(module, "__class__", _calling(kind))
    vars(module)["_linops_call"] = call  # no array: what NNX makes of it is part of the structure
    try:
        yield
    finally:
        object.__setattr__(module, "__class__", kind)
        vars(module).pop("_linops_call", None)


@cache
def _calling(kind: Any) -> Any:
    """A class of modules that are called as their attribute says."""

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self._linops_call(super(made, self).__call__, *args, **kwargs)

    made: Any = type(kind)(kind.__name__, (kind,), {"__call__": __call__, "__module__": kind.__module__})
    return made
