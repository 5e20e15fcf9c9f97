"""Products as one writes them by hand in plain array code: what linops' products with one vector are measured against.

Block products are written three ways: as bmm with a column, as bmm with a row, and as multiply-and-sum. A dense product
is a form of the dense family alone: for a structured matrix it takes more FLOPs, and is what "against dense" measures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: (concrete operator, vector) → the product
Form = Callable[[Any, Any], Any]
#: (blocks (b, p, q), vectors (b, q)) → (b, p)
Way = Callable[[Any, Any], Any]


def forms(family: str, backend: str) -> dict[str, Form]:
    """Hand-written products with one vector.

    Args:
        family: One of the families that `benchmarks.families` measures.
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.

    Returns:
        Functions of the concrete operator and a vector, by name.
    """
    ops = _namespace(backend)
    ways = _ways(batched(backend))
    if family in BLOCKS:
        return {name: _blocks(BLOCKS[family], way) for name, way in ways.items()}
    return OTHERS[family](ops)


def batched(backend: str) -> Callable[[Any, Any], Any]:
    """The batched matrix product.

    Args:
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.

    Returns:
        `torch.bmm` or `matmul`.
    """
    ops = _namespace(backend)
    return ops.bmm if backend == "torch" else ops.matmul


def _namespace(backend: str) -> Any:
    if backend == "torch":
        import torch

        return torch
    if backend == "jax":
        import jax.numpy

        return jax.numpy
    import numpy

    return numpy


def _ways(bmm: Callable[[Any, Any], Any]) -> dict[str, Way]:
    return {
        "bmm with columns": lambda a, x: bmm(a, x[:, :, None])[:, :, 0],
        "bmm with rows": lambda a, x: bmm(x[:, None, :], a.swapaxes(1, 2))[:, 0],
        "multiply and sum": lambda a, x: (a * x[:, None, :]).sum(-1),
    }


def _blocks(form: Callable[[Any, Any, Way], Any], way: Way) -> Form:
    return lambda A, x: form(A, x, way)


def _block_diag(A: Any, x: Any, way: Way) -> Any:
    return way(A.blocks, x.reshape(A.blocks.shape[0], -1)).reshape(-1)


def _btt(A: Any, x: Any, way: Way) -> Any:
    first, second = A.cores
    middle = way(first, x.reshape(first.shape[0], -1)).reshape(-1, second.shape[0])
    return way(second, middle.swapaxes(0, 1)).reshape(-1)


def _monarch(A: Any, x: Any, way: Way) -> Any:
    left, right = A.factors[1].blocks, A.factors[3].blocks
    middle = way(right, x.reshape(right.shape[0], -1)).reshape(-1, left.shape[0])
    return way(left, middle.swapaxes(0, 1)).swapaxes(0, 1).reshape(-1)


def _blast(A: Any, x: Any, way: Way) -> Any:
    left, scale, right = A.tensors
    middle = way(right, x.reshape(right.shape[0], -1))
    middle = (scale * middle.swapaxes(0, 1)[:, None, :]).sum(-1)
    return way(left, middle.swapaxes(0, 1)).reshape(-1)


def _butterfly(A: Any, x: Any, way: Way) -> Any:
    for factor in A.factors[::-1]:
        d, a, b, c = factor.shape
        columns = x.reshape(a * c, d).swapaxes(0, 1).reshape(d * a, c)
        x = way(factor.reshape(d * a, b, c), columns).reshape(d, a * b).swapaxes(0, 1).reshape(-1)
    return x


BLOCKS: dict[str, Callable[[Any, Any, Way], Any]] = {
    "block_diag": _block_diag,
    "btt": _btt,
    "monarch": _monarch,
    "blast": _blast,
    "butterfly": _butterfly,
}


def _dense(ops: Any) -> dict[str, Form]:
    return {
        "matrix @ x": lambda A, x: A.matrix @ x,
        "x @ matrix.T": lambda A, x: x @ A.matrix.T,
        "multiply and sum": lambda A, x: (A.matrix * x).sum(-1),
    }


def _low_rank(ops: Any) -> dict[str, Form]:
    return {"U @ (V @ x)": lambda A, x: A.U @ (A.V @ x), "(x @ V.T) @ U.T": lambda A, x: (x @ A.V.T) @ A.U.T}


def _kronecker(ops: Any) -> dict[str, Form]:
    def left_first(A: Any, x: Any) -> Any:
        left, right = (factor.matrix for factor in A.factors)
        return ((left @ x.reshape(left.shape[1], -1)) @ right.T).reshape(-1)

    def right_first(A: Any, x: Any) -> Any:
        left, right = (factor.matrix for factor in A.factors)
        return (left @ (x.reshape(left.shape[1], -1) @ right.T)).reshape(-1)

    return {"(A X) B.T": left_first, "A (X B.T)": right_first}


def _tensor_train(ops: Any) -> dict[str, Form]:
    def right_first(A: Any, x: Any) -> Any:
        (_, m1, n1, rank), (_, m2, n2, _) = (core.shape for core in A.cores)
        middle = x.reshape(n1, n2) @ A.cores[1].reshape(rank * m2, n2).T
        return (A.cores[0].reshape(m1, n1 * rank) @ middle.reshape(n1 * rank, m2)).reshape(-1)

    return {"two matrix products": right_first}


def _circulant(ops: Any) -> dict[str, Form]:
    fft = ops.fft
    return {"rfft": lambda A, x: fft.irfft(fft.rfft(A.c) * fft.rfft(x), x.shape[0])}


def _toeplitz(ops: Any) -> dict[str, Form]:
    fft = ops.fft

    def padded(A: Any, x: Any) -> Any:
        n = x.shape[0]  # as a circulant matrix of twice the size; the number between the halves is arbitrary
        column = ops.concatenate([A.c, A.c[:1], ops.flip(A.r[1:], (0,))])
        return fft.irfft(fft.rfft(column) * fft.rfft(x, 2 * n), 2 * n)[:n]

    return {"rfft of twice the size": padded}


OTHERS: dict[str, Callable[[Any], dict[str, Form]]] = {
    "dense": _dense,
    "low_rank": _low_rank,
    "kronecker": _kronecker,
    "tensor_train": _tensor_train,
    "circulant": _circulant,
    "toeplitz": _toeplitz,
}
