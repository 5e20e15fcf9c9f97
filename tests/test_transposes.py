"""Transposes are kept where they hold no numbers of their own."""

import numpy as np
from helpers import build, every_case

import linops as lo


@every_case
def test_transposes_follow_what_is_written_to_their_arrays(case):
    operator, _, _ = build(case)
    before = operator.T
    assert operator.T.shape == before.shape == operator.shape[::-1]
    for _, leaf in operator.named_leaves():
        if isinstance(leaf, np.ndarray) and leaf.flags.writeable:
            leaf *= 2
    np.testing.assert_allclose(operator.T.to_dense(), operator.to_dense().T, rtol=1e-12, atol=1e-12)


def test_transposes_without_numbers_of_their_own_are_kept():
    monarch = lo.monarch(16, 16)
    for kept in (monarch, monarch.init(seed=0), lo.Permute.random(5, seed=0), lo.DFT(4)):
        assert kept.T is kept.T
    for fresh in (
        monarch.init(seed=0, backend="torch"),
        monarch.init(seed=0, backend="jax"),
        lo.Householder(1j * np.ones((2, 3))),
    ):
        assert fresh.T is not fresh.T
