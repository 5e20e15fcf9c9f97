"""Constructors that make an operator of another class: to pyright alone, as mypy gives every call the class itself."""

from typing import assert_type

import numpy as np

import linops as lo

assert_type(lo.BlockDiag(np.ones((2, 2, 2))), lo.BlockDiag)
assert_type(lo.BlockDiag([np.ones((2, 2))]), lo.DirectSum)
assert_type(lo.Permute([1, 0]), lo.Permute)
