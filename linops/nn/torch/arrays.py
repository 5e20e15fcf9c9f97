"""The arrays of a PyTorch model, each with its layer and layout (`linops.nn.matrices`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from linops.nn.matrices import EMBEDDING, VECTOR, by_name, told, vector
from linops.nn.rates import Entry
from linops.nn.torch.layer import Linear
from linops.nn.torch.nonlinear import Nonlinear
from linops.nn.torch.parts import Parts

_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
#: modules whose arrays multiply elementwise
_ELEMENTWISE = (
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.modules.batchnorm._NormBase,
    nn.PReLU,
)
#: what wrappers call the module that they wrap: torch.compile, FSDP, activation checkpoints, Lightning Fabric
_WRAPPED = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")


def entries(
    model: nn.Module, matrices: Mapping[Any, str | None] | None = None
) -> Iterator[tuple[Entry, str, nn.Parameter | None]]:
    """Every parameter with its layer and its name in the model; a tied one more than once.

    Paths of layers leave out the names that wrappers add. A layer in parts also stands as a whole, which has no
    parameter of its own: it may be the base of one that is in no parts. An array that is pruned or parametrised stands
    for the one that it replaces.

    Args:
        model: The model.
        matrices: What the caller says of arrays, as in `linops.nn.matrices.told`.

    Yields:
        The entry, the parameter's name, and the parameter.
    """
    modules = dict(model.named_modules())
    wholes = [module for module in modules.values() if isinstance(module, Parts)]
    shares = {id(part): part.out_features / whole.out_features for whole in wholes for part in whole.layers}
    tied = {id(module.weight) for module in modules.values() if isinstance(module, _EMBEDDINGS)}
    for place, module in modules.items():
        path = _path(place, modules)
        if isinstance(module, Parts):
            yield Entry(path, "weight", module, (module.out_features, module.in_features), "out in"), "", None
        for key, parameter in module._parameters.items():
            if parameter is None:
                continue
            layer, above, name, whole = _meant(module, place, key, modules)
            at, size, full = _path(above, modules), tuple(parameter.shape), f"{place}.{key}" if place else key
            if whole and isinstance(layer, (Linear, Nonlinear)) and name in layer._names:
                structure: Any = layer.structure if isinstance(layer, Linear) else layer.nonlinear.structure
                size = dict(structure.operator.named_leaves())[name].shape  # of one copy
                share = shares.get(id(layer), 1.0)
                yield Entry(at, name, layer, size, None, structure.operator, share), full, parameter
                continue
            if whole and isinstance(layer, Nonlinear) and name in layer.nonlinear.matrices:
                yield Entry(at, name, layer, layer.nonlinear.matrices[name], "out in", is_beside=True), full, parameter
                continue
            if whole and isinstance(layer, nn.Linear) and name == "weight":
                size = layer.out_features, layer.in_features  # FSDP holds a flat part of it
            entry = Entry(at, name if whole else key, layer, size)
            layout = told(matrices, entry.name, layer, size)
            if layout is None:
                is_embedding = id(parameter) in tied or isinstance(layer, _EMBEDDINGS)
                layout = _layout(layer, at, name, size, is_embedding) if whole and len(size) > 1 else vector(size)
            yield replace(entry, layout=layout), full, parameter


def _path(place: str, modules: dict[str, nn.Module]) -> str:
    """A module's place without the names of wrappers on the way."""
    steps, at = [], ""
    for step in place.split(".") if place else ():
        above, at = modules[at], f"{at}.{step}" if at else step
        alone = step == "module" and len(above._modules) == 1 and not above._parameters  # DataParallel and its kin
        if not (alone or step in _WRAPPED):
            steps.append(step)
    return ".".join(steps)


def _meant(module: nn.Module, place: str, key: str, modules: dict[str, nn.Module]) -> tuple[nn.Module, str, str, bool]:
    """Layer, place and name of the array that a parameter stands for; whether it has its axes (magnitudes have not)."""
    if isinstance(module, ParametrizationList):
        above, _, name = place.rpartition("parametrizations.")
        above = above.rstrip(".")
        # of weight norm: the magnitude; original1 is the direction
        return modules[above], above, name, key != "original0"
    for suffix, others in {"_orig": ("_mask", "_u"), "_v": ("_g",), "_g": ("_v",)}.items():
        name = key.removesuffix(suffix)
        made = name != key and name not in module._parameters and isinstance(getattr(module, name, None), Tensor)
        if made and {f"{name}{other}" for other in others} & {*module._parameters, *module._buffers}:
            return module, place, name, suffix != "_g"
    return module, place, key, True


def _layout(layer: nn.Module, path: str, key: str, size: tuple[int, ...], is_embedding: bool) -> str | None:
    """The layout of an array of two or more axes."""
    if is_embedding:
        return EMBEDDING
    if isinstance(layer, _ELEMENTWISE) or key.startswith("bias"):  # MultiheadAttention has bias_k and bias_v
        return VECTOR
    if isinstance(layer, (nn.Linear, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)):
        return "out in" if len(size) == 2 else None
    if isinstance(layer, nn.Bilinear):
        return "out in in"
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        return "in out" + " in" * (len(size) - 2)
    if isinstance(layer, nn.modules.conv._ConvNd):
        return "out" + " in" * (len(size) - 1)
    if type(layer).__name__ == "Conv1D":  # Hugging Face's transposed linear layer
        return "in out"
    return by_name(path, key, layer, size)
