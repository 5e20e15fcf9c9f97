"""`explain`: what a function of `lo.linalg` will do with an operator, and what it costs, before it does it."""

from __future__ import annotations

from typing import Any

from linops.linalg.errors import SingularError
from linops.linalg.function import FUNCTIONS, Function
from linops.linalg.inputs import operator_of
from linops.linalg.inverse import Inverse
from linops.linalg.inversion import inverse_
from linops.linalg.methods.method import Method
from linops.operator import LinearOperator, as_batch
from linops.plan import explain as table
from linops.plan.target import Target


def explain(
    function: str, A: Any, batch: int = 1, method: Method | None = None, target: str | Target | None = None
) -> str:
    """Which rule or method runs at each node of an operator, and what it costs; nothing is computed.

    Args:
        function: The name of a function, such as ``"solve"`` or ``"slogdet"``.
        A: An operator, which may be symbolic, or a matrix.
        batch: The number of right-hand sides.
        method: The method that is to be asked for, or None; of ``"solve"`` and ``"inv"`` alone.
        target: Where it is imagined to run; see `LinearOperator.explain`.

    Returns:
        A tree of rules, and a table of steps with MACs, FLOPs (2 a MAC), bytes and predicted times. What steps of
        factorisations take is predicted as if they ran at the speed of matrix products.

    Raises:
        ValueError: If there is no such function; the message lists those that there are.

    Example:
        >>> import linops as lo
        >>> print(lo.linalg.explain("solve", lo.kron(lo.spec(8, 8), lo.spec(4, 4))).split("step")[0].rstrip())
        solve with Kronecker(32×32, float32, symbolic): 1 right-hand side
        inverse of Kronecker(32×32): the Kronecker product of the factors'
        ├─ inverse of Dense(8×8): LU, of the matrix written out
        └─ inverse of Dense(4×4): LU, of the matrix written out
    """
    if function not in FUNCTIONS:
        raise ValueError(f"linalg.explain: no function {function!r}; there are {', '.join(sorted(FUNCTIONS))}")
    operator, found = operator_of("explain", A, symbolic=True), FUNCTIONS[function]
    batch = as_batch(batch)
    sides = f": {batch} right-hand side{'' if batch == 1 else 's'}" if function in ("solve", "inv") else ""
    header = [f"{function} {'with' if function == 'solve' else 'of'} {operator._short()}{sides}"]
    where = operator._target if target is None else target if isinstance(target, Target) else Target.named(target)
    header += [] if target is None else [f"estimated on {where.name}"]
    if found is inverse_:
        operator_of(function, operator, square=True, symbolic=True)
        if method is not None:
            return table(
                "\n".join([*header, str(method)]),
                Inverse(operator, method, function == "inv")._lower(batch),
                operator._itemsize,
                where.machine,
            )
        header += _tree(found, operator)
        try:
            steps = inverse_(operator, False)._lower(batch)
        except SingularError as error:
            return "\n".join([*header, str(error)])
    else:
        header += _tree(found, operator)
        steps = tuple(found.steps(operator))
    return table("\n".join(header), steps, operator._itemsize, where.machine)


def _tree(function: Function, operator: LinearOperator) -> list[str]:
    """A line a node: the function, the operator, and what the rule says; those of the parts below it."""
    rule = function.find(operator)
    m, n = operator.shape
    lines = [f"{function.name} of {type(operator).__name__}({m}×{n}): {rule.says}"]
    parts = list(rule.parts(operator))
    for place, (other, part) in enumerate(parts):
        last = place == len(parts) - 1
        first, *rest = _tree(other, part)
        lines.append(f"{'└─' if last else '├─'} {first}")
        lines += [f"{'  ' if last else '│ '} {line}" for line in rest]
    return lines
