"""How a PyTorch model is run on a calibration set, and tells what its layers are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from linops.nn.calibration import Calls, Listener, Runner, Watch
from linops.nn.swap import Found

CALLS = Calls((torch.Tensor,), lambda model, args, kwargs: model(*args, **kwargs), lambda model: model.forward)


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Models in evaluation mode, without gradients; each module's own mode is restored."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        for model in models:
            model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def watching(model: nn.Module, run: Runner, layers: Mapping[str, Found], original: nn.Module | None = None) -> Watch:
    """What runs a model and tells what its layers are given, by hooks.

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
        hooks: dict[nn.Module, Any] = {layers[name].layer: _telling(tell) for name, tell in heard.items()}
        if before is None or original is None:
            with _hooked(hooks):
                run(model, enough)
            return

        as_was: nn.Module = original

        def begin(module: nn.Module, args: Any, kwargs: Any) -> None:
            first()
            as_was(*args, **kwargs)

        originals = {as_was.get_submodule(name): _telling(tell) for name, tell in before.items()}
        with _hooked(hooks), _hooked(originals), _hooked({model: begin}, prepend=True):
            run(model, enough)

    return watch


def _telling(tell: Listener) -> Any:
    """A hook that tells a layer's input, however it is given."""

    def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
        tell(args[0] if args else next(iter(kwargs.values())))

    return hook


@contextmanager
def _hooked(hooks: Mapping[nn.Module, Any], prepend: bool = False) -> Iterator[None]:
    """Modules with hooks before their forward."""
    handles = []
    try:
        for module, hook in hooks.items():
            handles.append(module.register_forward_pre_hook(hook, prepend=prepend, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()
