"""What follows from a family's declaration: defaults at small sizes, ranges, refusals, members; families of users."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
import torch
from helpers import FOURIER, assert_close

import linops as lo
from linops.families import FAMILIES, Knob, family, knob_of, members
from linops.families.choice import structured
from linops.families.declaration import flops_a_vector
from linops.families.registry import declaration_of
from linops.families.text import options_of, parse
from linops.lab.parsing import parse_list

SMALL = list(product(range(1, 10), repeat=2))
NAMES = list(FAMILIES)


@pytest.mark.parametrize("name", NAMES)
def test_defaults_of_small_sizes(name):
    """Made, no dearer than dense, equal to their matrix, with no input dropped and no output frozen."""
    for m, n in SMALL:
        A = FAMILIES[name](m, n)
        assert A.shape == (m, n)
        if name in FOURIER:  # which multiply by the matrix where that is faster
            assert all(A.flops(batch) <= 2 * m * n * batch for batch in (1, 2, 64))
        else:
            assert flops_a_vector(A) <= 2 * m * n
            assert A.num_params <= m * n
        A = A.init(seed=0, dtype="float64")
        matrix = A.to_dense()
        assert (np.abs(matrix).max(axis=0) > 0).all(), "an input is dropped"
        assert (np.abs(matrix).max(axis=1) > 0).all(), "an output is frozen"
        x, y = np.random.default_rng(0).standard_normal((2, 9, 9))
        assert_close(A @ x[:n], matrix @ x[:n], np.abs(matrix) @ np.abs(x[:n]))
        assert_close(A @ x[:n, 0], matrix @ x[:n, 0], np.abs(matrix) @ np.abs(x[:n, 0]))
        assert_close(y[:, :m] @ A, y[:, :m] @ matrix, np.abs(y[:, :m]) @ np.abs(matrix))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [64, 67, 1000])
def test_defaults_of_other_sizes_are_the_usual_ones(name, size):
    knob = knob_of(name)
    if knob is not None:
        usual = FAMILIES[name](size, size, **{knob.name: knob.usual(size, size)})
        assert lo.same_structure(FAMILIES[name](size, size), usual)


def test_defaults_by_name():
    def sizes(A):
        return [leaf.shape for _, leaf in A.named_leaves()]

    assert sizes(lo.block_diag(3, 100)) == [(3, 1, 34)]
    assert sizes(lo.monarch(3, 100)) == [(3, 1, 1), (3, 1, 34)]
    assert sizes(lo.monarch(5, 5)) == [(3, 2, 2), (3, 2, 2)]  # four blocks cost 32 MACs
    assert sizes(lo.monarch(2, 2)) == [(2, 1, 1), (2, 1, 1)]
    assert sizes(lo.low_rank(2, 9)) == [(2, 1), (1, 9)]
    assert sizes(lo.blast(5, 9)) == [(4, 2, 1), (1, 4, 4), (4, 1, 3)]
    assert sizes(lo.blast(3, 9, rank=1)) == [(3, 1, 1), (1, 3, 4), (4, 1, 3)]
    assert sizes(lo.einsum(9, 9)) == [(3, 3, 3, 1), (3, 1, 3, 3)]
    assert sizes(lo.btt(3, 3)) == [(1, 3, 3)]
    assert sizes(lo.kronecker(3, 3)) == [(3, 3)]
    assert lo.butterfly(9, 9).patterns == ((1, 9, 9, 1),)
    for name in ("low_rank", "monarch", "blast", "einsum"):
        assert isinstance(FAMILIES[name](1, 7, dtype="float64"), lo.Dense)
        assert FAMILIES[name](7, 1, dtype="float64").dtype == np.float64


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: lo.monarch(8, 2, blocks=4), r"monarch\(8, 2\): 4 blocks do not fit; expected blocks from 1 to 2"),
        (lambda: lo.block_diag(1, 7, 2), r"block_diag\(1, 7\): 2 blocks do not fit; expected blocks from 1 to 1"),
        (lambda: lo.butterfly(9, 9, factors=5), r"butterfly\(9, 9\): 5 factors do not fit; .* from 1 to 4"),
        (lambda: lo.low_rank(8, 8, rank=0), r"low_rank\(8, 8\): rank must be at least 1, got 0"),
        (lambda: lo.btt(8, 8, cores=0), r"btt\(8, 8\): cores must be at least 1, got 0"),
        (lambda: lo.monarch(1, 7, blocks=1), r"monarch\(1, 7\): 8 MACs .* dense's 7; use lo.dense, or pass allow_d"),
        (lambda: lo.low_rank(8, 8, 5), r"low_rank\(8, 8\): 80 MACs .* dense's 64; lower the rank, use lo.dense, or"),
        (lambda: lo.monarch(64, 64, blocks=1), r"monarch\(64, 64\): 8,192 MACs .* 4,096; take more blocks, use lo.d"),
        (lambda: lo.btt(3, 3, cores=2), r"btt\(3, 3\): 16 MACs a vector are more than dense's 9; use lo.dense"),
    ],
)
def test_what_is_asked_for_is_kept_or_an_error(action, message):
    with pytest.raises(ValueError, match=message):
        action()


def test_what_is_asked_for_is_made_where_it_may_be_dear():
    assert lo.monarch(1, 7, blocks=1, allow_dearer=True).num_params == 8
    assert lo.btt(3, 3, cores=2, allow_dearer=True).num_params == 16
    with pytest.raises(TypeError, match=r"btt\(\) got an unexpected keyword argument 'blocks'"):
        FAMILIES["btt"](8, 8, blocks=2)
    with pytest.raises(TypeError, match=r"low_rank\(8, 8\): rank must be an integer, got 2.0"):
        FAMILIES["low_rank"](8, 8, rank=2.0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("m", "n"), [(64, 48), (67, 50), (3, 5), (1, 9), (2, 2), (9, 9), (4096, 1024)])
def test_members_ascend_from_the_cheapest_to_dense(name, m, n):
    found = members(name, m, n)
    operators = [structured(parse(member.text), m, n) for member in found]
    costs = [flops_a_vector(operator) for operator in operators]
    assert costs == sorted(set(costs))
    assert all(cost <= 2 * m * n for cost in costs)
    none = name in FOURIER or (name, m, n) == ("butterfly", 9, 9)  # which costs 100 MACs, more than dense's 81
    assert len(found) >= (min(m, n) > 3 and not none)
    assert len(found) < 40
    knob = knob_of(name)
    if knob is not None and min(m, n) > 9:
        values = [member.options[knob.name] for member in found]
        assert values == sorted(values, reverse=not knob.grows)
        assert not any(declaration_of(name).is_plain(member.options) for member in found)


def test_members_with_other_options():
    assert [one.text for one in members("btt:cores=3", 64, 64)] == [f"btt:cores=3:rank={rank}" for rank in (1, 2, 3)]
    assert [one.text for one in members("btt:rank=2", 64, 64)] == ["btt:rank=2"]
    assert members("btt:rank=200", 64, 64) == []
    assert members("btt:cores=1", 64, 64) == []
    assert [one.text for one in members("blast", 5, 5)] == ["blast"]  # of fewer than four blocks
    with pytest.raises(ValueError, match="no family 'bt'"):
        members("bt", 8, 8)
    with pytest.raises(ValueError, match="out_features must be at least 1, got 0"):
        members("btt", 0, 8)
    with pytest.raises(ValueError, match=r"no family; make it one by lo\.families\.family"):
        knob_of(lambda m, n: lo.btt(m, n))


def test_lists_with_sweeps():
    texts = [one.text for one in parse_list("dense, btt:rank=all, btt:rank=2", shape=(64, 64))]
    assert texts == ["dense", "btt:rank=1", "btt:rank=2", "btt:rank=3", "btt:rank=4"]
    for text, message in {
        "btt:cores=all": "btt has no sweep of cores; its sweep is btt:rank=all",
        "circulant:rank=all": "circulant has no sweep of rank; it has no size parameter",
        "low_rank:rank=all": "no member of 1×3 costs as little",
    }.items():
        with pytest.raises(ValueError, match=message):
            parse_list(text, shape=(1, 3))
    with pytest.raises(ValueError, match="only where all are of one shape"):
        parse_list("btt:rank=all")


def test_a_swap_leaves_layers_where_nothing_is_won():
    model = torch.nn.Sequential(torch.nn.Linear(64, 3), torch.nn.Linear(3, 1))
    with pytest.warns(
        UserWarning, match=r"'1' alone, which is refused by its family: block_diag\(1, 3\): the member is a dense"
    ):
        report = lo.nn.replace_linear_(model, "block_diag")
    assert [(row.name, row.new_params) for row in report] == [("0", 3 * 22 + 3)]
    with pytest.raises(TypeError, match=r"structure 'btt:rank=2': got rank as an option too"):
        lo.nn.replace_linear_(model, "btt:rank=2", rank=3)


class TestFamiliesOfUsers:
    @pytest.fixture
    def mine(self) -> Iterator[str]:
        @family(Knob("terms", most=lambda m, n: 8, advice="take fewer terms"), plain={"whole": 1})
        def mine(
            out_features: int, in_features: int, terms: int = 2, whole: int | None = None, *, allow_dearer: bool = False
        ) -> lo.LinearOperator:
            """A sum of matrices of rank one."""
            if whole:
                return lo.Dense(lo.spec(out_features, in_features))
            return lo.LowRank(lo.spec(out_features, terms), lo.spec(terms, in_features))

        self.function = mine
        yield "mine"
        del FAMILIES["mine"]

    def test_name_text_and_sweep(self, mine):
        assert self.function.__doc__ == "A sum of matrices of rank one."
        assert options_of(mine) == ["terms", "whole", "allow_dearer"]
        assert parse("mine:terms=3")(16, 16).U.shape == (16, 3)
        assert [one.options["terms"] for one in members(mine, 64, 64)] == [1, 2, 3, 4, 6, 8]
        assert [one.text for one in parse_list("mine:terms=all", shape=(8, 8))] == [
            f"mine:terms={t}" for t in (1, 2, 3, 4)
        ]

    def test_defaults_and_refusals(self, mine):
        assert self.function(8, 8).U.shape == (8, 2)
        assert self.function(2, 2).U.shape == (2, 1)
        assert isinstance(self.function(1, 9), lo.Dense)
        with pytest.raises(ValueError, match=r"mine\(8, 8\): 9 terms do not fit; expected terms from 1 to 8"):
            self.function(8, 8, terms=9)
        with pytest.raises(
            ValueError, match=r"mine\(8, 8\): 80 MACs .*; take fewer terms, use lo.dense, or pass allow"
        ):
            self.function(8, 8, 5)
        with pytest.raises(ValueError, match="mine: in_features must be at least 1, got 0"):
            self.function(8, 0)

    def test_swap(self, mine):
        model = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Linear(16, 1))
        with pytest.warns(UserWarning, match=r"'1' alone, which is refused by its family: mine\(1, 16\): 17 MACs"):
            lo.nn.replace_linear_(model, "mine")
        assert model[0].structure.operator.U.shape == (16, 2)
        assert model(torch.zeros(3, 16)).shape == (3, 1)

    def test_names_are_taken_once(self, mine):
        def btt(out_features: int, in_features: int) -> lo.LinearOperator:
            return lo.dense(out_features, in_features)

        with pytest.raises(ValueError, match=r"family 'btt': linops.families.trains.btt has that name"):
            family()(btt)
        assert FAMILIES["btt"] is lo.btt

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (lambda m: lo.dense(m, m), "expected two sizes and options with defaults"),
            (lambda m, n, rank: lo.dense(m, n), "expected two sizes and options with defaults"),
            (lambda m, n, **options: lo.dense(m, n), "options must be named in the signature"),
            (lambda m, n, rank=1: lo.dense(m, n), "no option 'blocks'"),
        ],
    )
    def test_what_cannot_be_a_family(self, function, message):
        with pytest.raises(TypeError, match=message):
            family(Knob("blocks"))(function)
        assert "<lambda>" not in FAMILIES
