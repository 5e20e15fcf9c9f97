"""`Function`: a function of operators whose rules are chosen by structure, and say what they do.

A rule is a function of an operator, registered for its class. The rules of the class itself come first, then those of
its bases, and `LinearOperator` has those that hold for any; the first whose `when` holds runs. What a rule says, of
which parts it asks what, and what it costs by itself are there before anything runs: `explain` and the table in the
documentation read them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, get_type_hints

from linops import backends
from linops.dispatch import kinds_of
from linops.operator import LinearOperator
from linops.plan.step import Step


class Rule(NamedTuple):
    """How a function treats operators of a class.

    Attributes:
        kind: The class.
        says: What it does, in a few words.
        run: It: a function of an operator, and of what else the function takes.
        when: Whether it applies to an operator; None where it always does.
        parts: What it asks of which other operators: pairs of a function and an operator.
        steps: What it costs by itself.
        cost: The order of its cost, for the table.
        of: Of which operators of the class it is, in a few words, for the table; empty where it says so itself.
    """

    kind: type
    says: str
    run: Callable[..., Any]
    when: Callable[[Any], bool] | None
    parts: Callable[[Any], Iterable[tuple[Function, LinearOperator]]]
    steps: Callable[[Any], Iterable[Step]]
    cost: str
    of: str = ""


#: the users' functions, by name
FUNCTIONS: dict[str, Function] = {}


def _nothing(operator: Any) -> tuple[()]:
    return ()


class Function:
    """A function of operators, such as a determinant, with a rule for each structure.

    Args:
        name: Its name.
        serves: The names of the users' functions that it computes; its own where none are given.

    Example:
        >>> from linops.linalg.determinants import slogdet_
        >>> import linops as lo
        >>> slogdet_.find(lo.Permute([1, 0])).says
        'parity by cycles'
    """

    def __init__(self, name: str, *serves: str) -> None:
        self.name = name
        FUNCTIONS.update(dict.fromkeys(serves or (name,), self))
        self.rules: dict[type, list[Rule]] = {}
        self._place, self._count = f"_rule_{name}", 0  # where an operator keeps its rule, while no rule is added
        self.empty: Rule | None = None

    def rule(
        self,
        says: str,
        *,
        when: Callable[[Any], bool] | None = None,
        parts: Callable[[Any], Iterable[tuple[Function, LinearOperator]]] = _nothing,
        steps: Callable[[Any], Iterable[Step]] = _nothing,
        cost: str = "",
        of: str = "",
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator: a rule for the class, or the union of classes, of the first argument's annotation.

        Args:
            says: What the rule does, in a few words.
            when: Whether it applies to an operator.
            parts: What it asks of which other operators.
            steps: What it costs by itself.
            cost: The order of its cost, such as ``"Σ n_k³"``.
            of: Of which operators of the class it is, such as ``"square factors"``, if `when` does not hold for all.

        Returns:
            The decorator.
        """

        def register(run: Callable[..., Any]) -> Callable[..., Any]:
            for kind in kinds_of(next(iter(get_type_hints(run).values()), None)):
                if not issubclass(kind, LinearOperator):
                    raise TypeError(
                        f"{self.name}.rule: {run.__name__} does not say for which operators it is: "
                        "annotate its first argument, as in (a: MyOperator)"
                    )
                self._count += 1
                self.rules.setdefault(kind, []).append(Rule(kind, says, run, when, parts, steps, cost, of))
            return run

        return register

    def of_nothing(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator: the rule for operators without rows or columns, whatever their structure.

        Args:
            run: A function of an operator, and of what else the function takes.

        Returns:
            The function.
        """
        self.empty = Rule(LinearOperator, "nothing to do", run, None, _nothing, _nothing, "0")
        return run

    def find(self, operator: LinearOperator) -> Rule:
        """The rule for an operator.

        Args:
            operator: The operator.

        Returns:
            The rule.

        Raises:
            NotImplementedError: If there is none.
        """
        if self.empty is not None and 0 in operator.shape:
            return self.empty
        known = operator.__dict__.get(self._place)
        if known is not None and known[0] == self._count:
            return known[1]
        rule = self._found(operator)
        if not backends.is_compiling():
            operator.__dict__[self._place] = self._count, rule
        return rule

    def _found(self, operator: LinearOperator) -> Rule:
        """The rule for an operator, looked for."""
        for kind in type(operator).__mro__:
            for rule in self.rules.get(kind, ()):
                if rule.when is None or rule.when(operator):
                    return rule
        raise NotImplementedError(f"{self.name}: there is no rule for {operator._short()}")

    def __call__(self, operator: LinearOperator, *rest: Any) -> Any:
        """What the rule for an operator gives."""
        return self.find(operator).run(operator, *rest)

    def steps(self, operator: LinearOperator) -> Iterable[Step]:
        """What the rule for an operator costs, with its parts.

        Args:
            operator: The operator, which may be symbolic.

        Yields:
            Steps.
        """
        rule = self.find(operator)
        yield from rule.steps(operator)
        for function, part in rule.parts(operator):
            yield from function.steps(part)

    def __repr__(self) -> str:
        return f"<rules of {self.name}>"
