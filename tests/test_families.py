"""Families at awkward sizes: shape, parameters, MACs, definitions; padding drops no input and freezes no output."""

import numpy as np
import pytest
from cases import axes_matrix, block_matrix
from helpers import FOURIER, assert_close, assert_is

import linops as lo
from linops.families import FAMILIES
from linops.families.dims import balanced_splits
from linops.families.text import parse
from linops.plan import natural_order

SIZES = ((10, 7), (7, 10), (67, 67), (67, 50), (5, 8), (8, 5), (1, 1), (1, 9), (9, 1), (13, 13), (768, 3072), (64, 64))
LARGE = (50257, 768)
OPTIONS = {
    "low_rank": ({}, {"rank": 1}, {"rank": 3}),
    "block_diag": ({}, {"blocks": 3}, {"blocks": 1}),
    "monarch": ({}, {"blocks": 3}, {"blocks": 1}),
    "kronecker": ({}, {"factors": 1}, {"factors": 3}),
    "tensor_train": ({}, {"rank": 2}, {"cores": 3, "rank": 2}, {"cores": 1}),
    "btt": ({}, {"rank": 2}, {"cores": 3}, {"cores": 3, "rank": 2}, {"cores": 1}),
    "einsum": ({}, {"rank": 2}),
    "blast": ({}, {"blocks": 3, "rank": 2}, {"blocks": 1}),
    "low_rank_block": ({}, {"rank": 2, "blocks": 3}),
    "low_rank_sparse": ({}, {"rank": 2, "density": 0.1}),
    "low_rank_semi_structured": ({}, {"rank": 1, "kept": 1}),
}
#: families whose positions are drawn when they are made
DRAWN = ("low_rank_sparse", "low_rank_semi_structured")
MEMBERS = [(name, options) for name in FAMILIES for options in OPTIONS.get(name, ({},))]

every_size = pytest.mark.parametrize(("m", "n"), SIZES)
every_member = pytest.mark.parametrize(("name", "options"), MEMBERS)


def member(name, m, n, options):
    """The member, however dear; None where there are more blocks than features, or millions of positions to draw."""
    limited = {} if name == "dense" else {"allow_dearer": True}
    blocks = options.get("blocks", 4 if name in ("block_diag", "monarch", "blast") else 0)
    return (
        None
        if blocks > min(m, n) or (name in DRAWN and (m, n) == LARGE)
        else FAMILIES[name](m, n, **options, **limited)
    )


@every_member
@pytest.mark.parametrize(("m", "n"), [*SIZES, LARGE])
def test_shape_parameters_macs(name, options, m, n):
    operator = member(name, m, n, options)
    if operator is None:
        return
    assert operator.shape == (m, n)
    assert operator.is_symbolic
    assert operator.num_params == sum(leaf.size for _, leaf in operator.named_leaves())
    assert operator.flops() > 0
    assert set(lo.fans(operator)) == {leaf for leaf, _ in operator.named_leaves()}
    limited = {} if name == "dense" else {"allow_dearer": False}
    with natural_order():
        flops, macs = operator.flops(batch=2) - operator.flops(), operator.cost().macs  # of a vector
    unit, dense = ("MACs", m * n) if flops == 2 * macs else ("FLOPs", 2 * m * n)
    assert (name in FOURIER) == (macs == 0)
    if flops > 2 * m * n:
        with pytest.raises(
            ValueError, match=rf"{name}\({m}, {n}\): .* {unit} .* more than dense's {dense:,}.*allow_dearer"
        ):
            FAMILIES[name](m, n, **options, **limited)
    else:
        assert FAMILIES[name](m, n, **options, **limited).num_params == operator.num_params


@every_member
@every_size
def test_no_input_is_dropped_and_no_output_frozen(name, options, m, n):
    operator = member(name, m, n, options)
    if operator is None:
        return
    matrix = operator.init(seed=1, dtype="float64").to_dense()
    assert matrix.shape == (m, n)
    assert (np.abs(matrix).max(axis=0) > 0).all(), "an input is dropped"
    assert (np.abs(matrix).max(axis=1) > 0).all(), "an output is frozen"


@every_member
def test_padding_costs_little_at_awkward_sizes(name, options):
    """Primes do not degenerate: padded to a nearby composite, they cost at most 2 % more than the round size above."""
    for (m, n), (round_m, round_n) in (
        ((50257, 768), (50400, 768)),
        ((67, 67), (72, 72)),
        ((1021, 1021), (1024, 1024)),
    ):
        if name in DRAWN and m == LARGE[0]:
            continue
        ours, round_up = (member(name, *size, options) for size in ((m, n), (round_m, round_n)))
        if name in FOURIER:  # at primes, a convolution of more than twice the length
            assert ours.flops(batch=100) <= 2.6 * round_up.flops(batch=100)
        else:
            assert ours.cost().macs <= 1.02 * round_up.cost().macs


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128", "bfloat16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_dtype(name, dtype):
    assert str(FAMILIES[name](64, 64, dtype=dtype).dtype) == dtype


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("name", FAMILIES)
def test_padded_members_are_their_dense_matrices(name, backend):
    operator = FAMILIES[name](67, 50).init(seed=2, dtype="float64")
    matrix = operator.to_dense()
    x = np.random.default_rng(0).standard_normal((50, 3))
    moved = operator.to(backend=backend)
    assert_close(moved @ lo.backends.asarray(x, backend), matrix @ x, np.abs(matrix) @ np.abs(x))
    assert_is(operator, matrix)


class TestDefinitions:
    @pytest.mark.parametrize("rank", [1, 2, 3])
    @pytest.mark.parametrize(("out_dims", "in_dims"), [((3, 4), (2, 5)), ((2, 2), (4, 3)), ((4, 3), (3, 3))])
    def test_btt_is_a_product_of_block_diagonals(self, out_dims, in_dims, rank):
        """By definition BlockDiag(m1, m2, n2·r) @ Permute.axes((n2, m1, r), (1, 0, 2)) @ BlockDiag(n2, m1·r, n1)."""
        (m1, m2), (n2, n1) = out_dims, in_dims
        options = {"rank": rank, "out_dims": out_dims, "in_dims": in_dims, "dtype": "float64", "allow_dearer": True}
        A = lo.btt(m1 * m2, n2 * n1, **options).init()
        first, second = A.cores
        # stored (rank, m1) in the rows of the first core; the definition has (m1, rank)
        first = first.reshape(n2, rank, m1, n1).transpose(0, 2, 1, 3).reshape(n2, m1 * rank, n1)
        product = lo.BlockDiag(second) @ lo.Permute.axes((n2, m1, rank), (1, 0, 2)) @ lo.BlockDiag(first)
        expected = block_matrix(second) @ axes_matrix((n2, m1, rank), (1, 0, 2)) @ block_matrix(first)
        assert_is(A, expected)
        assert_is(product, expected)
        assert A.num_params == n2 * m1 * rank * n1 + m1 * m2 * n2 * rank

    def test_btt_docstring_form(self):
        A = lo.btt(12, 10, rank=2, out_dims=(3, 4), in_dims=(2, 5), dtype="float64", allow_dearer=True).init()
        product = lo.BlockDiag(A.cores[1]) @ lo.Permute.axes((2 * 2, 3), (1, 0)) @ lo.BlockDiag(A.cores[0])
        assert_is(A, product.to_dense())

    @pytest.mark.parametrize(("m", "n", "b"), [(12, 8, 4), (8, 12, 4), (12, 12, 2), (9, 6, 3)])
    def test_monarch(self, m, n, b):
        p, s = n // b, m // b
        q = min(p, s)
        A = lo.monarch(m, n, blocks=b, dtype="float64", allow_dearer=True).init()
        left, right = (leaf for _, leaf in A.named_leaves())
        assert left.shape == (b, s, q)
        assert right.shape == (b, q, p)
        expected = axes_matrix((b, s), (1, 0)) @ block_matrix(left) @ axes_matrix((q, b), (1, 0)) @ block_matrix(right)
        assert_is(A, expected)
        assert A.num_params == b * q * (p + s)

    def test_monarch_middle_index_lands_in_its_block(self):
        """Middle index j of block k goes to output block (k q + j) mod b; block ranks are ⌊q/b⌋ or ⌈q/b⌉."""
        b, q = 4, 6
        matrix = lo.monarch(b * q, b * q, blocks=b, dtype="float64").init().to_dense()
        blocks = (axes_matrix((b, q), (1, 0)).T @ matrix).reshape(b, q, b, q).transpose(0, 2, 1, 3)
        ranks = np.linalg.matrix_rank(blocks)
        assert set(ranks.ravel()) <= {q // b, -(-q // b)}

    def test_low_rank_is_a_btt(self):
        u, v = np.random.default_rng(0).standard_normal((2, 6, 2))
        A = lo.BlockTensorTrain([v.T.reshape(1, 2, 6), u.reshape(1, 6, 2)])
        assert_is(A, u @ v.T)

    def test_sum_of_kroneckers_is_a_two_core_train(self):
        random = np.random.default_rng(0)
        a, b = random.standard_normal((3, 2, 4)), random.standard_normal((3, 5, 2))
        A = lo.TensorTrain([a.transpose(1, 2, 0)[None], b[..., None]])
        assert_is(A, sum(np.kron(one, other) for one, other in zip(a, b)))

    def test_block_ranks_of_btt_are_at_most_the_rank(self):
        A = lo.btt(24, 20, rank=2, out_dims=(4, 6), in_dims=(4, 5), dtype="float64").init()
        blocks = A.to_dense().reshape(4, 6, 4, 5).transpose(0, 2, 1, 3)
        assert (np.linalg.matrix_rank(blocks) == 2).all()

    def test_block_diagonal_parts_are_those_of_array_split(self):
        matrix = lo.block_diag(10, 7, blocks=3, dtype="float64").init().to_dense()
        rows, columns = (np.array_split(np.arange(size), 3) for size in (10, 7))
        mask = np.zeros((10, 7), bool)
        for i, j in zip(rows, columns):
            mask[np.ix_(i, j)] = True
        assert ((matrix != 0) == mask).all()


class TestDims:
    def test_fewest_macs_of_balanced_splits(self):
        assert balanced_splits(768, 2) == ((24, 32),)
        A = lo.btt(3072, 768)
        paper = lo.btt(3072, 768, out_dims=(32, 96), in_dims=(48, 16))
        assert A.num_params == 110_592
        assert 1 - A.cost().macs / paper.cost().macs > 0.27

    @pytest.mark.parametrize(("size", "count"), [(67, 2), (50257, 2), (1021, 3), (97, 4), (2, 2), (1, 3)])
    def test_splits_are_balanced_and_near(self, size, count):
        for split in balanced_splits(size, count):
            assert len(split) == count
            assert max(split) <= 2 * min(split)
            product = int(np.prod(split))
            assert size <= product <= max(1.25 * size, 2**count)

    def test_explicit_dims_are_kept(self):
        A = lo.kronecker(12, 10, out_dims=np.array([6, 2]), in_dims=(2, 5))
        assert [factor.shape for factor in A.factors] == [(6, 2), (2, 5)]
        B = lo.tensor_train(12, 10, rank=2, out_dims=(6, 2), in_dims=(2, 5), allow_dearer=True)
        assert [core.shape for core in B.cores] == [(1, 6, 2, 2), (2, 2, 5, 1)]
        C = lo.btt(11, 9, out_dims=(6, 2), in_dims=(2, 5), allow_dearer=True)
        assert C.shape == (11, 9)
        assert C.factors[1].out_dims == (6, 2)

    def test_defaults(self):
        assert lo.low_rank(100, 50).U.shape == (100, 8)
        assert lo.low_rank(49, 50).U.shape == (49, 7)
        assert dict(lo.block_diag(8, 8).named_leaves())["blocks"].shape == (4, 2, 2)
        assert len(lo.kronecker(64, 64).factors) == 2
        assert lo.btt(64, 64).ranks == (1,)


def _scale(A, seed=0):
    """Frobenius' and the spectral norm of a drawn operator."""
    W = A.init(seed=seed, dtype="float64").to_dense()
    return np.array([np.linalg.norm(W), np.linalg.norm(W, 2)])


class TestLowRankPlus:
    @pytest.mark.parametrize(("m", "n"), [(256, 256), (384, 128), (128, 384)])
    @pytest.mark.parametrize("name", ["low_rank_block", "low_rank_sparse", "low_rank_semi_structured"])
    def test_the_sum_has_the_scale_of_a_dense_matrix(self, name, m, n):
        rms, norm = _scale(FAMILIES[name](m, n)) / _scale(lo.dense(m, n))
        assert 0.95 < rms < 1.1
        assert 0.9 < norm < 1.4

    def test_positions_follow_from_the_seed_alone(self):
        A, B, C = (lo.low_rank_sparse(30, 20, rank, 0.1, seed) for rank, seed in ((1, 3), (2, 3), (1, 4)))
        (_, one), (_, same), (_, other) = (each.terms for each in (A, B, C))
        assert lo.same_structure(one, same)
        assert not lo.same_structure(one, other)
        assert len({*zip(one.rows.tolist(), one.columns.tolist())}) == 60 == one.num_params

    @pytest.mark.parametrize("density", [1e-9, 0.03, 0.5, 0.9, 1.0])
    def test_density(self, density):
        sparse = lo.low_rank_sparse(30, 20, 1, density, allow_dearer=True).terms[1]
        found = {*zip(sparse.rows.tolist(), sparse.columns.tolist())}
        assert len(found) == sparse.num_params == max(1, round(600 * density))

    def test_every_position_is_as_likely(self):
        """Over 200 seeds each of 48 positions is drawn 50 times, give or take five standard deviations."""
        counts = np.zeros((6, 8))
        for seed in range(200):
            sparse = lo.low_rank_sparse(6, 8, 1, 0.25, seed).terms[1]
            counts[sparse.rows, sparse.columns] += 1
        assert abs(counts - 50).max() < 5 * np.sqrt(200 * 0.25 * 0.75)

    @pytest.mark.parametrize(("n", "kept", "group"), [(16, 2, 4), (18, 2, 4), (19, 1, 4), (16, 3, 8), (3, 2, 4)])
    def test_groups_keep_so_many(self, n, kept, group):
        A = lo.low_rank_semi_structured(10, n, 1, kept, group, seed=1, allow_dearer=True).terms[1]
        mask = np.zeros((10, n), int)
        np.add.at(mask, (A.rows, A.columns), 1)
        assert mask.max() == 1
        for start in range(0, n, group):
            part = mask[:, start : start + group]
            assert (part.sum(axis=1) == -(-kept * part.shape[1] // group)).all()
        assert n < group or (mask.sum(axis=0) < 10).any(), "the same in every row"

    def test_definition_and_rates(self):
        A = lo.low_rank_block(12, 8, rank=2, blocks=4, dtype="float64").init()
        low, blocks = A.terms
        assert_is(A, low.U @ low.V + blocks.to_dense())
        assert lo.fans(A) == {"terms_0_U": (2, 12), "terms_0_V": (8, 2), "terms_1_blocks": (2, 3)}
        sparse = lo.low_rank_sparse(40, 20, rank=2, density=0.1)
        assert lo.fans(sparse)["terms_1_values"] == (2, 4)
        assert lo.lr_multipliers(sparse)["terms_1_values"] == 20 / 2 / 3

    def test_text(self):
        A = parse("low_rank_sparse:rank=4:density=0.25:seed=0")(32, 32)
        assert A.num_params == 4 * 64 + 256
        assert parse("low_rank_semi_structured:rank=2:kept=1:group=4")(32, 32).num_params == 2 * 64 + 256
        for text in ("low_rank_sparse:density=0.1.2", "low_rank_sparse:density=.", "low_rank_sparse:rank=0.5"):
            with pytest.raises(ValueError, match="expected name=integer"):
                parse(text)
