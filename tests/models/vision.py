"""torchvision beside a torch it is not built for, as PyPI's beside CPU builds: its Python runs, its kernels do not."""

from importlib.util import find_spec
from pathlib import Path

import torch


def make_importable():
    """Declare what torchvision's import asks of torch if its binary does not load; transformers and timm import it."""
    found = find_spec("torchvision")
    if found is None or not found.submodule_search_locations:
        return
    for binary in Path(found.submodule_search_locations[0]).glob("_C*.so"):
        try:
            torch.ops.load_library(str(binary))
        except OSError:
            for name in (name for name in ("nms", "qnms") if not hasattr(torch.ops.torchvision, name)):
                torch.library.define(
                    f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
