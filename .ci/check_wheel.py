"""Build the wheel and the source distribution; look into the wheel; use it alone, with the core dependencies.

Then no framework is loaded, what modules of linops import is of these dependencies, not of what they bring along, the
command knows the version, and the tests that need no framework (tests/core.txt) pass.
"""

import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

PROBE = """
import ast, inspect, sys
import linops as lo
frameworks = {"torch", "jax"} & set(sys.modules)
assert not frameworks, frameworks
assert lo.__file__.startswith(sys.prefix), lo.__file__
assert lo.btt(64, 16).init(seed=0).to_dense().shape == (64, 16)

direct = set()  # what modules of linops import when they are imported
for module in [module for name, module in sys.modules.items() if name.partition(".")[0] == "linops"]:
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            direct |= {name.partition(".")[0] for name in names}
strangers = direct - set(sys.stdlib_module_names) - {"linops", "numpy", "scipy", "plum"}
assert not strangers, strangers
"""


def run(*command: object, cwd: Path) -> None:
    """Run a command, and stop if it fails."""
    subprocess.run([str(part) for part in command], check=True, cwd=cwd)


def main() -> None:
    """Build, look, import."""
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        run(sys.executable, "-m", "build", "--outdir", room / "dist", ROOT, cwd=room)
        (wheel,) = (room / "dist").glob("*.whl")
        (source,) = (room / "dist").glob("*.tar.gz")
        run(sys.executable, "-m", "twine", "check", "--strict", wheel, source, cwd=room)
        names = zipfile.ZipFile(wheel).namelist()
        assert "linops/py.typed" in names, names
        assert any(name.endswith("licenses/LICENSE") for name in names), names
        strangers = [name for name in names if not name.startswith(("linops/", "linops-"))]
        assert not strangers, strangers
        venv.create(room / "venv", with_pip=True)
        python = room / "venv" / "bin" / "python"
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run(*pip, "-c", ROOT / "constraints.txt", wheel, cwd=room)
        run(python, "-I", "-c", PROBE, cwd=room)
        said = subprocess.run([room / "venv" / "bin" / "linops", "--version"], capture_output=True, text=True, cwd=room)
        assert said.stdout.split() == ["linops", wheel.name.split("-")[1]], said
        run(*pip, "-c", ROOT / "constraints.txt", "pytest", "hypothesis", "pytest-xdist", "opt_einsum", cwd=room)
        run(python, "-m", "pytest", "-n", "2", "-q", "-p", "no:cacheprovider", "@tests/core.txt", cwd=ROOT)
        print(f"{wheel.name} ({len(names)} files) and {source.name} build; the wheel imports without a framework")


if __name__ == "__main__":
    main()
