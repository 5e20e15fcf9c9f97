"""Random square expressions against dense NumPy: determinants, traces, diagonals and solutions.

python -m tests.fuzz.linalg --seconds 60 --backend torch
"""

from __future__ import annotations

import argparse
import copy
import pickle
import sys
import time
import warnings
from collections import Counter

import numpy as np

import linops as lo
from linops import backends

from .check import CALLABLES, REFUSALS, draw_case

#: what an expression may be refused for here: LAPACK's dtypes, derivatives that NumPy has not
REFUSED = ("LAPACK has no", "NumPy has no derivatives", "cannot transpose", "longdouble", "float128", "complex256")


class Wrong(AssertionError):
    """A result that is not dense NumPy's."""


def main() -> int:
    """Run for some time; 1 where something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.linalg", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--backend", default="numpy", choices=["numpy", "torch", "jax"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int)
    options = parser.parse_args()
    if options.backend == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    warnings.simplefilter("ignore")
    start, number, found = time.monotonic(), options.case or 0, Counter()
    while time.monotonic() - start < options.seconds:
        case = draw_case(options.seed, number, options.backend)
        found[attempt(case, f"--backend {options.backend} --seed {options.seed} --case {number}")] += 1
        number += 1
        if found["wrong"] or options.case is not None:
            break
    print(f"{number:,} expressions: {dict(found)}")
    return bool(found["wrong"])


def attempt(case, name: str) -> str:
    """Compare one expression; what became of it."""
    code, named = case.program()
    where = {"np": np, "lo": lo, "copy": copy, "pickle": pickle, **CALLABLES}
    try:
        where |= {key: array.on("numpy" if case.moved else case.backend) for key, array in named.items()}
        A = eval(code, where)
        return compare(A, case.backend)
    except Exception as error:
        import re

        text = f"{type(error).__name__}: {error}"
        if any(isinstance(error, kind) and re.search(said, str(error)) for kind, said in REFUSALS):
            return "refused"
        if any(word in text for word in REFUSED):
            return "refused"
        print(f"\npython -m tests.fuzz.linalg {name}\n{case.text('A')}\n# {text[:600]}", file=sys.stderr)
        return "wrong"


def compare(A, backend: str) -> str:
    """Raise where a function of an operator is not NumPy's of its matrix."""
    m, n = A.shape
    if m != n or n > 60 or (A.dtype is not None and not backends.is_inexact(A.dtype)):
        return "not square, or of integers"
    dtype = "float64" if A.dtype is None else str(A.dtype).removeprefix("torch.")
    if dtype in ("float16", "bfloat16", "complex32", "float128", "complex256"):
        return "of other precisions"
    matrix = plain(A.to_dense())
    wide = matrix.astype(complex if np.iscomplexobj(matrix) else float)
    size = np.abs(wide).max(initial=0)
    if not np.isfinite(wide).all() or size > 1e6 or (size and size < 1e-6):
        return "out of range"
    single = dtype in ("float32", "complex64") or (backend == "jax" and A.dtype is None)
    eps = 1e-4 if single else 1e-9
    scale = max(size, 1) * max(n, 1)
    close("diagonal", lo.linalg.diagonal(A), np.diagonal(wide), eps * scale)
    close("trace", lo.linalg.trace(A), np.trace(wide), eps * scale)
    values = np.linalg.svd(wide, compute_uv=False) if n else np.ones(0)
    least, most = values.min(initial=1), values.max(initial=1)
    sign, logarithm = map(plain, lo.linalg.slogdet(A))
    if least > most * (1e-3 if single else 1e-7):
        expected, log = np.linalg.slogdet(wide)
        close("sign", sign, expected, eps * most / max(least, 1e-300) * n + eps)
        close("logdet", logarithm, log, eps * most / max(least, 1e-300) * n + eps * (1 + abs(log)))
        b = np.random.default_rng(n).standard_normal((n, 3)).astype(matrix.dtype)
        x = lo.linalg.solve(A, backends.asarray(b, backend))
        close("solve", x, np.linalg.solve(wide, b), eps * scale * most / max(least, 1e-300) / max(least, 1e-300) * 10)
        x = lo.linalg.inv(A).T @ backends.asarray(b, backend)
        close("inv.T", x, np.linalg.solve(wide.T, b), eps * scale * most / max(least, 1e-300) / max(least, 1e-300) * 10)
        return "compared"
    if least == 0 and n and np.isfinite(logarithm) and logarithm > n * np.log(most * max(n, 1)) + np.log(eps * scale):
        raise Wrong(f"slogdet gives {sign}, {logarithm} of a singular matrix")
    return "compared, nearly singular"


def plain(value) -> np.ndarray:
    """An array or number in NumPy."""
    return np.asarray(backends.to_numpy(value)) if backends.is_array(value) else np.asarray(value)


def close(what: str, actual, expected, bound: float) -> None:
    """Raise where shapes differ, or numbers by more than a bound."""
    actual = plain(actual)
    if actual.shape != np.shape(expected):
        raise Wrong(f"{what}: shape {actual.shape}, expected {np.shape(expected)}")
    error = np.abs(actual - expected).max(initial=0)
    if not error <= bound:
        raise Wrong(
            f"{what}: {actual.tolist()}, expected {np.asarray(expected).tolist()}: error {error:.2e} above {bound:.2e}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
