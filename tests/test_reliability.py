"""Long commands that are killed go on to the results of a run that was left alone."""

import pytest

from benchmarks.reliability import faults


@pytest.mark.full
@pytest.mark.parametrize("name", list(faults.COMMANDS))
def test_a_killed_command_goes_on(name, tmp_path):
    row = faults.killed(name, tmp_path, kills=2, seed=1, say=lambda line: None)
    assert row["same"]
    assert row["steps_lost"] <= faults.STEPS_BETWEEN_CHECKPOINTS


@pytest.mark.full
def test_a_killed_process_of_torchrun_is_started_anew(tmp_path):
    assert faults.torchrun_killed(tmp_path, seed=1)["same"]


@pytest.mark.full
def test_faults_are_said_and_leave_what_was_there(tmp_path):
    rows = faults.refused(tmp_path)
    assert len(rows) > 10
    for row in rows:
        assert row["status"] == 1, row
        assert row["said"], row
        assert row["kept"], row
