"""`explain`: what a function of `lo.linalg` will do with an operator, and what it costs, before it does it."""

from __future__ import annotations

from typing import Any

from linops.linalg.errors import SingularError
from linops.linalg.function import FUNCTIONS, Function
from linops.linalg.inputs import operator_of
from linops.linalg.inverse import Inverse
from linops.linalg.inversion import inverse_
from linops.linalg.methods.method import Method
from linops.linalg.partial import check_wanted, is_closed, is_small, shifted_by
from linops.linalg.partial_svd import is_direct
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
_EACH = "Lanczos, each step"


def explain(
    function: str,
    A: Any,
    batch: int | None = None,
    method: Method | None = None,
    target: str | Target | None = None,
    *,
    which: str = "LM",
    sigma: float | None = None,
) -> str:
    """Which rule or method runs at each node of an operator, and what it costs; nothing is computed.

    Args:
        function: The name of a function, such as ``"solve"``, ``"slogdet"`` or ``"eigsh"``.
        A: An operator, which may be symbolic, or a matrix.
        batch: The number of right-hand sides, 1 where it is None; of ``"eigsh"`` and ``"svds"`` that of values, k, at
            most 6 where it is None.
        method: The method that is to be asked for, or None; of ``"solve"`` and ``"inv"`` alone.
        target: Where it is imagined to run; see `LinearOperator.explain`.
        which: As `eigsh` and `svds` take it, of these alone.
        sigma: The shift of `eigsh` or `svds`. Where A − sigma I, or Aᴴ A − sigma² I, has no factorisation, the text
            says that each step iterates itself, which takes many products.

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
    if function == "eigsh":
        operator_of(function, operator, square=True, symbolic=True)
    found = FUNCTIONS[function] if function in FUNCTIONS else _PARTIAL[function]
    if (which != "LM" or sigma is not None) and function not in _PARTIAL:
        raise TypeError(f"linalg.explain: which and sigma are of 'eigsh' and 'svds', not of {function!r}")
    usual = min(_COUNT, *operator.shape) if function in _PARTIAL else 1
    count = as_batch(usual if batch is None else batch)
    sides = f": {count} right-hand side{'' if count == 1 else 's'}" if function in ("solve", "inv") else ""
    header = [f"{function} {'with' if function == 'solve' else 'of'} {operator._short()}{sides}"]
    where = operator._target if target is None else target if isinstance(target, Target) else Target.named(target)
    header += [] if target is None else [f"estimated on {where.name}"]
    if found is inverse_:
        operator_of(function, operator, square=True, symbolic=True)
        if method is not None:
            return table(
                "\n".join([*header, str(method)]),
                Inverse(operator, method, function == "inv")._lower(count),
                operator._itemsize,
                where.machine,
            )
        header += _tree(found, operator)
        try:
            steps = inverse_(operator, False)._lower(count)
        except SingularError as error:
            return "\n".join([*header, str(error)])
    elif function in _PARTIAL and not _is_whole(function, operator, count, which, sigma):
        words, steps = _lanczos(function, operator, count, sigma)
        header += words
    else:
        header += _tree(found, operator)
        steps = tuple(found.steps(operator))
    return table("\n".join(header), steps, operator._itemsize, where.machine)


def _is_whole(function: str, A: LinearOperator, k: int, which: str, sigma: float | None) -> bool:
    """Whether all values are found, and some taken."""
    check_wanted(function, A, k, which, sigma)
    if function == "svds":
        return is_direct(A, k, which, sigma)
    return is_closed(eigh_, A) or is_small(A, k)


def _lanczos(function: str, A: LinearOperator, k: int, sigma: float | None) -> tuple[list[str], tuple[Step, ...]]:
    """Lines, and a step of Lanczos; how many there are is not known before."""
    (m, n), basis = A.shape, max(2 * k + 20, _BASIS)
    size, whole = min(m, n), f"{function} of {type(A).__name__}({m}×{n})"
    macs, inputs = 4 * size * basis, size * basis  # of orthogonalisation
    if sigma is None:
        count = 1 if function == "eigsh" else 2
        macs, inputs = macs + count * A.cost(1).macs, inputs + count * A.num_params
        step = Step(_EACH, f"{count} × ({m}, {n}) @ ({n}, 1)", macs=macs, inputs=inputs, outputs=size)
        return [f"{whole}: Lanczos, by products alone"], (step,)
    if function == "eigsh":
        shifted, name = shifted_by(A, sigma), "A − sigma I"
    else:
        squared, square = (A.H @ A, "Aᴴ A") if m >= n else (A @ A.H, "A Aᴴ")
        shifted, name = shifted_by(squared, sigma**2), f"{square} − sigma² I"
    lines = [f"{whole}: Lanczos, which solves with {name} in each step", *_tree(inverse_, shifted)]
    inverse = inverse_(shifted, False)
    if _iterates(inverse):
        lines.append(f"{name} has no factorisation here: each step of Lanczos iterates to 1e-10 itself, and takes long")
    return lines, (*inverse._lower(1), Step(_EACH, f"({size}, {basis})", macs=macs, inputs=inputs, outputs=size))


def _iterates(A: LinearOperator) -> bool:
    """Whether somewhere in an inverse products iterate."""
    if isinstance(A, Inverse):
        return A.method.iterates
    return any(isinstance(part, LinearOperator) and _iterates(part) for _, part in A._children())


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
