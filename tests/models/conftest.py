"""Real models need packages of the extra `models`; where one is missing its tests are skipped."""

import logging
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

PACKAGES = ("transformers", "timm", "peft", "torchao")
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.models)
            item.add_marker(pytest.mark.filterwarnings("ignore"))  # theirs; ours are asserted


@pytest.fixture(autouse=True, scope="session")
def packages():
    """The packages, as their models need them on a machine without a GPU."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: the extra `models`")
    for name in ("nms", "qnms"):  # which torchvision's binary of another build of torch cannot register, and its import asks for
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    logging.getLogger("transformers").setLevel(logging.ERROR)
