"""Exact conversions: against dense, on three backends, real and complex; and what is refused."""

import numpy as np
import pytest
from helpers import as_numpy, assert_close, leaves, on, randoms

import linops as lo

P = lo.Permute.axes


def drawn(symbolic):
    """Random arrays for a symbolic operator."""
    return lambda array: symbolic.with_leaves([array(*leaf.shape) for leaf in leaves(symbolic)])


def diagonal(array):
    return lo.Diagonal(array(12))


def spectral(n, conjugate=False, left="backward", right="backward"):
    return lo.DFT(n, left, not conjugate) @ lo.Diagonal(lo.spec(n)) @ lo.DFT(n, right, conjugate)


DEAR = {"allow_dearer": True}
#: what is converted, as a function of a maker of random arrays, and into what
CASES = {
    "low rank to btt": (drawn(lo.low_rank(24, 36, rank=2)), "btt:rank=2"),
    "low rank to a larger btt": (drawn(lo.low_rank(24, 36, rank=2)), "btt:rank=3:allow_dearer=1"),
    "low rank to a btt of three cores": (drawn(lo.low_rank(24, 36, rank=2)), lo.btt(24, 36, rank=2, cores=3, **DEAR)),
    "low rank to btt, padded": (drawn(lo.low_rank(23, 37, rank=2)), "btt:rank=2:allow_dearer=1"),
    "low rank to monarch": (drawn(lo.low_rank(32, 64, rank=1)), "monarch:blocks=4"),
    "low rank to monarch, padded and spread": (drawn(lo.low_rank(31, 30, rank=1)), "monarch:blocks=4"),
    "low rank to monarch of uneven blocks": (drawn(lo.low_rank(24, 32, rank=1)), "monarch:blocks=4"),
    "low rank to monarch of uneven blocks, padded": (drawn(lo.low_rank(41, 43, rank=2)), "monarch:blocks=4"),
    "monarch of uneven blocks to btt": (
        drawn(lo.monarch(24, 32, blocks=4)),
        P((4, 6), (1, 0)) @ lo.btt(24, 32, 2, out_dims=(4, 6), in_dims=(4, 8), **DEAR),
    ),
    "monarch of uneven blocks, spread, to dense": (drawn(lo.monarch(41, 43, blocks=4)), "dense"),
    "btt to monarch of uneven blocks": (
        lambda array: P((4, 6), (1, 0)) @ drawn(lo.btt(24, 32, out_dims=(4, 6), in_dims=(4, 8)))(array),
        "monarch:blocks=4",
    ),
    "low rank to blast": (drawn(lo.low_rank(24, 36, rank=2)), "blast:rank=2"),
    "low rank to a larger blast": (drawn(lo.low_rank(24, 36, rank=2)), "blast:rank=4"),
    "low rank to low rank": (drawn(lo.low_rank(9, 7, rank=2)), "low_rank:rank=3"),
    "low rank to einsum": (drawn(lo.low_rank(16, 16, rank=2)), lo.Einsum("ir,rj,j->i", lo.spec(16, 3), lo.spec(3, 16))),
    "kronecker to tensor train": (drawn(lo.kronecker(24, 36)), "tensor_train"),
    "kronecker to tensor train, padded": (drawn(lo.kronecker(23, 37)), "tensor_train:rank=2"),
    "kronecker of three to two": (
        drawn(lo.kronecker(24, 36, 3, out_dims=(2, 3, 4), in_dims=(3, 3, 4))),
        lo.kronecker(24, 36, out_dims=(6, 4), in_dims=(9, 4)),
    ),
    "kronecker to btt, outputs in another order": (
        drawn(lo.kronecker(24, 36, out_dims=(4, 6), in_dims=(6, 6))),
        P((6, 4), (1, 0)) @ lo.btt(24, 36, out_dims=(6, 4), in_dims=(6, 6)),
    ),
    "kronecker to btt of full rank": (drawn(lo.kronecker(24, 36)), lo.btt(24, 36, rank=6, **DEAR)),
    "tensor train to tensor train": (
        drawn(lo.tensor_train(24, 36, rank=2, cores=3)),
        "tensor_train:rank=3:allow_dearer=1",
    ),
    "tensor train to fewer cores": (
        drawn(lo.tensor_train(24, 36, 2, 3, out_dims=(2, 3, 4), in_dims=(3, 3, 4), **DEAR)),
        lo.tensor_train(24, 36, 2, out_dims=(6, 4), in_dims=(9, 4)),
    ),
    "tensor train to einsum": (
        drawn(lo.tensor_train(64, 64, 3)),
        lo.einsum(64, 64, 3, out_dims=(1, 8, 8), in_dims=(1, 8, 8)),
    ),
    "btt to btt": (drawn(lo.btt(24, 36, rank=2)), "btt:rank=4:allow_dearer=1"),
    "btt to btt, three cores": (drawn(lo.btt(27, 27, rank=2, cores=3, **DEAR)), "btt:rank=3:allow_dearer=1"),
    "btt to btt, padded": (drawn(lo.btt(23, 37)), "btt:rank=2:allow_dearer=1"),
    "btt to two block-diagonal factors": (
        drawn(lo.btt(64, 64)),
        lo.BlockDiag(lo.spec(8, 8, 8)) @ P((8, 8), (1, 0)) @ lo.BlockDiag(lo.spec(8, 8, 8)),
    ),
    "monarch to btt": (drawn(lo.monarch(64, 64, blocks=8)), P((8, 8), (1, 0)) @ lo.btt(64, 64)),
    "monarch to monarch of another middle": (drawn(lo.monarch(32, 32, blocks=4)), lo.monarch(32, 32, blocks=4)),
    "butterfly to two factors": (
        drawn(lo.butterfly(64, 64)),
        lo.Butterfly([lo.spec(1, 8, 8, 8), lo.spec(8, 1, 8, 8)]),
    ),
    "butterfly to btt": (drawn(lo.butterfly(64, 64)), lo.btt(64, 64) @ P((8, 8), (1, 0))),
    "transposed butterfly to monarch": (lambda array: drawn(lo.butterfly(64, 64))(array).T, "monarch:blocks=8"),
    "blast to low rank": (drawn(lo.blast(24, 36, blocks=2, rank=2)), lo.low_rank(24, 36, rank=4)),
    "blast to blast": (drawn(lo.blast(24, 36, rank=2)), "blast:rank=3"),
    "dense to btt of full rank": (drawn(lo.dense(24, 36)), lo.btt(24, 36, rank=6, **DEAR)),
    "dense to low rank": (drawn(lo.dense(5, 9)), lo.low_rank(5, 9, rank=5, **DEAR)),
    "blocks to larger blocks": (drawn(lo.block_diag(24, 36, blocks=4)), "block_diag:blocks=2"),
    "blocks to dense": (drawn(lo.block_diag(23, 37, blocks=4)), "dense"),
    "blocks to monarch": (
        drawn(lo.BlockDiag(lo.spec(8, 2, 3))),
        lo.BlockDiag(lo.spec(4, 4, 6)) @ P((4, 6), (0, 1)) @ lo.BlockDiag(lo.spec(4, 6, 6)),
    ),
    "diagonal to tridiagonal": (diagonal, "tridiagonal"),
    "diagonal to triangular": (diagonal, "lower_triangular"),
    "diagonal to blocks": (diagonal, "block_diag:blocks=3"),
    "diagonal to kronecker-sparse": (diagonal, lo.Butterfly([lo.spec(1, 3, 4, 4), lo.spec(4, 3, 1, 1)])),
    "diagonal to sparse": (diagonal, lo.Sparse(lo.spec(14), np.r_[:12, 0, 4], np.r_[:12, 3, 1], (12, 12))),
    "tridiagonal to sparse": (
        lambda array: lo.Tridiagonal(array(3), array(4), array(3)),
        lo.Sparse(lo.spec(11), np.r_[:4, :3, 1:4, 0], np.r_[:4, 1:4, :3, 3], (4, 4)),
    ),
    "circulant to toeplitz": (lambda array: lo.Circulant(array(7)), "toeplitz"),
    "toeplitz to circulant": (
        lambda array: lo.Toeplitz(array(5), array(7)),
        lo.Circulant(lo.spec(12), rows=5, columns=7),
    ),
    "circulant to transforms": (lambda array: lo.Circulant(array(7)), spectral(7)),
    "circulant to transforms the other way round": (lambda array: lo.Circulant(array(7)), spectral(7, True)),
    "circulant to unitary transforms": (lambda array: lo.Circulant(array(7)), spectral(7, False, "ortho", "ortho")),
    "transposed circulant to transforms": (lambda array: lo.Circulant(array(7)).T, spectral(7, False, "ortho")),
    "circulant to divided transforms": (lambda array: lo.Circulant(array(7)), spectral(7) / 7),
    "transforms to circulant": (drawn(spectral(7, False, "ortho")), lo.Circulant(lo.spec(7))),
    "transforms to a transposed circulant": (drawn(spectral(7, True)), lo.Circulant(lo.spec(7)).T),
    "a multiple to btt": (lambda array: 3 * drawn(lo.low_rank(24, 36, rank=2))(array), "btt:rank=2"),
    "a multiple with a parameter": (
        lambda array: lo.Scaled(drawn(lo.low_rank(24, 36, rank=2))(array), 2, array()),
        "btt:rank=2",
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("case", CASES)
def test_is_the_same_matrix(case, backend, dtype):
    make, target = CASES[case]
    A = make(randoms(case, dtype)).to(backend=backend)
    B = lo.convert(A, target)
    assert B.backend == backend
    assert_close(B.to_dense(), as_numpy(A.to_dense()))
    m, n = A.shape
    if isinstance(target, str) and ":" in target and "allow" not in target:  # the members of families are these
        assert lo.same_structure(B, lo.convert(B, target))
    if isinstance(target, lo.LinearOperator):
        assert [tuple(leaf.shape) for leaf in leaves(B)] == [tuple(leaf.shape) for leaf in leaves(target)]
        assert type(B) is type(target)
    assert {as_numpy(leaf).dtype for leaf in leaves(B)} <= {np.dtype(dtype), np.dtype("complex128")}
    x = randoms(case, dtype)(n, 2)
    assert_close(B @ on(backend, x), as_numpy(A.to_dense()) @ x, scale=np.abs(as_numpy(A.to_dense())) @ np.abs(x))
    assert B.shape == (m, n)


@pytest.mark.parametrize("case", CASES)
def test_gradients_flow_through(case):
    torch = pytest.importorskip("torch")
    make, target = CASES[case]
    array = randoms(case, "float64")
    A = make(array).to(backend="torch")
    weights = on("torch", array(*A.shape))
    found = []
    for way in (lambda one: one, lambda one: lo.convert(one, target)):
        own = [leaf.clone().requires_grad_() for leaf in leaves(A)]
        (way(A.with_leaves(own)).to_dense().real * weights).sum().backward()
        found.append([leaf.grad for leaf in own])
    for expected, actual in zip(*found):
        assert actual is not None
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def test_is_traced_by_jax():
    jax = pytest.importorskip("jax")
    A = lo.low_rank(16, 16, rank=2).init(seed=0, backend="jax", dtype="float64")

    def total(U, V, convert):
        B = lo.LowRank(U, V)
        return ((lo.convert(B, "btt:rank=2") if convert else B).to_dense() ** 3).sum()

    ours, theirs = (jax.jit(jax.grad(total, (0, 1)), static_argnums=2)(A.U, A.V, way) for way in (True, False))
    for actual, expected in zip(ours, theirs):
        assert_close(actual, as_numpy(expected))


@pytest.mark.parametrize("source", [lo.Identity(6), 3 * lo.Identity(6)])
@pytest.mark.parametrize("target", ["diagonal", "tridiagonal", "upper_triangular", "block_diag:blocks=2", "dense"])
def test_of_operators_without_arrays(source, target):
    assert_close(lo.convert(source, target).to_dense(), source.to_dense().astype(float))


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("target", ["low_rank:rank=2", "btt:rank=1:allow_dearer=1", "toeplitz", "block_diag:blocks=3"])
def test_of_nothing_learns(target, backend):
    A = lo.LowRank(np.zeros((6, 0)), np.zeros((0, 6))).to(backend=backend)
    for source, theirs in ((A, backend), (lo.Zero(6, 6), "numpy")):
        B = lo.convert(source, target)
        assert B.backend == theirs
        assert not as_numpy(B.to_dense()).any()
        assert [as_numpy(leaf).any() for leaf in leaves(B)] == [
            name not in B._output_leaves() for name, _ in B.named_leaves()
        ]
    empty = lo.LowRank(np.zeros((0, 2)), np.ones((2, 4)))
    assert lo.convert(empty, lo.LowRank(lo.spec(0, 3), lo.spec(3, 4))).to_dense().shape == (0, 4)


def test_permutations_are_those_of_classes_that_are():
    A = P((2, 3), (1, 0))
    assert lo.convert(A, "permutation") is A
    with pytest.raises(ValueError, match="not known to be a permutation"):
        lo.convert(np.eye(3), "permutation")


def test_tags_of_a_dense_target_must_be_known():
    A = lo.Tridiagonal(*(leaf := np.ones(2), np.ones(3), np.ones(2))[:2], leaf)
    B = lo.convert(A, "symmetric")
    assert B.is_symmetric
    assert_close(B.to_dense(), A.to_dense())
    with pytest.raises(ValueError, match=r"not known to be SYMMETRIC.*lo\.project"):
        lo.convert(np.ones((3, 3)), "symmetric")


# ---------------------------------------------------------------- growth


@pytest.mark.parametrize(
    ("family", "last"),
    [("low_rank", "U"), ("btt", "cores_1"), ("tensor_train", "cores_0"), ("blast", "tensors_0")],
)
def test_new_components_are_zero_where_they_leave_alone(family, last):
    member = lo.families.FAMILIES[family]
    A = member(256, 256, rank=1).init(seed=0)
    B = lo.convert(A, f"{family}:rank=3")
    np.testing.assert_array_equal(B.to_dense(), lo.convert(A, f"{family}:rank=3", seed=None).to_dense())
    stds = lo.initial_stds(B)
    for (name, leaf), (_, old), (_, bare) in zip(
        B.named_leaves(), A.named_leaves(), lo.convert(A, f"{family}:rank=3", seed=None).named_leaves()
    ):
        new = leaf - bare
        assert np.count_nonzero(bare) == old.size
        if name == last:
            assert not new.any()
        else:
            count = np.count_nonzero(new)
            assert count == leaf.size - old.size
            assert new[new != 0].std() == pytest.approx(stds[name], rel=4 / np.sqrt(2 * count))


def test_the_seed_is_the_draw():
    A = lo.low_rank(8, 8, rank=1).init(seed=0)
    one, same, other = (lo.convert(A, "low_rank:rank=3", seed=seed).V for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (lo.low_rank(16, 16, rank=3), "low_rank:rank=2", r"takes ranks 3, the target has 2; lo\.project"),
        (lo.low_rank(16, 16, rank=2), "btt:rank=1", r"takes ranks 2, the target has 1; lo\.project"),
        (lo.kronecker(16, 16), "btt:rank=1", r"takes ranks 4, the target has 1; lo\.project"),
        (lo.tensor_train(16, 16, rank=2), "kronecker", r"takes ranks 2, the target has 1"),
        (lo.dense(16, 16), "block_diag:blocks=2", "zero off its diagonal blocks"),
        (lo.block_diag(16, 16, blocks=2), "block_diag:blocks=4", "zero off its diagonal blocks"),
        (lo.dense(6, 6), "tridiagonal", r"lo\.project"),
        (lo.toeplitz(6, 6), "circulant", r"lo\.project"),
        (lo.butterfly(64, 64), "btt", r"takes ranks 8, the target has 1"),
        (lo.low_rank(24, 24, rank=2), lo.kronecker(24, 24, out_dims=(5, 5), in_dims=(5, 5)), r"lo\.project"),
        (lo.low_rank(24, 32, rank=2), "monarch:blocks=4", "takes ranks 2, the target has 1"),
        (lo.tensor_train(60, 48, rank=2, cores=3), "btt:rank=2", "no common refinement"),
    ],
)
def test_what_is_not_exact_is_refused(source, target, message):
    A = source.init(seed=0)
    with pytest.raises(ValueError, match=message) as refusal:
        lo.convert(A, target)
    assert "convert(" in str(refusal.value)


def test_arguments_that_are_none():
    A = lo.low_rank(8, 8, rank=1).init(seed=0)
    with pytest.raises(TypeError, match="symbolic, without numbers"):
        lo.convert(lo.low_rank(8, 8), "btt")
    with pytest.raises(TypeError, match="of the target is an array"):
        lo.convert(A, A)
    with pytest.raises(TypeError, match="LowRank is a class, without sizes"):
        lo.convert(A, lo.LowRank)
    with pytest.raises(ValueError, match="another shape"):
        lo.convert(A, lo.dense(8, 9))
    with pytest.raises(ValueError, match="convert of a matrix 8×8: no structure 'trains'"):
        lo.convert(A, "trains")
    with pytest.raises(TypeError, match="seed must be an integer"):
        lo.convert(A, "low_rank:rank=2", seed="one")
