"""Commands that are killed, torn from their disk, or pointed at what is not theirs, and what they leave."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from linops.lab.keeping import TIMES
from linops.safetensors import stored, write

#: the long commands, each some seconds of work
COMMANDS = {
    "train": ("train", "--structures", "dense,btt", "--width", "64", "--steps", "1000"),
    "lr-sweep": ("lr-sweep", "--quick", "--structures", "btt"),
    "scaling": ("scaling", "--quick", "--structures", "btt"),
    "coord-check": ("coord-check", "--quick", "--structures", "btt"),
    "compress": ("compress", "{model}", "--budget", "0.4", "--families", "low_rank,btt"),
}
STEPS_BETWEEN_CHECKPOINTS = 200
TORCHRUN = "torchrun train"


def command(name: str, folder: Path, out: Path, *more: str) -> list[str]:
    """A command line.

    Args:
        name: One of `COMMANDS`.
        folder: Where the model of ``compress`` is, or is made.
        out: The folder for results.
        *more: Further arguments.

    Returns:
        The words.
    """
    model = folder / "model.safetensors"
    if name == "compress" and not model.exists():
        rng = np.random.default_rng(0)
        arrays = {f"{k}.weight": rng.standard_normal((512, 512)).astype("float32") for k in range(6)}
        entries = {key: ("F32", array.shape) for key, array in arrays.items()}
        write(model, entries, {}, [stored(array) for array in arrays.values()])
    words = [word.format(model=model) for word in COMMANDS[name]]
    return [sys.executable, "-m", "linops", *words, "--out", str(out), *more]


def results(name: str, out: Path) -> Any:
    """What a command has found, without times.

    Args:
        name: The command.
        out: Its folder.

    Returns:
        Plain data, or bytes.
    """
    if name == "compress":
        return (out / "compressed.safetensors").read_bytes()
    rows = json.loads((out / "results.json").read_text())
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def run(words: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end.

    Args:
        words: The command line.
        **options: For `subprocess.run`.

    Returns:
        What it said.
    """
    return subprocess.run(words, capture_output=True, text=True, **options)


def killed(name: str, folder: Path, kills: int, seed: int, say: Callable[[str], object] = print) -> dict[str, Any]:
    """Kill a command at random points until it was killed so often, then let it end.

    Args:
        name: The command.
        folder: An empty folder.
        kills: How often.
        seed: Of the points.
        say: Takes a line for each kill.

    Returns:
        A row: whether the results are those of a run that was left alone, and how many steps a kill cost at most.

    Raises:
        RuntimeError: If the command fails.
    """
    rng, out = random.Random(seed), folder / "killed"
    start = time.perf_counter()
    whole = run(command(name, folder, folder / "whole"))
    seconds = time.perf_counter() - start
    if whole.returncode:
        raise RuntimeError(f"{name} failed: {whole.stderr[-2000:]}")
    done = lost = 0
    while done < kills:
        process = subprocess.Popen(
            command(name, folder, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(rng.uniform(0.1, 0.5) * seconds)
        if process.poll() is not None:  # it ended: it begins anew
            if process.returncode:
                raise RuntimeError(f"{name} failed after {done} kills with status {process.returncode}")
            if results(name, out) != results(name, folder / "whole"):
                return {"command": name, "kills": done, "same": False, "steps_lost": lost}
            _clear(out)
            continue
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        done += 1
        lost = max(lost, _lost(out))
        say(f"{name}: killed {done} of {kills}")
    last = run(command(name, folder, out))
    if last.returncode:
        raise RuntimeError(f"{name} failed after {done} kills: {last.stderr[-2000:]}")
    same = results(name, out) == results(name, folder / "whole")
    return {"command": name, "kills": done, "same": same, "steps_lost": lost}


def _clear(out: Path) -> None:
    for path in sorted(out.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def _lost(out: Path) -> int:
    """The most steps that a run has in its log and not in its checkpoint."""
    import torch

    most = 0
    for log in out.glob("runs/*/log.jsonl"):
        steps = len(log.read_text().splitlines())
        saved = log.with_name("checkpoint.pt")
        state = torch.load(saved, weights_only=True) if saved.exists() else {"step": 0}
        most = max(most, steps - state["step"])
    return most


def torchrun_killed(folder: Path, seed: int) -> dict[str, Any]:
    """Kill one of two processes of ``torchrun``, whose agent starts them anew.

    Args:
        folder: An empty folder.
        seed: Of which process, and when.

    Returns:
        A row as of `killed`.

    Raises:
        RuntimeError: If the command fails, or no process was there to be killed.
    """
    rng, words = random.Random(seed), list(COMMANDS["train"][:-1])

    def line(out: Path) -> list[str]:
        agent = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        return [*agent, "--max-restarts", "3", "-m", "linops", *words, "3000", "--device", "cpu", "--out", str(out)]

    start = time.perf_counter()
    whole = run(line(folder / "whole"))
    if whole.returncode:
        raise RuntimeError(f"torchrun failed: {whole.stderr[-2000:]}")
    seconds = time.perf_counter() - start
    process = subprocess.Popen(line(folder / "killed"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    time.sleep(rng.uniform(0.5, 0.8) * seconds)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    if len(children) < 2:
        raise RuntimeError(f"torchrun has no processes to kill: {process.communicate()[0][-2000:]}")
    os.kill(int(rng.choice(children)), signal.SIGKILL)
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"torchrun failed after a kill: {said[-2000:]}")
    same = results("train", folder / "killed") == results("train", folder / "whole")
    return {"command": TORCHRUN, "kills": 1, "same": same, "steps_lost": None}


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
sys.argv = ["linops", *{words}]
from linops.cli import main
main()
"""


def refused(folder: Path) -> list[dict[str, Any]]:
    """Disks that are full, folders that cannot be written to or hold other runs, checkpoints that are corrupted.

    Args:
        folder: An empty folder.

    Returns:
        Rows with the fault, the command, its status, what it said, and whether what was there is as it was.
    """
    rows = []
    out = folder / "out"
    run(command("train", folder, out))
    before = _contents(out)

    def tried(fault: str, name: str, words: Sequence[str], there: Path = out, **options: Any) -> None:
        kept = _contents(there)
        done = run(words, **options)
        line = next((one for one in done.stderr.splitlines() if one.startswith("error: ")), done.stderr[-300:])
        rows.append(
            {
                "fault": fault,
                "command": name,
                "status": done.returncode,
                "said": line.removeprefix("error: ").replace(str(folder) + "/", ""),
                "kept": _contents(there) == kept,
            }
        )

    tried("a folder that holds other runs", "train", command("train", folder, out, "--lr", "0.001"))
    for cut, fault in ((None, "a corrupted checkpoint"), (100, "a checkpoint that is cut off")):
        checkpoint = next(out.glob("runs/*/checkpoint.pt"))
        (out / "results.json").unlink()
        good = checkpoint.read_bytes()
        checkpoint.write_bytes(good[:cut] if cut else b"\0" * 64 + good[64:])
        tried(fault, "train", command("train", folder, out))
        checkpoint.write_bytes(good)
        run(command("train", folder, out))
    (out / "results.json").write_text('[{"data": ')
    tried("results that are cut off", "train", command("train", folder, out))
    (out / "results.json").write_bytes(before["results.json"])
    for name in COMMANDS:
        words = command(name, folder, folder / f"full-{name}")
        script = FULL.format(size=20_000, words=words[3:])
        (folder / f"full-{name}").mkdir()
        (folder / f"full-{name}" / "mine.txt").write_text("kept")
        done = run([sys.executable, "-c", script])
        line = next((one for one in done.stderr.splitlines() if one.startswith("error: ")), done.stderr[-300:])
        kept = (folder / f"full-{name}" / "mine.txt").read_text() == "kept"
        hidden = list(folder.rglob(".*partial*"))
        rows.append(
            {
                "fault": "a disk that is full",
                "command": name,
                "status": done.returncode,
                "said": line.removeprefix("error: ").replace(str(folder) + "/", ""),
                "kept": kept and not hidden,
            }
        )
        tried("an output folder that is a file", name, command(name, folder, folder / "full-train" / "mine.txt"))
    return rows


def _contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder by name."""
    paths = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
