"""Kernels beyond those of the frameworks: each is used where it is installed and measured to be faster."""
