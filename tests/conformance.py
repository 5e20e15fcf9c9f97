"""What the conformance suite runs over the table of cases and leaves out, and why. `docs/coverage.md` is made of it."""

from functools import cache

import pytest
from cases import CASES
from cases.limits import BACKENDS, DTYPES, names
from covering import covering
from helpers import TOLERANCE, build

import linops as lo
from linops.testing.check import Subject, outcomes

_CALLABLES = (
    "torch.compile puts `@` into its graph whole, where no Python function can stand; `A.__matmul__(x)` compiles"
)
#: checks that an operator's nature rules out: {(class, backend, check): the reason}
EXCLUDED = {(kind, "torch", "compile"): _CALLABLES for kind in ("Function", "Jacobian", "Hessian")}

#: the class of each case's operator
KINDS = {name: getattr(case, "kind", None) or type(build(name)[0]).__name__ for name, case in CASES.items()}


def _thorough():
    """The cases that every check runs over in every dtype: those that say so, else the first of a class."""
    said = [name for name, case in CASES.items() if getattr(case, "thorough", False)]
    first = {kind: name for name, kind in reversed(KINDS.items())}
    return (*said, *(name for kind, name in first.items() if kind not in {KINDS[name] for name in said}))


ONE_EACH = _thorough()

#: the first square case of each class, the only ones that the check of linear algebra takes
SQUARE_EACH = frozenset({KINDS[name]: name for name in reversed(KINDS) if len({*build(name)[1].shape}) == 1}.values())

#: JAX compiles each of these anew for a case; those of `ONE_EACH` run them in every dtype, others not in float32
_OF_FLOAT64 = ("gradient",)
_OF_COMPLEX128 = (
    *("dense", "transposes", "vectors_and_matrices", "batches", "left_products", "adjoint", "linearity", "dtypes"),
    *("promotion", "compile", "layer"),
)
_TORCH_COMPILES = "torch.compile takes a second: one case an operator"
_JAX_COMPILES = (
    "compiling takes a second: in float64 gradients, in complex128 products; everything for one case an operator"
)
#: these never excuse an operator of which no case runs the check
COSTLY = (_TORCH_COMPILES, _JAX_COMPILES)

RUNS = [
    (case, backend, dtype)
    for case in CASES
    for backend in BACKENDS
    for dtype in DTYPES
    if {backend, dtype} <= names(CASES[case]) and ((backend, dtype) != ("jax", "float32") or case in ONE_EACH)
]


def _sample():
    """Runs without `-m full`: of each class one a backend, on JAX of every third class, and cheap ones of all cases."""

    def kind(run):
        return KINDS[run[0]]

    # an operator and a backend
    costly = covering([run for run in RUNS if run[0] in ONE_EACH], lambda run: [(kind(run), run[1])])
    on_jax = [run for run in costly if run[1] == "jax"]
    cheap = [run for run in RUNS if run[0] not in ONE_EACH and run[1] != "jax"]
    return (
        {*costly} - {*on_jax}
        | {*on_jax[::3]}
        | {*covering(cheap, lambda run: [(kind(run), *run[1:]), *([run[:2]] if run[1] == "numpy" else [])])}
    )


SAMPLE = _sample()


def marked(runs, step):
    """Parameters of a test over runs: by default those of the sample, of which on JAX every `step`-th."""
    kept = [run for run in runs if run in SAMPLE]
    kept = {run for run in kept if run[1] != "jax"} | {*[run for run in kept if run[1] == "jax"][::step]}
    return [pytest.param(*run, marks=() if run in kept else pytest.mark.full) for run in runs]


def left_out(case, backend, dtype):
    """Checks that are not run, with the reasons."""
    reasons = {
        check: reason for (kind, where, check), reason in EXCLUDED.items() if (kind, where) == (KINDS[case], backend)
    }
    if "numpy" not in names(CASES[case]):  # both build the operator with NumPy's arrays
        reasons |= dict.fromkeys(("moves", "symbolic"), CASES[case].because)
    if case not in ONE_EACH:
        if backend == "torch":
            reasons = {"compile": _TORCH_COMPILES} | reasons
        if backend == "jax":
            heavy = _OF_COMPLEX128 if dtype == "float64" else (*_OF_FLOAT64, "promotion", "compile", "layer")
            solved = () if case in SQUARE_EACH else ("linalg",)
            reasons |= dict.fromkeys((*heavy, "vmap", *solved), _JAX_COMPILES)
    return reasons


@cache
def planned(case, backend, dtype):
    """(operator, {check: None where it runs, else the row that says why not})."""
    operator, matrix, _ = build(case, dtype)
    subject = Subject(operator, matrix, backend, dtype, TOLERANCE[dtype], 0)
    return operator, outcomes(subject, left_out(case, backend, dtype))


def conforms(case, backend, dtype):
    """Run the suite; the report."""
    operator, matrix, _ = build(case, dtype)
    skip = left_out(case, backend, dtype)
    return lo.testing.check_operator(operator, matrix, backend=backend, dtype=dtype, rtol=TOLERANCE[dtype], skip=skip)
