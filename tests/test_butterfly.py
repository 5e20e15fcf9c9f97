"""Butterfly, Einsum, BLAST: known transforms, special cases, orders of contraction, what runs without a copy."""

import itertools

import numpy as np
import pytest
import torch
from cases import axes_matrix
from helpers import assert_close, assert_is

import linops as lo


def kinds(operator):
    return [step.kind for step in operator._lower(3)]


def hadamard(n):
    return np.array([[(-1.0) ** (i & j).bit_count() for j in range(n)] for i in range(n)])


class TestButterfly:
    def test_hadamard_is_a_butterfly(self):
        sign = np.array([[1.0, 1.0], [1.0, -1.0]])
        A = lo.butterfly(16, 16).with_leaves(
            [np.broadcast_to(sign, leaf.shape) for _, leaf in lo.butterfly(16, 16).named_leaves()]
        )
        assert np.array_equal(A.to_dense(), hadamard(16))

    def test_fourier_is_a_butterfly_of_reversed_bits(self):
        """Decimation in frequency: x[j], x[j + n/2] → their sum, and their difference times exp(-2πi j / n)."""
        symbolic, factors = lo.butterfly(16, 16, dtype="complex128"), []
        for a, _, _, d in symbolic.patterns:
            twiddle = np.exp(-1j * np.pi * np.arange(d) / d)
            block = np.stack([np.ones((2, d)), [twiddle, -twiddle]])  # (row, column, j)
            factors.append(np.broadcast_to(block.transpose(2, 0, 1)[:, None], (d, a, 2, 2)))
        A = lo.Permute.axes((2,) * 4, (3, 2, 1, 0)) @ symbolic.with_leaves(factors)
        assert_is(A, np.fft.fft(np.eye(16)), "complex128")

    @pytest.mark.parametrize("n", [2, 4, 64])
    def test_powers_of_two(self, n):
        A = lo.butterfly(n, n)
        count = n.bit_length() - 1
        assert A.patterns == tuple((n >> k, 2, 2, 1 << (k - 1)) for k in range(1, count + 1))
        assert A.num_params == A.cost().macs == 2 * n * count
        assert set(lo.fans(A).values()) == {(2, 2)}

    def test_tall_and_wide_are_stacks(self):
        """Three butterflies of size 4 on top of each other; a wide one is the transpose up to the order of inputs."""
        A = lo.butterfly(12, 4, dtype="float64", allow_dearer=True).init(seed=3)
        inner, outer = A.factors[1], A.factors[0]  # (2, 1, 6, 2), (1, 6, 2, 2)
        stack = [lo.Butterfly([outer[:, i : i + 2], inner[:, :, i : i + 2]]).to_dense() for i in (0, 2, 4)]
        assert_is(A, np.concatenate(stack))
        wide = lo.butterfly(4, 12, allow_dearer=True)
        assert wide.patterns == ((2, 2, 6, 1), (1, 2, 2, 6))
        assert wide.num_params == wide.cost().macs == A.num_params == 3 * 2 * 4 * 2

    @pytest.mark.parametrize("sizes", [(64, 64), (96, 32), (32, 96)])
    def test_families_run_without_a_copy(self, sizes):
        A = lo.butterfly(*sizes)
        assert kinds(A) == ["view", "bmm"] * len(A.factors)
        assert kinds(A.T).count("copy") >= len(A.factors) - 2


def random_einsum(expression, **sizes):
    *terms, _ = expression.partition("->")[0].split(",")
    random = np.random.default_rng(0)
    tensors = [random.standard_normal([sizes[axis] for axis in term]) for term in terms]
    into = expression.partition("->")[0].rpartition(",")[2]
    return tensors, tuple(sizes[axis] for axis in into)


class TestEinsum:
    @pytest.mark.parametrize(
        ("expression", "kernels"),
        [
            ("ir,rj,j->i", ["matmul", "matmul"]),
            ("ipr,rij,jrq,jq->ip", ["bmm", "view", "bmm", "view", "bmm"]),
            ("ab,jb->ja", ["bmm"]),
            ("gab,gb->ga", ["bmm"]),
            ("i,ia->ia", ["scale"]),
            ("i,a,i->ia", ["scale", "scale"]),
            ("agb,gb->ga", ["bmm"]),
            ("gab,bg->ga", ["view", "bmm"]),
            ("gab,gcb->gca", ["copy", "bmm"]),
            ("abg,gb->ga", ["copy", "bmm"]),
            ("a,->a", ["scale"]),
            (",a->a", ["scale"]),
            ("abc,ca,c->b", ["scale", "copy", "matmul"]),
        ],
    )
    def test_it_is_the_einsum_and_runs_as_few_copies_as_it_says(self, expression, kernels):
        sizes = dict(zip("abcgijpqr", (2, 3, 4, 3, 4, 2, 5, 3, 2)))
        tensors, in_dims = random_einsum(expression, **sizes)
        A = lo.Einsum(expression, tensors, in_dims=in_dims)
        assert kinds(A) == kernels
        n = int(np.prod(in_dims))
        columns = [np.einsum(expression, *tensors, unit.reshape(in_dims)).ravel() for unit in np.eye(n)]
        assert_is(A, np.stack(columns, axis=1))

    @pytest.mark.parametrize("expression", ["ab,bc,cd,d->a", "abr,bc,rd,cde,e->ad", "ir,jr,kr,lr,kl->ij"])
    @pytest.mark.parametrize("seed", range(4))
    def test_the_cheapest_order(self, expression, seed):
        axes = sorted(set(expression) - set(",->"))
        sizes = dict(zip(axes, (int(size) for size in np.random.default_rng(seed).integers(1, 9, len(axes)))))
        tensors, in_dims = random_einsum(expression, **sizes)

        def work(A):  # of a tensor that sums over nothing, one for every multiplication
            return sum(step.macs + step.other_flops for step in A._natural_steps(1))

        orders = itertools.permutations(range(len(tensors)))
        A = lo.Einsum(expression, tensors, in_dims=in_dims)
        assert work(A) == min(work(lo.Einsum(expression, tensors, in_dims=in_dims, order=order)) for order in orders)
        assert A.T.order == A.order[::-1]
        assert work(A.T) == work(A)

    def test_many_tensors(self):
        tensors = [lo.spec(3, 3) for _ in range(30)]
        names = [chr(0x4E00 + number) for number in range(31)]
        expression = ",".join(map("".join, itertools.pairwise(names))) + f",{names[-1]}->{names[0]}"
        A = lo.Einsum(expression, tensors)
        assert A.order == tuple(range(29, -1, -1))
        assert A.cost().macs == 30 * 9

    @pytest.mark.full
    def test_torch_compiles_construction_and_symbolic_sizes(self):
        torch._dynamo.reset()

        @torch.compile(fullgraph=True, backend="aot_eager")
        def constructed(U, s, V, x):
            return lo.Einsum("ipr,rij,jrq,jq->ip", U, s, V) @ x

        @torch.compile(fullgraph=True, backend="aot_eager", dynamic=True)
        def product(A, x):
            return A @ x, x.T @ A.T

        for r, k in ((2, 3), (3, 4)):
            A = lo.blast(6, 8, blocks=(2, 4), rank=r, allow_dearer=True).init(seed=0, backend="torch", dtype="float64")
            x = torch.randn(8, k, dtype=torch.float64)
            torch.testing.assert_close(constructed(*A.tensors, x), A @ x)
            torch.testing.assert_close(product(A, x), (A @ x, x.T @ A.T))


class TestTheFamilyOfTwoFactors:
    """Potapczynski et al., 2024: it contains the families of two factors."""

    def member(self, A, B, out_dims, in_dims, rank=1):
        m, n = int(np.prod(out_dims)), int(np.prod(in_dims))
        family = lo.einsum(m, n, rank, out_dims=out_dims, in_dims=in_dims, dtype="float64", allow_dearer=True)
        first, second = family.tensors[1].shape, family.tensors[0].shape
        return family.with_leaves([B.reshape(second), A.reshape(first)])

    def assert_same(self, member, operator):
        assert_is(member, operator.to_dense())
        assert member.num_params == operator.num_params
        assert member.cost().macs == operator.cost().macs
        assert "copy" not in kinds(member)

    def test_low_rank(self):
        A = lo.low_rank(6, 5, rank=2, dtype="float64", allow_dearer=True).init()
        member = self.member(A.V, A.U, (1, 6, 1), (1, 1, 5), 2)
        self.assert_same(member, A)
        assert list(lo.fans(member).values()) == list(lo.fans(A).values())

    def test_kronecker(self):
        a, b = np.random.default_rng(0).standard_normal((2, 3, 4))
        self.assert_same(self.member(b, a, (1, 3, 3), (1, 4, 4)), lo.Kronecker(a, b))

    def test_tensor_train(self):
        A = lo.tensor_train(12, 20, rank=2, out_dims=(4, 3), in_dims=(5, 4), dtype="float64").init()
        first, second = A.cores
        self.assert_same(self.member(second[..., 0], first[0], (1, 4, 3), (1, 5, 4), 2), A)

    def test_block_tensor_train(self):
        A = lo.btt(12, 20, rank=2, out_dims=(3, 4), in_dims=(5, 4), dtype="float64").init()
        member = self.member(*A.cores, (3, 4, 1), (5, 1, 4), 2)
        self.assert_same(member, A)
        assert list(lo.fans(member).values()) == list(lo.fans(A).values())[::-1]

    def test_monarch(self):
        b, p, s = 3, 6, 9
        A = lo.monarch(b * s, b * p, blocks=b, dtype="float64").init()
        left, right = (leaf for _, leaf in A.named_leaves())
        # the middle index of block γ is (ρ, φ), and the result comes as (ε, φ)
        member = self.member(right, left, (b, s, 1), (b, 1, p), rank=p // b)
        assert_close(member.to_dense(), axes_matrix((b, s), (1, 0)).T @ A.to_dense())
        assert member.cost().macs == A.cost().macs
        assert "copy" not in kinds(member)

    def test_parameters_macs_fans(self):
        f, e, d, g, b, a, r = 2, 3, 4, 3, 2, 5, 3
        A = lo.einsum(f * e * d, g * b * a, r, out_dims=(f, e, d), in_dims=(g, b, a), allow_dearer=True)
        assert A.num_params == f * d * r * g * a + f * e * r * g * b
        assert A.cost().macs == f * d * r * g * a * b + f * e * r * g * d * b
        assert lo.fans(A) == {"tensors_0": (b * g * r, e), "tensors_1": (a, d * f * r)}

    def test_sizes_of_one(self):
        A = lo.einsum(6, 1, out_dims=(1, 6, 1), in_dims=(1, 1, 1), allow_dearer=True)
        assert [tensor.shape for tensor in A.tensors] == [(6, 1), (1, 1)]


class TestBlast:
    def test_parameters_macs_fans(self):
        A = lo.blast(12, 20, blocks=(3, 4), rank=2)
        assert A.num_params == A.cost().macs == 2 * (12 + 20 + 3 * 4)
        assert list(lo.fans(A).values()) == [(2, 4), (4, 3), (5, 2)]
        assert "copy" not in kinds(A) + kinds(A.T)

    def test_constant_coefficients_are_low_rank(self):
        A = lo.blast(8, 12, blocks=2, rank=2, dtype="float64").init()
        U, s, V = A.tensors
        B = A.with_leaves([U, np.ones_like(s), V])
        assert_is(B, U.reshape(8, 2) @ V.transpose(1, 0, 2).reshape(2, 12))

    def test_default_rank(self):
        assert lo.blast(100, 50).factors[0].tensors[1].shape == (8, 4, 4)  # 50 is padded to 52
