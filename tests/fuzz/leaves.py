"""The kinds of leaves: operators of arrays alone, or none. A kind is a function (draw, m, n) -> node under `@leaf`."""

from __future__ import annotations

from collections.abc import Callable
from math import log2

import numpy as np
import scipy.linalg

from . import twin
from .arrays import Array, dtype_of
from .draw import Draw, Node

#: kind: (function, whether it is square)
LEAVES: dict[str, tuple[Callable[..., Node | None], bool]] = {}


def leaf(square: bool = False):
    """Declare a kind; it may return None where it has no member."""
    return lambda function: LEAVES.setdefault(function.__name__, (function, square))[0]


def any_leaf(draw: Draw, m: int, n: int) -> Node:
    """A leaf of any kind."""
    draw.leaf = draw.pick(draw.dtypes)
    kinds = [function for function, square in (LEAVES | draw.leaves).values() if m == n or not square]
    return draw.pick(kinds)(draw, m, n) or dense(draw, m, n)


@leaf()
def dense(draw, m, n):
    return Node("lo.Dense({a})", (), {"a": draw.array(m, n)}, lambda a: a)


@leaf()
def wrapped(draw, m, n):
    return Node("lo.aslinearoperator({a})", (), {"a": draw.array(m, n)}, lambda a: a)


@leaf()
def low_rank(draw, m, n):
    rank = draw.integer(0, 2)
    return Node("lo.LowRank({u}, {v})", (), {"u": draw.array(m, rank), "v": draw.array(rank, n)}, lambda u, v: u @ v)


@leaf()
def zero(draw, m, n):
    return Node(f"lo.Zero({m}, {n})", (), {}, lambda: twin.zeros(m, n))


@leaf()
def pad(draw, m, n):
    return Node(f"lo.Pad({m}, {n})", (), {}, lambda: twin.eye(m, n))


def transformed(kernel, entries, size):
    """Entries of a kernel of which a convolution is made: fast transforms of a length of up to twice the size."""
    return kernel.spread(int(6 * log2(4 * size + 4)) + 6)[entries]


@leaf()
def circulant(draw, m, n):
    size = max(m, n) + draw.integer(0, 1)
    entries = np.subtract.outer(np.arange(m), np.arange(n)) % max(size, 1)
    return Node(f"lo.Circulant({{c}}, {m}, {n})", (), {"c": draw.array(size)}, lambda c: transformed(c, entries, size))


@leaf()
def toeplitz(draw, m, n):
    lags = np.subtract.outer(np.arange(m), np.arange(n))
    entries = np.where(lags >= 0, lags, m - 1 - lags)
    c, r = draw.same((m,), (n,))
    return Node(
        "lo.Toeplitz({c}, {r})",
        (),
        {"c": c, "r": r},
        lambda c, r: transformed(twin.block([[c, r[1:]]]).reshape(-1), entries, m + n),
    )


@leaf()
def butterfly(draw, m, n):
    outer, inner = draw.array(1, m, 1, 2), draw.array(1, 1, 2 * m, n)

    def matrix(outer, inner):
        rows = twin.einsum("abcd,ae->aebcd", outer, twin.eye(1, 1)).reshape(m, 2)
        return twin.einsum("ij,ijk->ik", rows, inner.reshape(m, 2, n))

    return Node("lo.Butterfly([{outer}, {inner}])", (), {"outer": outer, "inner": inner}, matrix)


@leaf()
def einsum(draw, m, n):
    a, b = draw.array(m, 2, n), draw.array(2, n)
    return Node(
        'lo.Einsum("irj,rj,j->i", {a}, {b})', (), {"a": a, "b": b}, lambda a, b: twin.einsum("irj,rj->ij", a, b)
    )


@leaf()
def sparse(draw, m, n):
    count = draw.integer(0, 6) if m and n else 0
    rows, columns = draw.random.integers(0, max(m, 1), count), draw.random.integers(0, max(n, 1), count)
    where = np.zeros((m, n, count), np.int64)
    where[rows, columns, np.arange(count)] = 1
    code = f"lo.Sparse({{values}}, {rows.tolist()}, {columns.tolist()}, ({m}, {n}))"
    return Node(
        code,
        (),
        {"values": draw.array(count)},
        lambda values: twin.einsum("ijk,k->ij", twin.of_constant(where), values),
    )


@leaf()
def tensor_train(draw, m, n):
    m1, n1, r = draw.divisor(m), draw.divisor(n), draw.integer(1, 2)
    a, b = draw.array(1, m1, n1, r), draw.array(r, m // m1, n // n1, 1)
    code, matrix = (
        "lo.TensorTrain([{a}, {b}])",
        lambda a, b: twin.einsum("aijb,bklc->ikjl", a[:1], b[..., :1]).reshape(m, n),
    )
    return Node(code, (), {"a": a, "b": b}, lambda a, b: matrix(a, b))


@leaf()
def block_tensor_train(draw, m, n):
    if not m or not n:
        return None
    m1, n1, r = draw.divisor(m), draw.divisor(n), draw.integer(1, 2)
    m2, n2 = m // m1, n // n1
    arrays = {"a": draw.array(n2, r * m1, n1), "b": draw.array(m1, m2, n2 * r)}

    def matrix(a, b):
        return twin.einsum("zrax,abzr->abzx", a.reshape(n2, r, m1, n1), b.reshape(m1, m2, n2, r)).reshape(m, n)

    return Node("lo.BlockTensorTrain([{a}, {b}])", (), arrays, matrix)


@leaf()
def blocks(draw, m, n):
    count = draw.integer(1, 3)
    if m % count or n % count:
        return None
    p, q = m // count, n // count
    return Node(
        "lo.BlockDiag({a})", (), {"a": draw.array(count, p, q)}, lambda a: twin.block_diag([a[i] for i in range(count)])
    )


@leaf()
def function_of_arrays(draw, m, n):
    code = f"lo.Function(({m}, {n}), multiply, multiply_adjoint, ({{a}},))"
    return Node(code, (), {"a": draw.array(m, n)}, lambda a: a)


@leaf(square=True)
def identity(draw, m, n):
    return Node(f"lo.Identity({n})", (), {}, lambda: twin.eye(n, n))


@leaf(square=True)
def diagonal(draw, m, n):
    return Node("lo.Diagonal({d})", (), {"d": draw.array(n)}, lambda d: d.map(np.diag))


@leaf(square=True)
def permute(draw, m, n):
    indices = draw.random.permutation(n)
    code = f"lo.Permute(np.array({indices.tolist()}, dtype=int))"
    return Node(code, (), {}, lambda: twin.eye(n, n)[indices])


@leaf(square=True)
def axes(draw, m, n):
    first = draw.divisor(n)
    dims = (first, n // first)
    order = np.arange(n).reshape(dims).T.ravel()
    return Node(f"lo.Permute.axes({dims}, (1, 0))", (), {}, lambda: twin.eye(n, n)[order])


@leaf(square=True)
def triangular(draw, m, n):
    lower = draw.chance(0.5)
    code = f"lo.Triangular({{a}}, lower={lower})"
    return Node(code, (), {"a": draw.array(n, n)}, lambda a: a.map(np.tril if lower else np.triu))


@leaf(square=True)
def tridiagonal(draw, m, n):
    lower, diag, upper = draw.same((max(n - 1, 0),), (n,), (max(n - 1, 0),))

    def matrix(lower, diag, upper):
        if not n:
            return diag.map(np.diag)
        entries = np.zeros((n, n), int)
        i, k = np.arange(n), np.arange(n - 1)
        entries[i, i], entries[k + 1, k], entries[k, k + 1] = i + 1, n + 1 + k, 2 * n + k
        nothing = diag[:1].map(np.zeros_like)
        return twin.block([[nothing, diag, lower, upper]]).reshape(-1)[entries]

    return Node("lo.Tridiagonal({lower}, {diag}, {upper})", (), {"lower": lower, "diag": diag, "upper": upper}, matrix)


@leaf(square=True)
def householder(draw, m, n):
    if not n or not draw.inexact():
        return None
    count = draw.integer(1, 2)
    v = draw.array(count, n, name=draw.leaf)

    def matrix(v):
        # of unit vectors, which are computed with n + 4 roundings
        lengths = np.sqrt((v.size**2).sum(axis=1, keepdims=True))
        if not lengths.all():
            return None
        unit = twin.replace(v, value=v.value / lengths, size=v.size / lengths, roundings=n + 5, reach=1.0)
        result = twin.eye(n, n)
        for row in range(count):
            one = unit[row : row + 1]
            result = result @ (twin.eye(n, n) - (one.T @ one.conj()).times(2))
        dtypes = v.dtypes  # the 2 of the formula is none of the expression's numbers
        return twin.replace(result, size=result.size * 4 ** (count - 1), dtypes=dtypes)

    return Node("lo.Householder({v})", (), {"v": v}, matrix)


@leaf(square=True)
def hadamard(draw, m, n):
    if n.bit_count() != 1:
        return None
    return Node(
        f"lo.Hadamard({n})",
        (),
        {},
        lambda: twin.replace(twin.of_constant(scipy.linalg.hadamard(n)), dtypes=(1,), roundings=n),
    )


@leaf(square=True)
def dft(draw, m, n):
    if not n or (draw.backend == "torch" and not draw.has("c")):  # torch would mix real and complex
        return None
    norm = draw.pick(["backward", "ortho"])
    scale = 1 / np.sqrt(np.longdouble(n)) if norm == "ortho" else np.longdouble(1)
    turn = np.multiply.outer(np.arange(n), np.arange(n)) % n * (2 * np.arccos(np.longdouble(-1)) / n)
    entries = (np.cos(turn) - 1j * np.sin(turn)) * scale

    def matrix():
        size = np.full((n, n), np.sqrt(np.longdouble(n)) * scale)
        return twin.Twin(entries, size, None, None, (1j,), int(6 * log2(4 * n)) + 6, float(n))

    return Node(f"lo.DFT({n}, norm={norm!r})", (), {}, matrix)


@leaf(square=True)
def definite(draw, m, n):
    if not draw.inexact():
        return None
    root = draw.values((n, n), draw.leaf)
    a = Array((root @ root.conj().T + np.eye(n)).astype(dtype_of(draw.leaf)))
    return Node("lo.assume(lo.Dense({a}), lo.Tag.POSITIVE_DEFINITE)", (), {"a": a}, lambda a: a)


@leaf(square=True)
def assumed_triangular(draw, m, n):
    a = Array(np.tril(draw.values((n, n), draw.dtype())))
    return Node("lo.assume(lo.Dense({a}), lo.Tag.LOWER_TRIANGULAR)", (), {"a": a}, lambda a: a)


@leaf(square=True)
def unitary(draw, m, n):
    """Within the rounding of its dtype, which must be the whole's: `simplify` takes its adjoint for its inverse."""
    if len(draw.dtypes) > 1 or not n or not draw.inexact() or dtype_of(draw.leaf).char in "gG":
        return None
    numbers = draw.values((n, n), draw.leaf)
    q, _ = np.linalg.qr(numbers.astype("complex128" if dtype_of(draw.leaf).kind == "c" else "float64"))
    matrix = lambda q: twin.replace(q, roundings=4 * n + 4, rewritten=True)  # noqa: E731
    code = "lo.assume(lo.Dense({q}), lo.Tag.ORTHOGONAL)"
    return Node(code, (), {"q": Array(q.astype(dtype_of(draw.leaf)))}, matrix)


@leaf(square=True)
def callable_(draw, m, n):
    if not draw.callables or draw.has("b"):  # which `x *= 2` refuses
        return None
    name, factor = draw.pick([("twice", 2), ("same", 1), ("thrice", 3)])
    vectorized = draw.chance(0.5) or draw.backend == "torch"
    if draw.backend == "jax":
        name, factor = draw.pick([("twice_functional", 2), ("same", 1)])
    code = f"lo.Function(({n}, {n}), {name}, {name}, vectorized={vectorized})"
    return Node(code, (), {}, lambda: twin.of_constant(factor * np.eye(n, dtype=np.int64)))
