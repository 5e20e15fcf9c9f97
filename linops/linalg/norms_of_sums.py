"""Frobenius norms of sums: Kronecker sums, and c I + X."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.inputs import fits
from linops.linalg.norms import norm_, norm_of_any, root_of_squares
from linops.linalg.parts import alike_numbers, space_of
from linops.linalg.shifts import combined, is_shifted, shifted
from linops.linalg.spectra import scalar_of, split_shift
from linops.linalg.traces import trace_
from linops.operators.kronecker_sum import KroneckerSum
from linops.operators.sum import Sum


@norm_.rule(
    '"fro" by the factors\' traces and norms, others by entries or singular values',
    parts=lambda a: [(function, factor) for factor in a.factors for function in (trace_, norm_)],
    cost="Σ that of a factor",
)
def _norm_kronecker_sum(a: KroneckerSum, order: Any):
    """‖A ⊕ B‖² = N |s + t|² + n_B ‖A − s I‖² + n_A ‖B − t I‖² with s and t the means of the diagonals."""
    if order != "fro" or not a.shape[0]:
        return norm_of_any(a, order)
    size, factors = a.shape[0], a.factors
    means = [trace / factor.shape[0] for trace, factor in zip(alike_numbers(a, [*map(trace_, factors)]), factors)]
    rests = [norm_(combined(one, 1, -mean), order) * (size / one.shape[0]) ** 0.5 for one, mean in zip(factors, means)]
    numbers = [sum(means) * size**0.5, *alike_numbers(a, rests)]
    first, *others = [number.reshape(1) for number in numbers]
    return root_of_squares(backends.concatenate(first, others))


@norm_.rule(
    "of c I + X: that of X, shifted in its structure",
    when=is_shifted,
    parts=lambda a: [(norm_, shifted(a))],
    cost="that of an operator like X",
)
def _norm_in_structure(a: Sum, order: Any):
    return norm_(shifted(a), order)


@norm_.rule(
    'of c I + X: "fro" by the norm and trace of X, others by entries or singular values',
    when=lambda a: split_shift(a) is not None,
    parts=lambda a: [(function, split_shift(a)[1]) for function in (trace_, norm_)],  # type: ignore[index]
    cost="that of X",
)
def _norm_shifted(a: Sum, order: Any):
    """‖c I + X‖² = ‖X‖² + 2 Re(c̄ tr X) + n |c|², which may cancel: what fits is taken entry by entry."""
    if order != "fro" or fits(a):
        return norm_of_any(a, order)
    shifts, rest = split_shift(a)  # type: ignore[misc]
    c, trace, size = alike_numbers(a, [sum(map(scalar_of, shifts)), trace_(rest), norm_(rest, order)])
    space, n = space_of(size), a.shape[0]
    scale = lapack.stop_gradient(size + space.abs(c) * n**0.5)
    scale = space.where((scale > 0) & space.isfinite(scale), scale, 1)
    c, trace, size = c / scale, trace / scale, size / scale
    square = size**2 + 2 * _product(c, trace) + n * _product(c, c)
    zero = square <= 0
    return scale * space.where(zero, 0 * square, space.sqrt(space.where(zero, 1, square)))


def _product(one: Any, other: Any) -> Any:
    """The real part of x̄ y."""
    parts = [(x if not backends.is_complex(x.dtype) else space_of(x).real(x)) for x in (one, other)]
    if not all(backends.is_complex(x.dtype) for x in (one, other)):
        return parts[0] * parts[1]
    space = space_of(one)
    return parts[0] * parts[1] + space.imag(one) * space.imag(other)
