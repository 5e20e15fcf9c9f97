"""``layer.weight`` of a structured layer: the dense matrix, a tensor computed where it is needed, and never written.

Models read `torch.nn.Linear.weight` for its dtype or device (which costs nothing here), give it to
`torch.nn.functional.linear` or a matrix product (which run by the structure), compute with it otherwise (which
multiplies it out, differentiably, with a warning), or write into it (an error: what is written would be lost).
"""

from __future__ import annotations

import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.utils._pytree import tree_any, tree_leaves, tree_map_only

Tensor = torch.Tensor

#: what a tensor without numbers knows
_ATTRIBUTES = (
    "dtype device shape ndim layout requires_grad itemsize nbytes is_cuda is_cpu "
    "is_meta is_sparse is_sparse_csr is_quantized is_nested is_xpu is_mps is_mkldnn"
)
_METHODS = (
    "size dim ndimension numel nelement element_size is_floating_point is_complex get_device "
    "__len__ __hash__ stride is_contiguous"
)
_KNOWN = {getattr(Tensor, name).__get__ for name in _ATTRIBUTES.split()} | {
    getattr(Tensor, name) for name in _METHODS.split()
}
_KNOWN |= {torch.is_floating_point, torch.is_complex, torch.numel}

_TRANSPOSES = {Tensor.t, torch.t, Tensor.T.__get__, Tensor.mT.__get__}  # type: ignore[attr-defined]
_DETACHED = {Tensor.detach, torch.detach, Tensor.data.__get__}  # type: ignore[attr-defined]
_PRODUCTS = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm}
_LEFT_PRODUCTS = {Tensor.__rmatmul__}
#: what changes a tensor, beside the functions whose names end with an underscore; torch has other augmented assignments
#: as such
_SETTERS = {
    "__set__",
    "__delete__",
    "__setitem__",
    "register_hook",
    "register_post_accumulate_grad_hook",
    "retain_grad",
}
_SETTERS |= {"__iand__", "__ior__", "__ixor__", "__ilshift__", "__irshift__"}
#: the methods among these, for torch.compile, which cannot ask for names
_IN_PLACE = {
    getattr(Tensor, name)
    for name in dir(Tensor)
    if name in _SETTERS - {"__set__", "__delete__"} or re.search(r"[^_]_$", name)
}


def read_only(layer: str) -> str:
    """What is said to who writes into the weight of a layer."""
    return (
        f"the weight of {layer} is computed from its factors, so what is written into it would be lost. Initialise, "
        "rescale, freeze or tie the layer before replace_linear_, or exclude it; layer.reset_parameters() draws the "
        "factors anew, layer.requires_grad_(False) freezes them"
    )


def _no_gradient(gradient: Any) -> None:
    raise RuntimeError(
        "a gradient reached the weight of a structured layer and not its factors: it was given to a function that "
        "torch does not see through, such as a fused kernel. Exclude the layer from replace_linear_, or give "
        "layer.to_dense().weight"
    )


#: the hooks of every lazy weight
_HOOKS: Any = OrderedDict({0: _no_gradient})


class ReadOnly(torch.Tensor):
    """A tensor that refuses to be written to, as its views do; results that share no memory are plain tensors."""

    _layer = "a structured layer"

    def _plain(self) -> torch.Tensor:
        with torch._C.DisableTorchFunctionSubclass():
            return self.as_subclass(torch.Tensor)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _KNOWN:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if _writes(func, args, kwargs):
            owner: Any = next(one for one in tree_leaves((args, kwargs)) if isinstance(one, ReadOnly))
            # no TypeError, which torch's operators take for "try another way", as for w /= 2
            raise RuntimeError(f"{getattr(func, '__name__', func)}: {read_only(owner._layer)}")
        memory: set[int | None] = set()
        layers: list[str] = []

        def plain(tensor: ReadOnly) -> torch.Tensor:
            value = tensor._plain()
            memory.add(_memory(value))
            layers.append(tensor._layer)
            return value

        args, kwargs = tree_map_only(ReadOnly, plain, (args, kwargs))
        result = func(*args, **kwargs)
        if isinstance(result, np.ndarray):  # which shares memory with the tensor
            result.flags.writeable = False
            return result

        def guarded(tensor: torch.Tensor) -> torch.Tensor:
            if type(tensor) is not torch.Tensor or (at := _memory(tensor)) is None or at not in memory:
                return tensor
            view: Any = tensor.as_subclass(ReadOnly)
            view._layer = layers[0]
            return view

        return tree_map_only(torch.Tensor, guarded, result)


class Guarded(torch.Tensor):
    """As `ReadOnly`, but traced by torch.compile: writing breaks the graph, and is refused outside; views are free."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _IN_PLACE:
            raise RuntimeError(read_only("a structured layer"))
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


class Weight(ReadOnly):
    """The matrix of an operator as a tensor without numbers.

    Args:
        operator: What gives the operator as it is now.
        shape: Its shape.
        dtype: Its dtype.
        device: Where it is.
        requires_grad: Whether it depends on parameters that are trained.
        layer: How errors call the layer.
        initialized: Whether transformers has loaded or drawn all that it is computed from.
    """

    _operator: Callable[[], Any]
    _is_hf_initialized: bool

    @staticmethod
    def __new__(  # noqa: D102
        cls,
        operator: Callable[[], Any],
        shape: tuple[int, ...],
        dtype: Any,
        device: Any,
        requires_grad: bool,
        layer: str = "a structured layer",
        initialized: bool = False,
    ) -> Weight:
        self: Any = torch.Tensor._make_wrapper_subclass(
            cls, shape, dtype=dtype, device=device, requires_grad=requires_grad
        )
        if requires_grad:
            with torch._C.DisableTorchFunctionSubclass():
                self._backward_hooks = _HOOKS
        self._operator = operator
        self._layer = layer
        self._is_hf_initialized = initialized
        return self

    def _plain(self) -> torch.Tensor:
        return dense(self._operator(), self.dtype, self.device)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _KNOWN:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if func is functional.linear:
            x, weight, bias = _linear_arguments(*args, **kwargs)
            if isinstance(weight, Weight) and not isinstance(x, ReadOnly):
                y = weight._operator()._linear(x)
                return y if bias is None else y + bias.to(y.dtype)
        if (
            func in _PRODUCTS
            and len(args) == 2
            and not kwargs
            and isinstance(args[0], Weight) != isinstance(args[1], Weight)
        ):
            left, right = [one._operator() if isinstance(one, Weight) else one for one in args]
            return left @ right
        if func in _LEFT_PRODUCTS and not isinstance(args[1], Weight):
            return args[1] @ args[0]._operator()
        if func in _TRANSPOSES:
            return args[0]._changed(lambda operator: operator.T, tuple(reversed(args[0].shape)), args[0].requires_grad)
        if func in _DETACHED:
            return args[0]._changed(_detached, tuple(args[0].shape), False)
        if func == Tensor.grad.__get__:  # type: ignore[attr-defined]
            return None
        if not _writes(func, args, kwargs):
            weight = next(one for one in tree_leaves((args, kwargs)) if isinstance(one, Weight))
            m, n = weight.shape
            message = f"the {m}×{n} weight of {weight._layer} is multiplied out here, as the caller computes with it"
            warnings.warn(f"{message}; layer(x) does without, layer.to_dense() says so", stacklevel=2)
        return super().__torch_function__(func, types, args, kwargs)

    def _changed(self, change: Callable[[Any], Any], shape: Any, requires_grad: bool) -> Weight:
        operator = self._operator
        return Weight(lambda: change(operator()), shape, self.dtype, self.device, requires_grad, self._layer)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise NotImplementedError(
            f"{func}: the weight of a structured layer has no memory of its own, and was given to a function that "
            "torch does not see through, such as a fused kernel. Exclude the layer from replace_linear_, or give "
            "layer.to_dense().weight"
        )


def dense(operator: Any, dtype: Any, device: Any) -> torch.Tensor:
    """The matrix of an operator as a tensor; one without arrays is of no backend, and takes the dtype and device."""
    return (
        operator.to_dense()
        if operator.backend == "torch"
        else torch.as_tensor(operator.to_dense(), dtype=dtype, device=device)
    )


def _memory(tensor: torch.Tensor) -> int | None:
    """Which memory a tensor shows, also inside torch.func's transformations; None for a sparse one, which has none."""
    functorch: Any = torch._C._functorch  # type: ignore[attr-defined]
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else None


def _linear_arguments(input: Any, weight: Any, bias: Any = None) -> tuple[Any, Any, Any]:
    """The arguments of `torch.nn.functional.linear`, in their order."""
    return input, weight, bias


def _detached(operator: Any) -> Any:
    return operator._map(lambda leaf: leaf.detach())


def _writes(func: Any, args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a function of torch writes into a read-only tensor: by its name, as torch's own convention has it."""
    name = getattr(func, "__name__", "")
    if tree_any(_is_read_only, kwargs.get("out")):
        return True
    if not (name in _SETTERS or (name.endswith("_") and not name.endswith("__"))):
        return False
    target = (
        args[0]
        if args
        else next((kwargs[key] for key in ("tensor", "input", "self", "tensors") if key in kwargs), None)
    )
    return tree_any(_is_read_only, target)


def _is_read_only(value: Any) -> bool:
    return isinstance(value, ReadOnly)
