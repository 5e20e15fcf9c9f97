"""The logic of the benchmark of projections, without the environment of its peers."""

import numpy as np
import pytest
import torch

from benchmarks import projection
from benchmarks.projection import cases, hand, names, run
from benchmarks.projection import numpy as numpy_peer
from benchmarks.projection import torch as torch_peer
from benchmarks.projection.cases import Case, Work

SMALL = {
    "tensor_train": Work("tensor_train", 16, "tensor_train:rank=2", 2, (4, 4, 4, 4)),
    "low_rank": Work("low_rank", 24, "low_rank:rank=3", 3, matrix="decaying"),
    "btt": Work("blocks", 32, "btt", 1, (4, 8, 4, 8), (0, 2, 1, 3)),
    "monarch": Work("blocks", 16, "monarch:blocks=2", 4, (8, 2, 2, 8), (1, 2, 0, 3)),
    "activations": Work("activations", 24, "low_rank:rank=3", 3, matrix="decaying"),
    "kronecker": Work("kronecker", 32, "kronecker", 1, (4, 8, 8, 4)),
}
PEERS = {"numpy": numpy_peer, "torch": torch_peer}


def test_works_have_titles():
    assert set(names.TITLES) == set(cases.WORKS)


@pytest.mark.parametrize("name", SMALL)
def test_by_hand_and_by_linops_is_the_same(name):
    case = cases.made(name, SMALL[name])
    rows = run.rows_of(case, PEERS, seconds=1e-3, full=0)
    found = {(row["backend"], row["who"]): row for row in rows}
    exact = [row for row in rows if "svd_lowrank" not in row["who"]]
    assert len(exact) >= 4
    assert all(row["error"] == pytest.approx(rows[0]["error"], rel=1e-4) for row in exact)
    assert {row["note"] for row in exact} == {""}
    assert 0 < rows[0]["error"] < 1
    assert found["numpy", "linops"]["ratio"] == found["torch", "linops"]["ratio"] == 1
    assert found["numpy", "linops"]["over_best"] == pytest.approx(1, abs=1e-3)
    if case.work.kind in ("low_rank", "activations"):
        assert all(row["over_optimum"] == pytest.approx(1, abs=1e-4) for row in exact)
    else:
        assert {row["over_optimum"] for row in rows} == {None}


def test_the_works_of_blocks_are_those_by_hand():
    for name in ("btt_1024", "monarch_1024"):
        work = cases.WORKS[name]
        target = cases.case(name).W
        blocks = hand.turned(np, target.reshape(work.dims), work.order)
        assert blocks.shape[0] * blocks.shape[1] == 32 * 32
        assert work.rank * 32 == blocks.shape[2] or work.rank == 1


def test_trains_of_three_cores_by_hand():
    rng = np.random.default_rng(0)
    dims, cores = (2, 3, 4, 4, 3, 2), [(1, 8, 3), (3, 9, 3), (3, 8, 1)]
    W = hand.tt_matrix([rng.standard_normal(shape) for shape in cores], dims)
    for xp, whole in ((np, W), (torch, torch.tensor(W))):
        found = hand.tt_svd(xp, whole, dims, 3)
        assert [tuple(core.shape) for core in found] == cores
        np.testing.assert_allclose(hand.tt_matrix(found, dims), W)


class Peer:
    """A peer on NumPy whose result is the matrix times a number."""

    BACKENDS = ("numpy",)

    def __init__(self, scale):
        self.scale = scale

    def functions(self, case, W, C, backend, full):
        if self.scale is None:
            raise RuntimeError("out of luck")
        return {f"times {self.scale}": (lambda: self.scale * W, lambda found: found), "scale": (lambda: W, None)}


def test_only_peers_that_come_as_near_count():
    case = cases.made("low_rank", SMALL["low_rank"])
    modules = {"near": Peer(0.9), "far": Peer(0.01), "failing": Peer(None)}
    rows = run.rows_of(case, modules, seconds=1e-3, backends=("numpy",))
    notes = {row["who"]: row["note"] for row in rows}
    assert notes == {
        "linops": "",
        "times 0.9": "",
        "scale": "another result, for scale",
        "times 0.01": "larger error",
        "failing": "RuntimeError: out of luck",
    }
    (line,) = projection.summary(rows)
    assert line["best peer"] == "times 0.9"
    assert rows[0]["over_best"] > 1.001  # as that is no matrix of low rank
    others = projection.missing(rows)
    assert [row["who"] for row in others] == ["linops", "scale", "times 0.01", "failing"]


def test_works_are_named():
    with pytest.raises(ValueError, match="no nothing; expected some of"):
        list(projection.measure(works=("nothing",)))


def test_errors_are_those_in_the_norm_of_inputs():
    W, C = np.eye(2, dtype="float32"), np.diag([1.0, 3.0]).astype("float32")
    case = Case("x", SMALL["activations"], W, C)
    assert case.error(np.diag([1.0, 0.0])) == pytest.approx(np.sqrt(3 / 4))
