"""What a PyTorch model's layers are given while it runs on a calibration set."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import nn

from linops.nn.swap import Found
from linops.projection import Moments

#: what runs a model on a calibration set; it may stop after a batch when the function says so
Runner = Callable[[nn.Module, Callable[[], bool]], object]


def runner(calibration: Any) -> Runner:
    """What runs a model on a calibration set, as often as it is asked to.

    Args:
        calibration: Batches, or a function that takes the model and runs it.

    Returns:
        A function of the model and of another one, which says whether enough was seen.

    Raises:
        TypeError: If it is one batch, can be read only once, or is none of the above.
    """
    if isinstance(calibration, (torch.Tensor, Mapping, str)):
        kind = type(calibration).__name__
        raise TypeError(f"calibration={kind}: expected batches; of one batch, calibration=[batch]")
    if isinstance(calibration, Iterable):
        if iter(calibration) is calibration:
            raise TypeError(
                f"calibration={type(calibration).__name__}: it can be read once, and is read once a layer; give "
                "list(batches), a DataLoader, or a function that takes the model and runs it"
            )
        return partial(_run, calibration)
    if callable(calibration):
        return lambda model, enough: calibration(model)
    raise TypeError(
        f"calibration={calibration!r:.60}: expected batches, or a function that takes the model and runs it"
    )


def _run(batches: Iterable[Any], model: nn.Module, enough: Callable[[], bool]) -> None:
    number = 0
    for batch in batches:
        number += 1
        called(model, batch, number)
        if enough():
            return
    if not number:
        raise ValueError("calibration: there is no batch; a calibration set must not be empty")


def called(model: nn.Module, batch: Any, number: int) -> Any:
    """What a model gives for a batch.

    Args:
        model: The model.
        batch: A tensor; a tuple or list of arguments; or a dict of named ones.
        number: Which batch it is, for errors.

    Returns:
        What the model returns.

    Raises:
        TypeError: If the batch is none of these.
    """
    if isinstance(batch, torch.Tensor):
        return model(batch)
    if isinstance(batch, Mapping):
        return model(**batch)
    if isinstance(batch, (tuple, list)):
        try:
            signature(model.forward).bind(*batch)
        except TypeError as error:
            raise TypeError(
                f"calibration: batch {number} is a {type(batch).__name__} of {len(batch)}, which are the model's "
                f"arguments: {error}; of pairs with labels take the inputs: calibration=[x for x, _ in loader]"
            ) from None
        return model(*batch)
    raise TypeError(
        f"calibration: batch {number} is of {type(batch).__name__}; expected a tensor, or a tuple, list or dict of the "
        "model's arguments"
    )


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


def order(model: nn.Module, run: Runner, layers: Mapping[str, Found]) -> list[str]:
    """The layers in the order of the forward pass.

    Args:
        model: The model, in evaluation mode.
        run: What runs it.
        layers: The layers by name.

    Returns:
        The names of those that were reached.
    """
    reached: dict[str, None] = {}

    def hook(name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        reached.setdefault(name)

    with _hooked({one.layer: partial(hook, name) for name, one in layers.items()}):
        run(model, lambda: len(reached) == len(layers))
    return list(reached)


def moments(
    model: nn.Module, run: Runner, layers: Mapping[str, Found], original: nn.Module | None = None
) -> dict[str, Moments]:
    """The moments of what layers are given, in one pass.

    Args:
        model: The model, in evaluation mode.
        run: What runs it.
        layers: The layers by name.
        original: The model as it was, in evaluation mode, to run on the same inputs before it: the moments hold what
            the layers of the same names are given there, too.

    Returns:
        Moments by name; of layers that were not reached their count is zero.

    Raises:
        ValueError: If an input holds NaN or infinity, or the original gives a layer another number of vectors.
    """
    found = {name: Moments(one.shape[1]) for name, one in layers.items()}
    before: dict[str, deque[Any]] = {name: deque() for name in layers}

    def keep(name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        before[name].append(_input(args, kwargs))

    def add(name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        if original is not None and not before[name]:
            raise _astray(name)
        try:
            found[name].add(_input(args, kwargs), before[name].popleft() if original is not None else None)
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}") from error

    def all_used() -> None:
        for name, one in before.items():
            if one:
                raise _astray(name)

    def first(module: nn.Module, args: Any, kwargs: Any) -> None:
        all_used()
        if original is not None:
            original(*args, **kwargs)

    hooks: dict[nn.Module, Any] = {one.layer: partial(add, name) for name, one in layers.items()}
    if original is None:
        with _hooked(hooks):
            run(model, bool)
        return found
    originals = {original.get_submodule(name): partial(keep, name) for name in layers}
    with _hooked(hooks), _hooked(originals), _hooked({model: first}, prepend=True):
        run(model, bool)
    all_used()
    return found


def _astray(name: str) -> ValueError:
    return ValueError(
        f"layer {name!r}: the original model does not call it as often as the compressed one, or a part of the model "
        "was called by itself; use anchor=False"
    )


def _input(args: Any, kwargs: Any) -> torch.Tensor:
    """A layer's input, however it is given."""
    return args[0] if args else next(iter(kwargs.values()))


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
