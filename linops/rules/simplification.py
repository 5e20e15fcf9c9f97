"""`simplify`: all rules, from the leaves up, until none applies."""

from __future__ import annotations

from collections import deque
from typing import Any, Literal, overload

from linops.expression import Expression
from linops.operator import LinearOperator, _assuming
from linops.operators.dense import Dense
from linops.operators.identity import Identity
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.operators.sum import Sum
from linops.rules.functions import commute, reduce
from linops.rules.guard import accepts, affordable
from linops.rules.pairs import added, computable, merging_for, multiplied, named, product
from linops.rules.rewrites import Rewrite, Rewrites, rewrite
from linops.rules.scalars import scaled_product
from linops.specs import spec

#: how many terms before a term of a sum may be added to it, so that time is linear in the number of terms
NEAR = 32


@overload
def simplify(operator: LinearOperator, return_steps: Literal[False] = False) -> LinearOperator: ...
@overload
def simplify(operator: LinearOperator, return_steps: Literal[True]) -> tuple[LinearOperator, Rewrites]: ...
def simplify(operator: Any, return_steps: bool = False) -> Any:
    """The same operator by a shorter or cheaper expression, its parameters merged where that is not dearer.

    From the leaves up, rules rewrite neighbours in products and sums, and single operators, until none applies (the
    functions of `linops.rules`, on which users register their own). A rewrite is taken only if shape, dtype, backend
    and device stay, if no count of parameters, MACs, FLOPs and bytes grows, for one vector or for many, and if
    something falls. Parameters of symbolic operators are not merged. What is known of the operator stays known: what
    its structure implied is then declared, as by `assume`.

    Args:
        operator: An operator.
        return_steps: Whether to return the rewrites too.

    Returns:
        The operator; it itself where no rule applies. With `return_steps` a pair of it and a tuple of `Rewrite`, which
        prints as a table.

    Raises:
        TypeError: If it is no operator.

    Example:
        >>> import linops as lo, numpy as np
        >>> d, a = lo.Diagonal(np.ones(3)), lo.Dense(np.ones((3, 2)))
        >>> lo.simplify(2 * (d @ a))
        Dense()  3×2  float64  6 parameters  numpy
    """
    if not isinstance(operator, LinearOperator):
        raise TypeError(
            f"simplify: expected an operator, got {type(operator).__name__}; lo.aslinearoperator wraps arrays"
        )
    run = _Run()
    with merging_for(operator):
        simplified = run(operator)
    return (simplified, Rewrites(run.steps)) if return_steps else simplified


class _Run:
    """One call of `simplify`: loops, not recursion, over the expression."""

    def __init__(self) -> None:
        self.steps: list[Rewrite] = []
        self.done: dict[int, Any] = {}  # by identity of operators, which `kept` keeps alive
        self.kept: list[Any] = []

    def __call__(self, root: LinearOperator) -> LinearOperator:
        became: dict[int, LinearOperator] = {}
        begun: set[int] = set()
        stack = [root]
        # from the leaves up, so that what is remembered needs no recursion
        for _, node in reversed(list(root._nodes())):
            _ = node.tags
        while stack:
            node = stack[-1]
            if id(node) in self.done:
                stack.pop()
                continue
            if id(node) not in begun:
                begun.add(id(node))
                self.kept.append(node)
                # before the parts change, equal ones are seen to be equal
                collected = self.rewritten(node, merging=False)
                if collected is not node:
                    became[id(node)] = collected
            if id(node) not in became:
                below: list[Any] = [
                    child
                    for _, child in node._children()
                    if isinstance(child, Expression) and id(child) not in self.done
                ]
                if below:
                    stack += below[::-1]
                    continue
                became[id(node)] = self.rewritten(self.with_simplified_children(node))
            after = became[id(node)]
            if after is not node and id(after) not in self.done:
                stack.append(after)  # its parts may be new
                continue
            self.finish(node, after if after is node else self.done[id(after)])
        return self.done[id(root)]

    def finish(self, node: LinearOperator, after: LinearOperator) -> None:
        """What is known of an operator stays known of what it became."""
        after = _assuming(after, node.tags.yes & ~after.tags.yes)
        self.done[id(node)] = self.done[id(after)] = after
        self.kept += (node, after)

    def with_simplified_children(self, node: LinearOperator) -> LinearOperator:
        def simplified(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple([simplified(item) for item in value])
            return self.done[id(value)] if isinstance(value, Expression) else value

        if all(self.done[id(child)] is child for _, child in node._children() if isinstance(child, Expression)):
            return node
        return type(node)._unchecked(
            **{
                name: simplified(getattr(node, name)) if kind == "tree" else getattr(node, name)
                for name, kind in node._fields
            }
        )

    # ------------------------------------------------------------ one operator

    def rewritten(self, node: LinearOperator, merging: bool = True) -> LinearOperator:
        """What the first rule makes of an operator of simple parts, or itself; without `merging` only equals count."""
        if isinstance(node, Product):
            after = self.product(node, merging)
        elif isinstance(node, Sum):
            after = self.sum(node, merging)
        else:
            after = node
        if after is not node or not merging:
            return after
        after = reduce(node)
        if accepts(after, node):
            return self.step(named("reduce", node), node, after)
        if (
            not isinstance(node, Dense)
            and node.dtype is not None
            and computable(node)
            and affordable(Dense(spec(*node.shape)), node)
        ):
            after = Dense(node.to_dense())
            if accepts(after, node):
                return self.step("multiply out", node, after)
        return node

    def step(self, rule: str, before: LinearOperator, after: Any) -> Any:
        self.steps.append(rewrite(rule, before, after))
        return after

    def checked(self, rule: str, node: LinearOperator, after: LinearOperator, steps: int) -> LinearOperator | None:
        """What the rules for neighbours made of a product or sum, if it may take its place."""
        if not accepts(after, node):
            del self.steps[steps:]
            return None
        return after if len(self.steps) > steps else self.step(rule, node, after)

    # ------------------------------------------------------------ products

    def product(self, node: Product, merging: bool) -> LinearOperator:
        for out in (True, False):
            factors, scalars = _factors(node, out)
            if out and not scalars:
                continue
            steps, simple = len(self.steps), self.chain(factors, node, merging)
            if simple == node.factors:  # by identity
                return node
            after = self.checked("scalars" if scalars else "flatten", node, scaled_product(simple, scalars), steps)
            if after is not None:
                return after
        return node

    def chain(self, factors: list[LinearOperator], node: Product, merging: bool) -> tuple[LinearOperator, ...]:
        """The factors, neighbours rewritten from the left until none can be: first what cancels, then what merges."""
        for merging_now in (False, True) if merging else (False,):
            simple: list[LinearOperator] = []
            pending = deque(factors)
            while pending:
                factor = pending.popleft()
                used, after = self.meeting(simple, factor, pending, merging_now)
                if used:
                    del simple[-used:]
                    pending.extendleft(reversed(after))
                else:
                    simple.append(factor)
            factors = simple
        return tuple(factors) or (Identity(node.shape[0]),)

    def meeting(
        self, simple: list[LinearOperator], factor: LinearOperator, pending: deque, merging: bool
    ) -> tuple[int, Any]:
        """How many factors before this one a rule takes with it, and what they become; 0 if no rule applies."""
        if not simple:
            return 0, None
        left = simple[-1]
        found = multiplied(left, factor, (*simple[:-1], *pending), merging)
        if found is not None:
            self.step(*found)
            return 1, [] if isinstance(found.after, Identity) else [found.after]
        if len(simple) < 2 or not merging:
            return 0, None
        outer = simple[-2]
        # A B C = A (C' B') or (B' A') C, where A C' or A' C is one operator
        for first, second, last in ((outer, left, factor), (left, factor, None)):
            exchanged = commute(first, second) if computable(first, second) else None
            if exchanged is None:
                continue
            one, two = exchanged
            met = multiplied(two, last) if last is not None else multiplied(outer, one)
            if met is None:
                continue
            after = (one, met.after) if last is not None else (met.after, two)
            before = Product._unchecked(factors=(outer, left, factor))
            whole = product(tuple(item for item in after if not isinstance(item, Identity)) or (after[0],))
            if accepts(whole, before):
                self.step(named("commute", first, second), before, whole)
                return 2, [item for item in after if not isinstance(item, Identity)]
        return 0, None

    # ------------------------------------------------------------ sums

    def sum(self, node: Sum, merging: bool) -> LinearOperator:
        terms = [inner for term in node.terms for inner in (term.terms if isinstance(term, Sum) else (term,))]
        pending = deque([term for term in terms if not term._is_zero] or terms[:1])
        steps = len(self.steps)
        simple: list[LinearOperator] = []
        while pending:
            term = pending.popleft()
            for place in reversed(range(max(0, len(simple) - NEAR), len(simple))):
                found = added(simple[place], term, merging)
                if found is not None:
                    self.step(*found)
                    del simple[place]
                    pending.appendleft(found.after)
                    break
            else:
                simple.append(term)
        if tuple(simple) == node.terms:  # by identity
            return node
        after = simple[0] if len(simple) == 1 else Sum(tuple(simple))
        return self.checked("flatten", node, after, steps) or node


def _factors(node: Product, out: bool) -> tuple[list[LinearOperator], list[Scaled]]:
    """The factors with nested products opened and, where `out`, the multiples among them in front."""
    factors: list[LinearOperator] = []
    scalars: list[Scaled] = []
    stack = list(node.factors[::-1])
    while stack:
        factor = stack.pop()
        if isinstance(factor, Product):
            stack += factor.factors[::-1]
        elif out and isinstance(factor, Scaled):
            scalars.append(factor)
            stack.append(factor.base)
        else:
            factors.append(factor)
    return factors, scalars
