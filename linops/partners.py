"""Which leaves of an expression multiply which, and by what norms a change of one leaf is multiplied.

The spectral norm of A is at most a polynomial N in those of its leaves: norms multiply in products, Kronecker products,
powers and multiples, and add in sums, grids and direct sums (of which it is a bound). N is linear in each leaf that
stands once, so a change ΔW_i of one leaf changes A by at most ‖ΔW_i‖ ∂N/∂‖W_i‖: for a product of k factors Π_{j≠i}
‖W_j‖; for A in (A + B) C it is ‖C‖, and for C it is ‖A‖ + ‖B‖.

Which arrays of one operator multiply follows from `LinearOperator._output_leaves`, the last leaf of every chain: one
chain (low rank, block tensor trains, einsums) is a product of all of them, several (the three diagonals of a
tridiagonal matrix) are a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import sqrt
from typing import Any, TypeAlias

from linops.expression import Expression
from linops.operator import LinearOperator
from linops.operators.kronecker import Kronecker
from linops.operators.power import Power
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.scaling import fans, initial_std

#: a leaf's name, a number, a product (tuple) or a sum (list) of those: plain data that optimisers can save
Norm: TypeAlias = "str | float | tuple[Any, ...] | list[Any]"


def partners(operator: LinearOperator) -> dict[str, Norm]:
    """By what norms a change of each leaf is multiplied: ∂N/∂‖W_i‖ as above.

    Args:
        operator: Any operator, symbolic or not.

    Returns:
        A dict with the names and order of `named_leaves`. A tuple is a product, which may be empty, a list a sum, a
        name the spectral norm of that leaf.

    Example:
        >>> import linops as lo
        >>> partners(lo.low_rank(8, 4, rank=2))
        {'U': ('V',), 'V': ('U',)}
        >>> square = lo.dense(4, 4)
        >>> partners((square + lo.Identity(4)) @ square)
        {'factors_0_terms_0_matrix': ('factors_1_matrix',), 'factors_1_matrix': (['factors_0_terms_0_matrix', ()],)}
    """
    nodes = list(operator._nodes())
    norms: dict[str, Norm] = {}
    for prefix, node in reversed(nodes):  # those below first
        norms[prefix] = _norm(node, _parts(prefix, node, norms))
    above: dict[str, tuple[Norm, ...]] = {"": ()}
    found: dict[str, Norm] = {}
    for prefix, node in nodes:
        here, parts = above[prefix], _parts(prefix, node, norms)
        for place, (name, child) in enumerate(node._children()):
            others = here
            if isinstance(node, Power):
                others = (*here, *[parts[0]] * (node.exponent - 1))
            elif _multiplies(node):
                others = (*here, *_number(node), *[part for other, part in enumerate(parts) if other != place])
            others = tuple(_flat(others))
            if isinstance(child, Expression):
                above[f"{prefix}{name}_"] = others
            else:
                found[prefix + name] = others
    return {name: found[name] for name, _ in operator.named_leaves()}


def evaluate(norm: Norm, of_leaf: Callable[[str], Any]) -> Any:
    """The number of a norm.

    Args:
        norm: From `partners`.
        of_leaf: The spectral norm of a leaf.

    Returns:
        A number, or what those of leaves are.

    Example:
        >>> evaluate(("U", ["V", 0.5]), {"U": 2.0, "V": 3.0}.get)
        7.0
    """
    if isinstance(norm, str):
        return of_leaf(norm)
    if isinstance(norm, list):
        return sum(evaluate(term, of_leaf) for term in norm)
    if isinstance(norm, tuple):
        value = 1.0
        for factor in norm:
            value = value * evaluate(factor, of_leaf)
        return value
    return norm


def renamed(norm: Norm, rename: Callable[[str], Norm]) -> Norm:
    """A norm over other leaves.

    Args:
        norm: From `partners`.
        rename: What stands in the place of a leaf: another name, or a number.

    Returns:
        A norm.

    Example:
        >>> renamed(("U", ["V", 0.5]), "mlp.{}".format)
        ('mlp.U', ['mlp.V', 0.5])
    """
    if isinstance(norm, str):
        return rename(norm)
    return type(norm)([renamed(part, rename) for part in norm]) if isinstance(norm, (tuple, list)) else norm


def initial_norms(operator: LinearOperator) -> dict[str, float]:
    """About the spectral norm of each leaf as `init` draws it: std · (sqrt(fan_in) + sqrt(fan_out)); 1 for a scalar.

    Args:
        operator: Any operator, symbolic or not.

    Returns:
        A dict with the names and order of `named_leaves`.

    Example:
        >>> import linops as lo
        >>> initial_norms(lo.low_rank(64, 16, rank=4))
        {'U': 5.0, 'V': 0.75}
    """
    leaves = fans(operator)
    return {
        name: initial_std(*leaves[name]) * (sqrt(leaves[name][0]) + sqrt(leaves[name][1])) if name in leaves else 1.0
        for name, _ in operator.named_leaves()
    }


def _parts(prefix: str, node: Any, norms: dict[str, Norm]) -> list[Norm]:
    """The norms of what stands in a node's own fields."""
    return [
        norms[f"{prefix}{name}_"] if isinstance(child, Expression) else prefix + name
        for name, child in node._children()
    ]


def _norm(node: Any, parts: list[Norm]) -> Norm:
    """The norm of a node, from those of its parts; 1, the empty product, without any."""
    if isinstance(node, Power):
        return _product([parts[0]] * node.exponent)
    if _multiplies(node):
        return _product([*_number(node), *parts])
    return parts[0] if len(parts) == 1 else [*parts] if parts else ()


def _product(factors: list[Norm]) -> Norm:
    factors = _flat(factors)
    return factors[0] if len(factors) == 1 else tuple(factors)


def _flat(factors: Iterable[Norm]) -> list[Norm]:
    """The factors of a product of products; one is left out."""
    return [part for factor in factors for part in (factor if isinstance(factor, tuple) else (factor,))]


def _multiplies(node: Any) -> bool:
    """Whether the parts of a node multiply, and do not add up."""
    if any(isinstance(child, Expression) for _, child in node._children()):
        return isinstance(node, (Product, Kronecker, Scaled))
    return len(node._output_leaves()) == 1


def _number(node: Any) -> list[Norm]:
    return [float(abs(node.number))] if isinstance(node, Scaled) and abs(node.number) != 1 else []


__all__ = ["evaluate", "initial_norms", "partners", "renamed"]
