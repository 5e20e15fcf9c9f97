"""Butterfly: a product of Kronecker-sparse factors."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from linops import backends
from linops.checks import admit_all, require_leaves
from linops.declaration import declare, remembered, tree
from linops.operators.planned import Planned
from linops.plan.network import Axes, Graph
from linops.plan.step import Step, matmul_step


@declare
class Butterfly(Planned):
    """A product of Kronecker-sparse factors; the last factor acts first.

    A factor of pattern (a, b, c, d) has the support I_a ⊗ 1_{b×c} ⊗ I_d: it maps each of a·d interleaved c-vectors to a
    b-vector,

        (F x)[i, β, j] = Σ_γ factor[j, i, β, γ] x[i, γ, j]        i < a, β < b, γ < c, j < d,

    so it has a·b·d rows and a·c·d columns. The butterfly of the fast Fourier and Hadamard transforms of size n = 2^L
    (Dao et al., "Learning Fast Algorithms for Linear Transforms Using Butterfly Factorizations", ICML 2019) has factors
    (n/2, 2, 2, 1) … (2, 2, 2, n/4), (1, 2, 2, n/2); general patterns are those of Gonon et al. ("Fast Inference with
    Kronecker-Sparse Matrices", 2024).

    Factors in which d falls as they act, as in this chain, run without a copy: each contracts the axis that lies
    outermost in memory and leaves the new one innermost, next to the vectors. So every factor is one batched product of
    a view, stored in the order in which that reads it. Other chains, such as the transpose, copy between the factors.

    Cost: Σ a b c d MACs a vector, as many as parameters.

    Attributes:
        factors: Arrays or specs (d, a, b, c).

    Raises:
        ValueError: If the shapes do not chain.
        TypeError: If a factor is no array, or backends are mixed.

    Example:
        >>> import linops as lo, numpy as np
        >>> sign = np.array([[1., 1.], [1., -1.]])
        >>> H = lo.Butterfly([np.tile(sign, (1, 2, 1, 1)), np.tile(sign, (2, 1, 1, 1))])  # of Hadamard
        >>> H.patterns
        ((2, 2, 2, 1), (1, 2, 2, 2))
        >>> H @ np.array([1., 0., 0., 0.])
        array([1., 1., 1., 1.])
    """

    factors: Any = tree(axes=4)

    def __post_init__(self) -> None:
        if not isinstance(self.factors, (list, tuple)) or not self.factors:
            raise ValueError("Butterfly: factors must be a list of at least one array (d, a, b, c)")
        admit_all(self, "factors", 4)
        for number, ((a, _, c, d), (a2, b2, _, d2)) in enumerate(pairwise(self.patterns)):
            if a * c * d != a2 * b2 * d2:
                left, right = (tuple(factor.shape) for factor in self.factors[number : number + 2])
                raise ValueError(
                    f"Butterfly: factors[{number}] of shape {left} has {a * c * d} columns, factors[{number + 1}] "
                    f"of shape {right} has {a2 * b2 * d2} rows; expected shapes (d, a, b, c) that chain"
                )
        require_leaves(self)

    @property
    def patterns(self) -> tuple[tuple[int, int, int, int], ...]:
        """(a, b, c, d) of each factor."""
        return tuple([(a, b, c, d) for d, a, b, c in [factor.shape for factor in self.factors]])

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        d, a, b, _ = self.factors[0].shape
        d_last, a_last, _, c_last = self.factors[-1].shape
        return a * b * d, a_last * c_last * d_last

    # An operand of index (q, p), q slower, is held as (p, q, k): `inner` is p. A factor leaves p = d; 1 is the natural
    # order.

    @remembered
    def _acting(self) -> tuple[tuple[tuple[int, int, int, int], int, bool], ...]:
        """Of each factor, as they act: its pattern, `inner` of its operand, and whether it reads that as it lies."""
        found, inner = [], 1
        for a, b, c, d in self.patterns[::-1]:
            found.append(((a, b, c, d), inner, inner == c * d or (a == 1 and inner == 1)))
            inner = d or 1
        return tuple(found)

    def _natural(self, x: Any) -> Any:
        batch = x.shape[-1]
        for factor, ((a, b, c, d), inner, direct) in zip(self.factors[::-1], self._acting):
            if direct:  # (γ, j·i, k) → (j·i, γ, k), a view
                x = x.reshape(c, d * a, batch).swapaxes(0, 1)
            else:
                if d % inner:
                    x, inner = backends.permute(x.reshape(inner, a * c * d // inner, batch), (1, 0, 2)), 1
                # j = (j', p): (p, i, γ, j', k) → (j'·p·i, γ, k), a copy unless j' is trivial
                x = backends.permute(x.reshape(inner, a, c, d // inner, batch), (3, 0, 1, 2, 4)).reshape(
                    d * a, c, batch
                )
            x = backends.block_matmul(factor.reshape(d * a, b, c), x)
        inner, rows = self.factors[0].shape[0] or 1, self.shape[0]
        return (
            x.reshape(rows, batch)
            if inner == 1
            else backends.permute(x.reshape(inner, rows // inner, batch), (1, 0, 2))
        )

    def _transpose(self) -> Butterfly:
        return Butterfly(tuple([backends.permute(factor, (0, 1, 3, 2)) for factor in self.factors[::-1]]))

    def _trace(self, graph: Graph, axes: Axes, leaf: int) -> Axes | None:
        for place in reversed(range(len(self.factors))):
            d, a, b, c = self.factors[place].shape
            split = graph.split(axes, (a, c, d))
            if split is None:
                return None
            (blocks, columns, inner), rows = split, graph.axes(b)
            graph.add(leaf + place, (*inner, *blocks, *rows, *columns))
            axes = (*blocks, *rows, *inner)
        return axes

    def _natural_steps(self, batch: int) -> tuple[Step, ...]:
        steps = []
        for (a, b, c, d), inner, direct in self._acting:
            copies = 0 if direct else (d % inner > 0) + (d != inner if d % inner == 0 else d != 1)
            size = copies * a * c * d * batch
            steps.append(
                Step("copy", f"axes of pattern {(a, b, c, d)}", inputs=size, outputs=size)
                if copies
                else Step("view", f"axes of pattern {(a, b, c, d)}", viewed=a * c * d * batch if c > 1 < d * a else 0)
            )
            steps.append(matmul_step(d * a, b, c, batch))
        return tuple(steps)

    def _leaf_fans(self) -> dict[str, tuple[int, int]]:
        return {f"factors_{number}": (c, b) for number, (_, b, c, _) in enumerate(self.patterns)}

    def _output_leaves(self) -> tuple[str, ...]:
        return ("factors_0",)

    def _detail(self) -> str:
        return ", ".join(map(str, self.patterns))
