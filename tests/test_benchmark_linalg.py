"""The logic of the benchmark of linear algebra, without the environments of its peers."""

import numpy as np

from benchmarks import linalg, solves
from benchmarks.linalg import cases, names, run, scipy


def test_works_have_titles():
    assert set(names.TITLES) == set(cases.WORKS)


class Peer:
    """A peer on NumPy that solves as NumPy does, or not."""

    BACKEND = "numpy"

    def __init__(self, name, scale=1.0, keeps=True):
        self.name, self.scale, self.keeps = name, scale, keeps

    def functions(self, case, arrays, b):
        blocks, x = arrays["blocks"], b.reshape(64, 64, -1)

        def solve():
            return self.scale * np.linalg.solve(blocks, x).reshape(b.shape)

        return {self.name: (solve, solve if self.keeps else None)}


class Failing:
    BACKEND = "numpy"

    def functions(self, case, arrays, b):
        raise RuntimeError("out of luck")


def test_results_are_compared_and_the_best_that_is_right_is_shown():
    modules = {"right": Peer("right", keeps=False), "wrong": Peer("wrong", 1.01), "failing": Failing()}
    rows = run.rows_of(cases.case("block_diag"), modules, seconds=0.01)
    rows = [row | {"environment": "common"} for row in rows]
    found = {(row["what"], row["who"]): row for row in rows}
    assert found["once", "linops"]["ratio"] == 1
    assert found["once", "linops"]["error"] < 1e-12
    assert found["once", "right"]["note"] == ""
    assert found["once", "wrong"]["note"] == "off by more than 1e-08"
    assert found["once", "failing"]["note"] == "RuntimeError: out of luck"
    assert found["kept", "right"]["note"] == "keeps nothing"
    once, kept = linalg.summary(rows)
    assert (once["what"], once["best peer"], kept["best peer"]) == ("once", "right", "")
    assert once["ratio"] == found["once", "right"]["ratio"]
    assert {row["who"] for row in linalg.missing(rows)} == {"right", "wrong", "failing"}


class OnTorch:
    BACKEND = "torch"

    def functions(self, case, arrays, b):
        blocks, x = arrays["blocks"], b.reshape(64, 64, -1)
        return {"torch: by hand": (lambda: (blocks.inverse() @ x).reshape(b.shape), None)}


def test_a_peer_is_compared_with_linops_on_its_own_backend():
    rows = run.rows_of(cases.case("block_diag"), {"here": Peer("here"), "torch": OnTorch()}, seconds=0.01)
    rows = [row | {"environment": "common"} for row in rows if row["what"] == "once"]
    found = {row["who"]: row for row in rows}
    assert {who: row["beside"] for who, row in found.items()} == {
        "linops": "linops",
        "linops, torch": "linops",
        "here": "linops",
        "torch: by hand": "linops, torch",
    }
    (line,) = linalg.summary([row for row in rows if row["who"] != "here"])
    assert (line["best peer"], line["linops, ms"]) == ("torch: by hand", found["linops, torch"]["ms"])


def test_by_hand_and_by_linops_is_the_same():
    for name in ("kronecker", "kronecker_noise", "toeplitz_definite", "kronecker_slogdet", "kronecker_noise_logdet"):
        case = cases.case(name)
        for once, kept in scipy.functions(case, case.arrays, case.b).values():
            assert case.error(once()) < 1e-10
            assert kept is None or case.error(kept()) < 1e-10
        assert case.error(run.linops(case, "numpy")[0]()) < 1e-10


def test_bare_kernels_are_the_same_solves():
    for ours, bare in solves.solves().values():
        np.testing.assert_allclose(ours(), bare(), rtol=1e-9)
