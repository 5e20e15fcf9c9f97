"""What operators share that act by fast Fourier transforms: products along an axis, convolution, lengths, cost."""

from __future__ import annotations

from math import log2, prod
from typing import Any

from linops import backends
from linops.declaration import remembered
from linops.operator import LinearOperator, flat
from linops.operators.limbs import convolve_limbs, limb_bits
from linops.operators.planned import Choosing
from linops.plan.plan import representative
from linops.plan.step import Step, matmul_step
from linops.plan.target import Target
from linops.tuning import (
    FFT_ODD,
    FFT_PRIMES,
    FRESH_BYTES,
    INTEGER_MACS,
    MATRIX_GAIN,
)


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


class Convolution(AlongAxis, Choosing):
    """A block of a circulant matrix: A[i, j] = kernel[(i - j) mod L], with a kernel of length L made of the leaves.

    The convolution theorem: with F the discrete Fourier transform of length L, a circulant matrix is F⁻¹ diag(F kernel)
    F. Its transpose has the spectrum in reverse, which of a real kernel is the conjugate, so transposing is a flag over
    the same leaves.

    Where that is predicted to be faster, as for short vectors, or many of some hundred numbers, the matrix is written
    out and multiplied by.
    """

    transposed: bool = False

    @remembered
    def _length(self) -> int:
        """L."""
        raise NotImplementedError

    def _kernel(self) -> Any:
        """The kernel, (L,)."""
        raise NotImplementedError

    def _spectrum(self, kernel: Any, is_complex: bool) -> Any:
        length = self._length
        if not is_complex:
            spectrum = backends.fourier(kernel, "rfft", length, -1, None)
            return backends.conj(spectrum) if self.transposed else spectrum
        return backends.fourier(
            kernel, "ifft" if self.transposed else "fft", length, -1, "forward" if self.transposed else None
        )

    def _along(self, x: Any, axis: int) -> Any:
        own = x.dtype == self.dtype
        if own and self._plan(prod(x.shape) // max(self.shape[1], 1)):
            return x @ self._matrix().T if axis == -1 and x.ndim > 1 else self._matrix() @ x
        backend = backends.backend_of(x)
        if axis == -2 and backends.suits_rows(x, self._length):
            order = (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)
            y = self._along(backends.copy(backends.permute(x, order)), -1)
            return backends.copy(backends.permute(y, order))
        kernel = self._kernel()
        dtype = result = x.dtype
        if not (own and self._transforms_as_it_is) or dtype != kernel.dtype:
            result = backends.result_type(backend, kernel.dtype, dtype)
            dtype = transform_dtype(result, backend)
            if not backends.is_inexact(result):
                return self._exact(kernel, x, axis, result, dtype.itemsize)
            kernel, x = as_dtype(kernel, dtype), as_dtype(x, dtype)
        is_complex = self._is_complex if own else backends.is_complex(dtype)
        narrow = dtype != result  # half precision, whose sums single holds
        if narrow or backends.all_finite(kernel[:1]) is not None:
            y = self._transformed(kernel, x, axis, is_complex)
            if narrow or backends.all_finite(y):
                return as_dtype(y, result)
        # numbers overflowed, or cannot be looked at: scaled by powers of two, they do not
        one, other = backends.magnitude(kernel, -1), backends.magnitude(x, axis)
        y = self._transformed(kernel / one, x / other, axis, is_complex)
        space = backends.namespace(backend)
        return as_dtype(y * space.minimum(one, other) * space.maximum(one, other), result)

    def _transformed(self, kernel: Any, x: Any, axis: int, is_complex: bool) -> Any:
        """The product of floats, by transforms of their dtype."""
        length, rows, backend = self._length, self.shape[0], backends.backend_of(x)
        forward, inverse = ("fft", "ifft") if is_complex else ("rfft", "irfft")
        spectrum = self._spectrum(kernel, is_complex)
        if axis == -2:
            spectrum = spectrum[:, None]

        def convolved(x: Any) -> Any:
            y = backends.fourier(x, forward, length, axis, None)
            y = backends.multiply_quietly(y, spectrum)  # what overflows is seen in the result, and run again
            y = backends.fourier(y, inverse, length, axis, None)
            if rows == length:
                return y
            return y[..., :rows] if axis == -1 else y[..., :rows, :]

        step = backends.columns_at_once(x, length) if axis == -2 else None
        if step is None:
            return convolved(x)
        parts = [convolved(x[..., start : start + step]) for start in range(0, x.shape[-1], step)]
        return backends.namespace(backend).concat(parts, axis=-1)

    def _exact(self, kernel: Any, x: Any, axis: int, result: Any, itemsize: int) -> Any:
        """The product of integers or booleans, as exact as the matrix's; `itemsize` is of the floats transformed."""
        bits = limb_bits(self._length, itemsize)
        small = self.shape[0] * prod(x.shape) <= INTEGER_MACS or bits < 1
        if small and backends.multiplies_integers(x):
            x, matrix = as_dtype(x, result), as_dtype(self._matrix(), result)
            return x @ matrix.T if axis == -1 and x.ndim > 1 else matrix @ x
        return self._by_limbs(kernel, x, axis, result, itemsize)

    def _by_limbs(self, kernel: Any, x: Any, axis: int, result: Any, itemsize: int) -> Any:
        """The product of integers by transforms of limbs."""
        m, length, backend = self.shape[0], self._length, backends.backend_of(x)
        integer = backends.canonical_dtype(f"int{8 * itemsize}", backend)
        shape = (slice(None), None) if axis == -2 else (slice(None),)

        def inverse(spectra: Any) -> Any:
            y = backends.fourier(spectra, "irfft", length, axis, None)
            return y[..., :m] if axis == -1 else y[..., :m, :]

        y = convolve_limbs(
            lambda limb: self._spectrum(limb, False)[shape],
            lambda limb: backends.fourier(limb, "rfft", length, axis, None),
            inverse,
            as_dtype(kernel, integer),
            as_dtype(x, integer),
            result,
            limb_bits(length, itemsize),
        )
        return as_dtype(y, result)

    @remembered
    def _transforms_as_it_is(self) -> bool:
        """Whether numbers of the operator's dtype are transformed in it."""
        return self.dtype == transform_dtype(self.dtype, self.backend)

    def _entries(self) -> Any:
        return backends.copy(self._matrix())

    def _matrix(self) -> Any:
        """The matrix, a view of the kernel repeated over and over: rows of one number less begin one number earlier.

        Of a tall one the transpose, which has fewer rows.
        """
        kernel, length, (m, n) = self._kernel(), self._length, self.shape
        space, tall, (rows, columns) = backends.namespace(self.backend), n < m, (min(m, n), max(m, n))
        if self.transposed == tall:  # lags fall along a row
            kernel = backends.concatenate(kernel[:1], [space.flip(kernel[1:])])
        width = self._width
        sequence = space.broadcast_to(kernel, (rows * (width + 1) // length, length)).reshape(-1)
        matrix = sequence[: rows * width].reshape(rows, width)[:, :columns]
        return backends.permute(matrix, (1, 0)) if tall else matrix

    @remembered
    def _width(self) -> int:
        """One less than a multiple of L, and at least the larger size."""
        return (1 if max(self.shape) < self._length else 2) * self._length - 1

    @property
    def _written(self) -> int:
        """How many numbers are written for the matrix."""
        return min(self.shape) * (self._width + 1)

    def _plan(self, batch: Any) -> Any:
        # under autocast a matrix product is narrowed, and a transform is not
        return None if backends.is_autocasting() else super()._plan(batch)

    @property
    def _may_be_written(self) -> bool:
        """Whether the matrix may run in the place of transforms, which round products of integers."""
        return self._plan_target is not None and backends.is_inexact(self.dtype)

    def _make(self, size: int, target: Target) -> bool | None:
        """True where multiplying by the matrix is predicted to be faster than transforms."""
        itemsize = self._itemsize
        if not self._may_be_written or (target.device == "cpu" and self._written * itemsize >= FRESH_BYTES):
            return None
        batch, machine = representative(size), target.machine
        transforms, matrix = (machine.total(way(batch), itemsize) for way in (self._natural_steps, self._matrix_steps))
        return True if MATRIX_GAIN * matrix < transforms else None

    def _lower(self, batch: int) -> tuple[Step, ...]:
        return self._matrix_steps(batch) if self._plan(batch) else self._natural_steps(batch)

    def _matrix_steps(self, batch: int) -> tuple[Step, ...]:
        """The steps of a product by the matrix."""
        m, n = self.shape
        tile = Step("tile", f"({self._length},) → ({m}, {n})", inputs=self._length, outputs=self._written)
        return tile, matmul_step(1, m, n, batch)

    def _natural_steps(self, batch: int) -> tuple[Step, ...]:
        """The steps of a product by transforms."""
        m, n = self.shape
        length, is_complex = self._length, self._is_complex
        kind, flops = ("fft" if is_complex else "rfft"), transform_flops(length, is_complex)
        size, leaves = length * batch, self.num_params
        # a product of complex numbers is 6 FLOPs of real ones
        products = (length if is_complex else 6 * (length // 2 + 1)) * batch
        return (
            # once a product; counted as an operand, for the gradient of a transform is one transform
            Step(kind, f"spectrum of ({length},)", other_flops=flops, inputs=leaves, outputs=length),
            Step(
                kind, f"({n}, {batch}) → ({length}, {batch})", other_flops=flops * batch, inputs=n * batch, outputs=size
            ),
            Step(
                "scale",
                f"({length}, 1) · ({length}, {batch})",
                other_flops=products,
                inputs=size,
                weights=length,
                outputs=size,
            ),
            Step(
                f"i{kind}",
                f"({length}, {batch}) → ({m}, {batch})",
                other_flops=flops * batch,
                inputs=size,
                outputs=m * batch,
            ),
        )


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
