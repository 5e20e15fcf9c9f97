"""What operators share that act by fast transforms: products along an axis, dtypes, lengths, cost."""

from __future__ import annotations

from math import log2
from typing import Any

from linops import backends
from linops.operator import LinearOperator, flat
from linops.tuning import FFT_ODD, FFT_PRIMES


class AlongAxis(LinearOperator):
    """An operator that acts along an axis of its operand, whatever the other axes: rows suit it as well as columns."""

    _prefers_rows = True  # type: ignore[assignment]

    def _along(self, x: Any, axis: int) -> Any:
        """The product with every vector along the axis, which is -1 or -2."""
        raise NotImplementedError

    def _columns(self, x: Any) -> Any:
        return self._along(flat(x), -2)

    def _rows(self, x: Any) -> Any:
        return self._along(x, -1)

    def _stacked(self, x: Any) -> Any:
        return self._along(x, -2)

    def _vector(self, x: Any) -> Any:
        return self._along(x, -1)


def transform_dtype(dtype: Any, backend: str | None) -> Any:
    """The dtype in which to transform numbers of a dtype: float32 for half precision, float64 for integers.

    Args:
        dtype: A dtype as the backend spells it.
        backend: The backend.

    Returns:
        A dtype as the backend spells it; of integers on JAX without x64, float32.
    """
    if not backends.is_inexact(dtype):
        return backends.exact_float(dtype, backend)
    is_complex = backends.is_complex(dtype)
    if dtype.itemsize < (8 if is_complex else 4):
        return backends.canonical_dtype("complex64" if is_complex else "float32", backend)
    return dtype


def as_dtype(x: Any, dtype: Any) -> Any:
    """An array of a dtype: itself if it has it; integers from floats by rounding.

    Args:
        x: The array.
        dtype: A dtype as its backend spells it.

    Returns:
        The array.
    """
    if x.dtype == dtype:
        return x
    if backends.is_inexact(x.dtype) and not backends.is_inexact(dtype):
        return backends.to_integers(x, dtype)
    return backends.namespace(backends.backend_of(x)).astype(x, dtype)


def transform_flops(length: int, is_complex: bool) -> int:
    """FLOPs of a fast Fourier transform: operations on real numbers for a real one, on complex ones for a complex one.

    A complex one is n/2 log2 n butterflies of a multiplication and two additions: 1.5 n log2 n FLOPs, which on real
    numbers are the well-known 5 n log2 n. A real one is half of that: 2.5 n log2 n.

    Args:
        length: n.
        is_complex: Whether what it transforms is complex.

    Returns:
        The number of FLOPs.

    Example:
        >>> transform_flops(1024, False), transform_flops(1024, True)
        (25600, 15360)
    """
    return round((1.5 if is_complex else 2.5) * length * log2(length)) if length else 0


def fast_length(least: int) -> int:
    """The least length 2^k · {1, 3, 5, 9, 15} from a size up.

    At most a quarter longer than asked for. Lengths with more threes and fives, as `scipy.fft.next_fast_len` has them,
    are shorter by up to a fifth, but MKL takes up to twice as long a number for them; and torch.compile cannot trace
    scipy.

    Args:
        least: The size.

    Returns:
        The length.

    Example:
        >>> fast_length(511), fast_length(1100), fast_length(0)
        (512, 1152, 1)
    """
    return min([odd << max(-(-least // odd) - 1, 0).bit_length() for odd in FFT_ODD])


def lag_length(rows: int, columns: int) -> int:
    """A fast length in which the lags i - j of an (m, n) matrix do not wrap around.

    Args:
        rows: m.
        columns: n.

    Returns:
        The length, at least m + n - 1.

    Example:
        >>> lag_length(256, 257)
        512
    """
    return fast_length(max(rows, 1) + max(columns, 1) - 1)


def is_fast(length: int) -> bool:
    """Whether a length has no prime factor above 13: the others cost a transform of more than twice the length, or two.

    Args:
        length: The length.

    Returns:
        True or False.

    Example:
        >>> is_fast(1001), is_fast(1009)
        (True, False)
    """
    for prime in FFT_PRIMES:
        while length > 1 and length % prime == 0:
            length //= prime
    return length == 1
