"""Real models need packages of the extra `models`; where one is missing its tests are skipped."""

import logging
from importlib.util import find_spec
from pathlib import Path

import pytest

PACKAGES = ("transformers", "timm", "peft", "torchao")
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.models)
            item.add_marker(pytest.mark.filterwarnings("ignore"))  # theirs; ours are asserted


@pytest.fixture(autouse=True, scope="session")
def packages():
    """The packages, or skip."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: the extra `models`")
    logging.getLogger("transformers").setLevel(logging.ERROR)
