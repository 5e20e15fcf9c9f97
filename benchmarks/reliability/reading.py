"""Reads each hostile file in a process of bounded memory: ``python -m benchmarks.reliability.reading FOLDER BYTES``."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import linops as lo
from benchmarks.reliability.hostile import files


def read(folder: Path, memory: int) -> list[dict[str, Any]]:
    """What becomes of each hostile file, read one after the other in one process.

    Args:
        folder: An empty folder for the files.
        memory: The bytes that the process may have beside what it has when it begins.

    Returns:
        Rows with the file, its size, the error's class and text, and seconds.

    Raises:
        RuntimeError: If the process dies.
    """
    for number, (_, data) in enumerate(files()):
        (folder / f"{number}.safetensors").write_bytes(data)
    command = [sys.executable, "-m", "benchmarks.reliability.reading", str(folder), str(memory)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the reader ended with status {done.returncode}: {done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def main(folder: Path, memory: int) -> None:
    """Read the files and print a line of JSON for each.

    Args:
        folder: Where they are, by number.
        memory: The bytes that the process may have beside what it has.
    """
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    for number, (name, data) in enumerate(files()):
        length = len(data)
        del data
        start, path = time.perf_counter(), folder / f"{number}.safetensors"
        row: dict[str, Any] = {"file": name, "bytes": length, "error": None, "message": ""}
        try:
            lo.load(path)
        except Exception as error:
            row |= {"error": type(error).__name__, "message": str(error).removeprefix(f"{path}: ")}
        print(json.dumps(row | {"seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
