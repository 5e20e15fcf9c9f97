"""Divided products: what ranks compute together, simulated in one process, equals what one computes alone."""

from itertools import product

import numpy as np
import pytest

import linops as lo
from linops.plan.division import VECTORS
from linops.sharding import Local, division

#: families and options of sizes that two, three or four ranks may share
FAMILIES = [
    ("dense", {}),
    ("low_rank", {"rank": 8}),
    ("block_diag", {"blocks": 8}),
    ("kronecker", {}),
    ("kronecker", {"factors": 3}),
    ("monarch", {}),
    ("monarch", {"blocks": 8}),
    ("btt", {"rank": 1}),
    ("btt", {"rank": 4}),
    ("btt", {"rank": 2, "cores": 3}),
    ("tensor_train", {"rank": 4}),
    ("blast", {}),
    ("butterfly", {}),
    ("low_rank_block", {"rank": 8, "blocks": 8}),
    ("low_rank_sparse", {"rank": 8}),
    ("low_rank_semi_structured", {"rank": 8}),
]
#: families of which a part has no axes: they are whole on every rank
WHOLE = ("low_rank_sparse", "low_rank_semi_structured")
STYLES = ("whole", "sharded")


def share(x, ranks, rank, axis=0):
    return np.split(np.asarray(x), ranks, axis)[rank]


def moved(kind, dims, xs):
    """What every rank has after a movement."""
    ranks, vectors = len(xs), xs[0].shape[-1]
    if kind == "slice":
        left, size, right = dims
        shape = left, size, right * vectors
        return [share(x.reshape(shape), ranks, rank, 1).reshape(-1, vectors) for rank, x in enumerate(xs)]
    if kind in ("gather", "gather_enter"):
        return [np.concatenate(xs)] * ranks
    if kind == "exchange":
        return [np.concatenate([share(x, ranks, rank) for x in xs]) for rank in range(ranks)]
    if kind == "scatter":
        return [share(sum(xs), ranks, rank) for rank in range(ranks)]
    return xs if kind == "enter" else [sum(xs)] * ranks


def multiplied(A, found, x):
    """A x as ranks compute it, each from its shares alone."""
    ranks, total = found.ranks, 0
    own = []
    for rank in range(ranks):
        axes = [(leaf, found.axes[name]) for name, leaf in A.named_leaves()]
        own.append([leaf if axis is None else share(leaf, ranks, rank, axis) for leaf, axis in axes])
    for chain in found.chains:
        xs = [x if found.into == "whole" else share(x, ranks, rank) for rank in range(ranks)]
        for piece in chain:
            if isinstance(piece, Local):
                for rank, leaves in enumerate(own):
                    if piece.structure is None:
                        xs[rank] = A @ xs[rank]
                        continue
                    tensors = [leaves[leaf].reshape(shape) for leaf, shape in zip(piece.leaves, piece.shapes)]
                    product = piece.structure.fill(tensors)._columns(xs[rank])
                    xs[rank] = product.reshape(-1, x.shape[-1])
            else:
                xs = moved(piece.kind, piece.dims, xs)
        if found.out == "whole":
            for y in xs:
                np.testing.assert_array_equal(y, xs[0])
        total = total + (xs[0] if found.out == "whole" else np.concatenate(xs))
    return total


def named(value):
    return value if isinstance(value, str) else "-".join(f"{name}{number}" for name, number in value.items())


@pytest.mark.parametrize(("family", "options"), FAMILIES, ids=named)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_ranks_together_compute_the_product(family, options, dtype):
    rng = np.random.default_rng(0)
    divided = 0
    for m, n in [(64, 64), (96, 48), (32, 128), (8, 24)]:
        try:
            A = getattr(lo, family)(m, n, **options).init(seed=0, dtype=dtype)
        except ValueError:  # dearer than dense, or more blocks than features
            continue
        for B in (A, A.T, A + lo.dense(m, n).init(seed=1, dtype=dtype)):
            x = rng.standard_normal((B.shape[1], 3))
            for ranks in (2, 3, 4):
                for into in STYLES:
                    for out in STYLES:
                        sides = (into, B.shape[1]), (out, B.shape[0])
                        if any(side == "sharded" and size % ranks for side, size in sides):
                            continue
                        found = division(B, ranks, into, out)
                        divided += found.is_split
                        np.testing.assert_allclose(multiplied(B, found, x), B @ x, rtol=1e-10, atol=1e-10)
    assert (divided == 0) == (family in WHOLE)


def kinds(A, ranks, into="sharded", out="sharded"):
    chains = division(A, ranks, into, out).chains
    return [piece.kind for chain in chains for piece in chain if not isinstance(piece, Local)]


@pytest.mark.parametrize(
    ("A", "into", "out", "expected"),
    [
        (lo.block_diag(64, 64, blocks=8), "sharded", "sharded", []),
        (lo.btt(256, 256), "sharded", "sharded", ["exchange"]),
        (lo.monarch(256, 256, blocks=16), "sharded", "whole", ["exchange", "gather"]),
        (lo.low_rank(256, 256, rank=8), "sharded", "sharded", ["reduce_enter"]),
        (lo.dense(256, 256), "whole", "sharded", ["enter"]),
        (lo.dense(256, 256), "sharded", "whole", ["reduce"]),
        (lo.kronecker(256, 256), "whole", "whole", []),
        (lo.tensor_train(256, 256, rank=4), "whole", "whole", []),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_sent_is_what_the_structure_asks_for(A, into, out, expected):
    assert kinds(A, 4, into, out) == expected


def test_leaves_are_split_over_their_blocks():
    assert division(lo.btt(256, 256), 4, "sharded", "sharded").axes == {"cores_0": 0, "cores_1": 0}
    assert division(lo.low_rank(256, 256, rank=8), 4, "sharded", "sharded").axes == {"U": 0, "V": 1}
    assert division(lo.dense(256, 128), 4, "sharded", "whole").axes == {"matrix": 1}


def test_formulas_of_what_is_sent():
    p, vectors, m, n, r = 4, 10, 256, 256, 8
    low_rank = division(lo.low_rank(m, n, rank=r), p, "sharded", "sharded")
    assert list(low_rank.sent(vectors)) == [
        (when, "all_reduce", 2 * (p - 1) / p * vectors * r) for when in ("forward", "backward")
    ]
    btt = division(lo.btt(m, n, rank=1), p, "sharded", "sharded")
    assert list(btt.sent(vectors)) == [
        (when, "all_to_all", (p - 1) / p**2 * vectors * 16 * 16) for when in ("forward", "backward")
    ]


def test_nothing_is_sent_that_a_dense_layer_would_not_send_where_large_leaves_are_split():
    for family, options in FAMILIES:
        A = getattr(lo, family)(256, 256, **options)
        found = division(A, 4)
        if found.is_split:
            sent = sum(count for _, _, count in found.sent(VECTORS))
            assert sent <= 3 * 3 / 4 * 256 * VECTORS


def test_what_has_no_axes_is_whole_on_every_rank():
    x = np.ones((8, 3))
    for A in (lo.Permute.random(8, seed=0) @ lo.dense(8, 8), lo.toeplitz(8, 8), lo.dense(9, 9)):
        A = A.init(seed=0)
        for into, out in product(STYLES, STYLES):
            if A.shape == (8, 8):
                found = division(A, 2, into, out)
                np.testing.assert_allclose(multiplied(A, found, x), A @ x, rtol=1e-5, atol=1e-6)
                assert not found.is_split
        assert not division(A, 2).is_split


def test_features_that_cannot_be_shared():
    with pytest.raises(ValueError, match=r"Dense\(.*9 in_features cannot be shared equally by 2 ranks"):
        division(lo.dense(9, 9), 2, "sharded", "whole")
