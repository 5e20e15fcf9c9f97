"""What structures of two leaves lose at every rank, from one SVD: optima of growing rank are nested."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.spectra import real_part
from linops.operator import LinearOperator
from linops.projection.goal import Goal, adjoint
from linops.projection.nets import net_of
from linops.projection.pairs import pair_of, whitened


@dataclass
class Spectra:
    """The squared errors of the nearest members of structures, where these are truncated SVDs of blocks.

    Structures that cut a matrix into the same blocks share their SVDs.

    Attributes:
        goal: What is to be come near to, in whose norm members are the nearest.
        metric: A, (m, m), in whose norm errors are counted, tr(A E C Eᴴ), or None for the identity; with it, of single
            blocks alone.
    """

    goal: Goal
    metric: Any = None
    _known: dict[Any, Any] = field(default_factory=dict)

    def lost(self, target: LinearOperator) -> float | None:
        """What the nearest member loses.

        Args:
            target: A structure of the goal's shape.

        Returns:
            ‖(W − Ŵ) C^½‖², or None where that is no sum of squared singular values.
        """
        net = net_of(target)
        pair = pair_of(net) if net is not None and net.is_closed else None
        if net is None or pair is None or (self.metric is not None and (pair.blocks or pair.rows != net.out)):
            return None
        sizes = tuple([(axis, net.sizes[axis]) for axis in net.open])
        key = net.out, net.into, pair.blocks, pair.rows, pair.columns, sizes
        if key not in self._known:
            found = whitened(pair, self.goal, net.read(self.goal.matrix))
            squares = None if found is None else self._squares(found[0])
            outside = 0.0  # of the structure's support
            if squares is not None and set(net.out) & set(net.into):
                outside = max(float(self.goal.square(self.goal.matrix)) - sum(squares), 0.0)
            self._known[key] = squares, outside
        squares, outside = self._known[key]
        return None if squares is None else outside + sum(squares[pair.rank :])

    def _squares(self, M: Any) -> list[float]:
        """What each component of all blocks contributes, the largest first."""
        space: Any = backends.namespace(backends.backend_of(M))
        if self.metric is not None:
            U, s, _ = lapack.svd(M)
            seen = space.sum(real_part(backends.conj(U) * (self.metric @ U)), axis=-2)
            found = s * s * seen
        else:
            small = M @ adjoint(M) if M.shape[-2] <= M.shape[-1] else adjoint(M) @ M
            found = space.flip(lapack.eigvalsh(small), axis=-1)
        found = space.sum(space.where(found > 0, found, 0 * found), axis=0)
        return [float(one) for one in found]
