"""Plain code on NumPy or torch, as one writes it by hand; both have these functions by the same names."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from benchmarks.projection.cases import Case


def functions(case: Case, W: Any, C: Any, xp: Any, full: bool) -> dict[str, Any]:
    """What one writes for a case.

    Args:
        case: The case.
        W: The matrix.
        C: The second moment, or None.
        xp: NumPy or torch.
        full: Whether to take the SVD of the whole matrix beside those of blocks.

    Returns:
        A name → (what is timed, what makes the matrix of its result, or None where it is no such matrix).
    """
    name, rank, dims = xp.__name__, case.work.rank, case.work.dims
    match case.work.kind:
        case "low_rank":
            return {f"{name}: svd": (lambda: truncated(xp, W, rank), product)}
        case "tensor_train":
            return {f"{name}: TT-SVD": (lambda: tt_svd(xp, W, dims, rank), lambda cores: tt_matrix(cores, dims))}
        case "blocks":
            order = case.work.order
            found: dict[str, Any] = {
                f"{name}: svd of each block": (
                    lambda: truncated(xp, turned(xp, W.reshape(dims), order), rank),
                    lambda pair: turned(np, product(pair), tuple(np.argsort(order))).reshape(W.shape),
                )
            }
            if full:
                found[f"{name}: full svd"] = (lambda: xp.linalg.svd(W, full_matrices=False), None)
            return found
        case "activations":
            return {
                f"{name}: Cholesky, svd": (lambda: whitened(xp, W, C, rank), product),
                f"{name}: eigh, svd": (lambda: rooted(xp, W, C, rank), product),
            }
        case "kronecker":
            return {
                f"{name}: svd, rearranged": (lambda: truncated(xp, rearranged(xp, W, dims), 1), back(dims)),
            }
    return {}


def turned(xp: Any, x: Any, axes: tuple[int, ...]) -> Any:
    """The array with its axes in another order."""
    return (xp.permute_dims if xp is np else xp.permute)(x, axes)


def truncated(xp: Any, M: Any, rank: int) -> tuple[Any, Any]:
    """The two factors of a truncated SVD, of stacks too."""
    U, s, Vh = xp.linalg.svd(M, full_matrices=False)
    return U[..., :rank] * s[..., None, :rank], Vh[..., :rank, :]


def product(pair: Any) -> Any:
    """The matrix of two factors."""
    left, right = map(np.asarray, pair)
    return left @ right


def whitened(xp: Any, W: Any, C: Any, rank: int) -> tuple[Any, Any]:
    """The nearest W in the norm of C = L Lᵀ by the SVD of W L (Wang et al., "SVD-LLM", 2024)."""
    L = xp.linalg.cholesky(C)
    left, right = truncated(xp, W @ L, rank)
    return left, right @ xp.linalg.inv(L)


def rooted(xp: Any, W: Any, C: Any, rank: int) -> tuple[Any, Any]:
    """The same by the eigenvectors of C: its root is V √w."""
    w, V = xp.linalg.eigh(C)
    roots = xp.sqrt(xp.clip(w, 1e-12 * w[-1], None))
    left, right = truncated(xp, W @ (V * roots), rank)
    return left, (right / roots) @ V.T


def rearranged(xp: Any, W: Any, dims: tuple[int, ...]) -> Any:
    """W over (p q)×(r s) as a matrix (p r)×(q s), of rank one where W is a Kronecker product (Van Loan, Pitsianis)."""
    p, q, r, s = dims
    return turned(xp, W.reshape(dims), (0, 2, 1, 3)).reshape(p * r, q * s)


def back(dims: tuple[int, ...]) -> Any:
    """What makes W of the factors of the rearranged matrix."""
    p, q, r, s = dims
    return lambda pair: product(pair).reshape(p, r, q, s).transpose(0, 2, 1, 3).reshape(p * q, r * s)


def tt_svd(xp: Any, W: Any, dims: tuple[int, ...], rank: int) -> list[Any]:
    """Cores (r, rows and columns, r') of W over rows' and columns' dims (Oseledets, 2011)."""
    k = len(dims) // 2
    pairs = tuple(axis for place in range(k) for axis in (place, place + k))
    rest, cores, before = turned(xp, W.reshape(dims), pairs), [], 1
    for place in range(k - 1):
        U, s, Vh = xp.linalg.svd(rest.reshape(before * dims[place] * dims[place + k], -1), full_matrices=False)
        kept = min(rank, s.shape[0])
        cores.append(U[:, :kept].reshape(before, -1, kept))
        rest, before = s[:kept, None] * Vh[:kept], kept
    return [*cores, rest.reshape(before, -1, 1)]


def tt_matrix(cores: Any, dims: tuple[int, ...]) -> Any:
    """W of cores (r, …, r')."""
    k, whole = len(dims) // 2, np.ones((1, 1))
    for core in map(np.asarray, cores):
        whole = (whole @ core.reshape(core.shape[0], -1)).reshape(-1, core.shape[-1])
    pairs = tuple(dims[axis] for place in range(k) for axis in (place, place + k))
    order = (*range(0, 2 * k, 2), *range(1, 2 * k, 2))
    return whole.reshape(pairs).transpose(order).reshape(prod(dims[:k]), prod(dims[k:]))
