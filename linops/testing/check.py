"""`check_operator`, and what its checks share: the operator under test, its matrix, random operands, closeness."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np

from linops import backends
from linops.operator import LinearOperator
from linops.specs import Spec, dtype_name, numpy_dtype
from linops.testing.report import ConformanceError, Report, Row

BACKENDS = ("numpy", "torch", "jax")


@dataclass(frozen=True)
class Check:
    """A check of the table `CHECKS`.

    Attributes:
        name: Its name.
        run: Raises AssertionError where the operator of a `Subject` fails.
        unless: Says why it does not apply to a subject, or None; reads no number.
    """

    name: str
    run: Callable[[Subject], None]
    unless: Callable[[Subject], str | None]


#: the checks by name, in the order in which they run
CHECKS: dict[str, Check] = {}


def check(
    *conditions: Callable[[Subject], str | None],
) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
    """Put a function in the table of checks under its name.

    Args:
        *conditions: Each says why the check does not apply to a subject, or None.

    Returns:
        A decorator.
    """

    def register(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
        name = function.__name__
        CHECKS[name] = Check(
            name, function, lambda subject: next(filter(None, (condition(subject) for condition in conditions)), None)
        )
        return function

    return register


def require(condition: Any, message: str) -> None:
    """Raise AssertionError with a message unless a condition holds.

    Args:
        condition: The condition.
        message: What was found and what was expected.

    Raises:
        AssertionError: Unless it holds.
    """
    if not condition:
        raise AssertionError(message)


def error_of(function: Callable[[], Any]) -> Exception | None:
    """The exception that a call raises, or None."""
    try:
        function()
    except Exception as error:
        return error
    return None


class Subject:
    """The operator under test with what checks need of it.

    Attributes:
        operator: A concrete operator on `backend`.
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.
        dtype: The NumPy dtype of random operands: that of the leaves, for torch mixes none.
        kind: Of the dtype: ``"f"``, ``"c"``, ``"i"``, ``"u"`` or ``"b"``.
        exact: Whether arithmetic is exact: that of integers.
        rtol: Largest error, as a share of |A| |x|.
        given: The matrix that the caller gave, or None.

    Args:
        operator: The operator.
        dense: Its matrix, or None.
        backend: Where to check; None for the operator's own.
        dtype: The dtype of operands for an operator without arrays.
        rtol: The tolerance, or None.
        seed: Of the random operands.
    """

    def __init__(
        self, operator: Any, dense: Any, backend: str | None, dtype: Any, rtol: float | None, seed: int
    ) -> None:
        if operator.is_symbolic:
            operator = operator.init(seed=seed, backend=backend or "numpy")
        self.backend: str = backend or operator.backend or "numpy"
        self.operator: Any = operator if operator.backend in (None, self.backend) else operator.to(backend=self.backend)
        if self.operator.backend is None and self.backend == "torch":
            self.operator = self.operator.to(backend="torch")  # its index arrays
        backends.load(self.backend)
        dtypes = {numpy_dtype(leaf.dtype) for _, leaf in self.operator.named_leaves()}
        self.dtype: np.dtype = (
            numpy_dtype(dtype) if not dtypes else dtypes.pop() if len(dtypes) == 1 else np.result_type(*dtypes)
        )
        self.kind = "f" if self.dtype.name == "bfloat16" else self.dtype.kind
        self.exact: bool = self.kind in "biu"
        self.rtol: float = rtol if rtol is not None else 0.0 if self.exact else tolerance(self.dtype)
        self.given: np.ndarray | None = (
            None if dense is None else np.asarray(backends.to_numpy(dense) if backends.is_array(dense) else dense)
        )
        self.random: np.random.Generator = np.random.default_rng(seed)
        self._results: dict[str, Any] = {}

    @cached_property
    def matrix(self) -> np.ndarray:
        """The matrix that products are compared with: the one given, or the operator's own."""
        matrix = backends.to_numpy(self.operator.to_dense()) if self.given is None else self.given
        return matrix if self.exact else wide(matrix)

    @property
    def precise(self) -> bool:
        """Whether numbers are precise enough for finite differences."""
        return self.dtype in (np.float64, np.complex128)

    @property
    def leaves(self) -> list[Any]:
        """The operator's arrays."""
        return [leaf for _, leaf in self.operator.named_leaves()]

    def array(self, *shape: int) -> np.ndarray:
        """A random NumPy array of the operands' dtype."""
        if self.kind == "b":
            return self.random.integers(0, 2, shape).astype(bool)
        if self.exact:
            return self.random.integers(0 if self.kind == "u" else -4, 5, shape).astype(self.dtype)
        real = self.random.standard_normal(shape)
        return np.asarray(real + 1j * self.random.standard_normal(shape) if self.kind == "c" else real).astype(
            self.dtype
        )

    def on(self, array: np.ndarray) -> Any:
        """A NumPy array on the backend, and on the operator's device."""
        device = self.operator.device if self.backend == "torch" else None
        return backends.asarray(array, self.backend, None, device)

    def numpy(self, array: Any) -> np.ndarray:
        """An array of the backend in NumPy; an assertion that it is one."""
        kind = backends.backend_of(array)
        require(kind == self.backend, f"expected a {self.backend} array, got {type(array).__name__}")
        return backends.to_numpy(array)

    def other_numbers(self) -> Any:
        """The same expression with other numbers in its leaves."""
        return self.operator._map(lambda leaf: leaf + leaf)

    def run(self, function: Callable[..., Any], *arrays: np.ndarray) -> Any:
        """A function of the operator and NumPy arrays, on the backend (in one program on JAX)."""
        operands = [self.on(array) for array in arrays]
        if self.backend == "jax":
            import jax

            function = jax.jit(function)
        return function(self.operator, *operands)

    def results(self, group: str) -> list[tuple[np.ndarray, Any]]:
        """(NumPy operand, result on the backend) of a group of products (`algebra.GROUPS`), in JAX one program."""
        from linops.testing.algebra import GROUPS

        if group not in self._results:
            names = list(GROUPS) if self.backend == "jax" else [group]
            operands = {name: GROUPS[name].operands(self) for name in names}
            flat = [array for name in names for array in operands[name]]

            def products(operator: Any, *arrays: Any) -> list[Any]:
                supply = iter(arrays)
                return [GROUPS[name].product(operator, next(supply)) for name in names for _ in operands[name]]

            found = iter(self.run(products, *flat))
            for name in names:
                self._results[name] = [(array, next(found)) for array in operands[name]]
        return self._results[group]

    def close(self, what: str, actual: Any, expected: np.ndarray, scale: Any = None) -> None:
        """Assert that an array of the backend has the shape of a NumPy array, and its numbers within the tolerance.

        Args:
            what: What it is, for the message.
            actual: The array.
            expected: What it should be.
            scale: What the tolerance is a share of; by default |expected|.

        Raises:
            AssertionError: If it is not so.
        """
        actual = self.numpy(actual)
        if not self.exact:
            actual = wide(actual)
        require(actual.shape == expected.shape, f"{what} has shape {actual.shape}, expected {expected.shape}")
        if not expected.size:
            return
        scale = np.abs(expected) if scale is None else scale
        bound = self.rtol * float(np.max(scale)) if np.size(scale) else 0.0
        errors = np.abs(actual - expected) if not self.exact else (actual != expected).astype(float)
        worst = np.unravel_index(int(np.nanargmax(errors)) if not np.isnan(errors).all() else 0, errors.shape)
        if not float(np.max(errors)) <= bound:
            where = ", ".join(map(str, worst))
            found = f"entry [{where}] is {actual[worst]}, expected {expected[worst]}"
            raise AssertionError(f"{what}: {found}; error {float(np.max(errors)):.3g} above {bound:.3g}")

    def is_product(self, what: str, actual: Any, matrix: np.ndarray, x: np.ndarray) -> None:
        """Assert that an array is matrix @ x."""
        if self.exact:
            self.close(what, actual, matrix.astype(np.result_type(matrix, x)) @ x)
        else:
            matrix, x = wide(matrix), wide(x)
            self.close(what, actual, matrix @ x, np.abs(matrix) @ np.abs(x))

    def is_left_product(self, what: str, actual: Any, x: np.ndarray, matrix: np.ndarray) -> None:
        """Assert that an array is x @ matrix."""
        if self.exact:
            self.close(what, actual, x @ matrix.astype(np.result_type(matrix, x)))
        else:
            matrix, x = wide(matrix), wide(x)
            self.close(what, actual, x @ matrix, np.abs(x) @ np.abs(matrix))


def wide(array: np.ndarray) -> np.ndarray:
    """An array in double precision, or wider where it is."""
    if array.dtype.itemsize >= (16 if array.dtype.kind == "c" else 8) and array.dtype.kind in "fc":
        return array
    return array.astype(complex if array.dtype.kind == "c" else float)


def tolerance(dtype: np.dtype) -> float:
    """500 roundings of a dtype, and at most a tenth."""
    eps = 2**-7 if dtype.name == "bfloat16" else float(np.finfo(dtype).eps)
    return min(500 * eps, 0.1)


def installed(framework: str) -> bool:
    """Whether a framework can be imported."""
    return framework == "numpy" or find_spec(framework) is not None


def holds(backend: str, dtype: np.dtype) -> bool:
    """Whether a backend holds a dtype as it stands: JAX without x64 does not hold 64 bits."""
    if backend != "jax":
        return True
    import jax

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return jax.dtypes.canonicalize_dtype(dtype) == dtype


def as_specs(operator: Any) -> Any:
    """The same expression with specs for leaves."""
    return operator._map(lambda leaf: Spec(tuple(leaf.shape), dtype_name(leaf.dtype)))


def outcomes(subject: Subject, skip: Mapping[str, str]) -> dict[str, Row | None]:
    """Of each check, the row that says why it does not run, or None where it does.

    Args:
        subject: The operator under test.
        skip: Reasons to skip, by the name of the check.

    Returns:
        A dict with the names and order of `CHECKS`.
    """
    found: dict[str, Row | None] = {}
    for name, item in CHECKS.items():
        reason = item.unless(subject)
        if reason is not None:
            found[name] = Row(name, "not applicable", reason)
        else:
            found[name] = Row(name, "skipped", skip[name]) if name in skip else None
    return found


def check_operator(
    A: LinearOperator,
    dense: Any = None,
    *,
    rtol: float | None = None,
    seed: int = 0,
    skip: Mapping[str, str] | Iterable[str] = (),
    backend: str | None = None,
    dtype: Any = "float64",
) -> Report:
    """Check that an operator keeps every promise of linops: the conformance suite as one call.

    It multiplies random operands from both sides, in batches and in none, compares with the matrix, takes T, H,
    conjugates and gradients, compiles and maps it, copies it, moves it, counts it, makes a layer of it, and solves with
    it. `CHECKS` lists the checks. All run, and all that fail are named. Products are compared with `dense`; without it,
    with `A.to_dense()`, so that a mistake in the product itself is found only where two paths disagree: give `dense`,
    made by other means.

    Args:
        A: The operator. A symbolic one is initialised first.
        dense: Its matrix.
        rtol: Largest error allowed, as a share of |A| |x|; by default 500 roundings of the dtype, and none for
            integers.
        seed: Of the random operands.
        skip: Names of checks that are not to run, or one; as a dict, with the reasons.
        backend: Where to check; A is moved there. By default its own, or NumPy for an operator without arrays.
        dtype: The dtype of operands for an operator without arrays.

    Returns:
        A report of what passed, and what does not apply for which reason; it prints as a table.

    Raises:
        ConformanceError: If a check fails; the message says which of which operator, with the numbers.
        TypeError: If A is no operator.
        ValueError: If `skip` names no check.

    Example:
        >>> import linops as lo, numpy as np
        >>> report = lo.testing.check_operator(lo.Diagonal(np.array([1., 2.])), np.diag([1., 2.]))
        >>> report.names("failed"), "transposes" in report.names("passed")
        ((), True)
        >>> next(row for row in report.rows if row.check == "vmap")
        Row(check='vmap', outcome='not applicable', reason='NumPy has no vmap')
    """
    if not isinstance(A, LinearOperator):
        raise TypeError(f"check_operator: expected a linear operator, got {type(A).__name__}")
    skip = (skip,) if isinstance(skip, str) else skip
    reasons = dict(skip) if isinstance(skip, Mapping) else dict.fromkeys(skip, "as asked")
    unknown = sorted(set(reasons) - set(CHECKS))
    if unknown:
        raise ValueError(
            f"check_operator: there is no check {', '.join(map(repr, unknown))}; there are {', '.join(CHECKS)}"
        )
    subject = Subject(A, dense, backend, dtype, rtol, seed)
    rows = []
    for name, row in outcomes(subject, reasons).items():
        if row is None:
            try:
                CHECKS[name].run(subject)
            except AssertionError as error:
                row = Row(name, "failed", str(error) or "an assertion without a message")
            except Exception as error:
                row = Row(name, "failed", f"raised {type(error).__name__}: {error}")
            else:
                row = Row(name, "passed")
        rows.append(row)
    report = Report(subject.operator._short(), subject.backend, subject.dtype.name, tuple(rows))
    if report.names("failed"):
        raise ConformanceError(report)
    return report
