"""A PyTorch model as the layers that an estimate knows of, without its numbers."""

from __future__ import annotations

import re
from collections import defaultdict
from copy import deepcopy
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from linops.families import dense
from linops.nn.description import Description, Part
from linops.nn.patterns import matches
from linops.nn.sending import STYLES
from linops.nn.torch.dense import is_dense
from linops.nn.torch.layer import Linear
from linops.nn.torch.nonlinear import Nonlinear
from linops.nn.torch.replace import replace_linear_
from linops.nn.torch.styles import styles_of
from linops.operator import LinearOperator

NORMS = (nn.LayerNorm, nn.RMSNorm)


def described(model: nn.Module, family: Any, where: Any, exclude: Any, example: Any) -> Description:
    """The layers of a model, with structures in the place of dense ones.

    Args:
        model: The model; it stays as it is.
        family: A family, or None.
        where: Which linear layers get it; see `replace_linear_`.
        exclude: Which of these are left; patterns that match none are no error.
        example: An input of one example or more, a tuple or a dict of inputs; or None.

    Returns:
        The description: of one example, or of one vector for each linear layer.
    """
    bare = _without_numbers(model, "meta")
    if family is not None:
        names = [name for name, _ in bare.named_modules()]
        left = exclude if exclude is not None and any(matches(exclude, name) for name in names) else None
        replace_linear_(bare, family, where=where, exclude=left, zero=())
    for name, one in bare.named_modules():
        if isinstance(one, Nonlinear):
            raise ValueError(
                f"estimate: layer {name!r} would be a {type(one).__name__}, which is no linear map, and of which an "
                "estimate knows no operator; exclude it, or estimate the model before it is replaced"
            )
    seen: set[int] = set()
    trace = None if example is None else _traced(bare, example)
    styles = {name: "whole" for name, one in bare.named_modules() if isinstance(one, Linear)}
    styles |= {name: one for name, one in styles_of(bare, None).items() if one in STYLES}  # as `parallelize_` has them
    parts = [
        part for name, one in bare.named_modules() for part in _parts(name, one, seen, trace, styles.get(name, ""))
    ]
    blocks = {part.block: 1 for part in parts if part.block}
    carried: dict[str, int] = {}
    for part in parts:
        if part.block and part.block not in carried and part.operator is not None:
            carried[part.block] = part.operator.shape[1]
    if trace is not None:
        carried |= {name: trace.entering[name] for name in blocks if name in trace.entering}
    unit = "vectors" if trace is None else "examples"
    return Description(type(model).__name__, tuple(parts), blocks, carried, 1, unit)


def _empty(tensor: torch.Tensor, device: str) -> torch.Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)


def _without_numbers(model: nn.Module, device: str) -> nn.Module:
    """A copy of a model whose tensors are on another device, and never were anywhere in the model's memory twice."""

    def blank(tensor: torch.Tensor) -> torch.Tensor:
        empty = _empty(tensor, device)
        return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty

    memo: dict[int, Any] = {id(one): blank(one) for one in (*model.parameters(), *model.buffers())}
    return deepcopy(model, memo)


def _parts(name: str, module: nn.Module, seen: set[int], trace: Trace | None, style: str) -> list[Part]:
    """What a module is by itself, without those in it."""
    own = [one for one in module._parameters.values() if one is not None]
    new = [one for one in own if id(one) not in seen]
    seen |= {id(one) for one in own}
    more = trace.of(name, module) if trace is not None else {}
    found = re.match(r"(.*?\.)??\d+(?=\.)", name)
    block = found[0] if found else ""
    operator: LinearOperator | None = None
    if isinstance(module, Linear):
        operator = module.structure.operator
    elif is_dense(module):
        plain: Any = module
        operator = dense(*(plain.weight.shape if isinstance(module, nn.Linear) else plain.weight.shape[::-1]))
    if operator is not None:
        weight = next((one for key, one in module._parameters.items() if key != "bias" and one is not None), None)
        tied = weight is not None and not any(one is weight for one in new)
        bias = module._parameters.get("bias") is not None
        return [Part(name, operator, bias, style=style, block=block, tied=tied, **more)]
    saved = {"saved": prod(module.normalized_shape)} if isinstance(module, NORMS) and trace is None else {}
    shapes = tuple([tuple(one.shape) for one in new])
    return [Part(name, shapes=shapes, block=block, **saved, **more)] if shapes or saved or more.get("kept") else []


@dataclass
class Trace:
    """What a forward pass did, by the names of modules.

    Attributes:
        examples: How many there were.
        vectors: That linear layers multiplied.
        kept: Bytes that are kept for the backward pass.
        entering: Numbers, an example, that entered a module.
        flops: Of the modules, with those in them.
        itemsize: Bytes of a number.
    """

    examples: int
    itemsize: int
    vectors: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    kept: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    entering: dict[str, int] = field(default_factory=dict)
    flops: dict[str, int] = field(default_factory=dict)

    def of(self, name: str, module: nn.Module) -> dict[str, Any]:
        """What a part is told of a module."""
        kept = self.kept.get(name, 0) / self.itemsize / self.examples
        if isinstance(module, Linear) or is_dense(module):
            return {"vectors": self.vectors.get(name, 0) / self.examples, "kept": kept}
        inner = sum([self.flops.get(f"{name}.{child}" if name else child, 0) for child, _ in module.named_children()])
        return {"flops": max(self.flops.get(name, 0) - inner, 0) / self.examples, "kept": kept}


def _traced(model: nn.Module, example: Any) -> Trace:
    """Run a model forward on tensors without numbers, as on a CPU, and see what it does."""
    positional = () if isinstance(example, dict) else example if isinstance(example, tuple) else (example,)
    named = example if isinstance(example, dict) else {}
    tensors = [one for one in (*positional, *named.values()) if isinstance(one, torch.Tensor)]
    if not tensors or not tensors[0].ndim or not len(tensors[0]):
        raise ValueError("estimate(example=…): expected a tensor whose first axis is that of examples, or several")
    itemsize = next((one.element_size() for one in model.parameters() if one.is_floating_point()), 4)
    trace = Trace(len(tensors[0]), itemsize)
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
    )
    with FakeTensorMode():  # the meta device has no kernel for attention, and would keep all pairs of tokens

        def fake(given: Any) -> Any:
            return _empty(given, "cpu") if isinstance(given, torch.Tensor) else given

        seen = _without_numbers(model, "cpu")
        watched = _Watched(seen, trace)
        with watched, counter, torch.autograd.graph.saved_tensors_hooks(watched.keep, lambda tensor: tensor):
            seen(*map(fake, positional), **{key: fake(one) for key, one in named.items()})
    root = type(model).__name__
    for name, counts in counter.get_flop_counts().items():
        short = "" if name in ("Global", root) else name.removeprefix(f"{root}.")
        trace.flops[short] = max(sum(counts.values()), trace.flops.get(short, 0))
    return trace


def _attention(q: Any, k: Any, v: Any, dropout_p: float = 0.0, is_causal: bool = False, **_: Any) -> int:
    """The FLOPs of attention, half of them where a token sees only those before it."""
    return sdpa_flop_count(q, k, v) // (2 if is_causal else 1)


class _Watched:
    """Hooks that write down which module runs, and what is kept meanwhile.

    Args:
        model: The model.
        trace: Where it is written to.
    """

    def __init__(self, model: nn.Module, trace: Trace) -> None:
        self.model, self.trace, self.path, self.handles = model, trace, [""], []
        # tensors that are kept alive, so that no other takes the place of one
        own = (*model.parameters(), *model.buffers())
        self.storages: dict[int, Any] = {one.untyped_storage()._cdata: one for one in own}

    def __enter__(self) -> None:
        for name, module in self.model.named_modules():
            if name:
                self.handles.append(module.register_forward_pre_hook(self._entering(name)))
                self.handles.append(module.register_forward_hook(lambda *_: self.path.pop() and None, always_call=True))

    def __exit__(self, *_: Any) -> None:
        for handle in self.handles:
            handle.remove()

    def _entering(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any) -> None:
            self.path.append(name)
            if inputs and isinstance(inputs[0], torch.Tensor):
                self.trace.entering.setdefault(name, inputs[0].numel() // self.trace.examples)
                self.trace.vectors[name] += prod(inputs[0].shape[:-1])

        return hook

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        """What autograd keeps, once for each storage."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self.storages:
            self.storages[storage._cdata] = tensor
            self.trace.kept[self.path[-1]] += storage.nbytes()
        return tensor
