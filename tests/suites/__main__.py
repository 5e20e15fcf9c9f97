"""The command: ``python -m tests.suites`` runs what takes seconds, with ``--all`` everything (minutes)."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

LINALG = "scipy.sparse.linalg"
SOLVERS = f"{LINALG}._isolve.tests"
NUMPY = [f"numpy._core.tests.test_multiarray::{name}" for name in ("TestMatmul", "TestMatmulOperator")]
QUICK = [
    *NUMPY,
    f"{LINALG}.tests.test_interface",
    f"{SOLVERS}.test_lsmr",
    f"{SOLVERS}.test_minres",
    f"{SOLVERS}.test_lgmres",
]
REST = [
    *[f"{SOLVERS}.test_{name}" for name in ("iterative", "gcrotmk", "lsqr", "utils")],
    *[
        f"{LINALG}._eigen.{name}"
        for name in ("tests.test_svds", "arpack.tests.test_arpack", "lobpcg.tests.test_lobpcg")
    ],
    *[
        f"{LINALG}.tests.test_{name}"
        for name in ("expm_multiply", "funm_multiply_krylov", "onenormest", "norm", "matfuncs", "propack")
    ],
]


def run(targets: list[str], *options: str) -> tuple[dict[str, int], str]:
    """Run tests of installed libraries with linops in them; what became of them, and what pytest said."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "tests.suites.plugin",
            "-p",
            "no:cacheprovider",
            "-c",
            os.devnull,
        ]
        command += ["--rootdir", folder, "--tb", "short", *options, "--pyargs", *targets]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        root = Path(__file__).parents[2]
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    said = done.stdout + done.stderr
    line = re.search(r"linops: (.*)", said)
    words = re.findall(r"(\d+) (passed|failed|skipped|expected|of|products)", line[1]) if line else []
    return {name: int(number) for number, name in words}, said


def main() -> int:
    """Run them; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.suites", description="NumPy's and SciPy's own tests, run against linops."
    )
    parser.add_argument("--all", action="store_true", help="run all of them: minutes")
    counts, said = run(QUICK + REST if parser.parse_args().all else QUICK)
    print(said)
    return 0 if counts.get("passed") and not counts.get("failed") else 1


if __name__ == "__main__":
    sys.exit(main())
