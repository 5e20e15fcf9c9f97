"""Settings of the tests' own process, which linops leaves alone; the choice of tests, by limits of cases and a sample.

A test with several marks `parametrize` is a product of parameters. By default a sample runs in which every value of
every parameter occurs; the rest is marked `full`, and `pytest -m full` runs everything.
`pytest -m full --minutes 10 --shuffle 3` runs as many of all as ten minutes allow, in an order of its own for each
number.
"""

import gc
import os
import random
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
from _pytest.doctest import DoctestModule
from cases import CASES
from cases.limits import BACKENDS, DTYPES, names
from covering import covering
from frameworks import compile_fast, settle
from processes import Processes

os.environ["LINOPS_MACHINE"] = ""  # plans by the numbers that linops has, whatever file the user has
os.environ["TRITON_INTERPRET"] = "1"  # where triton is installed; it reads this when it is first imported
settle()

#: modules whose examples take long, for JAX compiles each of their operations: they run with full
LONG_EXAMPLES = {f"linops.nn.{name}" for name in ("flax.nonlinear", "flax.project", "equinox.nonlinear")}
LONG_EXAMPLES |= {f"linops.nn.equinox.{name}" for name in ("project", "balance")}

_STARTED = time.monotonic()
_memory = {"limit": 4e9}


@pytest.fixture(autouse=True)
def bounded_memory():
    """Drop JAX's compiled programs once they fill gigabytes: thousands of them stay otherwise."""
    yield
    if "jax" in sys.modules and _resident() > _memory["limit"]:
        sys.modules["jax"].clear_caches()
        # what is not given back is no reason to compile everything again after each test
        _memory["limit"] = max(4e9, _resident() + 1e9)


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """Pools of gloo processes for the tests of a module: `processes(2, function, *arguments)` gives ranks' results."""
    pools = Processes(tmp_path_factory.mktemp("processes"))
    yield pools
    pools.close()


def _resident():
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096 if statm.exists() else 0


def pytest_addoption(parser):
    parser.addoption("--minutes", type=float, help="skip the tests that have not begun after so many minutes")
    parser.addoption("--shuffle", type=int, metavar="SEED", help="run the tests in the order that this number gives")


def pytest_report_header(config):
    seed = config.getoption("shuffle")
    return None if seed is None else f"order of tests: --shuffle {seed}"


def pytest_runtest_setup(item):
    minutes = item.config.getoption("minutes")
    if minutes is not None and time.monotonic() - _STARTED > 60 * minutes:
        pytest.skip(f"the {minutes:g} minutes are over")


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "uses(*names): the backends and dtypes that a test over cases uses besides its parameters"
    )
    if config.option.markexpr == "not full":  # `-m full` compiles as users do
        compile_fast()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    """Hypothesis' plugin imports it for its summary, a second that a test without it need not wait for."""
    alone = not session.config.getoption("numprocesses", None)
    if alone and "hypothesis" not in sys.modules and session.config.pluginmanager.has_plugin("hypothesispytest"):
        session.config.pluginmanager.unregister(name="hypothesispytest")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is collected of tests stays: to look for garbage among it took a tenth of the time of all tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_collect_file():
    """No file of tests has examples: not to look for them spares importing the scripts that tests start."""
    return [found for found in (yield) if not isinstance(found, DoctestModule)]


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marks
def pytest_collection_modifyitems(config, items):
    """Leave out tests of a case on backends and dtypes it has not (`cases.limits.only`); mark those no sample needs."""
    left_out = [item for item in items if not _used(item) <= names(CASES.get(_parameters(item).get("case")))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]
    for item in items:
        if isinstance(item, pytest.DoctestItem) and item.name.rpartition(".")[0] in LONG_EXAMPLES:
            item.add_marker("full")
    whole = config.option.markexpr == "full"
    sample = _sample(items)
    # what only `-m full` runs comes first, and of that what is no product
    if (seed := config.getoption("shuffle")) is not None:
        random.Random(seed).shuffle(items)
        items.sort(key=lambda item: (item in sample, not item.get_closest_marker("full")))
    for item in items:
        if (whole or item not in sample) and not item.get_closest_marker("full"):
            item.add_marker("full")


def _sample(items):
    """Tests that are no product of parameters, and of each product a covering sample, unless it marks one itself."""
    products, sample = defaultdict(list), []
    for item in items:
        if len(list(item.iter_markers("parametrize"))) > 1:
            products[item.function].append(item)
        else:
            sample.append(item)
    for tests in products.values():
        if not any(test.get_closest_marker("full") for test in tests):
            named = {test.nodeid: test for test in tests}
            tests = [
                named[name] for name in covering(list(named), lambda name, named=named: _values(named[name]), _cost)
            ]
        sample += tests
    return {test for test in sample if not test.get_closest_marker("full")}


def _values(item):
    return [(name, repr(value)) for name, value in _parameters(item).items()]


def _cost(name):
    """JAX compiles every size and dtype anew."""
    return 10.0 if "jax" in name else 1.0


def _parameters(item):
    return item.callspec.params if hasattr(item, "callspec") else {}


def _used(item):
    """The backends and dtypes of a test: its parameters and those of its mark `uses`, or NumPy and float64."""
    marked = {name for mark in item.iter_markers("uses") for name in mark.args}
    used = marked | {value for value in _parameters(item).values() if isinstance(value, str)} & {*BACKENDS, *DTYPES}
    return used | (set() if used & set(BACKENDS) else {"numpy"}) | (set() if used & set(DTYPES) else {"float64"})
