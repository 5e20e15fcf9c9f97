"""Kernels beyond those of the frameworks: each is used where it is installed and measured to be faster.

What users say is about the compiled ones, extras that are off until they are asked for, on CPUs in torch: two products
of blocks, and chains of tensors with few vectors.
"""

from linops.kernels.choice import Status, status, use

__all__ = ["Status", "status", "use"]
