"""Families of convolutions: circulant, Toeplitz."""

from __future__ import annotations

from typing import Any

from linops.families.registry import family
from linops.operators import Circulant, Toeplitz
from linops.specs import spec


@family(arrays="lo.Circulant(c)")
def circulant(out_features: int, in_features: int, *, dtype: Any = "float32", allow_dearer: bool = True) -> Circulant:
    """A circulant matrix, or the leading block of one: max(m, n) parameters; products by FFT, or by the matrix.

    Every output sums all inputs. Small members are dearer than dense by their FLOPs: square ones up to
    10, and up to 41 where they have a prime factor above 13. They are made all the same, for the matrix written out
    costs what dense costs, and runs where it is faster.

    Args:
        out_features: m.
        in_features: n.
        dtype: The dtype of the spec.
        allow_dearer: Whether it may cost more FLOPs than dense, counted by fast transforms; at such sizes the matrix
            runs where that is faster.

    Returns:
        A symbolic operator of shape (m, n).

    Raises:
        ValueError: If a size is less than 1, or the member costs more than dense and must not.

    Example:
        >>> import linops as lo
        >>> lo.circulant(768, 3072).num_params
        3072
    """
    m, n = out_features, in_features
    return Circulant(spec(max(m, n), dtype=dtype), m, n)


@family(arrays="lo.Toeplitz(c, r)")
def toeplitz(out_features: int, in_features: int, *, dtype: Any = "float32", allow_dearer: bool = True) -> Toeplitz:
    """A Toeplitz matrix, constant along diagonals: m + n parameters (r[0] is not read); products by FFT or the matrix.

    Every output sums all inputs. Small members are dearer than dense by their FLOPs: square ones up to
    about 40. They are made all the same, for the matrix written out costs what dense costs, and runs where it is
    faster.

    Args:
        out_features: m.
        in_features: n.
        dtype: The dtype of the specs.
        allow_dearer: Whether it may cost more FLOPs than dense, counted by fast transforms; at such sizes the matrix
            runs where that is faster.

    Returns:
        A symbolic operator of shape (m, n).

    Raises:
        ValueError: If a size is less than 1, or the member costs more than dense and must not.

    Example:
        >>> import linops as lo
        >>> lo.toeplitz(768, 3072).num_params
        3840
    """
    m, n = out_features, in_features
    return Toeplitz(spec(m, dtype=dtype), spec(n, dtype=dtype))
