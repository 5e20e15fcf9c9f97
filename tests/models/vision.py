"""torchvision beside a torch that its binary is not built for, as PyPI's beside the CPU build: its Python runs, its own kernels do not."""

from importlib.util import find_spec
from pathlib import Path

import torch


def make_importable():
    """Declare what torchvision's import asks torch for, where its binary cannot be loaded; transformers and timm import it."""
    found = find_spec("torchvision")
    if found is None or not found.submodule_search_locations:
        return
    for binary in Path(found.submodule_search_locations[0]).glob("_C*.so"):
        try:
            torch.ops.load_library(str(binary))
        except OSError:
            for name in ("nms", "qnms"):
                torch.library.define(
                    f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
