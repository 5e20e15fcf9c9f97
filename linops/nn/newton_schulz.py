"""Muon's iteration, by the operators of arrays alone: the same for torch and JAX."""

from __future__ import annotations

from typing import Any

#: coefficients of the odd quintic whose iteration drives singular values towards one (Jordan et al., 2024)
_QUINTIC = (3.4445, -4.7750, 2.0315)
#: the Frobenius norm by which matrices are divided at least, as in `torch.optim.Muon`: once a gradient is gone, what is
#: left of its momentum moves nothing, where it would be orthogonalised at any size, and at last be divided by zero
EPS = 1e-7


def newton_schulz(matrices: Any, steps: int) -> Any:
    """Iterates of an odd quintic, on the shorter side.

    Args:
        matrices: (…, p, q), of Frobenius norms of at most one.
        steps: How many iterations.

    Returns:
        (…, p, q).
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    a, b, c = _QUINTIC
    for _ in range(steps):
        gram = x @ x.mT.conj()
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
