"""The documentation's Python runs, and prints what the page says it prints.

The ```python blocks of a page run in order in one namespace; a ```text block right after one is its output. The examples run as scripts.
A line ``<!-- needs: package … -->`` right before a block names what is no dependency of linops: where one is missing, the block is left out,
and the page's test, once the rest has passed, is reported as skipped.
"""

import importlib
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

BLOCK = re.compile(r"(?:^<!-- needs: (?P<needs>[\w ]+) -->\n)?^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```$)?", re.MULTILINE | re.DOTALL)


def blocks(page):
    """(line number, code, expected output or None, packages) of each Python block."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        yield text[: match.start("code")].count("\n"), match["code"], match["output"], (match["needs"] or "").split()


def missing(packages):
    """Those that cannot be imported: they are not there, or not for this torch."""
    found = []
    for package in packages:
        try:
            importlib.import_module(package)
        except (ImportError, RuntimeError):
            found.append(package)
    return found


def name(path):
    return str(path.relative_to(ROOT))


WITH_CODE = [page for page in PAGES if any(blocks(page))]


@pytest.mark.parametrize("page", WITH_CODE, ids=name)
def test_page_runs_and_prints_what_it_says(page, capsys):
    namespace = {"__name__": "__main__"}
    left_out = set()
    for line, code, expected, needs in blocks(page):
        with warnings.catch_warnings():
            if needs:  # their own deprecations
                warnings.simplefilter("ignore")
                warnings.filterwarnings("error", message="parameter groups have the rates")
            if absent := missing(needs):
                left_out.update(absent)
                continue
            exec(compile("\n" * line + code, name(page), "exec"), namespace)
        printed = capsys.readouterr().out
        if expected is not None:
            assert printed.rstrip() == expected.rstrip(), f"{name(page)}:{line + 1}"
    if left_out:
        pytest.skip(f"all but the blocks that need {', '.join(sorted(left_out))}")


@pytest.mark.parametrize("example", EXAMPLES, ids=name)
def test_example_runs(example):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # the tests run side by side
    command = [sys.executable, "-W", "error", str(example)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_pages_that_show_code_are_found():
    assert {"README.md", "CONTRIBUTING.md", "docs/getting-started.md"} <= {name(page) for page in WITH_CODE}
    assert EXAMPLES
