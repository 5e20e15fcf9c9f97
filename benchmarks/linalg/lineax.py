"""lineax, on JAX, compiled."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.linalg.cases import Case

jax: Any = import_module("jax")
lineax: Any = import_module("lineax")

BACKEND = "jax"


def functions(case: Case, arrays: dict[str, Any], b: Any) -> dict[str, Any]:
    """What there is for a case: a name → (once, with what is kept or None), or → why there is none."""
    from benchmarks.linalg.cases import RTOL

    tags = lineax.positive_semidefinite_tag
    match case.name:
        case "tridiagonal":
            operator = lineax.TridiagonalLinearOperator(arrays["diagonal"], arrays["lower"], arrays["upper"])
            solve = jax.jit(lambda operator, b: lineax.linear_solve(operator, b, lineax.Tridiagonal()).value)
            return {"lineax: Tridiagonal": (lambda: solve(operator, b), None)}
        case "cg":
            operator = lineax.MatrixLinearOperator(arrays["matrix"], tags)
            method = lineax.CG(rtol=RTOL, atol=0.0, max_steps=1000)

            @jax.jit
            def iterate(operator: Any, b: Any) -> Any:
                return jax.vmap(lambda one: lineax.linear_solve(operator, one, method).value, 1, 1)(b)

            return {"lineax: CG by vmap": (lambda: iterate(operator, b),) * 2}
        case "kronecker_definite" | "kronecker_noise":
            return _kronecker(case.name, [*arrays.values()], b)
    return {"lineax": "has none"}


def _kronecker(name: str, factors: list[Any], b: Any) -> dict[str, Any]:
    """Conjugate gradients with a product by hand: lineax has no Kronecker product."""
    from benchmarks.linalg.cases import NOISE, RTOL

    noise = NOISE if name == "kronecker_noise" else 0.0
    method = lineax.CG(rtol=RTOL, atol=0.0, max_steps=5000)

    @jax.jit
    def solve(factors: list[Any], b: Any) -> Any:
        def product(x: Any) -> Any:
            one, two, three = factors
            y = jax.numpy.einsum("ai,bj,ck,ijk->abc", one, two, three, x.reshape(64, 64, 64), optimize=True)
            return y.reshape(-1) + noise * x

        shape = jax.ShapeDtypeStruct(b.shape, b.dtype)
        operator = lineax.FunctionLinearOperator(product, shape, lineax.positive_semidefinite_tag)
        return lineax.linear_solve(operator, b, method).value

    return {"lineax: CG": (lambda: solve(factors, b),) * 2}
