"""Parameters, MACs, FLOPs and bytes of a product, counted from its steps before any array exists.

A FLOP is one addition or one multiplication of two numbers of the operator's dtype, so a multiply-accumulate (MAC) is 2
FLOPs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from linops.plan.step import Step


@dataclass(frozen=True)
class Work:
    """What one pass does.

    Attributes:
        macs: Multiply-accumulates in contractions.
        flops: Additions and multiplications: 2 MACs, plus those outside contractions.
        bytes_read: Bytes of operands read, each step reading its operands once.
        bytes_written: Bytes of results written, each step writing its result once.
    """

    macs: int = 0
    flops: int = 0
    bytes_read: int = 0
    bytes_written: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.macs + other.macs,
            self.flops + other.flops,
            self.bytes_read + other.bytes_read,
            self.bytes_written + other.bytes_written,
        )


@dataclass(frozen=True)
class Cost:
    """The cost of ``A @ X`` for a batch of vectors X, forward and backward.

    The backward pass computes the gradients of X and of every parameter. `macs`, `flops`, `bytes_read` and
    `bytes_written` are those of the forward pass.

    Attributes:
        num_params: Number of parameters.
        batch: Number of vectors.
        forward: The work of the product.
        backward: The work of its gradients.
    """

    num_params: int
    batch: int
    forward: Work
    backward: Work

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the forward pass."""
        return self.forward.macs

    @property
    def flops(self) -> int:
        """FLOPs of the forward pass."""
        return self.forward.flops

    @property
    def bytes_read(self) -> int:
        """Bytes read by the forward pass."""
        return self.forward.bytes_read

    @property
    def bytes_written(self) -> int:
        """Bytes written by the forward pass."""
        return self.forward.bytes_written


def forward_work(step: Step, itemsize: int) -> Work:
    """The work of a step: each operand read once, the result written once.

    Args:
        step: The step.
        itemsize: Bytes of one number.

    Returns:
        The work.
    """
    return Work(
        step.macs,
        2 * step.macs + step.other_flops,
        itemsize * (step.inputs + step.weights),
        itemsize * step.outputs,
    )


def backward_work(step: Step, itemsize: int) -> Work:
    """The work of a step's gradients: of its input, and of its parameters where it has some.

    The gradient of the input reads the output's gradient and the parameters; that of the parameters reads the output's
    gradient and the input.

    Args:
        step: The step.
        itemsize: Bytes of one number.

    Returns:
        The work.
    """
    passes = 2 if step.weights else 1
    read = step.outputs + step.weights + (step.outputs + step.inputs if step.weights else 0)
    return Work(
        passes * step.macs + step.gradient_macs,
        passes * (2 * step.macs + step.other_flops) + 2 * step.gradient_macs,
        itemsize * read,
        itemsize * (step.inputs + step.weights),
    )


def count(steps: Iterable[Step], num_params: int, batch: int, itemsize: int) -> Cost:
    """The cost of a program.

    Args:
        steps: The steps of the program.
        num_params: Number of parameters.
        batch: Number of vectors.
        itemsize: Bytes of one number.

    Returns:
        The cost.
    """
    forward = backward = Work()
    for step in steps:
        forward += forward_work(step, itemsize)
        backward += backward_work(step, itemsize)
    return Cost(num_params, batch, forward, backward)
