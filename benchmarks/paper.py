"""The paper's formulation of BTT and Monarch products, written anew: rows in and out, and a hand-written backward.

Each bmm writes with ``out=`` into a transposed view of a batch-first buffer, and a copy lies between the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch


@dataclass(frozen=True)
class Layout:
    """How the numbers between the products, and those after them, are read.

    Attributes:
        middle: The axes of the first product's output but for the batch.
        order: The order in which the second product's blocks read them.
        swapped: Whether the output is transposed from (blocks, rows) to (rows, blocks).
    """

    middle: tuple[int, ...]
    order: tuple[int, ...]
    swapped: bool = False


def forward(
    x: torch.Tensor, first: torch.Tensor, second: torch.Tensor, layout: Layout
) -> tuple[torch.Tensor, torch.Tensor]:
    """The product.

    Args:
        x: (batch, n).
        first: (blocks, columns, rows) of the factor that acts first.
        second: (blocks, columns, rows) of the other.
        layout: What lies between.

    Returns:
        (batch, m), and the numbers that the second factor read, (blocks, batch, columns).
    """
    batch = x.shape[0]
    middle = x.new_empty(batch, first.shape[0], first.shape[2]).transpose(0, 1)
    torch.bmm(x.reshape(batch, first.shape[0], -1).transpose(0, 1), first, out=middle)
    middle = _permuted(middle.transpose(0, 1), layout.middle, layout.order)
    middle = middle.reshape(batch, second.shape[0], -1).transpose(0, 1)
    out = x.new_empty(batch, second.shape[0], second.shape[2]).transpose(0, 1)
    torch.bmm(middle, second, out=out)
    out = out.permute(1, 2, 0) if layout.swapped else out.transpose(0, 1)
    return out.reshape(batch, -1), middle


def _permuted(x: torch.Tensor, axes: tuple[int, ...], order: tuple[int, ...]) -> torch.Tensor:
    """The copy between the products, batch first."""
    batch = x.shape[0]
    return x.reshape(batch, *axes).permute(0, *(axis + 1 for axis in order)).contiguous()


class PaperProduct(torch.autograd.Function):
    """The product with its gradients by hand, as the paper's code has it."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, first: torch.Tensor, second: torch.Tensor, layout: Layout) -> torch.Tensor:
        """As `forward`, keeping what the backward needs."""
        out, middle = forward(x, first, second, layout)
        ctx.save_for_backward(x, first, second, middle)
        ctx.layout = layout
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        """Gradients of x, first and second: two bmm write into transposed views, with a copy between."""
        x, first, second, middle = ctx.saved_tensors
        layout, batch = ctx.layout, x.shape[0]
        if layout.swapped:
            gradient = gradient.reshape(batch, second.shape[2], second.shape[0]).permute(2, 0, 1)
        else:
            gradient = gradient.reshape(batch, second.shape[0], second.shape[2]).transpose(0, 1)
        of_second = torch.bmm(middle.transpose(1, 2), gradient)
        between = x.new_empty(batch, second.shape[0], second.shape[1]).transpose(0, 1)
        torch.bmm(gradient, second.transpose(1, 2), out=between)
        axes = tuple(layout.middle[axis] for axis in layout.order)
        back = tuple(layout.order.index(axis) for axis in range(len(axes)))
        between = _permuted(between.transpose(0, 1), axes, back).reshape(batch, first.shape[0], -1).transpose(0, 1)
        of_x = x.new_empty(batch, first.shape[0], first.shape[1]).transpose(0, 1)
        torch.bmm(between, first.transpose(1, 2), out=of_x)
        of_first = torch.bmm(x.reshape(batch, first.shape[0], -1).permute(1, 2, 0), between)
        return of_x.transpose(0, 1).reshape(batch, -1), of_first, of_second, None


@dataclass(frozen=True)
class Paper:
    """The paper's formulation of an operator.

    Attributes:
        first: Its factor that acts first.
        second: The other.
        layout: What lies between.
    """

    first: torch.Tensor
    second: torch.Tensor
    layout: Layout

    def forward(self, x: torch.Tensor) -> Callable[[], torch.Tensor]:
        """The product with rows x, without gradients.

        Args:
            x: (batch, n).

        Returns:
            A function of no arguments.
        """
        return lambda: forward(x, self.first, self.second, self.layout)[0]

    def training(self, x: torch.Tensor) -> Callable[[], Any]:
        """The product with rows x and the gradients of x and of both factors, for a gradient of ones.

        Args:
            x: (batch, n).

        Returns:
            A function of no arguments.
        """
        leaves = [value.detach().requires_grad_() for value in (x, self.first, self.second)]
        ones = x.new_ones(x.shape[0], prod(self.second.shape[::2]))
        return lambda: torch.autograd.grad(PaperProduct.apply(*leaves, self.layout), leaves, ones)


def paper_of(operator: Any) -> Paper:
    """The paper's formulation of a BTT of two cores, or of a Monarch matrix.

    Args:
        operator: A `BlockTensorTrain` with torch's arrays, or what `lo.monarch` makes where the blocks divide the
            sizes.

    Returns:
        The formulation, which computes the same product.
    """
    if hasattr(operator, "cores"):
        (rank,), (m1, _), (n2, n1) = operator.ranks, operator.out_dims, operator.in_dims
        first = operator.cores[0].reshape(n2, rank, m1, n1).permute(0, 3, 2, 1).reshape(n2, n1, m1 * rank)
        return Paper(first.contiguous(), operator.cores[1].mT.contiguous(), Layout((n2, m1, rank), (1, 0, 2)))
    left, right = (factor.blocks for factor in operator.factors[1::2])
    # that code keeps Monarch's blocks as linops does, and multiplies by views
    return Paper(right.mT, left.mT, Layout((right.shape[1], right.shape[0]), (1, 0), swapped=True))
