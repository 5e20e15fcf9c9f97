"""The pool of processes that tests of `torch.distributed` run on: its results, and what it says of failures."""

import os
import re
import time
import warnings

import pytest
import torch
import torch.distributed as dist
from processes import Failed


def total(number):
    sum_of_ranks = torch.tensor(number + dist.get_rank())
    dist.all_reduce(sum_of_ranks)
    return os.getpid(), dist.get_rank(), sum_of_ranks.item(), torch.get_num_threads()


def fail_on(rank):
    if dist.get_rank() == rank:
        raise ValueError(f"so says {rank}")
    dist.all_reduce(torch.zeros(1))  # which the others wait in


def die_on(rank):
    if dist.get_rank() == rank:
        os._exit(7)
    time.sleep(60)


def sleep_on(rank):
    if dist.get_rank() == rank:
        time.sleep(60)


def warn():
    warnings.warn("of ours", stacklevel=1)


def test_processes_stay_from_call_to_call(processes):
    first, second = processes(2, total, 5), processes(2, total, 7)
    assert [row[1:] for row in first] == [(0, 11, 1), (1, 11, 1)]
    assert [row[1:] for row in second] == [(0, 15, 1), (1, 15, 1)]
    assert [row[0] for row in first] == [row[0] for row in second]
    assert len({os.getpid(), *(row[0] for row in first)}) == 3


@pytest.mark.parametrize(
    ("function", "seconds", "words"),
    [
        (fail_on, 60, r"fail_on failed on rank 1 of 2:\n(.*\n)*ValueError: so says 1"),
        (die_on, 60, "rank 1 of 2 died, with exit code 7"),
        pytest.param(
            sleep_on, 1, r"1 s are over, and of 2 ranks 1 have not(.*\n)*.* in sleep_on", marks=pytest.mark.full
        ),
    ],
    ids=("raises", "dies", "hangs"),
)
def test_what_failed_is_said_and_the_next_call_starts_anew(processes, function, seconds, words):
    start = time.monotonic()
    with pytest.raises(Failed, match=words):
        processes(2, function, 1, seconds=seconds)
    assert [row[2] for row in processes(2, total, 0)] == [1, 1]
    assert time.monotonic() - start < 30


def test_warnings_are_errors_there(processes):
    with pytest.raises(Failed, match="UserWarning: of ours"):
        processes(2, warn)


def test_what_does_not_pickle_leaves_the_processes_alone(processes):
    before = processes(2, total, 0)
    with pytest.raises(Exception, match=re.compile("pickle", re.IGNORECASE)):
        processes(2, lambda: None)
    assert processes(2, total, 0) == before
