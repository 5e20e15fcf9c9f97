"""Which kernels tests use, and that what they choose ends with them."""

import pytest

import linops as lo
from linops.kernels import choice


def kept_mode():
    """What a fixture does: the mode and what is known of kernels are as before after each test."""
    before, mode = {**choice.STATE.__dict__, "reasons": dict(choice.STATE.reasons)}, choice.MODE.get()
    choice.STATE.choices = None
    yield
    choice.MODE.set(mode)
    choice.STATE.__dict__.update(before)


def use_compiled(load):
    """Use kernels wherever they can be; skip the test where `load` finds none."""
    lo.kernels.use("compiled")
    if load() is None:
        pytest.skip(f"no compiled kernels: {lo.kernels.status().reason}")
