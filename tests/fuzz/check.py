"""One random expression, and every way to multiply with it against its matrix."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import sys
from dataclasses import dataclass, replace
from functools import cache, reduce
from itertools import permutations
from typing import Any

import numpy as np

import linops as lo
from linops import backends
from linops.specs import dtype_name

from . import arrays, callables, twin
from .arrays import Array
from .draw import Draw, Node
from .nodes import tree
from .twin import Twin

CALLABLES = {name: value for name, value in vars(callables).items() if inspect.isfunction(value)}
IMPORTS = {
    "numpy": "",
    "torch": "import torch\n",
    "jax": 'import jax\nimport jax.numpy as jnp\n\njax.config.update("jax_enable_x64", True)\n',
}
#: what linops or a framework does not do, and says so: (error, what it says)
REFUSALS = [
    (TypeError, r"np\.matrix|numpy\.matrix|matrix subclass"),
    (OverflowError, r"Python integer -?\d+ out of bounds for u?int\d+"),  # NumPy's and JAX's
    (RuntimeError, r"not implemented for '(Half|BFloat16|ComplexHalf)'"),
]


@dataclass(frozen=True)
class Case:
    """An expression, what it is multiplied with, and in which ways.

    Attributes:
        backend: Where it runs.
        node: The expression.
        operands: The arrays by the names that the checks call them.
        checks: Python that makes an array, of A and the operands.
        moved: Whether it is built of NumPy arrays and moved to the backend.
        jitted: Whether JAX compiles all products as one program, which takes less time than one after the other.
    """

    backend: str
    node: Node
    operands: dict[str, Array]
    checks: tuple[str, ...]
    moved: bool = False
    jitted: bool = False

    def program(self) -> tuple[str, dict[str, Array]]:
        """(Python that makes A, the arrays in it)."""
        named: dict[str, Array] = {}
        code = self.node.text(named)
        return (f"{code}.to(backend={self.backend!r})" if self.moved else code), named

    def text(self, check: str = "") -> str:
        """A program that runs as it stands."""
        code, named = self.program()
        used = [source for name, source in _sources().items() if re.search(rf"\b{name}\b", code)]
        lines = [
            "import copy\nimport pickle\n\nimport numpy as np\n" + IMPORTS[self.backend] + "\nimport linops as lo\n"
        ]
        if any("BUFFERS" in source for source in used):
            lines.append("BUFFERS = {}\n")
        lines += [f"\n{source}" for source in used]
        lines += [f"{name} = {array.text('numpy' if self.moved else self.backend)}" for name, array in named.items()]
        lines.append(f"A = {code}")
        lines += [
            f"{name} = {array.text(self.backend)}"
            for name, array in self.operands.items()
            if re.search(rf"\b{name}\b", check)
        ]
        if self.jitted and check in self.checks:
            names = [name for name in ("A", *self.operands) if re.search(rf"\b{name}\b", check)]
            rewritten = re.search(_REWRITTEN, check)
            if rewritten is not None:
                lines.append(f"A = {rewritten[0]}")
            check = f"jax.jit(lambda {', '.join(names)}: {re.sub(_REWRITTEN, 'A', check)})({', '.join(names)})"
        return "\n".join([*lines, *[f"print({check})"] * bool(check)])


#: what makes another operator of A, and is not compiled
_REWRITTEN = r"lo\.simplify\(A\)|lo\.freeze\(A, \d+\)|pickle\.loads\(pickle\.dumps\(A\)\)|copy\.deepcopy\(A\)"


@cache
def _sources() -> dict[str, str]:
    return {name: inspect.getsource(function) for name, function in CALLABLES.items()}


class Wrong(AssertionError):
    """What is not as it should be."""


@dataclass(frozen=True)
class Failure:
    """What failed.

    Attributes:
        case: The case.
        check: Python that fails, or "" where A cannot be built.
        what: What is wrong.
    """

    case: Case
    check: str
    what: str

    @property
    def kind(self) -> str:
        """What failures of one cause have in common, mostly: the check, and what is wrong but for the numbers."""
        return f"{re.sub(r'[^A-Za-z@]', '', self.check)}: {self.manner}"

    @property
    def manner(self) -> str:
        """What is wrong, without numbers."""
        return "wrong numbers" if self.what[:1] in "-(0123456789[n" else re.sub(r"[-+\d.e]+", "#", self.what)[:40]

    def text(self) -> str:
        """A program that shows it."""
        return self.case.text(self.check) + "\n# " + self.what.replace("\n", "\n# ")


# ---------------------------------------------------------------- drawing


def draw_case(seed: int, number: int, backend: str) -> Case:
    """The case of a number, always the same for a seed."""
    draw = Draw(np.random.default_rng([seed, number]), backend)
    m, n = draw.size(), draw.size()
    node = tree(draw, m, n if draw.chance(0.6) else m, draw.integer(0, 2 if backend == "jax" else 3))
    alike = len(draw.dtypes) == 1 and not draw.has("V")  # NumPy's own rules would be others'; of bfloat16 it has none
    moved = backend != "numpy" and alike and draw.chance(0.2)
    return with_operands(Case(backend, node, {}, (), moved, backend == "jax" and draw.chance(0.95)), draw)


def with_operands(case: Case, draw: Draw) -> Case:
    """The case with arrays to multiply with, and ways to."""
    m, n = case.node.twin().shape
    stack = draw.pick([(), (), (2,), (3, 1), (0,)])
    few = [0, 1, 2, 3] if case.backend == "jax" else [0, 1, 1, 2, 3, 5, 33]
    k = draw.pick(few)
    vector = draw.chance(0.3)

    def operand(*shape: int) -> Array:
        if case.backend == "torch":
            name = draw.dtypes[0]
        elif draw.chance(0.75):
            name = draw.pick(draw.dtypes)
        else:
            name = draw.pick(arrays.REAL[case.backend] + arrays.INTEGER[case.backend] + arrays.COMPLEX[case.backend])
        plain = draw.matrices and len(shape) == 2 and case.backend == "numpy" and draw.chance(0.05)
        return draw.array(*shape, name=name, **({"layouts": ["matrix"]} if plain else {}))

    operands = {
        "x": operand(n) if vector else operand(*stack, n, k),
        "y": operand(m) if vector else operand(*stack, k, m),
        "z": operand(m) if vector else operand(*stack, m, k),
    }
    batch = draw.pick([1, 8, 300])
    checks = [
        "A @ x",
        "A.to_dense()",
        "A.to_dense() @ x",
        "lo.simplify(A) @ x",
        f"lo.freeze(A, {batch}) @ x",
        "y @ A",
        "A.T @ z",
        "A.H @ z",
    ]
    checks += [
        "lo.simplify(A).to_dense()",
        f"lo.freeze(A, {batch}).to_dense()",
        "A.conj() @ x",
        "pickle.loads(pickle.dumps(A)) @ x",
    ]
    checks += ["copy.deepcopy(A) @ x", "y @ lo.simplify(A)", "A.T.to_dense()", "y @ A.H.T", "A @ x"]
    if m:
        checks.append(f"A[{draw.integer(-m, m - 1)}]")
    if n:
        checks.append(f"A[:, {draw.integer(-n, n - 1)}]")
    if m and n:
        rows, columns = draw.random.integers(0, m, 2).tolist(), draw.integer(0, n - 1)
        checks += [f"A[{draw.integer(0, m - 1)}, {draw.integer(0, n - 1)}]", f"A[{rows}, {columns}:].to_dense()"]
    if case.backend == "jax":  # which compiles for each
        kept = sorted(draw.random.choice(len(checks), 7 if case.jitted else 2, replace=False).tolist())
        checks = [checks[place] for place in kept]
    return replace(case, operands=operands, checks=tuple(checks))


# ---------------------------------------------------------------- running


@dataclass
class Outcome:
    """What became of a case: the number of comparisons, and the failure, if there is one, or the refusal."""

    checks: int = 0
    skipped: int = 0
    refused: str = ""
    failure: Failure | None = None


def run(case: Case) -> Outcome:
    """Build the expression and compare."""
    callables.BUFFERS.clear()
    outcome = Outcome()
    code, named = case.program()
    where = {"np": np, "lo": lo, "copy": copy, "pickle": pickle, **CALLABLES}
    check = ""
    try:
        where |= {name: array.on("numpy" if case.moved else case.backend) for name, array in named.items()}
        A = where["A"] = eval(code, where)
        where |= {name: array.on(case.backend) for name, array in case.operands.items()}
        with np.errstate(all="ignore"):
            matrix = case.node.twin()
        check = "A"
        _check_kind(case, A, matrix)
        results = []
        # no product of linops: the matrix of what has no arrays is NumPy's, and a `np.matrix` multiplies as it likes
        foreign = (A.backend is None and case.backend != "numpy") or case.operands["x"].layout == "matrix"
        checks = [check for check in case.checks if not (foreign and "to_dense() @" in check)]
        check = ", ".join(checks)
        compiled = _compiled(checks, where) if case.jitted else {}
        for check in checks:
            actual = compiled[check] if case.jitted else eval(check, where)
            with np.errstate(all="ignore"):
                compared = _compare(case, A, matrix, check, actual)
            outcome.checks, outcome.skipped = outcome.checks + compared, outcome.skipped + (not compared)
            if "@" in check and "to_dense() @" not in check:
                _check_fresh(check, actual, {name: where[name] for name in (*named, *case.operands)})
                results.append((check, actual, np.array(_plain(actual))))
        for name, array in (named | case.operands).items():
            check = f"[{', '.join(case.checks)}], {name}"
            if not np.array_equal(_plain(where[name]), array.values):
                raise Wrong(f"{name} was overwritten")
        for check, actual, before in results:
            if not np.array_equal(_plain(actual), before, equal_nan=True):
                check = f"{check}, {check}"
                raise Wrong("a later product overwrites the result of an earlier one")
    except Exception as error:
        if any(isinstance(error, kind) and re.search(said, str(error)) for kind, said in REFUSALS):
            outcome.refused = f"{type(error).__name__}: {str(error)[:100]}"
        else:
            wrong = str(error) if isinstance(error, Wrong) else f"{type(error).__name__}: {error}"
            outcome.failure = Failure(case, check, wrong)
    return outcome


def _compiled(checks: list[str], where: dict[str, Any]) -> dict[str, Any]:
    """The checks as one program of JAX; where that fails, the error of the first that fails alone."""
    import jax

    others = {
        f"A{place}": code
        for place, code in enumerate({found[0] for check in checks for found in re.finditer(_REWRITTEN, check)})
    }
    names = {code: name for name, code in others.items()}
    codes = [re.sub(_REWRITTEN, lambda found: names[found[0]], check) for check in checks]
    given = {name: where[name] for name in ("A", "x", "y", "z")} | {
        name: eval(code, where) for name, code in others.items()
    }
    found = jax.jit(lambda given: [eval(code, where | given) for code in codes])(given)
    return dict(zip(checks, found))


def _plain(array: Any) -> np.ndarray:
    return np.asarray(backends.to_numpy(array)) if backends.is_array(array) else np.asarray(array)


def _check_fresh(check: str, actual: Any, given: dict[str, Any]) -> None:
    """Raise where a product lies in the memory of what it was made of."""
    for name, array in given.items():
        if isinstance(actual, np.ndarray) and isinstance(array, np.ndarray):
            shared = np.may_share_memory(actual, array)
        elif "torch" in sys.modules and backends.backend_of(actual) == backends.backend_of(array) == "torch":
            shared = actual.numel() > 0 and actual.untyped_storage().data_ptr() == array.untyped_storage().data_ptr()
        else:
            shared = False
        if shared:
            raise Wrong(f"{check} shares memory with {name}")


def _names(dtypes: Any) -> list[np.dtype]:
    return [np.dtype(dtype).newbyteorder("=") for dtype in dtypes]


def promoted(backend: str, items: Any) -> Any:
    """The dtype that dtypes and Python numbers promote to."""
    items = list(items)
    if backend == "jax":
        import jax.numpy as jnp

        return np.dtype(jnp.result_type(*items))
    if backend == "torch":  # one dtype, and numbers that keep it
        dtypes = [item for item in items if isinstance(item, np.dtype)]
        return dtypes[0] if dtypes else None
    return np.result_type(*items).newbyteorder("=")


def _possible(backend: str, items: tuple[Any, ...]) -> set[Any]:
    """The dtypes that they promote to in any order: NumPy's promotion is not associative."""
    dtypes = sorted(set(_names([item for item in items if isinstance(item, np.dtype)])), key=str)
    numbers = sorted(
        {
            1j if isinstance(item, complex) else 0.5 if isinstance(item, float) else 1
            for item in items
            if not isinstance(item, np.dtype)
        },
        key=str,
    )
    found = {promoted(backend, [*dtypes, *numbers])}
    if backend == "numpy" and len(dtypes) < 5:
        for order in permutations([*dtypes, *numbers]):
            if isinstance(order[0], np.dtype):
                found.add(reduce(lambda one, other: np.result_type(one, other), order[1:], order[0]))
    return found


def native(dtype: Any) -> Any:
    """A dtype of any framework as NumPy's, in the machine's byte order."""
    return arrays.dtype_of(dtype_name(dtype)) if not isinstance(dtype, np.dtype) else dtype.newbyteorder("=")


def _check_kind(case: Case, A: Any, matrix: Twin) -> None:
    """Raise where shape or dtype of the operator are not those of its twin."""
    if A.shape != matrix.shape:
        raise Wrong(f"shape {A.shape}, expected {matrix.shape}")
    if A.dtype is not None and case.backend != "torch":
        possible = _possible(case.backend, matrix.dtypes)
        if native(A.dtype) not in possible and native(A.dtype).kind != "b":
            raise Wrong(f"dtype {A.dtype}, expected {' or '.join(map(str, possible))}")
    A.cost(3), repr(A)
    if A.num_params != sum(
        leaf.size if isinstance(leaf, np.ndarray) else _plain(leaf).size for _, leaf in A.named_leaves()
    ):
        raise Wrong("num_params is not the sum of the leaves' sizes")


def _of_dtype(matrix: Twin, dtype: Any) -> Twin:
    """The matrix with entries of a dtype, as `to_dense` gives them: integers wrapped around, booleans true or false."""
    if dtype is None or dtype.kind not in "iub" or not matrix.size.size:
        return matrix
    held = matrix.truth if dtype.kind == "b" else matrix.wrapped
    if held is None:
        raise Wrong(f"dtype {dtype} cannot hold the entries")
    entries = held.astype(dtype)
    exact = twin.of_array(entries)
    return replace(
        matrix, value=exact.value, size=np.maximum(exact.size, matrix.size), wrapped=exact.wrapped, truth=exact.truth
    )


def _compare(case: Case, A: Any, matrix: Twin, check: str, actual: Any) -> bool:
    """Raise where an array is not what it should be; False where the result would be out of the dtype's range."""
    own = None if A.dtype is None else native(A.dtype)
    arrays_of = [item for item in matrix.dtypes if isinstance(item, np.dtype)]
    if arrays_of and len(arrays_of) < len(matrix.dtypes) and all(item.kind == "b" for item in arrays_of):
        return False  # numbers make integers of booleans, unless they multiply to 1 and vanish
    M, given = _of_dtype(matrix, own), None
    base, _, rest = check.partition(" @ ")
    if rest in ("x", "z"):
        given = case.operands[rest]
        M = M.T if "A.T" in base else M.T.conj() if "A.H" in base else M.conj() if "conj" in base else M
    elif base == "y":
        given = case.operands["y"]
        M = M.conj() if ".H.T" in rest else M
    elif check.startswith("A["):
        M = _part(M, check)
    elif "A.T.to_dense" in check:
        M = M.T
    dtypes = [own] if own is not None else [item for item in matrix.dtypes if not isinstance(item, np.dtype)]
    if given is not None:
        x = twin.of_array(given.values)
        expected = (x @ M if base == "y" else M @ x) if len(x.shape) > 1 or base == "y" else (M @ x)
        with_numbers = [*dtypes, given.values.dtype.newbyteorder("=")]
        dtype = promoted(case.backend, with_numbers)
        if (
            own is not None
            and own.kind in "iub"
            and dtype != own
            and not np.array_equal(_of_dtype(matrix, own).value, matrix.value)
        ):
            return False  # entries that wrap around, by a wider operand: NumPy would round A first
        if "to_dense() @" in check and own is None:
            dtype = native(actual.dtype)  # of what has no dtype, NumPy's default
    else:
        expected, dtype = M, own if own is not None else native(actual.dtype)
    if not (isinstance(actual, np.generic) or backends.is_array(actual)) or type(actual) is np.matrix:
        raise Wrong(f"a {type(actual).__name__}, expected an array")
    if backends.is_array(actual) and case.backend != (backends.backend_of(actual)) and A.backend is not None:
        raise Wrong(f"an array of {backends.backend_of(actual)}, expected {case.backend}")
    if tuple(actual.shape) != expected.shape:
        raise Wrong(f"shape {tuple(actual.shape)}, expected {expected.shape}")
    if own is None and given is not None and given.values.dtype.kind == "b":
        return False  # numbers make integers of booleans, and operators without a dtype merge numbers: I + I is 2 I
    if native(actual.dtype) != dtype:
        raise Wrong(f"dtype {actual.dtype}, expected {dtype}")
    found = _plain(actual)
    if dtype.kind in "iub":
        return _compare_exactly(found, expected, dtype)
    if own is None and "to_dense" in check:
        own = np.dtype(np.float64)  # in which NumPy writes out what has no dtype
    if dtype.char in "gG" and any(isinstance(item, (float, complex)) for item in matrix.dtypes):
        # Python's numbers multiply each other in double precision
        double = np.dtype(np.float64)
        coarsest = (
            double
            if own is None or own.kind in "iub" or own.char in "gG"
            else max(own, double, key=lambda one: backends_finfo(one).eps)
        )
        own, matrix = coarsest, replace(matrix, rewritten=True)
    coarse = matrix.rewritten or any(word in check for word in ("to_dense", "simplify", "freeze"))
    return _compare_within(
        found, expected, dtype, own if coarse and own is not None and own.kind not in "iub" else dtype
    )


def _part(M: Twin, check: str) -> Twin:
    """What ``A[…]`` takes: every row with every column."""
    lists = re.fullmatch(r"A\[\[(.*)\], (\d+):\]\.to_dense\(\)", check)
    return eval(check, {"A": M}) if lists is None else M[[int(row) for row in lists[1].split(",")]][:, int(lists[2]) :]


def _compare_exactly(found: np.ndarray, expected: Twin, dtype: np.dtype) -> bool:
    held = expected.truth if dtype.kind == "b" else expected.wrapped
    if held is None:
        raise Wrong(f"dtype {dtype} cannot hold the result")
    if not np.array_equal(found, held.astype(dtype)):
        raise Wrong(f"{arrays.text_of(found.tolist())}, expected {arrays.text_of(held.astype(dtype).tolist())}")
    return True


def _compare_within(found: np.ndarray, expected: Twin, dtype: np.dtype, coarser: np.dtype) -> bool:
    """Within the errors of the roundings on the way, each of relative size u at most: (1 + u)ᵏ - 1 of |A| |x|.

    A product may run in any order of its factors, and a rewritten one with terms merged, which at most doubles k. A
    multiplication of complex numbers errs by up to √8 u. What underflows errs by the least positive number a time,
    which grows with what it is multiplied by.
    """
    kind = backends_finfo(dtype)
    unit = max(kind.eps, backends_finfo(coarser).eps) / 2
    k = 2 * expected.roundings * (3 if dtype.kind == "c" else 1)
    largest = min(kind.max, backends_finfo(coarser).max)
    if not 4 * expected.reach < largest:
        return False
    bound = (
        np.expm1(np.longdouble(k * unit)) * expected.size
        + k * max(kind.tiny, backends_finfo(coarser).tiny) * expected.reach
    )
    error = np.abs(found.astype(expected.value.dtype if dtype.kind != "c" else np.clongdouble) - expected.value)
    if not (error <= bound).all():
        place = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error - bound)), error.shape)
        numbers = f"{found[place]} at {tuple(map(int, place))}, expected {expected.value[place]}"
        everything = np.array2string(expected.value, threshold=50)
        raise Wrong(f"{numbers}: error {error[place]:.2e} above {bound[place]:.2e}; all of it {everything}")
    return True


@dataclass(frozen=True)
class Floating:
    """What is known of a floating dtype: eps, the largest and the least positive number."""

    eps: float
    max: Any
    tiny: Any


@cache
def backends_finfo(dtype: np.dtype) -> Floating:
    """`np.finfo` of any dtype."""
    if dtype == arrays.BFLOAT16:
        import ml_dtypes

        info: Any = ml_dtypes.finfo(dtype)
        return Floating(float(info.eps), np.longdouble(float(info.max)), np.longdouble(float(info.smallest_subnormal)))
    info = np.finfo(dtype)
    return Floating(float(info.eps), np.longdouble(info.max), np.longdouble(info.smallest_subnormal))
