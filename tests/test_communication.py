"""Bytes that are known before anything runs."""

from types import SimpleNamespace

import numpy as np
import pytest

import linops as lo

p, T = 4, 100


def test_bytes_are_those_of_the_formulas():
    A = lo.low_rank(256, 256, rank=8)
    sent = lo.nn.communication(A, p, batch=T, style="sharded")
    assert sent == {"all_reduce": 2 * 2 * (p - 1) * T * 8 * 4 // p}
    assert sent.forward == sent.backward == {"all_reduce": 2 * (p - 1) * T * 8 * 4 // p}
    assert sent.total == sent["all_reduce"]
    assert lo.nn.communication(A, p, batch=T, style="sharded", dtype="bfloat16").total == sent.total // 2


def test_numbers_of_numpy():
    assert lo.nn.communication(lo.btt(64, 64), np.int64(4)) == lo.nn.communication(lo.btt(64, 64), 4)


def test_one_rank_sends_nothing():
    for style in ("whole", "colwise", "rowwise", "sharded"):
        assert lo.nn.communication(lo.btt(64, 64), 1, batch=T, style=style).total == 0


def test_what_is_replicated_sends_nothing():
    assert not lo.nn.communication(lo.toeplitz(64, 64), p)


def test_sums():
    A = lo.block_diag(64, 64) + lo.low_rank(64, 64, rank=4)
    both = lo.nn.communication(A, p, T, style="sharded")
    assert both == lo.nn.communication(lo.low_rank(64, 64, rank=4), p, T, style="sharded")
    assert (both + both).total == 2 * both.total


def test_errors():
    with pytest.raises(ValueError, match="style 'columns': expected one of whole, colwise, rowwise, sharded"):
        lo.nn.communication(lo.btt(64, 64), p, style="columns")
    with pytest.raises(ValueError, match="66 in_features cannot be shared equally by 4 ranks"):
        lo.nn.communication(lo.dense(64, 66), p, style="rowwise")
    with pytest.raises(ValueError, match="ranks: expected at least one, got 0"):
        lo.nn.communication(lo.btt(64, 64), 0)
    with pytest.raises(ValueError, match=r"the mesh has the axes \('data', 'model'\); give the size of the one"):
        lo.nn.communication(lo.btt(64, 64), SimpleNamespace(axis_names=("data", "model"), size=4))
    with pytest.raises(TypeError, match="ranks: expected a number or a mesh, got str"):
        lo.nn.communication(lo.btt(64, 64), "4")
    with pytest.raises(TypeError, match="patterns are for models"):
        lo.nn.communication(lo.btt(64, 64), 4, style={"*": "whole"})
    for batch in (-3, 2.5, True):
        with pytest.raises(ValueError, match="expected how many vectors"):
            lo.nn.communication(lo.btt(64, 64), 4, batch=batch)
    with pytest.raises(KeyError):
        lo.nn.communication(lo.btt(64, 64), p)["send"]
