"""tensorly, on NumPy, torch and JAX: no operators, but products of a tensor with a matrix along each mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorly  # type: ignore[import-not-found]
from tensorly.tenalg import multi_mode_dot  # type: ignore[import-not-found]

from benchmarks.peers.cases import call

if TYPE_CHECKING:
    from benchmarks.peers.cases import Case

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
