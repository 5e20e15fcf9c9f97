"""init(scheme="orthogonal" | "spectral"): operators of spectral norm √(out/in), on every backend, in every family."""

import numpy as np
import pytest
from helpers import BACKENDS, as_numpy, leaves
from layer_cases import OPERATORS

import linops as lo
from linops.scaling import shares

SCHEMES = ("orthogonal", "spectral")
#: (out, in) at which all families have members
SIZES = ((144, 144), (576, 144), (144, 576))


def member(family, m, n):
    make = lo.families.FAMILIES[family]
    return make(m, n, dtype="float64", **({"allow_dearer": True} if family in ("circulant", "toeplitz") else {}))


def largest(operator):
    return float(np.linalg.norm(operator.to_dense(), 2))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("family", lo.families.FAMILIES)
def test_every_family_has_the_norm_of_its_shape(family, scheme):
    for m, n in SIZES:
        operator = member(family, m, n).init(seed=1, scheme=scheme)
        assert largest(operator) == pytest.approx(np.sqrt(m / n), rel=2e-3), (m, n)


def test_normal_leaves_alone_have_not():
    """What the schemes are for: the norms of the plain rule, over √(out/in), spread from one family to another."""
    norms = [largest(member(family, 576, 144).init(seed=1)) / 2 for family in ("dense", "btt", "monarch", "low_rank")]
    assert max(norms) / min(norms) > 1.5


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", OPERATORS)
def test_expressions_and_small_sizes(name, scheme):
    """Norms where leaves make the operator zero; all else is drawn without an error, and finite."""
    operator = OPERATORS[name]()
    drawn = operator.init(seed=0, dtype="float64", scheme=scheme)
    dense = drawn.to_dense()
    assert np.isfinite(dense).all()
    if operator._output_leaves():
        assert np.linalg.norm(dense, 2) == pytest.approx(np.sqrt(operator.shape[0] / operator.shape[1]))
    if scheme == "spectral" and operator._output_leaves():  # the plain rule's numbers, but for a factor each
        plain = dict(operator.init(seed=0, dtype="float64").named_leaves())
        factors = {key: np.linalg.norm(leaf) / np.linalg.norm(plain[key]) for key, leaf in drawn.named_leaves()}
        equal = {factor ** (1 / share) for key, share in shares(operator).items() if share and (factor := factors[key])}
        np.testing.assert_allclose(list(equal), next(iter(equal)), rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_same_numbers_on_every_backend(scheme, dtype):
    operator = lo.btt(64, 144, rank=2) + lo.tensor_train(64, 144, rank=2)
    expected = leaves(operator.init(seed=3, dtype=dtype, scheme=scheme))
    for backend in BACKENDS:
        found = leaves(operator.init(seed=3, backend=backend, dtype=dtype, scheme=scheme))
        for one, other in zip(expected, found):
            assert np.array_equal(one, as_numpy(other))
            assert as_numpy(other).dtype == dtype


def test_orthogonal_leaves_are_orthogonal():
    """Tall and wide matrices, blocks, cores of trains, tensors of an einsum: all singular values are equal."""
    for operator in (lo.low_rank(90, 60, rank=7), lo.monarch(96, 60), lo.btt(96, 60, rank=2, cores=2)):
        for leaf in leaves(operator.init(dtype="complex128", scheme="orthogonal")):
            values = np.linalg.svd(leaf, compute_uv=False)
            np.testing.assert_allclose(values, values.flat[0], rtol=1e-12)
    train = lo.tensor_train(64, 64, rank=3, cores=3).init(dtype="float64", scheme="orthogonal")
    for core in train.cores:
        before, m, n, after = core.shape
        values = np.linalg.svd(core.transpose(1, 3, 0, 2).reshape(m * after, before * n), compute_uv=False)
        np.testing.assert_allclose(values, values[0], rtol=1e-12)
    square = lo.monarch(64, 64, blocks=8).init(dtype="float64", scheme="orthogonal").to_dense()
    np.testing.assert_allclose(square.T @ square, np.eye(64), atol=1e-12)  # of square factors the product is so too


def test_parts_that_are_given_stay():
    fixed = np.ones((3, 3))
    operator = (lo.Dense(fixed) @ lo.Dense(lo.spec(3, 2, dtype="float64"))).init(scheme="orthogonal")
    assert leaves(operator)[0] is fixed
    values = np.linalg.svd(leaves(operator)[1], compute_uv=False)
    np.testing.assert_allclose(values, np.sqrt(3 / 2))
    gained = (lo.spec(dtype="float64") * lo.dense(4, 4, dtype="float64")).init(scheme="spectral")
    assert gained.gain == 1
    assert np.linalg.norm(gained.to_dense(), 2) == pytest.approx(1)
    assert lo.Dense(lo.spec(0, 4)).init(scheme="spectral").shape == (0, 4)
