"""Two processes of torchrun train as one does: the same losses, up to the order of sums."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from linops.lab import checkpoint


def train(out, *launcher, steps=20):
    command = ["-m", "linops.cli", "train", "--data", "digits", "--structures", "btt", "--width", "32", "--depth", "1"]
    environment = {
        name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    }
    arguments = [
        sys.executable,
        *launcher,
        *command,
        "--steps",
        str(steps),
        "--batch",
        "16",
        "--clip",
        "1",
        "--out",
        str(out),
    ]
    done = subprocess.run(
        arguments, check=False, capture_output=True, text=True, env=environment | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads((out / "results.json").read_text())
    (log,) = out.glob("runs/*/log.jsonl")
    return row, [line["loss"] for line in checkpoint.read_lines(log)]


@pytest.mark.full
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="no gloo")
def test_two_processes_are_one(tmp_path):
    row, losses = train(tmp_path / "one")
    both, shared = train(tmp_path / "two", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    assert len(shared) == len(losses) == 20
    np.testing.assert_allclose(shared, losses, rtol=1e-3)
    assert both["train_loss"] == pytest.approx(row["train_loss"], rel=1e-3)
    assert both["macs"] == row["macs"]
