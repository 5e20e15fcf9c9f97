"""What a PyTorch model's loss feels of its layers' outputs: K-FAC's second moments of gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from linops.nn.swap import Found
from linops.nn.torch.calibration import CALLS
from linops.projection import Moments


def sensitivities(
    model: nn.Module, calibration: Any, layers: Mapping[str, Found]
) -> tuple[dict[str, Moments], dict[str, Moments]]:
    """The moments of layers' inputs and of the gradients at their outputs, in one pass; parameters get no gradient.

    A loss is a mean over T vectors, and a vector's gradient is T times that of the mean. Then ½ tr(A E C Eᵀ) with A the
    second moment of gradients estimates how much the loss grows when W changes by E (Martens and Grosse, "Optimizing
    Neural Networks with Kronecker-factored Approximate Curvature", 2015).

    Args:
        model: The model, in evaluation mode.
        calibration: A function that runs the model and returns its loss or yields several; or batches for which the
            model returns its loss, or what has a ``loss``, or has one itself.
        layers: The layers by name.

    Returns:
        The moments of inputs, and those of gradients.

    Raises:
        TypeError: If there is no loss.
        ValueError: If a number is not finite, or the set is empty.
    """
    inputs = {name: Moments(one.shape[1]) for name, one in layers.items()}
    gradients = {name: Moments(one.shape[0]) for name, one in layers.items()}
    kept: list[tuple[str, torch.Tensor]] = []

    def keep(name: str, module: nn.Module, args: Any, kwargs: Any, output: torch.Tensor) -> torch.Tensor:
        x = args[0] if args else next(iter(kwargs.values()))
        try:
            inputs[name].add(x.detach())
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}") from error
        seen = output if output.requires_grad else output.detach().requires_grad_()
        kept.append((name, seen))
        return seen.clone()  # which the model may write to

    handles = [one.layer.register_forward_hook(partial(keep, name), with_kwargs=True) for name, one in layers.items()]
    try:
        with torch.enable_grad():
            for loss in _losses(model, calibration):
                _add(loss, kept, gradients)
                kept.clear()
    finally:
        for handle in handles:
            handle.remove()
    return inputs, gradients


def _add(loss: torch.Tensor, kept: list[tuple[str, torch.Tensor]], gradients: Mapping[str, Moments]) -> None:
    """Add the gradients of one loss."""
    if not kept:
        return
    found = torch.autograd.grad(loss, [output for _, output in kept], allow_unused=True)
    counts: dict[str, int] = {}
    for name, output in kept:
        counts[name] = counts.get(name, 0) + output.numel() // output.shape[-1]
    for (name, output), gradient in zip(kept, found):
        try:
            gradients[name].add(torch.zeros_like(output) if gradient is None else gradient.double() * counts[name])
        except ValueError as error:
            raise ValueError(f"gradients at layer {name!r}: {error}") from error


def _losses(model: nn.Module, calibration: Any) -> Iterator[torch.Tensor]:
    """The losses of a calibration set, one by one."""
    number = 0
    for number, one in enumerate(_results(model, calibration), 1):
        loss = one if isinstance(one, torch.Tensor) and one.numel() == 1 else getattr(one, "loss", None)
        if loss is None and isinstance(getattr(model, "loss", None), torch.Tensor):
            loss = model.loss
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
            shaped = next((value for value in (loss, one) if isinstance(value, torch.Tensor)), None)
            kind = type(one).__name__ if shaped is None else f"shape {tuple(shaped.shape)}"
            raise TypeError(
                f"compress(criterion='loss'): calibration gave no loss, a differentiable number, but {kind}; pass a "
                "function that takes the model, runs it and returns its loss or yields several"
            )
        if not torch.isfinite(loss):
            raise ValueError(f"compress(criterion='loss'): loss {number} is {float(loss)}")
        yield loss.reshape(())
    if not number:
        raise ValueError("calibration: there is no batch; a calibration set must not be empty")


def _results(model: nn.Module, calibration: Any) -> Iterable[Any]:
    """What may be losses."""
    if isinstance(calibration, Iterable):
        return (CALLS(model, batch, number) for number, batch in enumerate(calibration, 1))
    found = calibration(model)
    return found if isinstance(found, Iterator) else [found]


def drained(calibration: Any) -> Any:
    """A calibration set whose function, where it is one, runs to its end though it yields.

    Args:
        calibration: Batches, or a function of the model.

    Returns:
        The batches, or a function of the model.
    """
    if isinstance(calibration, Iterable) or not callable(calibration):
        return calibration
    function: Callable[[nn.Module], Any] = calibration

    def run(model: nn.Module) -> None:
        found = function(model)
        for _ in found if isinstance(found, Iterator) else ():
            pass

    return run
