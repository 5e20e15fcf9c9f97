"""Build wheel and source distribution, look into the wheel, import it with the core dependencies alone."""

import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

PROBE = """
import sys
import linops as lo
frameworks = {"torch", "jax"} & set(sys.modules)
assert not frameworks, frameworks
assert lo.__file__.startswith(sys.prefix), lo.__file__
assert lo.btt(64, 16).init(seed=0).to_dense().shape == (64, 16)
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
        names = zipfile.ZipFile(wheel).namelist()
        assert "linops/py.typed" in names, names
        assert any(name.endswith("licenses/LICENSE") for name in names), names
        strangers = [name for name in names if not name.startswith(("linops/", "linops-"))]
        assert not strangers, strangers
        venv.create(room / "venv", with_pip=True)
        python = room / "venv" / "bin" / "python"
        run(
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-c",
            ROOT / "constraints.txt",
            wheel,
            cwd=room,
        )
        run(python, "-I", "-c", PROBE, cwd=room)
        print(f"{wheel.name} ({len(names)} files) and {source.name} build; the wheel imports without a framework")


if __name__ == "__main__":
    main()
