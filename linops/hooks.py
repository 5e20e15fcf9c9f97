"""The functions that the signs and conversions of operators call; packages on higher levels register their methods.

So an operator's methods reach code of higher levels, while every import points down.
"""

from __future__ import annotations

from linops.dispatch import generic, generic_pair


@generic_pair
def compose(a, b):
    """The operator A B."""


@generic_pair
def add(a, b):
    """The operator A + B."""


@generic_pair
def scale(scalar, a):
    """The operator c A of a number or 0-d array c, and an operator or matrix A."""


@generic_pair
def divide(a, scalar):
    """The operator A / c of an operator A, and a number or 0-d array c."""


@generic
def power(a, exponent: int):
    """The operator A ** k of an integer k."""


@generic
def inverted(a):
    """The operator A⁻¹, kept for many products (linalg/)."""


@generic
def slice_(a, rows, columns):
    """The operator A[rows, columns] of ranges and index arrays; the array A[i, j], A[i, columns] or A[rows, j]."""


@generic
def initialize(a, seed, backend, dtype, device, scheme):
    """The operator with its specs replaced by arrays (scaling.py)."""


@generic
def exported(a):
    """The operator as scipy's (operators/scipy_operator.py)."""


@generic
def make_layer(a, bias, framework):
    """A layer of a framework that computes the operator (nn/)."""
