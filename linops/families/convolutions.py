"""Families of convolutions: circulant, Toeplitz."""

from __future__ import annotations

from typing import Any

from linops.families.common import check_sizes, checked
from linops.operators import Circulant, Toeplitz
from linops.specs import spec


def circulant(out_features: int, in_features: int, *, dtype: Any = "float32", allow_dearer: bool = False) -> Circulant:
    """A circulant matrix, or the leading block of one: max(m, n) parameters; products by FFT, or by the matrix.

    Every output sums all inputs. Small members are dearer than dense: square ones up to 10, and up to 41
    where they have a prime factor above 13.

    Args:
        out_features: m.
        in_features: n.
        dtype: The dtype of the spec.
        allow_dearer: Whether more FLOPs than dense are fine.

    Returns:
        A symbolic operator of shape (m, n).

    Raises:
        ValueError: If a size is less than 1, or the member costs more than dense.

    Example:
        >>> import linops as lo
        >>> lo.circulant(768, 3072).num_params
        3072
    """
    m, n = out_features, in_features
    check_sizes("circulant", m, n)
    operator = Circulant(spec(max(m, n), dtype=dtype), m, n)
    return checked(operator, "circulant", m, n, allow_dearer, "use other sizes")


def toeplitz(out_features: int, in_features: int, *, dtype: Any = "float32", allow_dearer: bool = False) -> Toeplitz:
    """A Toeplitz matrix, constant along diagonals: m + n parameters (r[0] is not read); products by FFT or the matrix.

    Every output sums all inputs. Small members are dearer than dense: square ones up to about 40.

    Args:
        out_features: m.
        in_features: n.
        dtype: The dtype of the specs.
        allow_dearer: Whether more FLOPs than dense are fine.

    Returns:
        A symbolic operator of shape (m, n).

    Raises:
        ValueError: If a size is less than 1, or the member costs more than dense.

    Example:
        >>> import linops as lo
        >>> lo.toeplitz(768, 3072).num_params
        3840
    """
    m, n = out_features, in_features
    check_sizes("toeplitz", m, n)
    operator = Toeplitz(spec(m, dtype=dtype), spec(n, dtype=dtype))
    return checked(operator, "toeplitz", m, n, allow_dearer, "use other sizes")
