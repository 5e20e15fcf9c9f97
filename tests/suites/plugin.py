"""A pytest plugin: puts linops in the place of a library's own, and says how many tests it multiplied in."""

from __future__ import annotations

import pytest

from . import counts, interface, matmul

#: tests in which linops multiplied, and what became of all
multiplied: dict[str, int] = {}


def pytest_configure():
    """Patch SciPy and count, only where this runs as a plugin: the module is also imported to look for doctests."""
    interface.install()
    counts.install()


def pytest_collection_modifyitems(items):
    """Patch NumPy's test module once it is imported."""
    for module in {item.module for item in items if hasattr(item.module, "TestMatmulOperator")}:
        matmul.install(module)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """Count the products of a test."""
    counts.products = 0
    yield
    if counts.products:
        multiplied[item.nodeid] = counts.products


def pytest_terminal_summary(terminalreporter):
    """One line for whoever started this."""
    stats = terminalreporter.stats
    passed, failed = (
        [report.nodeid for report in stats.get("passed", [])],
        [report.nodeid for report in stats.get("failed", [])],
    )
    ours = sum(nodeid in multiplied for nodeid in passed)
    skipped = len(stats.get("skipped", []))
    terminalreporter.write_line(
        f"linops: {len(passed)} passed, {len(failed) + len(stats.get('error', []))} failed, {skipped} skipped, "
        f"{len(stats.get('xfailed', []))} expected to fail; with products {ours} of those that passed: "
        f"{sum(multiplied.values())} products"
    )
