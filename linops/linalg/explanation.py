"""`explain`: what a function of `lo.linalg` will do with an operator, and what it costs, before it does it."""

from __future__ import annotations

from typing import Any

from linops.linalg.errors import SingularError
from linops.linalg.function import FUNCTIONS, Function
from linops.linalg.inputs import fits, operator_of
from linops.linalg.inverse import Inverse
from linops.linalg.inversion import inverse_
from linops.linalg.methods.method import Method
from linops.linalg.partial import SMALL, is_closed
from linops.linalg.singular import svd_
from linops.linalg.spectra import eigh_
from linops.operator import LinearOperator, as_batch
from linops.plan import explain as table
from linops.plan.step import Step
from linops.plan.target import Target

#: what is asked for a few eigenvalues or singular values where all are found
_PARTIAL: dict[str, Function] = {"eigsh": eigh_, "svds": svd_}
#: how many, and of how many vectors the basis is, where nobody says
_COUNT, _BASIS = 6, 40


def explain(
    function: str, A: Any, batch: int = 1, method: Method | None = None, target: str | Target | None = None
) -> str:
    """Which rule or method runs at each node of an operator, and what it costs; nothing is computed.

    Args:
        function: The name of a function, such as ``"solve"`` or ``"slogdet"``; of ``"eigsh"`` and ``"svds"`` for the
            six largest values.
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
    if function not in FUNCTIONS and function not in _PARTIAL:
        names = ", ".join(sorted([*FUNCTIONS, *_PARTIAL]))
        raise ValueError(f"linalg.explain: no function {function!r}; there are {names}")
    operator = operator_of("explain", A, symbolic=True)
    found = FUNCTIONS[function] if function in FUNCTIONS else _PARTIAL[function]
    batch, (m, n) = as_batch(batch), operator.shape
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
    elif function in _PARTIAL and not _is_whole(found, operator):
        header += [f"{function} of {type(operator).__name__}({m}×{n}): Lanczos, by products alone"]
        steps = _lanczos_steps(function, operator)
    else:
        header += _tree(found, operator)
        steps = tuple(found.steps(operator))
    return table("\n".join(header), steps, operator._itemsize, where.machine)


def _is_whole(function: Function, A: LinearOperator) -> bool:
    """Whether all values are found, and six taken."""
    n = min(A.shape)
    return is_closed(function, A) or (fits(A) and (n <= SMALL or n <= 4 * _COUNT))


def _lanczos_steps(function: str, A: LinearOperator) -> tuple[Step, ...]:
    """A step of Lanczos; how many there are is not known before."""
    (m, n), count = A.shape, 1 if function == "eigsh" else 2
    macs = count * A.cost(1).macs + 4 * min(m, n) * _BASIS
    inputs = count * A.num_params + min(m, n) * _BASIS
    return (
        Step("Lanczos, each step", f"{count} × ({m}, {n}) @ ({n}, 1)", macs=macs, inputs=inputs, outputs=min(m, n)),
    )


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
