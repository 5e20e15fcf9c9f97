"""JAX on meshes of devices, and the layers of Flax and Equinox."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: the operators that are tried with automatic axes beside the families; with explicit ones all are, through the same programs
AUTOMATIC = ("householder_product", "dft", "sparse_tall", "nested_kronecker_of_sums", "block_with_zeros", "jacobian_tall")


def table(*arguments):
    """What `meshes.py` finds wrong."""
    script = Path(__file__).with_name("meshes.py")
    environment = os.environ | {"PYTHONPATH": str(script.parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, env=environment, timeout=600)
    *lines, last = done.stdout.splitlines() or [""]
    assert last == "done", done.stderr[-2000:]
    return lines


def test_trial_14_explicit_axes_divide_every_product():
    assert table("explicit") == []


def test_trial_28_automatic_axes_keep_the_division():
    assert table("auto", "families", *AUTOMATIC) == []
