"""Assert that almost all that users see of linops has a type: the score of ``pyright --verifytypes``."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEAST = 0.97


def main() -> None:
    """Ask pyright; stop where the score is too low."""
    folder = Path(sys.executable).parent
    # here pyright looks for packages with the Python of PATH, whatever --pythonpath says
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    command = [folder / "pyright", "--verifytypes", "linops", "--ignoreexternal", "--outputjson"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    report = json.loads(done.stdout)["typeCompleteness"]
    score, symbols = report["completenessScore"], report["symbols"]
    print(f"{score:.1%} of {len(symbols)} symbols have a type; at least {LEAST:.0%} must")
    if score < LEAST:
        unknown = [symbol["name"] for symbol in symbols if not symbol["isTypeKnown"]]
        raise SystemExit("\n".join(["without:", *unknown]))


if __name__ == "__main__":
    main()
