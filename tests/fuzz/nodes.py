"""The kinds of inner nodes, of algebra and composite operators. A kind is a function (draw, m, n, depth) -> node."""

from __future__ import annotations

from collections.abc import Callable

from . import twin
from .draw import Draw, Node
from .leaves import any_leaf, callable_

#: kind: (function, whether it is square)
NODES: dict[str, tuple[Callable[..., Node | None], bool]] = {}


def node(square: bool = False):
    """Declare a kind; it may return None where it has no member."""
    return lambda function: NODES.setdefault(function.__name__, (function, square))[0]


def tree(draw: Draw, m: int, n: int, depth: int) -> Node:
    """An expression of a shape, of so many levels at most."""
    if not depth or draw.chance(0.1):
        return any_leaf(draw, m, n)
    kinds = [function for function, square in NODES.values() if m == n or not square]
    return draw.pick(kinds)(draw, m, n, depth - 1) or any_leaf(draw, m, n)


@node()
def product(draw, m, n, depth):
    inner = draw.size()
    return Node("({0} @ {1})", (tree(draw, m, inner, depth), tree(draw, inner, n, depth)), matrix=lambda a, b: a @ b)


@node()
def sum_(draw, m, n, depth):
    parts = tree(draw, m, n, depth), tree(draw, m, n, depth)
    if draw.chance(0.5):
        return Node("({0} + {1})", parts, matrix=lambda a, b: a + b)
    return Node("({0} - {1})", parts, matrix=lambda a, b: a - b)


@node()
def twice_the_same(draw, m, n, depth):
    part = tree(draw, m, n, depth)
    return Node("({0} + {0})", (part,), matrix=lambda a: a + a)


@node(square=True)
def with_callable(draw, m, n, depth):
    part, function = tree(draw, n, n, depth), callable_(draw, n, n)
    return function and Node("({0} + {1})", (part, function), matrix=lambda a, b: a + b)


@node()
def with_array(draw, m, n, depth):
    part = tree(draw, m, n, depth)
    array = draw.array(m, n)
    code = draw.pick(["({0} + {a})", "({a} + {0})"])
    if draw.matrices and draw.backend == "numpy" and draw.chance(0.1):
        array = draw.array(m, n, layouts=["matrix"])
    return Node(code, (part,), {"a": array}, lambda part, a: part + a)


@node()
def scaled(draw, m, n, depth):
    part, (text, number) = tree(draw, m, n, depth), draw.number()
    return Node(draw.pick([f"({text} * {{0}})", f"({{0}} * {text})"]), (part,), matrix=lambda a: a.times(number))


@node()
def gained(draw, m, n, depth):
    part = tree(draw, m, n, depth)
    draw.leaf = draw.pick(draw.dtypes)
    gain = draw.array(layouts=["C"])
    return Node(
        "({gain} * {0})",
        (part,),
        {"gain": gain},
        lambda a, gain: twin.product(lambda x, y: x * y, a, gain, roundings=1),
    )


@node()
def divided(draw, m, n, depth):
    if draw.backend == "torch" and draw.has("iub"):
        return None
    part = tree(draw, m, n, depth)
    text = draw.pick(["2", "3", "-3.0", "0.1", "np.float32(3)", "np.float16(3)", "np.float64(3)", "np.int8(3)"])
    number = eval(text, {"np": twin.np})
    return Node(f"({{0}} / {text})", (part,), matrix=lambda a: a.over(number))


@node()
def negated(draw, m, n, depth):
    return Node("(-{0})", (tree(draw, m, n, depth),), matrix=lambda a: a.times(-1))


@node()
def transposed(draw, m, n, depth):
    return Node("{0}.T", (tree(draw, n, m, depth),), matrix=lambda a: a.T)


@node()
def adjoint(draw, m, n, depth):
    return Node("{0}.H", (tree(draw, n, m, depth),), matrix=lambda a: a.T.conj())


@node()
def conjugated(draw, m, n, depth):
    return Node("{0}.conj()", (tree(draw, m, n, depth),), matrix=lambda a: a.conj())


@node()
def sliced(draw, m, n, depth):
    (rows, i, k), (columns, j, q) = draw.key(m), draw.key(n)
    return Node(f"{{0}}[{rows}, {columns}]", (tree(draw, k, q, depth),), matrix=lambda a: a[i][:, j])


@node()
def hstack(draw, m, n, depth):
    j = draw.cut(n)
    if j is None:
        return None
    parts = tree(draw, m, j, depth), tree(draw, m, n - j, depth)
    return Node("lo.hstack({0}, {1})", parts, matrix=lambda a, b: twin.block([[a, b]]))


@node()
def vstack(draw, m, n, depth):
    i = draw.cut(m)
    if i is None:
        return None
    parts = tree(draw, i, n, depth), tree(draw, m - i, n, depth)
    return Node("lo.vstack({0}, {1})", parts, matrix=lambda a, b: twin.block([[a], [b]]))


@node()
def block_diag(draw, m, n, depth):
    i, j = draw.cut(m), draw.cut(n)
    if i is None or j is None:
        return None
    parts = tree(draw, i, j, depth), tree(draw, m - i, n - j, depth)
    return Node("lo.DirectSum([{0}, {1}])", parts, matrix=lambda a, b: twin.block_diag([a, b]))


@node()
def grid(draw, m, n, depth):
    i, j = draw.cut(m), draw.cut(n)
    if i is None or j is None:
        return None
    a, b, d = tree(draw, i, j, depth), tree(draw, i, n - j, depth), tree(draw, m - i, n - j, depth)
    if draw.chance(0.5):
        matrix = lambda a, b, d: twin.block([[a, b], [twin.zeros(m - i, j), d]])  # noqa: E731
        return Node("lo.Block([[{0}, {1}], [None, {2}]])", (a, b, d), matrix=matrix)
    c = tree(draw, m - i, j, depth)
    return Node(
        "lo.Block([[{0}, {1}], [{2}, {3}]])", (a, b, c, d), matrix=lambda a, b, c, d: twin.block([[a, b], [c, d]])
    )


@node()
def kronecker(draw, m, n, depth):
    p, q = draw.divisor(m), draw.divisor(n)
    parts = tree(draw, p, q, depth), tree(draw, m // p, n // q, depth)
    return Node(draw.pick(["lo.kron({0}, {1})", "lo.Kronecker({0}, {1})"]), parts, matrix=lambda a, b: twin.kron(a, b))


@node(square=True)
def kronecker_sum(draw, m, n, depth):
    p = draw.divisor(n)
    q = n // p

    def matrix(a, b):
        return twin.kron(a, twin.eye(q, q)) + twin.kron(twin.eye(p, p), b)

    return Node("lo.KroneckerSum({0}, {1})", (tree(draw, p, p, depth), tree(draw, q, q, depth)), matrix=matrix)


@node(square=True)
def power(draw, m, n, depth):
    exponent = draw.integer(0, 3)
    return Node(f"({{0}} ** {exponent})", (tree(draw, n, n, depth),), matrix=lambda a: a.power(exponent))


@node(square=True)
def gram(draw, m, n, depth):
    part = tree(draw, n, draw.size(), depth)
    return Node("({0} @ {0}.H)", (part,), matrix=lambda a: a @ a.T.conj())


@node(square=True)
def bordered(draw, m, n, depth):
    i = draw.cut(n)
    if i is None:
        return None
    a, b, c = tree(draw, i, i, depth), tree(draw, i, n - i, depth), tree(draw, n - i, n - i, depth)
    below, beneath = draw.pick([("{1}.H", lambda b: b.T.conj()), ("{1}.T", lambda b: b.T)])
    matrix = lambda a, b, c: twin.block([[a, b], [beneath(b), c]])  # noqa: E731
    return Node(f"lo.Block([[{{0}}, {{1}}], [{below}, {{2}}]])", (a, b, c), matrix=matrix)


@node(square=True)
def congruence(draw, m, n, depth):
    inner = draw.size()
    part, between = tree(draw, n, inner, depth), tree(draw, inner, inner, depth)
    return Node("({0} @ {1} @ {0}.H)", (part, between), matrix=lambda a, b: a @ b @ a.T.conj())


@node(square=True)
def similar(draw, m, n, depth):
    part, inner = tree(draw, n, n, depth), tree(draw, n, n, depth)
    return Node("({0} @ {1} @ {0}.T)", (part, inner), matrix=lambda a, b: a @ b @ a.T)


@node()
def rewritten(draw, m, n, depth):
    """Simplified or frozen as a part: in the dtype of the part, which is that of the whole if there is one only."""
    if len(draw.dtypes) > 1 or draw.has("iub"):
        return None
    code = draw.pick(["lo.simplify({0})", "lo.freeze({0}, 1)", "lo.freeze({0}, 300)"])
    return Node(code, (tree(draw, m, n, depth),), matrix=lambda a: twin.replace(a, rewritten=True))
