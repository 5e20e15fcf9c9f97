"""DFT: the discrete Fourier transform."""

from __future__ import annotations

from typing import Any

from linops import backends
from linops.checks import require_size
from linops.declaration import declare
from linops.operators.fourier import AlongAxis, as_dtype, transform_dtype, transform_flops
from linops.plan.step import Step
from linops.tags import Knowledge, Tag

#: what the fast transform and its unnormalised inverse call a norm
_NORMS = {"backward": ("backward", "forward"), "ortho": ("ortho", "ortho")}


@declare
class DFT(AlongAxis):
    """The discrete Fourier transform: A[j, k] = exp(-2πi j k / n), times 1/√n for norm "ortho".

    It has no parameters and runs on any backend; products are complex, of the precision of what it meets. A is
    symmetric, and Aᴴ = n A⁻¹ (A⁻¹ for norm "ortho") is its conjugate. A x = `numpy.fft.fft(x)`.

    Cost: 1.5 n log2 n FLOPs (of complex numbers; of real ones 5 n log2 n) a vector, no MACs.

    Attributes:
        size: n.
        norm: ``"backward"``, as `numpy.fft` calls what is not scaled, or ``"ortho"``, which is unitary.
        conjugate: Whether the operator is the conjugate, exp(+2πi j k / n); made by ``.conj()`` and ``.H``.

    Raises:
        ValueError: If the size is negative, or there is no such norm.
        TypeError: If the size is no integer.

    Example:
        >>> import linops as lo, numpy as np
        >>> F = lo.DFT(4)
        >>> (F.H @ (F @ np.arange(4.)) / 4).real
        array([0., 1., 2., 3.])
    """

    size: int
    norm: str = "backward"
    conjugate: bool = False

    def __post_init__(self) -> None:
        require_size("DFT", "size", self.size)
        if self.norm not in _NORMS:
            raise ValueError(f"DFT: norm must be 'backward' or 'ortho', got {self.norm!r}")

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.size, self.size

    _is_complex = True  # type: ignore[assignment]

    def _along(self, x: Any, axis: int) -> Any:
        backend = backends.backend_of(x)
        result = x.dtype if backends.is_complex(x.dtype) else backends.result_type(backend, x.dtype, 1j)
        x = as_dtype(x, transform_dtype(result, backend))
        if self.size:
            x = backends.fourier(
                x, "ifft" if self.conjugate else "fft", self.size, axis, _NORMS[self.norm][self.conjugate]
            )
        return as_dtype(x, result)

    def _transpose(self) -> DFT:
        return self

    def _conj(self) -> DFT:
        return DFT(self.size, self.norm, not self.conjugate)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        size = self.size * batch
        flops = transform_flops(self.size, True) * batch
        return (
            Step(
                "ifft" if self.conjugate else "fft",
                f"({self.size}, {batch})",
                other_flops=flops,
                inputs=size,
                outputs=size,
            ),
        )

    def _knowledge(self) -> Knowledge:
        yes = Tag.SYMMETRIC | Tag.INVERTIBLE | (Tag.ORTHOGONAL if self.norm == "ortho" else Tag.NONE)
        if self.size < 2:
            return Knowledge(yes | Tag.POSITIVE_DEFINITE | Tag.ORTHOGONAL | Tag.DIAGONAL)
        no = Tag.POSITIVE_SEMIDEFINITE | Tag.LOWER_TRIANGULAR | Tag.UPPER_TRIANGULAR
        return Knowledge(
            yes,
            no
            | (Tag.HERMITIAN if self.size > 2 else Tag.NONE)
            | (Tag.NONE if self.norm == "ortho" else Tag.ORTHOGONAL),
        )

    def _detail(self) -> str:
        return ", ".join([str(self.size), *[self.norm] * (self.norm != "backward"), *["conjugate"] * self.conjugate])
