"""Kernels beyond those of the frameworks: each is used where it is installed and measured to be faster.

What users say is about the compiled one, an extra that is off until it is asked for: two products of blocks on CPUs, in
torch.
"""

from linops.kernels.choice import Status, status, use

__all__ = ["Status", "status", "use"]
