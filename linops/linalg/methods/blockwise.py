"""`Blockwise`: equal blocks on a diagonal, all in one batched call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.errors import SingularError
from linops.linalg.methods.method import Factor, Method
from linops.operators.block_diag import BlockDiag
from linops.plan.step import Step, matmul_step


class Blocks(Factor):
    """The blocks, or their inverses where these are wanted again."""

    inverses: Any
    blocks: Any
    operator: Any

    def __init__(self, A: BlockDiag, kept: bool) -> None:
        self.operator, self.blocks = A, A.blocks
        self.inverses = self._inverted() if kept else None
        self.is_constant: bool = lapack.is_constant(self.blocks)

    def _inverted(self) -> Any:
        return self._checked(lapack.inverse(self.blocks))

    def _checked(self, x: Any) -> Any:
        if backends.all_finite(x) is False and backends.all_finite(self.blocks):
            raise SingularError(
                f"{self.operator._short()} is singular: a block of it is; lo.linalg.pinv inverts the others"
            )
        return x

    def solve(self, b: Any, transposed: bool) -> Any:
        """Each block's own, batched."""
        count, size, _ = self.blocks.shape
        x = b.reshape(count, size, b.shape[1])
        inverses = self.inverses
        if inverses is None and b.shape[1] >= size > 1:
            inverses = self._inverted()
        if inverses is not None:
            y = backends.block_matmul(backends.permute(inverses, (0, 2, 1)) if transposed else inverses, x)
        else:
            y = lapack.solve(backends.permute(self.blocks, (0, 2, 1)) if transposed else self.blocks, x)
            y = self._checked(y) if backends.all_finite(b) else y
        return y.reshape(b.shape)


@dataclass(frozen=True)
class Blockwise(Method):
    """Batched LU of equal blocks on a diagonal."""

    of_structure = True

    def factor(self, A: Any, kept: bool) -> Blocks:
        """The blocks, inverted if they are wanted again."""
        return Blocks(A, kept)

    def steps(self, A: Any, batch: int, kept: bool) -> Iterable[Step]:
        """A batched factorisation, and a batched product."""
        count, n, _ = A.blocks.shape
        if not kept:
            macs = count * (n**3 // 3 if batch < n else n**3)
            yield Step("batched lu", f"({count}, {n}, {n})", macs=macs, inputs=count * n * n, outputs=count * n * n)
        yield matmul_step(count, n, n, batch)
