"""The documentation's Python runs, and prints what the page says it prints.

The ```python blocks of a page run in order in one namespace; a ```text block right after one is its output. A block
after a line <!-- needs: packages --> runs where they are installed, as in CI. The examples run as scripts.
"""

import os
import re
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

import linops as lo
from linops import operators
from linops.families import FAMILIES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

#: pages and examples that take long: they run with full, and always in .ci/run
LONG = {"compression.md", "models.md", "loops.md", "coming-from.md", "nonlinear.md", "saving.md", "export.md"}
LONG |= {"projection.md", "linalg-uses.md", "estimate.md"}
LONG |= {"project_and_train_on.py", "parallel_gpt.py", "sharded_jax.py", "train_jax.py", "train_torch.py", "fsdp.py"}


def unless_long(paths):
    """Pages or examples, of which the long ones are `full`."""
    return [pytest.param(path, marks=pytest.mark.full) if path.name in LONG else path for path in paths]


BLOCK = re.compile(
    r"^(?:<!-- needs: (?P<needs>[\w ]+) -->\n)?```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


def blocks(page):
    """(line number, code, expected output or None, packages needed) of each Python block that can run here."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        needs = (match["needs"] or "").split()
        if all(find_spec(package) is not None for package in needs):
            yield text[: match.start("code")].count("\n"), match["code"], match["output"], needs


def name(path):
    return str(path.relative_to(ROOT))


@pytest.fixture(autouse=True)
def own_families():
    """Families that a page declares are gone after it."""
    before = dict(FAMILIES)
    yield
    for name in FAMILIES.keys() - before.keys():
        del FAMILIES[name]


WITH_CODE = [page for page in PAGES if any(blocks(page))]


@pytest.mark.parametrize("page", unless_long(WITH_CODE), ids=name)
def test_page_runs_and_prints_what_it_says(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write there
    models = Path(__file__).parent / "models"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (models / "fresh", models, ROOT))))  # of what they start
    namespace = {"__name__": "__main__"}
    for line, code, expected, needs in blocks(page):
        with warnings.catch_warnings():
            if needs:  # these packages' own deprecations
                warnings.simplefilter("ignore")
                warnings.filterwarnings("error", "parameter groups|param_groups")
            exec(compile("\n" * line + code, name(page), "exec"), namespace)
        printed = capsys.readouterr().out
        if expected is not None:
            assert printed.rstrip() == expected.rstrip(), f"{name(page)}:{line + 1}"


@pytest.mark.parametrize("example", unless_long(EXAMPLES), ids=name)
def test_example_runs(example):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # the tests run side by side
    command = [sys.executable, "-W", "error", str(example)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_pages_that_show_code_are_found():
    assert {"README.md", "CONTRIBUTING.md", "docs/getting-started.md"} <= {name(page) for page in WITH_CODE}
    assert EXAMPLES


def test_every_public_name_is_in_the_reference():
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    targets = [target.split(".") for target in re.findall(r"^::: linops\.([\w.]+)$", text, re.MULTILINE)]
    members = re.findall(r"\w+", " ".join(re.findall(r"members:\s*\[([^\]]*)\]", text)))
    shown = {target[-1] for target in targets} | {target[0] for target in targets} | set(members)
    assert sorted(set(lo.__all__) - shown) == []


def test_what_there_is_names_every_operator_and_family():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## What there is")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(\w+)", section.replace("lo.", "`")))
    assert sorted((set(operators.__all__) | set(FAMILIES)) - named) == []
