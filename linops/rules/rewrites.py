"""What `simplify` did, step by step."""

from __future__ import annotations

from dataclasses import dataclass

from linops.cost import Cost
from linops.operator import LinearOperator
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.operators.sum import Sum


@dataclass(frozen=True)
class Rewrite:
    """One step of `simplify`.

    Attributes:
        rule: The function and the kinds of operators it saw, as in ``"merge(Diagonal, Dense)"``.
        before: What it saw, briefly.
        after: What it made of it.
        cost_before: The cost for one vector before.
        cost_after: That after.
    """

    rule: str
    before: str
    after: str
    cost_before: Cost
    cost_after: Cost

    def __str__(self) -> str:
        return str(Rewrites((self,)))


class Rewrites(tuple):
    """The steps of `simplify`, in order; prints as a table."""

    def __repr__(self) -> str:
        rows: list[tuple[str, ...]] = [("rule", "before", "after", "MACs", "FLOPs", "parameters")]
        for step in self:
            one, two = step.cost_before, step.cost_after
            pairs = ((one.macs, two.macs), (one.flops, two.flops), (one.num_params, two.num_params))
            rows.append((step.rule, step.before, step.after, *(f"{before:,} → {after:,}" for before, after in pairs)))
        widths = [max(len(row[column]) for row in rows) for column in range(6)]
        lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)).rstrip() for row in rows]
        return "\n".join((lines[0], "  ".join("─" * width for width in widths), *lines[1:]))

    __str__ = __repr__


def rewrite(rule: str, before: LinearOperator, after: LinearOperator) -> Rewrite:
    """The record of a step.

    Args:
        rule: Its name.
        before: The operator as it was.
        after: What it became.

    Returns:
        The record.
    """
    return Rewrite(rule, _brief(before), _brief(after), before.cost(), after.cost())


def _brief(operator: LinearOperator) -> str:
    """An operator in a few words, for the table."""
    if isinstance(operator, Product):
        return _listed(" · ", operator.factors)
    if isinstance(operator, Sum):
        return _listed(" + ", operator.terms)
    if isinstance(operator, Scaled):
        return f"{'gain' if operator.gain is not None else operator.number} · {_bracketed(operator.base)}"
    m, n = operator.shape
    return f"{type(operator).__name__}({m}×{n})"


def _listed(sign: str, operators: tuple[LinearOperator, ...]) -> str:
    texts = [_bracketed(operator) for operator in operators[:3]]
    return sign.join(texts if len(operators) <= 3 else [*texts[:2], "…"])


def _bracketed(operator: LinearOperator) -> str:
    text = _brief(operator)
    return f"({text})" if " " in text else text
