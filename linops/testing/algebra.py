"""Checks of the mathematics: products, transposes, dtypes, linearity, memory, errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from linops import backends
from linops.operators.choosing import Choosing, target_for
from linops.operators.planned import network_of
from linops.plan import natural_order
from linops.plan.plan import plan_along
from linops.plan.search import path
from linops.running import multiply
from linops.specs import dtype_name, numpy_dtype
from linops.testing.check import BACKENDS, Subject, as_specs, check, error_of, installed, require, tolerance


@dataclass(frozen=True)
class Group:
    """Products of one kind.

    Attributes:
        product: What to compute of the operator and an operand.
        operands: NumPy arrays, of a subject.
    """

    product: Callable[[Any, Any], Any]
    operands: Callable[[Subject], list[np.ndarray]]


def _arrays(*shapes: tuple[Any, ...], jax: int) -> Callable[[Subject], list[np.ndarray]]:
    """Random operands of shapes in "m" and "n"; on JAX, where each costs time to compile, the first few."""

    def operands(s: Subject) -> list[np.ndarray]:
        sizes = dict(zip("mn", s.operator.shape))
        chosen = shapes[:jax] if s.backend == "jax" else shapes
        return [s.array(*(sizes.get(size, size) for size in shape)) for shape in chosen]

    return operands


def _combination(s: Subject) -> list[np.ndarray]:
    x, y = s.array(s.operator.shape[1]), s.array(s.operator.shape[1])
    return [np.stack([x, y, (2 * x - 3 * y).astype(s.dtype), np.zeros_like(x)], axis=1)]


GROUPS = {
    "A @ x": Group(lambda A, x: A @ x, _arrays(("n",), ("n", 5), ("n", 1), jax=2)),
    "A @ batch": Group(
        lambda A, x: A @ x,
        _arrays((2, 3, "n", 1), (0, "n", 2), (2, "n", 3), (1, "n", 1), ("n", 0), (2, 3, "n", 2), jax=2),
    ),
    "x @ A": Group(
        lambda A, x: x @ A, _arrays(("m",), (2, 3, "m"), (0, "m"), (5, "m"), (1, "m"), (2, 1, 3, "m"), jax=3)
    ),
    "T @ x": Group(lambda A, x: A.T @ x, _arrays(("m",), ("m", 3), (2, "m", 3), jax=1)),
    "H @ x": Group(lambda A, x: A.H @ x, _arrays(("m",), (2, "m", 3), ("m", 3), jax=2)),
    "conj @ x": Group(lambda A, x: A.conj() @ x, _arrays(("n", 3), ("n",), jax=1)),
    "x @ H": Group(lambda A, x: x @ A.H, _arrays((3, "n"), ("n",), jax=1)),
    "A @ identity": Group(lambda A, x: A @ x, lambda s: [np.eye(s.operator.shape[1], dtype=s.dtype)]),
    "A @ combination": Group(lambda A, x: A @ x, _combination),
    "dense": Group(
        lambda A, x: (A.to_dense(), A.T.to_dense(), A.H.to_dense(), A.conj().to_dense()), lambda s: [s.array(0)]
    ),
}


def dense_arrays(subject: Subject) -> tuple[Any, Any, Any, Any]:
    """A, T, H and conj as arrays of the subject's backend and operands' dtype, also for an operator without arrays."""
    ((_, found),) = subject.results("dense")
    return found


def _plain(subject: Subject, array: Any) -> Any:
    """An operator without arrays has a NumPy matrix on every backend."""
    return (
        array
        if subject.operator.backend is not None or subject.backend == "numpy"
        else subject.on(backends.to_numpy(array))
    )


@check()
def shape(s: Subject) -> None:
    """Sizes, dtype and backend say the same as the arrays do; T and H swap the sizes."""
    A = s.operator
    m, n = A.shape
    require(
        all(isinstance(size, (int, np.integer)) and size >= 0 for size in (m, n)),
        f"shape is {A.shape!r}, expected two sizes",
    )
    for name, other, expected in (("T", A.T, (n, m)), ("H", A.H, (n, m)), ("conj()", A.conj(), (m, n))):
        require(tuple(other.shape) == expected, f"{name} has shape {other.shape}, expected {expected}")
    require(A.backend == (s.backend if s.leaves else None), f"backend is {A.backend!r} with arrays of {s.backend}")
    require(not A.is_symbolic, "it is symbolic although its leaves are arrays")
    text = repr(A)
    require(f"{m}×{n}" in text and type(A).__name__ in text, f"repr does not say its class and sizes: {text!r}")
    if s.given is not None:
        require(s.given.shape == (m, n), f"shape is {(m, n)}, that of the given matrix {s.given.shape}")


@check()
def dense(s: Subject) -> None:
    """`to_dense`, `numpy.asarray` and A times the identity are the matrix."""
    A, matrix = s.operator, s.matrix
    s.close("to_dense()", _plain(s, dense_arrays(s)[0]), matrix)
    s.close("A @ identity", s.results("A @ identity")[0][1], matrix)
    if s.backend == "numpy":
        for dtype in (None, np.complex128):
            array = np.asarray(A, dtype=dtype)
            require(dtype is None or array.dtype == dtype, f"numpy.asarray(A, dtype={dtype}) has dtype {array.dtype}")
            s.close("numpy.asarray(A)", array, matrix)


@check()
def transposes(s: Subject) -> None:
    """T, H and conj are the transpose, the conjugate transpose and the conjugate; their products too."""
    _, T, H, conj = dense_arrays(s)
    expected = {"T": s.matrix.T, "H": s.matrix.conj().T, "conj": s.matrix.conj()}
    for (name, matrix), array in zip(expected.items(), (T, H, conj)):
        s.close(f"{name} as a matrix", _plain(s, array), matrix)
    for name, matrix in expected.items():
        for x, y in s.results(f"{name} @ x"):
            s.is_product(f"{name} @ x of x {x.shape}", y, matrix, x)
    for x, y in s.results("x @ H"):
        s.is_left_product(f"x @ H of x {x.shape}", y, x, expected["H"])


@check()
def vectors_and_matrices(s: Subject) -> None:
    """A @ x of a vector, and of matrices."""
    for x, y in s.results("A @ x"):
        s.is_product(f"A @ x of x {x.shape}", y, s.matrix, x)


@check()
def batches(s: Subject) -> None:
    """A @ x with leading axes, and of no vectors at all."""
    for x, y in s.results("A @ batch"):
        s.is_product(f"A @ x of x {x.shape}", y, s.matrix, x)


@check()
def left_products(s: Subject) -> None:
    """X @ A of a vector, of rows, with leading axes and of no rows."""
    for x, y in s.results("x @ A"):
        s.is_left_product(f"x @ A of x {x.shape}", y, x, s.matrix)


def _without_arithmetic(s: Subject) -> str | None:
    return "booleans have no subtraction" if s.kind == "b" else None


@check(_without_arithmetic)
def adjoint(s: Subject) -> None:
    """⟨y, A x⟩ = ⟨Aᴴ y, x⟩, the dot-test, which needs no matrix."""
    (x, Ax), (y, Hy) = s.results("A @ x")[0], s.results("H @ x")[0]
    Ax, Hy = s.numpy(Ax), s.numpy(Hy)
    one, other = complex(np.vdot(y, Ax)), complex(np.vdot(Hy, x))
    bound = s.rtol * float(np.abs(y) @ np.abs(s.matrix) @ np.abs(x)) if not s.exact else 0.0
    require(
        abs(one - other) <= bound,
        f"⟨y, A x⟩ = {one}, ⟨Aᴴ y, x⟩ = {other}: they differ by {abs(one - other):.3g}, above {bound:.3g}",
    )


@check(_without_arithmetic)
def linearity(s: Subject) -> None:
    """A (2 x - 3 y) = 2 A x - 3 A y, and A 0 = 0."""
    ((x, y),) = s.results("A @ combination")
    found = s.numpy(y)
    scale = None if s.exact else np.abs(s.matrix) @ (2 * np.abs(x[:, 0]) + 3 * np.abs(x[:, 1]))
    s.close("A (2 x - 3 y)", y[:, 2], (2 * found[:, 0] - 3 * found[:, 1]).astype(found.dtype), scale)
    require(not found[:, 3].any(), f"A @ 0 is {found[:, 3]}")


def expected_dtype(s: Subject, *others: Any) -> np.dtype:
    """The dtype that leaves, the matrix's kind and other dtypes promote to."""
    kinds = [leaf.dtype for leaf in s.leaves] + [1j] * (s.matrix.dtype.kind == "c")
    return numpy_dtype(backends.result_type(s.backend, *kinds, *others))


@check()
def dtypes(s: Subject) -> None:
    """Results have the dtype that leaves and operands promote to: float32 stays float32."""
    own = getattr(s.on(s.array(1)), "dtype", None)
    expected = expected_dtype(s, own)
    if s.leaves:
        require(dtype_name(s.operator.dtype) == expected.name, f"dtype is {s.operator.dtype}, expected {expected}")
        require(
            s.numpy(dense_arrays(s)[0]).dtype == expected,
            f"to_dense() has dtype {dense_arrays(s)[0].dtype}, expected {expected}",
        )
    for group in GROUPS:
        for x, y in s.results(group) if group != "dense" else ():
            found = s.numpy(y).dtype
            require(found == expected, f"{group} of {x.dtype} x {x.shape} has dtype {found}, expected {expected}")


def _mixes_dtypes(s: Subject) -> str | None:
    if s.kind == "b":
        return "sums of booleans are not those of numbers"
    if s.backend == "torch":
        return "torch mixes no dtypes in a product"
    return None if s.leaves else "an operator without arrays takes the dtype of its operand"


@check(_mixes_dtypes)
def promotion(s: Subject) -> None:
    """Operands of other dtypes, integers and booleans among them, promote as the backend's own arrays do."""
    n = s.operator.shape[1]
    names = ("bool", "int8", "int32", "float32", "complex64")
    operands = [(s.random.integers(0, 2, (n, 2)) * 1).astype(name) for name in names]
    for x, y in zip(operands, s.run(lambda A, *xs: [A @ each for each in xs], *operands)):
        expected = expected_dtype(s, x.dtype)
        found = s.numpy(y).dtype
        require(found == expected, f"A @ x of {x.dtype} x has dtype {found}, expected {expected}")
        rtol, s.rtol = s.rtol, s.rtol if s.exact else max(s.rtol, tolerance(expected))
        try:
            s.is_product(f"A @ x of {x.dtype} x", y, s.matrix, x)
        finally:
            s.rtol = rtol


def _jax_has_no_memory(s: Subject) -> str | None:
    return "JAX arrays are immutable, and their memory layout is XLA's" if s.backend == "jax" else None


@check(_jax_has_no_memory)
def strides(s: Subject) -> None:
    """Operands need not be contiguous."""
    x = s.array(2 * s.operator.shape[1], 6)[::2].T[::2].T
    y = s.array(4, 2 * s.operator.shape[0])[::2, ::2]
    s.is_product("A @ x of strided x", s.operator @ _strided(s, x), s.matrix, x)
    s.is_left_product("x @ A of strided x", _strided(s, y) @ s.operator, y, s.matrix)


def _strided(s: Subject, x: np.ndarray) -> Any:
    """The array on the backend with no axis contiguous."""
    wide = s.on(np.repeat(np.repeat(x, 2, axis=0), 2, axis=1))
    return wide[::2, ::2]


@check(_jax_has_no_memory)
def aliasing(s: Subject) -> None:
    """Results share no memory with operands or leaves, and products change neither."""
    A = s.operator
    m, n = A.shape
    leaves = s.leaves
    before_leaves = [s.numpy(leaf).copy() for leaf in leaves]
    right = [
        ((n,), lambda x: A @ x),
        ((n, 1), lambda x: A @ x),
        ((n, 3), lambda x: A @ x),
        ((1, n, 2), lambda x: A @ x),
    ]
    right.append(((2, n, 1), lambda x: A @ x))
    left = [((m,), lambda x: x @ A), ((1, m), lambda x: x @ A), ((3, m), lambda x: x @ A), ((2, 1, m), lambda x: x @ A)]
    for shape_, product in right + left:
        x = s.on(s.array(*shape_))
        before = s.numpy(x).copy()
        y = product(x)
        require(np.array_equal(s.numpy(x), before), f"a product changed its operand of shape {shape_}")
        require(not _share_memory(s, x, y), f"the result shares memory with the operand of shape {shape_}")
        for leaf in leaves:
            require(
                not _share_memory(s, leaf, y), f"the result of an operand of shape {shape_} shares memory with a leaf"
            )
    for leaf, before in zip(leaves, before_leaves):
        require(np.array_equal(s.numpy(leaf), before, equal_nan=not s.exact), "a product changed a leaf")


def _share_memory(s: Subject, x: Any, y: Any) -> bool:
    if s.backend == "numpy":
        return np.shares_memory(x, y)
    return bool(x.numel() and y.numel()) and x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()


@check()
def errors(s: Subject) -> None:
    """Operands of wrong shapes are refused as by NumPy, those of other backends and specs by TypeError, all by name."""
    A = s.operator
    m, n = A.shape
    name = type(A).__name__
    for shape_ in ((n + 1,), (n + 1, 2), (2, n + 1, 3), ()):
        _refuses(f"A @ x of x {shape_}", lambda shape_=shape_: A @ s.on(s.array(*shape_)), ValueError, name)
    for shape_ in ((m + 1,), (2, m + 1), (2, 3, m + 1), ()):
        _refuses(f"x @ A of x {shape_}", lambda shape_=shape_: s.on(s.array(*shape_)) @ A, ValueError, name)
    _refuses("A @ text", lambda: A @ "x", TypeError, name)
    if s.leaves:
        twin, x, y = as_specs(A), s.on(s.array(n)), s.on(s.array(m))
        require(twin.is_symbolic, "with specs for leaves it is not symbolic")
        for what, product in (
            ("A @ x", lambda: twin @ x),
            ("x @ A", lambda: y @ twin),
            ("to_dense()", lambda: twin.to_dense()),
        ):
            _refuses(f"{what} of a symbolic A", product, TypeError, "init(seed=0")
        other = next((each for each in BACKENDS if each != s.backend and installed(each)), None)
        if other:
            foreign = backends.asarray(np.zeros(n, np.float32), other)
            _refuses(f"A @ x of a {other} x", lambda: A @ foreign, TypeError, "mixed backends")


def _refuses(what: str, action: Callable[[], Any], kind: type[Exception], fragment: str) -> None:
    error = error_of(action)
    require(error is not None, f"{what} is not refused")
    require(isinstance(error, kind), f"{what} raises {type(error).__name__} ({error}), expected {kind.__name__}")
    require(fragment in str(error), f"{what}: the error does not say {fragment!r}: {error}")


def _no_plans(s: Subject) -> str | None:
    network = network_of(s.operator)
    if network is None or not network.tensors:
        return "it is no contraction of tensors over named axes"
    if s.backend == "jax":
        return "the program is NumPy's"
    return None if target_for(s.operator) else "its leaves are narrow floats, or of several dtypes"


@check(_no_plans)
def plans(s: Subject) -> None:
    """Its tensors over named axes (`_trace`) make the matrix, one after the other and multiplied together first."""
    network = network_of(s.operator)
    assert network is not None
    (m, n), count = s.operator.shape, len(network.tensors)
    x = s.array(n, 3)
    for groups in {tuple([(place, place) for place in range(count)]), ((0, count - 1),)}:
        plan = plan_along(network, path(network, groups, 3, s.operator._target.machine, s.dtype.itemsize))
        y = multiply(plan, s.leaves, s.on(x))
        s.is_product("the planned product", y.reshape(m, 3), s.matrix, x)


def _one_way(s: Subject) -> str | None:
    if s.backend == "jax":
        return "the program is NumPy's"
    if any(isinstance(node, Choosing) for _, node in s.operator._nodes()):
        return None
    return "it multiplies in one way alone"


@check(_one_way)
def natural_way(s: Subject) -> None:
    """Its natural way, which otherwise runs for some numbers of vectors and under torch.compile, gives the product."""
    m, n = s.operator.shape
    with natural_order():
        for shape in ((n,), (n, 3), (2, n, 3)):
            x = s.array(*shape)
            s.is_product(f"A @ x of x {shape} in natural order", s.operator @ s.on(x), s.matrix, x)
        for shape in ((m,), (3, m)):
            x = s.array(*shape)
            s.is_left_product(f"x @ A of x {shape} in natural order", s.on(x) @ s.operator, x, s.matrix)
