"""Initial numbers of a given spectral norm: leaves with orthogonal matrices, and the norm of a whole operator."""

from __future__ import annotations

from math import prod, sqrt
from typing import TypeAlias

import numpy as np

from linops.operator import LinearOperator

#: sizes up to which a norm is that of the dense matrix; steps of Lanczos above
SMALL, STEPS = 64, 60

#: of a batch of matrices: its axes of copies, of rows and of columns
MatrixAxes: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def matrix_axes(operator: LinearOperator, fans: dict[str, tuple[int, int]]) -> dict[str, MatrixAxes]:
    """Of each leaf that is a batch of matrices from fan_in to fan_out: its axes of copies, of rows and of columns.

    Args:
        operator: Any operator.
        fans: Of its leaves.

    Returns:
        A dict by name; leaves that are no such batch, such as the vector of a circulant, are left out.
    """
    told = {prefix + name: axes for prefix, node in operator._nodes() for name, axes in node._leaf_matrices().items()}
    found: dict[str, MatrixAxes] = {}
    for name, leaf in operator.named_leaves():
        size = tuple(leaf.shape)
        if name not in fans:
            continue
        usual = ((), ()) if fans[name] == (1, 1) else ((len(size) - 2,), (len(size) - 1,)) if len(size) > 1 else None
        rows, columns = told.get(name, usual) or ((), ())
        if (prod([size[axis] for axis in columns]), prod([size[axis] for axis in rows])) == fans[name]:
            found[name] = (tuple(axis for axis in range(len(size)) if axis not in rows + columns), rows, columns)
    return found


def orthogonal(leaf: np.ndarray, axes: MatrixAxes) -> np.ndarray:
    """The matrices of a leaf made orthogonal, with spectral norm sqrt(rows/columns); of normal ones they are uniform.

    Args:
        leaf: Normal numbers.
        axes: Its axes of copies, of rows, and of columns.

    Returns:
        An array of its shape.
    """
    order = sum(axes, ())
    turned = leaf.transpose(order)
    copies, rows, columns = (prod([leaf.shape[axis] for axis in part]) for part in axes)
    matrices = turned.reshape(copies, rows, columns)
    wide = rows < columns
    q, r = np.linalg.qr(matrices.swapaxes(1, 2) if wide else matrices)
    diagonal = np.diagonal(r, axis1=1, axis2=2)[:, None, :]
    q = q * (diagonal / np.abs(diagonal))  # so that signs are not those of the algorithm
    q = (q.swapaxes(1, 2) if wide else q) * sqrt(rows / columns)
    return q.reshape(turned.shape).transpose(np.argsort(order))


def spectral_norm(operator: LinearOperator) -> float:
    """The largest singular value: of the dense matrix, or of more than 64 rows and columns by 60 steps of Lanczos.

    Args:
        operator: An operator with arrays of NumPy, in double precision.

    Returns:
        The norm; of Lanczos to about three digits, from below.
    """
    if min(operator.shape) <= SMALL:
        return float(np.linalg.norm(operator.to_dense(), 2)) if min(operator.shape) else 0.0
    random, adjoint = np.random.default_rng(0), operator.H
    v = random.standard_normal(operator.shape[1])
    basis, found = [v / np.linalg.norm(v)], np.zeros((STEPS, STEPS))
    for step in range(STEPS):
        w = adjoint @ (operator @ basis[-1])
        for _ in range(2):
            coefficients = np.conj(basis) @ w
            w = w - coefficients @ np.asarray(basis)
            found[step, step] += coefficients[-1].real
        length = float(np.linalg.norm(w))
        if step + 1 == STEPS or length <= 1e-12 * found[0, 0]:
            break
        found[step, step + 1] = found[step + 1, step] = length
        basis.append(w / length)
    return sqrt(max(0.0, float(np.linalg.eigvalsh(found[: step + 1, : step + 1])[-1])))
