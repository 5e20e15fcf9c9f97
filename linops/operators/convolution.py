"""What circulant and Toeplitz operators share: a convolution by fast Fourier transforms, or by the matrix."""

from __future__ import annotations

from math import prod
from typing import Any

from linops import backends
from linops.declaration import remembered
from linops.operators.choosing import Choosing
from linops.operators.fourier import AlongAxis, as_dtype, transform_dtype, transform_flops
from linops.operators.limbs import convolve_limbs, limb_bits
from linops.plan.plan import representative
from linops.plan.step import Step, matmul_step
from linops.plan.target import Target
from linops.tuning import FRESH_BYTES, INTEGER_MACS, MATRIX_GAIN


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
        if own and self._plan(1 if x.ndim == 1 else prod(x.shape) // max(self.shape[1], 1)):
            return x @ self._matrix().T if axis == -1 and x.ndim > 1 else self._matrix() @ x
        if axis == -2 and backends.suits_rows(x, self._length):
            order = (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)
            y = self._along(backends.copy(backends.permute(x, order)), -1)
            return backends.copy(backends.permute(y, order))
        if own and self._is_one_real and not backends.is_compiling():
            y = backends.convolved(x, self._leaves, self._kernel, self._length, axis, self.transposed, self._spectra)
            if y is not None:
                return self._cropped(y, axis)
        kernel = self._kernel()
        dtype, backend = x.dtype, self.backend or backends.backend_of(x)
        result = dtype
        if not (own and self._transforms_as_it_is) or dtype != kernel.dtype:
            result = backends.result_type(backend, kernel.dtype, dtype)
            dtype = transform_dtype(result, backend)
            if not backends.is_inexact(result):
                return self._exact(kernel, x, axis, result, dtype.itemsize)
            kernel, x = as_dtype(kernel, dtype), as_dtype(x, dtype)
        is_complex = self._is_complex if own else backends.is_complex(dtype)
        narrow = dtype != result  # half precision, whose sums single holds
        if narrow or backends.is_at_hand(x):
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
        length, backend = self._length, backends.backend_of(x)
        forward, inverse = ("fft", "ifft") if is_complex else ("rfft", "irfft")
        spectrum = self._spectrum(kernel, is_complex)
        if axis == -2:
            spectrum = spectrum[:, None]

        def convolved(x: Any) -> Any:
            y = backends.fourier(x, forward, length, axis, None)
            y = backends.multiply_quietly(y, spectrum)  # what overflows is seen in the result, and run again
            return self._cropped(backends.fourier(y, inverse, length, axis, None), axis)

        step = backends.columns_at_once(x, length) if axis == -2 else None
        if step is None:
            return convolved(x)
        parts = [convolved(x[..., start : start + step]) for start in range(0, x.shape[-1], step)]
        return backends.namespace(backend).concat(parts, axis=-1)

    def _cropped(self, y: Any, axis: int) -> Any:
        """The rows of the operator, of as many as are transformed."""
        rows = self.shape[0]
        if rows == self._length:
            return y
        if y.ndim == 1:  # half the time of "…"
            return y[:rows]
        return y[..., :rows] if axis == -1 else y[..., :rows, :]

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
    def _leaves(self) -> tuple[Any, ...]:
        return tuple([leaf for _, leaf in self.named_leaves()])

    @remembered
    def _is_one_real(self) -> bool:
        """Whether the leaves are of one real dtype that is transformed as it is."""
        dtypes = {leaf.dtype for leaf in self._leaves}
        return len(dtypes) == 1 and self._transforms_as_it_is and not self._is_complex

    @remembered
    def _spectra(self) -> dict[bool, Any]:
        """What the backend keeps of products, of this operator and of transposes made of it."""
        return {}

    def _sharing(self, transpose: Any) -> Any:
        """The transpose, which has the same spectra."""
        if not backends.is_compiling():
            transpose.__dict__["_spectra"] = self._spectra
        return transpose

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

    def _plan(self, batch: Any, wanted: int = 0) -> Any:
        # under autocast a matrix product is narrowed, and a transform is not
        plan = super()._plan(batch, wanted)
        return None if plan and backends.is_autocasting() else plan

    @property
    def _may_be_written(self) -> bool:
        """Whether the matrix may run in the place of transforms, which round products of integers."""
        return self._plan_target is not None and backends.is_inexact(self.dtype)

    def _make(self, size: int, target: Target, wanted: int) -> bool | None:
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
        detail = f"({self._length},) → ({m}, {n})"
        tile = Step("tile", detail, inputs=self._length, outputs=self._written, of_leaf=True)
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
            Step(kind, f"spectrum of ({length},)", other_flops=flops, inputs=leaves, outputs=length, of_leaf=True),
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
