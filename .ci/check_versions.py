"""Run the short suite on the lowest versions that pyproject.toml claims for users, or the newest there are.

    python .ci/check_versions.py lowest
    python .ci/check_versions.py newest

Each is about 2.5 minutes on two cores, in a virtual environment of its own. torch is claimed from the version whose CPU
build is to be had: older ones are on the index with CUDA alone, which is gigabytes, so nobody has tried them; and newer
ones too, so of torch constraints.txt's is the newest. pip takes the newest of what packages need themselves, and on the
lowest versions constraints.txt's of what only the tests need. Deprecations are no errors here, for old versions are
full of them.
"""

import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: a requirement with a lowest version
CLAIM = re.compile(r"([\w.-]+)>=([\w.]+)")


def claims() -> Iterator[str]:
    """name==lowest version, of the core and of every extra.

    Raises:
        ValueError: If a requirement says no lowest version.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in chain(project["dependencies"], *project["optional-dependencies"].values()):
        if requirement.startswith(project["name"] + "["):
            continue
        claim = CLAIM.fullmatch(requirement)
        if claim is None:
            raise ValueError(f"pyproject.toml: {requirement!r} says no lowest version")
        yield f"{claim[1]}=={claim[2]}"


def tools() -> Iterator[str]:
    """The lines of constraints.txt for the group `test`."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    names = {re.match(r"[\w.-]+", requirement)[0] for requirement in groups["test"]}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line.partition("==")[0] in names:
            yield line


def pins(which: str) -> list[str]:
    """What pip is held to, of ``"lowest"`` or ``"newest"``."""
    if which == "lowest":
        return [*claims(), *tools()]
    return [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "torch==" in line]


def main(which: str) -> int:
    """Make the environment, and run the tests in it."""
    environment = ROOT / ".ci" / which
    venv.create(environment, clear=True, with_pip=True)
    held = environment / "constraints.txt"
    held.write_text("\n".join(pins(which)) + "\n", encoding="utf-8")
    python = environment / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--upgrade", "pip>=25.1"], check=True)
    subprocess.run([*pip, "-c", held, "-e", ".[all,models]", "--group", "test"], check=True, cwd=ROOT)
    options = ["-n", "2", "-q", "-W", "ignore::DeprecationWarning", "-p", "no:cacheprovider"]
    return subprocess.run([python, "-m", "pytest", *options, "@tests/short.txt"], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
