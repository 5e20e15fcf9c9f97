"""`sum`, and dtypes of NumPy's conversion; test_conformance.py has copies, pickles and moves of every case."""

import numpy as np

import linops as lo


def test_built_in_sum():
    matrix = np.ones((2, 2))
    np.testing.assert_array_equal(sum([lo.Dense(matrix), lo.Dense(matrix)]).to_dense(), 2 * matrix)
