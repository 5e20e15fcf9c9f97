"""Exact convolutions of integers by Fourier transforms of floats: in limbs so short that rounding finds every sum.

With c = Σ c_i 2^(b i) and x = Σ x_j 2^(b j) of digits below 2^(b-1) in size, c * x = Σ_s 2^(b s) Σ_{i+j=s} c_i * x_j.
The transform gives each inner sum to less than a half, so that rounding it is exact; the outer one runs in integers,
which wrap around as NumPy's.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log2
from typing import Any

import numpy as np

from linops import backends

#: bits of a sum that a transform of float64 and of float32 gives exactly, and those lost to rounding and to adding up
#: pairs of limbs
_EXACT, _LOST = {8: 51, 4: 22}, 10


def limb_bits(length: int, itemsize: int) -> int:
    """How many bits a limb may have.

    Args:
        length: Of the transform.
        itemsize: Bytes of its numbers.

    Returns:
        The bits, sign included; below 1 where there is no room.

    Example:
        >>> limb_bits(1024, 8), limb_bits(16, 4), limb_bits(1 << 20, 4)
        (16, 5, -3)
    """
    return (_EXACT[itemsize] - _LOST - ceil(log2(max(length, 2)))) // 2 + 1


def convolve_limbs(
    spectrum: Callable[[Any], Any],
    forward: Callable[[Any], Any],
    inverse: Callable[[Any], Any],
    kernel: Any,
    x: Any,
    result: Any,
    bits: int,
) -> Any:
    """The convolution of integers.

    Args:
        spectrum: From floats of the kernel to their spectrum.
        forward: From floats of the operand to their spectra.
        inverse: From products of spectra to floats.
        kernel: Integers, of the width that the transforms have.
        x: Such integers.
        result: The dtype of the result, whose width counts: the rest wraps around.
        bits: Bits of a limb.

    Returns:
        Integers of the width of the kernel; for booleans how many there are.
    """
    integer, width = kernel.dtype, 2 if str(result).endswith("bool") else 8 * backends.itemsize(result)
    count = -(-width // bits)
    ours = [spectrum(limb) for limb in _limbs(kernel, bits, width)]
    theirs = [forward(limb) for limb in _limbs(x, bits, width)]
    total = None
    for place in reversed(range(min(len(ours) + len(theirs) - 1, count))):
        products = [ours[i] * theirs[place - i] for i in range(len(ours)) if 0 <= place - i < len(theirs)]
        digits = backends.to_integers(inverse(sum(products[1:], products[0])), integer)
        total = digits if total is None else (total << bits) + digits
    return total


def _limbs(numbers: Any, bits: int, width: int) -> list[Any]:
    """Digits of integers, lowest first, as floats: as many as a width has, or in NumPy as the largest number has."""
    if isinstance(numbers, np.ndarray):
        largest = max(int(numbers.max(initial=0)), -int(numbers.min(initial=0)))
        width = min(width, largest.bit_length() + 1)
    backend = backends.backend_of(numbers)
    astype: Any = backends.namespace(backend).astype
    wide = backends.canonical_dtype(f"float{8 * numbers.dtype.itemsize}", backend)
    half, found = 1 << (bits - 1), []
    for place in range(-(-width // bits)):
        if place + 1 == -(-width // bits) and isinstance(numbers, np.ndarray) and largest.bit_length() + 1 == width:
            found.append(astype(numbers, wide))  # what is left is a digit
            break
        rest = (numbers + half) >> bits
        found.append(astype(numbers - (rest << bits), wide))
        numbers = rest
    return found
