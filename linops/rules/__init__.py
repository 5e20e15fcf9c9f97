"""Rewrites as plum methods of the functions that `operator.py` declares.

Composing applies only rules that merge no arrays, so parameters stay the leaves the user wrote. A rule never makes the result dearer than
what it replaces, nor changes its shape or dtype.
"""

from linops.rules import add, compose, power, scale, slice

__all__ = ["add", "compose", "power", "scale", "slice"]
