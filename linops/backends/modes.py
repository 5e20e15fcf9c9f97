"""What a framework is doing with an array now: tracing it, compiling, narrowing products, holding it on a device."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from linops.backends.registry import backend_of


def is_placeholder(value: Any) -> bool:
    """Whether a value stands for an array in a graph that torch.compile is building."""
    fx = sys.modules.get("torch.fx")
    return fx is not None and isinstance(value, fx.Proxy)


def is_symbol(value: Any) -> bool:
    """Whether a value is an integer, or True or False, that torch traces as a symbol."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, (torch.SymInt, torch.SymBool))


def is_traced(value: Any) -> bool:
    """Whether a value is an array that JAX traces."""
    return backend_of(value) == "jax" and isinstance(value, sys.modules["jax"].core.Tracer)


def is_traced_among(value: Any, others: Sequence[Any]) -> bool:
    """Whether JAX traces one of its arrays, or one of others."""
    tracer = sys.modules["jax"].core.Tracer
    return isinstance(value, tracer) or any(isinstance(other, tracer) for other in others)


def is_recording() -> bool:
    """Whether torch, which has been imported, records products for gradients."""
    return sys.modules["torch"].is_grad_enabled()


def gradients_wanted(value: Any, others: Sequence[Any]) -> int:
    """What torch, where it records, will want gradients of, if it is asked for them: as in `linops.plan.gradient`.

    Args:
        value: An operand.
        others: Leaves.

    Returns:
        1 for the operand, and 2, 4, 8 … for each of the leaves.
    """
    wanted, bit = int(value.requires_grad), 2
    for other in others:
        if other.requires_grad:
            wanted |= bit
        bit <<= 1
    return wanted


def is_compiling() -> bool:
    """Whether torch.compile or torch.export is tracing: sizes may be symbols then, and caches are not looked into.

    Returns:
        True or False.
    """
    torch = sys.modules.get("torch")
    return torch is not None and torch.compiler.is_compiling()


def is_dynamo() -> bool:
    """Whether torch.compile reads the code: NumPy's arrays are then tensors without numbers, as in no other mode.

    Returns:
        True or False.
    """
    torch = sys.modules.get("torch")
    return torch is not None and torch.compiler.is_dynamo_compiling()


def is_autocasting() -> bool:
    """Whether torch narrows matrix products on CPUs now.

    Returns:
        True or False.
    """
    torch = sys.modules.get("torch")
    return torch is not None and torch.is_autocast_enabled("cpu")


def device_kind(array: Any) -> str:
    """The kind of device that an array's numbers are on.

    Args:
        array: An array or a spec.

    Returns:
        ``"cpu"``, ``"cuda"``, …, as the backend calls it; ``"cpu"`` of specs, of torch's meta device, and of an array
        that JAX traces where that is JAX's default.
    """
    backend = backend_of(array)
    if backend == "torch":
        kind = array.device.type
        return "cpu" if kind == "meta" else kind
    if backend == "jax":
        jax = sys.modules["jax"]
        if isinstance(array, jax.core.Tracer):
            return jax.default_backend()
        return next(iter(array.devices())).platform
    return "cpu"
