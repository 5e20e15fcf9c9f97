"""What is known of operators: sound propagation, tri-state properties, assume."""

import numpy as np
import pytest
import torch
from helpers import randoms

import linops as lo
from linops.tags import Knowledge, Tag
from linops.testing.knowledge import false_claims, truth

PROPERTIES = [name for name in dir(lo.LinearOperator) if name.startswith("is_") and name != "is_symbolic"]
array = randoms("tags", "float64")
complex_array = randoms("tags", "complex128")


def assert_sound(operator, matrix):
    """Assert that no property of the operator is claimed wrongly."""
    assert set(truth(matrix)) == set(PROPERTIES)
    wrong = false_claims(operator, matrix)
    assert not wrong, f"{'; '.join(wrong)} of\n{operator!r}"


def definite(n, maker=array):
    root = maker(n, n)
    return lo.assume(lo.Dense(root @ root.conj().T + np.eye(n)), Tag.POSITIVE_DEFINITE)


def hermitian(n, maker=complex_array):
    root = maker(n, n)
    return lo.assume(lo.Dense(root + root.conj().T), Tag.HERMITIAN)


class TestScaled:
    def test_minus_definite_is_not_semidefinite(self):
        A = definite(3)
        assert A.is_positive_definite is True
        assert (-A).is_positive_semidefinite is False
        assert (-A).is_positive_definite is False
        assert (-A).is_hermitian is True
        assert (-A).is_invertible is True
        assert (2 * A).is_positive_definite is True

    def test_minus_semidefinite_is_unknown(self):
        A = lo.assume(lo.Dense(array(3, 3)), Tag.POSITIVE_SEMIDEFINITE)  # it may be zero
        assert (-A).is_positive_semidefinite is None
        assert (-A).is_symmetric is True

    def test_i_times_hermitian_is_not_known_hermitian(self):
        A = hermitian(3)
        assert (1j * A).is_hermitian is None
        assert (1j * A).is_positive_semidefinite is None
        assert (1j * lo.Identity(3)).is_hermitian is not True
        assert (1j * lo.Identity(3)).is_symmetric is True
        assert (1j * lo.Identity(3)).is_orthogonal is True  # unitary
        assert (2j * lo.Identity(3)).is_orthogonal is not True
        assert ((-1 + 0j) * A).is_hermitian is True

    def test_zero_times_definite(self):
        A = 0 * definite(3)
        assert A.is_positive_definite is not True
        assert A.is_invertible is not True

    def test_unknown_gain(self):
        A = np.array(-1.0) * definite(3)
        assert A.is_symmetric is True
        assert A.is_positive_definite is None
        assert A.is_positive_semidefinite is None
        assert A.is_invertible is None

    def test_complex_gain_of_hermitian(self):
        assert (np.array(1j) * hermitian(3)).is_hermitian is None


class TestProduct:
    def test_congruence_of_semidefinite_is_semidefinite(self):
        B = definite(3, complex_array)
        A = lo.Dense(complex_array(4, 3))
        assert (A @ B @ A.H).is_positive_semidefinite is True
        assert (A @ B @ A.H).is_hermitian is True
        assert (A @ B @ A.H).is_positive_definite is not True  # A may be singular
        assert (A @ A.H).is_positive_semidefinite is True
        assert (A.H @ A).is_positive_semidefinite is True
        assert (A @ hermitian(3) @ A.H).is_hermitian is True
        assert (A @ hermitian(3) @ A.H).is_positive_semidefinite is None

    def test_transpose_is_not_the_adjoint(self):
        A = lo.Dense(complex_array(3, 3))
        assert (A @ A.T).is_positive_semidefinite is None
        assert (A @ A.T).is_hermitian is None
        assert (A @ definite(3, complex_array) @ A.T).is_positive_semidefinite is None

    @pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
    @pytest.mark.parametrize("maker", [array, complex_array])
    def test_on_every_backend(self, backend, maker):
        for A in (
            lo.Dense(maker(4, 3)),
            lo.kron(maker(2, 3), maker(2, 1)),
            lo.Dense(maker(4, 2)) @ lo.BlockDiag(maker(1, 2, 3)),
        ):
            ours = A.to(backend=backend)
            assert (ours @ ours.H).is_positive_semidefinite is True
            assert (ours.H @ ours).is_positive_semidefinite is True
            assert (ours @ definite(3, maker).to(backend=backend) @ ours.H).is_positive_semidefinite is True
            assert (ours @ (-ours.H)).is_positive_semidefinite is not True

    def test_gains_are_compared_too(self):
        A = complex_array() * lo.BlockDiag(complex_array(1, 3, 3))
        assert (A @ A.H).is_positive_semidefinite is None  # c c̄ (B Bᴴ), and nothing is known of gains
        blocks = lo.BlockDiag([A, A])
        assert (blocks @ blocks.H).is_positive_semidefinite is True

    def test_other_numbers_are_another_operator(self):
        a = complex_array(3, 3)
        b = a.copy()
        b[2, 2] += 1
        assert (lo.Dense(a) @ lo.Dense(b).H).is_hermitian is None

    def test_product_of_symmetric_is_not_known_symmetric(self):
        A, B = definite(3), definite(3)
        assert (A @ B).is_symmetric is None
        assert (A @ B).is_positive_definite is None
        assert (A @ B).is_invertible is True

    def test_products_that_keep_tags(self):
        P = lo.Permute.axes((2, 3), (1, 0))
        assert (P @ lo.Permute.random(6)).is_orthogonal is True
        L = lo.assume(lo.Dense(np.tril(array(6, 6))), Tag.LOWER_TRIANGULAR)
        assert (L @ L).is_lower_triangular is True
        assert (L @ L.T).is_lower_triangular is None
        assert L.T.is_upper_triangular is True
        assert L.T.is_lower_triangular is None

    def test_rectangular_factors_keep_nothing(self):
        assert (lo.Pad(3, 5) @ lo.Permute.random(5) @ lo.Pad(5, 3)).is_orthogonal is None
        assert (lo.Pad(3, 5) @ lo.Dense(array(5, 3))).is_invertible is None


class TestSumsPowersBlocks:
    def test_sum(self):
        assert (definite(3) + definite(3)).is_positive_definite is True
        assert (definite(3) - definite(3)).is_positive_definite is None
        assert (definite(3) - definite(3)).is_symmetric is True
        assert (hermitian(3) + 1j * lo.Identity(3)).is_hermitian is None
        assert (lo.Identity(3) + lo.Permute.random(3, seed=1)).is_orthogonal is None
        assert (lo.Dense(array(3, 3)) + 1j * lo.Identity(3)).is_hermitian is None

    def test_power(self):
        S = lo.assume(lo.Dense(array(3, 3)), Tag.SYMMETRIC)
        assert (S**2).is_positive_semidefinite is True
        assert (S**3).is_positive_semidefinite is None
        assert (S**3).is_symmetric is True
        complex_symmetric = lo.assume(lo.Dense(complex_array(3, 3)), Tag.SYMMETRIC)
        assert (complex_symmetric**2).is_positive_semidefinite is None
        assert (hermitian(3) ** 2).is_positive_semidefinite is True
        assert (definite(3) ** 3).is_positive_definite is True

    def test_blocks_and_kronecker(self):
        A, B = definite(2), definite(3)
        for joined in (lo.BlockDiag([A, B]), lo.kron(A, B)):
            assert joined.is_positive_definite is True
        indefinite = lo.assume(lo.Dense(array(3, 3)), Tag.SYMMETRIC)
        assert lo.kron(A, indefinite).is_positive_definite is None
        assert lo.kron(A, indefinite).is_symmetric is True
        # a product of rectangular factors can be square
        assert lo.kron(array(2, 3), array(3, 2)).is_symmetric is None


class TestTransposes:
    def test_hermitian_and_transposes(self):
        for A in (definite(3), hermitian(3), definite(3, complex_array)):
            for other in (A.T, A.H, A.conj()):
                assert other.is_hermitian is True
                assert other.is_positive_definite == A.is_positive_definite

    def test_assumptions_survive_conjugation_of_every_operator(self):
        A = lo.assume(lo.BlockDiag(array(2, 2, 2)), Tag.SYMMETRIC | Tag.LOWER_TRIANGULAR)
        assert A.conj().is_lower_triangular is True
        assert A.H.is_upper_triangular is True
        assert lo.assume(lo.kron(np.eye(2), np.eye(2)), Tag.POSITIVE_DEFINITE).H.is_positive_definite is True


class TestTriState:
    def test_rectangular_is_known_not_square(self):
        A = lo.Dense(array(2, 3))
        for name in ("is_symmetric", "is_hermitian", "is_positive_definite", "is_orthogonal", "is_invertible"):
            assert getattr(A, name) is False
        assert A.is_diagonal is None

    def test_nothing_is_known_of_a_dense_square(self):
        assert {getattr(lo.Dense(np.eye(3)), name) for name in PROPERTIES} == {None}

    def test_real_symmetric_is_hermitian_and_complex_is_not(self):
        assert lo.assume(lo.Dense(array(3, 3)), Tag.SYMMETRIC).is_hermitian is True
        assert lo.assume(lo.Dense(complex_array(3, 3)), Tag.SYMMETRIC).is_hermitian is None

    def test_implications(self):
        A = lo.assume(lo.Dense(array(3, 3)), Tag.LOWER_TRIANGULAR | Tag.UPPER_TRIANGULAR)
        assert A.is_diagonal is True
        assert A.is_symmetric is True
        closed = Knowledge(no=Tag.HERMITIAN).closure(square=True, real=True)
        for tag in (Tag.SYMMETRIC, Tag.POSITIVE_SEMIDEFINITE, Tag.POSITIVE_DEFINITE, Tag.DIAGONAL):
            assert closed[tag] is False
        assert Knowledge(no=Tag.HERMITIAN).closure(square=True, real=False)[Tag.SYMMETRIC] is None

    def test_assume_refuses_what_is_known_false(self):
        with pytest.raises(ValueError, match=r"Dense\(2×3.*known not"):
            lo.assume(lo.Dense(array(2, 3)), Tag.SYMMETRIC)
        with pytest.raises(ValueError, match="known not"):
            lo.assume(-definite(3), Tag.POSITIVE_DEFINITE)
        with pytest.raises(ValueError, match="known not"):
            lo.assume(lo.Zero(3, 3), Tag.INVERTIBLE)

    def test_assume_changes_no_number_and_no_operand(self):
        A = lo.Dense(array(3, 3))
        B = lo.assume(A, Tag.SYMMETRIC)
        assert B.matrix is A.matrix
        assert A.is_symmetric is None
        assert lo.assume(B, Tag.LOWER_TRIANGULAR).is_symmetric is True

    def test_symbolic_operators_have_tags(self):
        A = lo.Dense(lo.spec(4, 3))
        assert (
            lo.Identity(4) + lo.assume(lo.Dense(lo.spec(4, 4)), Tag.POSITIVE_SEMIDEFINITE)
        ).is_positive_definite is True
        assert (A @ A.H).is_positive_semidefinite is None  # two specs may become two arrays


def test_memory_seen_negated_is_not_the_same_array():
    z = torch.randn(3, 3, dtype=torch.complex128)
    A, minus_A = lo.Dense(z.imag), lo.Dense(z.conj().imag)
    assert torch.equal(A.matrix, -minus_A.matrix)
    assert (A @ minus_A.T).is_positive_semidefinite is None
