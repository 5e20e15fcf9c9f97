"""`lo.testing.check_operator` over every case, backend and dtype; and that it finds what is wrong."""

import pickle

import numpy as np
import pytest
from conformance import RUNS, SAMPLE, conforms, planned
from helpers import each, on

import linops as lo
from linops.checks import require_size
from linops.declaration import tree
from linops.linalg.determinants import slogdet_
from linops.operator import flat
from linops.plan.step import Step, matmul_step
from linops.tags import Knowledge, Tag
from linops.testing import CHECKS, ConformanceError, check_operator

MARKED = [pytest.param(*run, marks=() if run in SAMPLE else pytest.mark.full) for run in RUNS]


@pytest.mark.parametrize(("case", "backend", "dtype"), MARKED)
def test_conforms(case, backend, dtype):
    report = conforms(case, backend, dtype)
    # what docs/coverage.md says runs has run
    assert report.names("passed") == tuple(
        name for name, row in planned(case, backend, dtype)[1].items() if row is None
    )
    assert not report.names("failed")


# ---------------------------------------------------------------- what is wrong is found


class Plain:
    """A dense operator to break."""

    @property
    def shape(self):
        return tuple(self.matrix.shape)

    def _columns(self, x):
        return self.matrix @ flat(x)

    def _entries(self):
        return self.matrix

    def _transpose(self):
        return type(self)(self.matrix.T)

    def _lower(self, batch):
        return (matmul_step(1, *self.shape, batch),)

    def _leaf_fans(self):
        return {"matrix": self.shape}


def broken(**members):
    fields = {"__annotations__": {"matrix": object}, "matrix": tree(axes=2)}
    return lo.declare(type("Broken", (Plain, lo.LinearOperator), {**fields, **members}))


#: its own rule forgets the sign of the determinant
Mistaken = broken()


@slogdet_.rule("without its sign")
def _without_sign(a: Mistaken):
    sign, logarithm = np.linalg.slogdet(a.matrix)
    return abs(sign), logarithm


def _in_place(self, x):
    x *= 1.0
    x += 1.0
    return self.matrix @ x


@lo.declare
class Silent(lo.Toeplitz):
    """A convolution that is right only where it multiplies by its matrix."""

    def _spectrum(self, kernel, is_complex):
        return 0 * super()._spectrum(kernel, is_complex)


@lo.declare
class Remembers(lo.Dense):
    function: object = None


@lo.declare
class Bare(lo.LinearOperator):
    """No framework's array: a number in a static field that products need."""

    size: int
    scale: float = 2.0

    def __post_init__(self):
        require_size("Bare", "size", self.size)

    @property
    def shape(self):
        return self.size, self.size

    def _columns(self, x):
        return np.asarray(self.scale * x)

    def _transpose(self):
        return self

    def _lower(self, batch):
        return (Step("scale", "", other_flops=self.size * batch),)


def _transposed(self, graph, axes, leaf):
    rows = graph.axes(self.shape[0])
    graph.add(leaf, (*axes, *rows))
    return rows


SQUARE = np.random.default_rng(0).standard_normal((3, 3)) + 1j * np.random.default_rng(1).standard_normal((3, 3))
#: what is wrong: (the check that says so, backend, operator)
WRONG = {
    "another matrix": ("dense", "numpy", lambda: (lo.Dense(SQUARE), SQUARE.T)),
    "another shape": ("shape", "numpy", lambda: (lo.Dense(SQUARE), np.ones((3, 4)))),
    "no transpose": ("transposes", "numpy", lambda: (broken(_transpose=lambda self: self)(SQUARE), SQUARE)),
    "Hermitian is transpose": ("adjoint", "numpy", lambda: (broken(_conj=lambda self: self)(SQUARE), SQUARE)),
    "products of another number": (
        "vectors_and_matrices",
        "numpy",
        lambda: (broken(_vector=lambda self, x: self.matrix @ x * 1.001)(SQUARE), SQUARE),
    ),
    "first of a batch": (
        "batches",
        "numpy",
        lambda: (broken(_stacked=lambda self, x: np.repeat((self.matrix @ x[:1]), len(x), 0))(SQUARE), SQUARE),
    ),
    "rows without the transpose": (
        "left_products",
        "numpy",
        lambda: (broken(_rows=lambda self, x: x @ self.matrix)(SQUARE), SQUARE),
    ),
    "affine": ("linearity", "numpy", lambda: (broken(_columns=lambda self, x: self.matrix @ x + 1)(SQUARE), None)),
    "widens": (
        "dtypes",
        "numpy",
        lambda: (broken(_columns=lambda self, x: (self.matrix @ x).astype(complex))(SQUARE.astype("complex64")), None),
    ),
    "narrow operands": (
        "promotion",
        "numpy",
        lambda: (
            broken(_columns=lambda self, x: self.matrix @ x.astype(self.matrix.dtype))(np.ones((3, 3), "f4")),
            None,
        ),
    ),
    "wants contiguous operands": (
        "strides",
        "torch",
        lambda: (
            broken(_columns=lambda self, x: self.matrix @ x.view(-1).view(x.shape))(on("torch", np.ones((3, 3)))),
            None,
        ),
    ),
    "a view of the operand": (
        "aliasing",
        "numpy",
        lambda: (broken(_columns=lambda self, x: x, _vector=lambda self, x: x)(np.eye(3)), None),
    ),
    "a view of a leaf": (
        "aliasing",
        "numpy",
        lambda: (broken(_columns=lambda self, x: self.matrix[:, : x.shape[1]])(np.eye(3)), None),
    ),
    "writes into the operand": ("aliasing", "numpy", lambda: (broken(_vector=_in_place)(np.eye(3)), None)),
    "no shape check": ("errors", "numpy", lambda: (broken(__matmul__=lambda self, x: x)(np.eye(3)), None)),
    "a function inside": ("copies", "numpy", lambda: (Remembers(np.eye(3), function=lambda x: x), None)),
    "equal to all": (
        "identity",
        "numpy",
        lambda: (broken(__eq__=lambda self, other: True, __hash__=lambda self: 1)(np.eye(3)), None),
    ),
    "an array in a static field": ("pytree", "jax", lambda: (Remembers(np.eye(3), function=np.ones(2)), None)),
    "of NumPy alone": ("moves", "numpy", lambda: (Bare(3), None)),
    "a dtype of its own": (
        "symbolic",
        "numpy",
        lambda: (broken(_conj=lambda self: lo.Dense(np.conj(self.matrix)))(SQUARE), None),
    ),
    "cost without batch": (
        "cost",
        "numpy",
        lambda: (broken(_lower=lambda self, batch: (matmul_step(1, 3, 3, 1),))(SQUARE), None),
    ),
    "half the MACs": (
        "counted_flops",
        "torch",
        lambda: (broken(_lower=lambda self, batch: (matmul_step(1, 3, 3, batch // 2),))(SQUARE), None),
    ),
    "no gradient": (
        "gradient",
        "torch",
        lambda: (broken(_columns=lambda self, x: self.matrix.detach() @ x)(SQUARE), None),
    ),
    "a number read from a tensor": (
        "compile",
        "torch",
        lambda: (broken(_columns=lambda self, x: self.matrix @ x * float(bool(x.abs().sum() > 0)))(SQUARE), None),
    ),
    "no vmap": (
        "vmap",
        "torch",
        lambda: (broken(_vector=lambda self, x: on("torch", self.matrix.numpy() @ x.numpy()))(SQUARE), None),
    ),
    "no conjugate in the gradient": (
        "gradient",
        "jax",
        lambda: (broken(_columns=lambda self, x: self.matrix.real @ x)(SQUARE), None),
    ),
    "no layer": ("layer", "torch", lambda: (broken(_rows=lambda self, x: x[:, :1] @ self.matrix.T[:1])(SQUARE), None)),
    "tensors that are others": ("plans", "numpy", lambda: (broken(_trace=_transposed)(SQUARE), None)),
    "wrong where transforms run": ("natural_way", "numpy", lambda: (Silent(SQUARE[0], SQUARE[1]), None)),
    "no sign": ("linalg", "numpy", lambda: (Mistaken(np.diag([1.0, -2.0])), None)),
    "claims": ("tags", "numpy", lambda: (broken(_knowledge=lambda self: Knowledge(Tag.DIAGONAL))(SQUARE), None)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found(name):
    check, backend, make = WRONG[name]
    operator, matrix = make()
    with pytest.raises(ConformanceError) as caught:
        check_operator(
            operator, matrix, backend=backend, skip={other: "elsewhere" for other in CHECKS if other != check}
        )
    assert caught.value.report.names("failed") == (check,)
    message = str(caught.value)
    assert f"check {check!r} failed" in message
    assert type(operator).__name__ in message


def test_every_check_is_seen_to_fail():
    assert {check for check, _, _ in WRONG.values()} == set(CHECKS)


def test_all_failures_are_reported_with_numbers():
    with pytest.raises(ConformanceError) as caught:
        check_operator(lo.Dense(np.eye(3)), 2 * np.eye(3))
    assert {"dense", "transposes", "batches", "left_products"} <= set(caught.value.report.names("failed"))
    assert "to_dense(): entry [0, 0] is 1.0, expected 2.0; error 1 above" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_the_report_is_a_table_without_silent_gaps():
    report = check_operator(lo.Identity(3), np.eye(3), skip={"tags": "shown elsewhere"})
    assert [row.check for row in report.rows] == list(CHECKS)
    assert all(row.reason for row in report.rows if row.outcome in ("not applicable", "skipped"))
    lines = str(report).split("\n")
    assert lines[0] == "Identity(3×3) on numpy, operands of float64"
    assert len(lines) == 1 + len(CHECKS)
    assert any(line.split() == ["tags", "skipped", "shown", "elsewhere"] for line in lines)
    assert report.names("skipped") == ("tags",)
    assert check_operator(lo.Identity(3), np.eye(3), skip="tags").names("skipped") == ("tags",)


def test_arguments():
    with pytest.raises(TypeError, match="ndarray"):
        check_operator(np.eye(3))
    with pytest.raises(ValueError, match="no check 'gradients'; there are shape, dense"):
        check_operator(lo.Identity(3), skip=["gradients"])
    symbolic = check_operator(lo.btt(12, 8), backend="torch", skip=["compile"])
    assert symbolic.backend == "torch"
    assert symbolic.dtype == "float32"


@pytest.mark.parametrize(
    ("backend", "dtype"),
    [("numpy", "int64"), ("numpy", "int8"), ("numpy", "bool"), ("torch", "int64"), ("torch", "int8")],
)
def test_integers_and_booleans(backend, dtype):
    matrix = np.random.default_rng(0).integers(0, 2, (3, 4)).astype(dtype)
    other = np.random.default_rng(1).integers(0, 2, (4, 2)).astype(dtype)
    for operator, expected in (
        (lo.Dense(matrix), matrix),
        (lo.Dense(matrix) @ lo.Dense(other), matrix @ other),
        (lo.kron(matrix, other), None),
    ):
        report = check_operator(operator, expected, backend=backend, skip=["compile"])
        assert "gradient" in report.names("not applicable")
        assert report.dtype == dtype


@pytest.mark.parametrize(
    ("backend", "dtype"),
    each(2, [("torch", "bfloat16"), ("torch", "float16"), ("numpy", "float16"), ("jax", "bfloat16")]),
)
def test_narrow_floats(backend, dtype):
    for operator in (lo.btt(12, 8, dtype=dtype), lo.low_rank(4, 6, rank=2, dtype=dtype) + lo.Pad(4, 6)):
        slow = ["compile"] if backend != "jax" else ["compile", "vmap", "gradient", "layer", "promotion", "moves"]
        report = check_operator(operator.init(seed=0, backend=backend), skip=slow)
        assert report.dtype == dtype
        assert report.names("failed") == ()
