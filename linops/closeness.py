"""`allclose`: whether two operators are the same map, by probing."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.operators.wrap import aslinearoperator
from linops.specs import dtype_name


def allclose(A: Any, B: Any, rtol: float = 1e-5, atol: float = 1e-8, *, probes: int = 8, seed: int = 0) -> bool:
    """Whether two operators are the same map within a tolerance, by products with random vectors; no matrix is made.

    For a random x with independent entries of variance one, E ‖(A - B) x‖² = ‖A - B‖_F². True is returned if, for every
    probe x, ‖(A - B) x‖ ≤ atol ‖x‖ + rtol ‖B x‖.

    What that can tell: equal operators are always close, up to rounding. Operators that differ by ‖A - B‖_F = c · (the
    tolerance) are taken for close with a probability of at most (0.8/c)^probes. What it cannot tell: a difference in
    few entries that is small beside the norm of the whole, for the tolerance is a share of the norm and not of each
    entry. Nor is a tolerance below the rounding of the dtype, about 1e-6 in float32, any use.

    Args:
        A: An operator or matrix.
        B: Another, of the same shape and backend.
        rtol: Tolerance as a share of B.
        atol: Absolute tolerance: of a product with a vector of norm one.
        probes: Number of random vectors.
        seed: Of the random vectors.

    Returns:
        True or False; False where a product holds NaN, or infinities that are not the same.

    Raises:
        ValueError: If the shapes differ, or there is no probe.
        TypeError: If the backends differ, or an operator is symbolic.

    Example:
        >>> import linops as lo, numpy as np
        >>> P = lo.Permute.axes((2, 3), (1, 0))
        >>> lo.allclose(P @ lo.Permute.axes((3, 2), (1, 0)), np.eye(6)), lo.allclose(P, np.eye(6))
        (True, False)
    """
    A, B = aslinearoperator(A), aslinearoperator(B)
    what = f"allclose({A._short()}, {B._short()})"
    if A.shape != B.shape:
        raise ValueError(f"{what}: the shapes differ")
    for operator in (A, B):
        if operator.is_symbolic:
            raise TypeError(
                f"{what}: {operator._short()} is symbolic and has no numbers to compare; see same_structure"
            )
    if None not in (A.backend, B.backend) and A.backend != B.backend:
        raise TypeError(f"{what}: mixed backends; convert one, as in A.to(backend={A.backend!r})")
    if not isinstance(probes, (int, np.integer)) or probes < 1:
        raise ValueError(f"{what}: probes must be a positive integer, got {probes!r}")
    # small integers, which every dtype holds exactly; real ones, for those determine a complex map too
    x = np.rint(8 * np.random.default_rng(seed).standard_normal((A.shape[1], probes)))
    one, other = (_product(each, x, A.backend or B.backend or "numpy") for each in (A, B))
    same = one == other  # infinities too, whose difference is NaN
    with np.errstate(invalid="ignore"):
        difference = np.linalg.norm(np.where(same, 0, one - other), axis=0)
    finite = np.where(np.isfinite(other), other, 0)
    return bool((difference <= atol * np.linalg.norm(x, axis=0) + rtol * np.linalg.norm(finite, axis=0)).all())


def _product(operator: Any, x: np.ndarray, backend: str) -> np.ndarray:
    """A x of a backend, in NumPy's double precision; operators of integers multiply as floats, which never overflow."""
    floating = "float32" if backend == "jax" else "float64"
    dtypes = {dtype_name(leaf.dtype) for _, leaf in operator.named_leaves()}
    if any(not backends.is_inexact(dtype) for dtype in dtypes):
        home = str(operator.backend)
        operator = operator._map(
            lambda leaf: leaf if backends.is_inexact(leaf.dtype) else backends.asarray(leaf, home, floating)
        )
        dtypes = {dtype_name(leaf.dtype) for _, leaf in operator.named_leaves()}
    dtype = next(iter(dtypes)) if len(dtypes) == 1 else floating
    operand = backends.asarray(x, backend, dtype, operator.device if backend == "torch" else None)
    y = backends.to_numpy(operator @ operand)
    return y.astype(complex if y.dtype.kind == "c" else float)
