"""What the conformance suite runs over the table of cases, and what it leaves out, with the reasons. `docs/coverage.md` is made of it."""

from functools import cache

from cases import CASES
from helpers import BACKENDS, DTYPES, TOLERANCE, build
from test_transforms import COMPILED

import linops as lo
from linops.testing.check import Subject, outcomes

#: checks that an operator's nature rules out: {(class, check): the mathematical reason}
EXCLUDED: dict[tuple[str, str], str] = {}

#: JAX compiles each of these anew for a case; those of `COMPILED`, one case an operator at least, run them in every dtype
_OF_FLOAT64 = ("gradient", "vmap")
_OF_OTHERS = (
    *("dense", "transposes", "vectors_and_matrices", "batches", "left_products", "adjoint", "linearity", "dtypes"),
    *("promotion", "compile", "layer"),
)
_TORCH_COMPILES = "torch.compile takes a second: one case an operator"
_JAX_COMPILES = "compiling takes a second: in float64 gradients and vmap, in other dtypes products; everything for one case an operator"
#: these never excuse an operator of which no case runs the check
COSTLY = (_TORCH_COMPILES, _JAX_COMPILES)

RUNS = [(case, backend, dtype) for case in CASES for backend in BACKENDS for dtype in DTYPES]


def left_out(case, backend, dtype):
    """Checks that are not run, with the reasons."""
    operator, _, _ = build(case, dtype)
    reasons = {check: reason for (kind, check), reason in EXCLUDED.items() if kind == type(operator).__name__}
    if case not in COMPILED:
        if backend == "torch":
            reasons |= {"compile": _TORCH_COMPILES}
        if backend == "jax":
            heavy = _OF_OTHERS if dtype == "float64" else (*_OF_FLOAT64, "promotion", "compile", "layer")
            reasons |= dict.fromkeys(heavy, _JAX_COMPILES)
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
