"""Structured layers in checkpoints of Hugging Face transformers: to import this module is all there is to do.

``save_pretrained`` of a model with structured layers then writes their recipe (`linops.nn.recipe`), as it is at that
moment, into ``config.json``, and ``from_pretrained`` puts the layers in, on the meta device, before it loads them::

    {"quantization_config": {"quant_method": "linops", "recipe": {…}},
     "transformers_weights": "… import linops.nn.transformers before from_pretrained …"}

To transformers a structure is a way of quantising, for only that may change a model between its configuration and its
weights. The model is not said to be quantised once it is loaded: it trains, converts and compiles as any other. Where
this module is not imported, transformers goes on without a quantiser that it does not know, and would draw dense
weights at random; so the name of the file with the weights is a sentence, which it stops at and shows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial, wraps
from math import prod
from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers import PreTrainedModel
from transformers.quantizers.auto import (
    AUTO_QUANTIZATION_CONFIG_MAPPING,
    AUTO_QUANTIZER_MAPPING,
    register_quantization_config,
    register_quantizer,
)
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from linops import strict_json
from linops.nn.recipe import Layer, as_document, from_plain
from linops.nn.torch.dense import is_dense
from linops.nn.torch.recipe import rebuild_, recipe_of
from linops.nn.torch.sharded import is_cut
from linops.nn.torch.structured import Swapped

METHOD = "linops"
#: what stands in the place of the name of the file with the weights
SENTENCE = "layers of this model are structured: import linops.nn.transformers before from_pretrained"
_SAID = "the recipe of linops in config.json"

for _known in (AUTO_QUANTIZATION_CONFIG_MAPPING, AUTO_QUANTIZER_MAPPING):
    _known.pop(METHOD, None)  # of this module when it was imported before


@register_quantization_config(METHOD)
class StructureConfig(QuantizationConfigMixin):
    """A recipe as transformers keeps it in a configuration.

    Attributes:
        quant_method: ``"linops"``.
        recipe: The recipe as plain data; it is not trusted.

    Args:
        recipe: The recipe.
        **others: What else the configuration says; it is not used.
    """

    def __init__(self, recipe: Any = None, **others: Any) -> None:
        self.quant_method: Any = METHOD
        self.recipe = recipe


@register_quantizer(METHOD)
class StructureQuantizer(HfQuantizer):
    """Puts the layers of a recipe into a model between its configuration and its weights.

    Attributes:
        layers: The recipe.

    Args:
        quantization_config: The configuration that holds it.
        **options: As of `HfQuantizer`.

    Raises:
        ValueError: If it is no recipe.
    """

    requires_calibration = False

    def __init__(self, quantization_config: Any, **options: Any) -> None:
        super().__init__(quantization_config, **options)
        try:
            recipe = strict_json.loads(json.dumps(quantization_config.recipe))  # within its bounds
            self.layers = from_plain(_sources_first(recipe))
        except ValueError as error:
            raise ValueError(f"{_SAID}: {error}") from None

    @property
    def is_trainable(self) -> bool:
        """Whether the model can be trained."""
        return True

    def is_serializable(self) -> bool:
        """Whether the model can be saved."""
        return True

    def update_attn_implementation(self, config: Any) -> Any:
        """Take out of a configuration what stops those who do not know structures; transformers asks before it reads.

        Args:
            config: The configuration.

        Returns:
            It.
        """
        if getattr(config, "transformers_weights", None) == SENTENCE:
            del config.transformers_weights
        return config

    update_tp_plan = update_attn_implementation  # what the first versions of transformers 5 ask instead

    def _process_model_before_weight_loading(self, model: Any, checkpoint_files: Any = None, **_: Any) -> None:
        files = [Path(file) for file in checkpoint_files or ()]
        try:
            layers = _located(model, self.layers)
            _require_small(layers, files)
            rebuild_(model, layers, lambda name, part: layers[name].structures[part].operator, [])
        except ValueError as error:
            raise ValueError(f"{_SAID}: {error}") from None
        _require_held(model, layers, files)
        model.all_tied_weights_keys = model.all_tied_weights_keys | _ties(model, layers)
        for layer in _structured(model):
            layer._loaded_only = True

    def postprocess_model(self, model: Any, **_: Any) -> None:
        """What is left to do when a model is loaded: it is no longer said to be quantised.

        Args:
            model: The model.

        Raises:
            ValueError: If the checkpoint has not all that structured layers hold.
        """
        for layer in _structured(model):
            layer._finish_loading()
        for config in [getattr(one, "config", None) for one in model.modules()]:
            if _method(config) == METHOD:
                vars(config).pop("quantization_config", None)
        model.is_quantized = False
        for name in ("hf_quantizer", "quantization_method"):
            with suppress(AttributeError):
                delattr(model, name)


# ---------------------------------------------------------------- saving


_save: Any = getattr(PreTrainedModel.save_pretrained, "_plain", PreTrainedModel.save_pretrained)


@wraps(_save)
def _save_pretrained(self: Any, *args: Any, **kwargs: Any) -> Any:
    """`save_pretrained` of transformers, with the recipe of the structured layers that the model has."""
    config, structured = self.config, any(True for _ in _structured(self))
    if not structured and _method(config) != METHOD:
        return _save(self, *args, **kwargs)
    cut = next((name for name, one in self.named_parameters() if is_cut(one)), None)
    if cut is not None:
        raise ValueError(
            f"save_pretrained: {cut!r} lies on several ranks; call lo.nn.save(model, path) on all of them, or save by "
            "torch.distributed.checkpoint"
        )
    before = dict(vars(self))
    if ties := _ties(self, recipe_of(self)):
        self._tied_weights_keys = dict(self._tied_weights_keys or {}) | ties  # which are left out of the file
    vars(config)["save_pretrained"] = partial(_write, self)
    try:
        return _save(self, *args, **kwargs)
    finally:
        vars(config).pop("save_pretrained", None)
        vars(self).pop("_tied_weights_keys", None)
        vars(self).update({key: before[key] for key in ("_tied_weights_keys",) if key in before})


_save_pretrained._plain = _save  # type: ignore[attr-defined]
PreTrainedModel.save_pretrained = _save_pretrained


def _write(model: Any, directory: Any, *args: Any, **kwargs: Any) -> None:
    """Save a model's configuration, with its recipe as it is now, or without one that is out of date."""
    vars(model.config).pop("save_pretrained", None)
    layers = recipe_of(model)
    if (method := _method(model.config)) not in (None, METHOD):
        raise ValueError(
            f"save_pretrained: the model has structured layers ({next(iter(layers))!r} and others) and is quantised "
            f"({method}); config.json can say one of the two"
        )
    for name, layer in layers.items():
        if any("complex" in str(leaf.dtype) for one in layer.structures for _, leaf in one.operator.named_leaves()):
            raise TypeError(
                f"save_pretrained: layer {name!r} has complex parameters, which from_pretrained would make real; use "
                "lo.nn.save(model, path)"
            )
    said = {"quant_method": METHOD, "recipe": as_document(layers)} if layers else None
    try:
        strict_json.loads(json.dumps(said))
    except ValueError as error:
        raise ValueError(f"save_pretrained: the recipe, {error}; use lo.nn.save(model, path)") from None
    model.config.save_pretrained(directory, *args, **kwargs)
    path = Path(directory) / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop("quantization_config", None)
    content |= {"quantization_config": said, "transformers_weights": SENTENCE} if said else {}
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _method(config: Any) -> Any:
    """By what a configuration says that its model is quantised; None if by nothing."""
    given = getattr(config, "quantization_config", None)
    method = (
        given.get("quant_method", "some way") if isinstance(given, Mapping) else getattr(given, "quant_method", None)
    )
    return getattr(method, "value", method)


# ---------------------------------------------------------------- loading


def _sources_first(recipe: Any) -> Any:
    """A recipe with layers that others are tied to before those: the layers of a config.json are sorted by name."""
    layers = recipe.get("layers") if isinstance(recipe, dict) else None
    if not isinstance(layers, dict):
        return recipe
    order = sorted(layers.items(), key=lambda item: isinstance(item[1], dict) and "tied_to" in item[1])
    return recipe | {"layers": dict(order)}


def _renamed(names: Iterable[str], known: Collection[str], prefix: str) -> dict[str, str]:
    """Names of a checkpoint as those of a model, which may be the base of what was saved, or have it as its base."""
    names = list(names)
    ways: list[Callable[[str], str]] = [str, lambda name: name.removeprefix(f"{prefix}."), f"{prefix}.{{}}".format]
    best = max(ways, key=lambda way: sum(way(name) in known for name in names))
    return {name: best(name) for name in names}


def _located(model: Any, layers: Mapping[str, Layer]) -> dict[str, Layer]:
    """A recipe by the names of a model; without heads, of a model of another class than was saved."""
    modules, prefix = dict(model.named_modules(remove_duplicate=False)), model.base_model_prefix
    names = _renamed(layers, modules, prefix)
    if len(set(names.values())) < len(names):
        raise ValueError("it names a layer twice")
    if type(model).__name__ not in (model.config.architectures or [type(model).__name__]):
        heads = {name for name, new in names.items() if new not in modules and not name.startswith(f"{prefix}.")}
        if heads != set(names):
            names = {name: new for name, new in names.items() if name not in heads}
    tied = {name: names.get(layers[name].tied_to or "") for name in names}
    return {new: replace(layers[name], tied_to=tied[name]) for name, new in names.items()}


def _require_small(layers: Mapping[str, Layer], files: Iterable[Path]) -> None:
    """Raise if layers have more numbers than a checkpoint can hold."""
    own = [layer for layer in layers.values() if layer.tied_to is None]
    structures = [one for layer in own if layer.nonlinear is None for one in layer.structures]
    needed = sum(prod(leaf.shape) for one in structures for _, leaf in one.operator.named_leaves())
    needed += sum(prod(shape) for layer in own if layer.nonlinear for shape in layer.nonlinear.leaves.values())
    held = sum(file.stat().st_size for file in files)
    if files and needed > held:
        raise ValueError(f"its layers have {needed:,} parameters, and the checkpoint has {held:,} bytes")


def _require_held(model: Any, layers: Mapping[str, Layer], files: Iterable[Path]) -> None:
    """Raise if a checkpoint has the dense weight of a structured layer, or a structured one of a dense layer."""
    held: set[str] = set()
    for file in files:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                held |= set(opened.keys())
    own = model.state_dict()
    held = set(_renamed(held, own, model.base_model_prefix).values())
    for name in layers:
        missing = [key for key in own if key.startswith(f"{name}.") and key not in held]
        if missing and f"{name}.weight" in held and f"{name}.weight" not in own:
            raise ValueError(
                f"layer {name!r} is structured, and the checkpoint has a dense weight of it: load the dense checkpoint "
                f"with its own configuration, then lo.nn.replace_linear_(model, …, weights='project')"
            )
    for name, module in model.named_modules():
        if is_dense(module) and not {f"{name}.weight"} & (held | model.all_tied_weights_keys.keys()):
            others = sorted(key for key in held if key.startswith(f"{name}.") and key != f"{name}.bias")
            if others:
                raise ValueError(f"{_SAID}: it lacks layer {name!r}, of which the checkpoint has {others[0]!r}")


def _ties(model: Any, layers: Mapping[str, Layer]) -> dict[str, str]:
    """Of parameters that layers share: the name in the later layer, and that in the first."""
    return {
        f"{name}.{leaf}": f"{layer.tied_to}.{leaf}"
        for name, layer in layers.items()
        if layer.tied_to
        for leaf, _ in model.get_submodule(layer.tied_to).named_parameters()
        if leaf != "bias"
    }


def _structured(model: Any) -> Iterable[Swapped]:
    return (module for module in model.modules() if isinstance(module, Swapped))
