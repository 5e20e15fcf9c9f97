"""Plain JAX, as one writes it by hand, compiled."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.linalg.cases import Case

jax: Any = import_module("jax")

BACKEND = "jax"


def functions(case: Case, arrays: dict[str, Any], b: Any) -> dict[str, Any]:
    """What there is for a case: a name → (once, with what is kept or None), or → why there is none."""
    from benchmarks.linalg.cases import RTOL

    numpy = jax.numpy
    match case.name:
        case "block_diag":
            blocks, x = arrays["blocks"], b.reshape(64, 64, -1)
            solve = jax.jit(lambda blocks, x: numpy.linalg.solve(blocks, x).reshape(4096, -1))
            return {"jax: batched solve": (lambda: solve(blocks, x), None)}
        case "tridiagonal":
            zero = numpy.zeros(1, b.dtype)
            lower, diagonal, upper = arrays["lower"], arrays["diagonal"], arrays["upper"]

            @jax.jit
            def solve_three(lower: Any, diagonal: Any, upper: Any, b: Any) -> Any:
                lower, upper = numpy.concatenate([zero, lower]), numpy.concatenate([upper, zero])
                return jax.lax.linalg.tridiagonal_solve(lower, diagonal, upper, b[:, None])[:, 0]

            return {"jax: tridiagonal_solve": (lambda: solve_three(lower, diagonal, upper, b), None)}
        case "cg":
            matrix = arrays["matrix"]
            iterate = jax.jit(lambda matrix, b: jax.scipy.sparse.linalg.cg(matrix, b, tol=RTOL)[0])
            return {"jax: cg": (lambda: iterate(matrix, b),) * 2}
    return {"jax": "has none"}
