"""What a reader sees of an operator: repr, HTML, rich, explain; comparison by probing and by structure."""

import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from cases import CASES
from helpers import build, every_backend, every_case, on
from rich.console import Console

import linops as lo


def text_of_html(operator):
    """The page's lines: the text of each node, in order."""
    tree = ElementTree.fromstring(operator._repr_html_())
    return ["".join(span.itertext()) for span in tree.iter("span")]


@every_case
def test_html_has_a_line_a_node_and_is_well_formed(case):
    operator, _, _ = build(case)
    lines = text_of_html(operator)
    nodes = repr(operator).split("\n")
    assert len(lines) == len(nodes)
    for line, node in zip(lines, nodes):
        for word in node.replace("│", "").replace("├─", "").replace("└─", "").split():
            assert word in line


@every_case
def test_rich_shows_the_nodes_of_the_repr(case):
    operator, _, _ = build(case)
    out = io.StringIO()
    Console(file=out, width=200, color_system=None).print(operator)

    def plain(text):
        lines = text.rstrip().replace("─", " ").replace("━", " ").split("\n")
        return [line.strip("│├└─ ").rstrip() for line in lines]

    assert plain(out.getvalue()) == plain(repr(operator))


def test_html_escapes_what_users_write():
    class Named(lo.Identity):
        def _detail(self):
            return "<script>&</script>"

    page = Named(2)._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;&amp;&lt;/script&gt;" in page


def test_html_names_the_fields():
    assert text_of_html(lo.Dense(lo.spec(2, 3)) @ lo.Dense(lo.spec(3, 4)))[1].startswith(
        "factors_0 Dense() 2×3 float32  6 parameters"
    )


def test_equality_is_identity():
    A = lo.Dense(np.eye(2))
    B = lo.Dense(A.matrix)
    assert A == A
    assert A != B
    assert {A: 1, B: 2}[A] == 1
    assert np.eye(2).tolist() != A


class TestAllclose:
    @every_backend
    @every_case
    def test_with_the_matrix(self, case, backend):
        if backend == "jax" and case not in ("dense_wide", "nested_kronecker_of_sums", "scaled_complex"):
            return  # each shape is a program; test_conformance.py compares products on JAX
        operator, matrix, _ = build(case, "float64", backend)
        dense = lo.Dense(on(backend, matrix.astype(complex if np.iscomplexobj(matrix) else float)))
        assert lo.allclose(operator, dense, rtol=1e-12) is True
        assert lo.allclose(dense, operator, rtol=1e-12) is True
        if matrix.any():
            assert lo.allclose(operator, 1.001 * dense) is False
            assert lo.allclose(operator, 1.001 * dense, rtol=1e-2) is True
            assert lo.allclose(operator, -dense) is False

    def test_imaginary_parts_count(self):
        A = lo.Dense(np.eye(3) + 1j * np.ones((3, 3)))
        assert not lo.allclose(A, A.conj())
        assert not lo.allclose(A, A.matrix.real)
        assert lo.allclose(A, A.T)
        assert not lo.allclose(A, A.H)
        assert not lo.allclose(1j * lo.Identity(3), lo.Identity(3))

    def test_dtypes_may_differ(self):
        matrix = np.arange(6).reshape(2, 3)
        for dtype in ("int8", "uint8", "int64", "float16", "float32", "complex64"):
            assert lo.allclose(matrix.astype(dtype), lo.Dense(matrix.astype(float)), rtol=1e-12)
        assert lo.allclose(
            lo.dense(3, 3, dtype="bfloat16").init(backend="torch"),
            lo.dense(3, 3, dtype="bfloat16").init(backend="torch"),
        )
        assert lo.allclose(np.eye(2, dtype=bool), lo.Identity(2))

    def test_one_wrong_entry_is_seen_if_it_is_as_large_as_the_tolerance(self):
        matrix = np.eye(50)
        wrong = matrix.copy()
        wrong[3, 7] = 1e-3
        assert not lo.allclose(matrix, wrong)
        wrong[3, 7] = 1e-9  # documented: small beside the norm of the whole
        assert lo.allclose(matrix, wrong)

    def test_absolute_tolerance_nan_and_infinity(self):
        zero, tiny = lo.Zero(2, 2), 1e-9 * lo.Identity(2)
        assert lo.allclose(tiny, zero)
        assert not lo.allclose(tiny, zero, atol=1e-12)
        assert not lo.allclose(np.full((2, 2), np.nan), np.full((2, 2), np.nan))
        assert lo.allclose(np.diag([np.inf, 1.0])[:1, :1], np.diag([np.inf, 1.0])[:1, :1])
        assert not lo.allclose(np.full((1, 1), np.inf), np.ones((1, 1)))
        assert lo.allclose(lo.Zero(0, 3), lo.Zero(0, 3))
        assert lo.allclose(lo.Zero(3, 0), lo.Zero(3, 0))


class TestSameStructure:
    @every_case
    def test_numbers_and_backends_do_not_matter(self, case):
        operator, _, array = build(case)
        other = CASES[case](array)[0].to(backend="torch")
        symbolic = operator._map(lambda leaf: lo.Spec(leaf.shape, leaf.dtype))
        for twin in (operator, other, symbolic, operator.to(backend="torch")):
            assert lo.same_structure(operator, twin)
            assert lo.same_structure(twin, operator)
        if operator.num_params:
            assert not lo.same_structure(operator, operator.to(dtype="float32"))
        assert not lo.same_structure(operator, lo.BlockDiag([operator]))
        assert not lo.same_structure(2 * operator, 5 * operator)

    def test_what_matters(self):
        A = lo.Dense(np.eye(3))
        pairs = [
            (A, lo.Dense(np.ones((3, 2)))),
            (A, lo.assume(A, lo.Tag.SYMMETRIC)),
            (lo.Permute([1, 0, 2]), lo.Permute([0, 2, 1])),
            (lo.Permute([1, 0]), lo.Permute.axes((2, 1), (1, 0))),
            (A + A, A + A + A),
            (A @ A, A + A),
            (A**2, A**3),
            (np.array(2.0) * A, 2 * A),
            (lo.BlockDiag(np.ones((1, 3, 3))), lo.BlockDiag([A])),
        ]
        for one, other in pairs:
            assert not lo.same_structure(one, other)
            assert not lo.same_structure(other, one)
        with pytest.raises(TypeError, match="ndarray"):
            lo.same_structure(A, np.eye(3))


class TestManyFactors:
    factors = 1000

    def test_products_and_sums_of_many(self):
        step = lo.Diagonal(np.full(3, 1.001))
        chain = lo.Product((step,) * self.factors)
        total = lo.Sum((step,) * self.factors)
        x = np.ones(3)
        np.testing.assert_allclose(chain @ x, 1.001**self.factors * x)
        np.testing.assert_allclose(total @ x, 1.001 * self.factors * x)
        for each in (chain, total):
            assert len(repr(each).split("\n")) == 1 + self.factors
            assert len(text_of_html(each)) == 1 + self.factors
            assert len(each.explain().split("\n")) >= self.factors
            assert each.num_params == 3 * self.factors
            assert lo.allclose(each.H, each.T)

    def test_made_one_by_one(self):
        product = total = lo.Identity(2)
        step = lo.Dense(np.eye(2))
        for _ in range(self.factors):
            product = product @ step
            total = total + step
        assert len(product.factors) == self.factors
        np.testing.assert_array_equal(product @ np.ones(2), np.ones(2))
        np.testing.assert_array_equal(total @ np.ones(2), np.full(2, 1.0 + self.factors))
        assert product.T.H.cost(batch=2).macs == 8 * self.factors


def test_deeply_nested_expressions_are_shown():
    A = B = lo.Dense(np.eye(2))
    for _ in range(100):
        A = (A + B) @ B
    assert len(text_of_html(A)) == len(repr(A).split("\n")) == 401
    assert A.__rich__().children
    assert lo.same_structure(A, A.to(backend="torch"))
    assert len(A.explain().split("\n")) > 300
