"""tensorly, on NumPy, torch and JAX: no operators, but products of a tensor with a matrix along each mode."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.peers.cases import call

if TYPE_CHECKING:
    from benchmarks.peers.cases import Case

tensorly: Any = import_module("tensorly")
multi_mode_dot: Any = import_module("tensorly.tenalg").multi_mode_dot

_BACKENDS = {"numpy": "numpy", "torch": "pytorch", "jax": "jax"}


def products(case: Case) -> Any:
    """The product of a case, or why there is none."""
    if case.work != "kronecker":
        return "no such operator"
    tensorly.set_backend(_BACKENDS[case.backend])
    factors, shape = [*case.arrays.values()], case.x.shape
    modes = [*range(len(factors))]

    def multiply(factors: Any, x: Any) -> Any:
        tensor = x.reshape(*(factor.shape[1] for factor in factors), *shape[1:])
        return multi_mode_dot(tensor, factors, modes).reshape(-1, *shape[1:])

    return call(case.backend, multiply, factors, case.x)
