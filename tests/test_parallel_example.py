"""The lab's GPT, data × structure parallel under torchrun: the losses of one process, and of a run that was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

EXAMPLE = Path(__file__).parents[1] / "examples" / "parallel_gpt.py"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
ENVIRONMENT |= {"OMP_NUM_THREADS": "1"}
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4", "--max-restarts=2"]

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="no gloo"),
]


def start(out, *words, launcher=()):
    command = [sys.executable, *launcher, str(EXAMPLE), "--steps", "30", "--save-every", "5", "--out", str(out), *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT, start_new_session=True
    )


def losses_of(process, out):
    try:
        said, _ = process.communicate(timeout=240)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, said[-3000:]
    return json.loads((out / "losses.json").read_text())


def workers(process):
    """The processes that torchrun has started."""
    return [int(word) for word in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are found in /proc")
def test_data_times_structure_under_torchrun(tmp_path):
    alone = losses_of(start(tmp_path / "alone"), tmp_path / "alone")
    words = ["--model-ranks", "2"]
    whole = losses_of(start(tmp_path / "whole", *words, launcher=TORCHRUN), tmp_path / "whole")
    assert len(alone) == len(whole) == 30
    assert whole[-1] < whole[0] - 1
    np.testing.assert_allclose(whole, alone, rtol=1e-4)

    out = tmp_path / "killed"
    process = start(out, *words, launcher=TORCHRUN)
    until = time.monotonic() + 120
    while not (out / "step_10" / ".metadata").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    victim = workers(process)[1]
    os.kill(victim, signal.SIGKILL)
    assert losses_of(process, out) == whole
    assert json.loads((out / "latest").read_text())["losses"] == whole
