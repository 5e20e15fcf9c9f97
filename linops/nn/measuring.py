"""What a weight loses in each structure that it could have. Needs no framework.

Where optima are truncated SVDs one decomposition gives all of them. Others are projected in a few sweeps first, and
then, where no cheaper option would lose less even if that were far too many, as they are when the plan is applied.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from linops import backends
from linops.families.choice import members
from linops.families.text import parse
from linops.nn.compression import Option
from linops.nn.members import build
from linops.nn.projected import TOL, damped
from linops.operator import LinearOperator
from linops.operators.dense import Dense
from linops.plan import natural_order
from linops.projection import project
from linops.projection.goal import Goal
from linops.projection.spectra import Spectra

#: first sweeps of what is no truncated SVD end after so many, or where one lowers the error by less than this share:
#: errors are mostly a few percent above what full effort gives; where inputs lie in few directions half as much again
SWEEPS, ENOUGH = 10, 1e-2
#: what of such a squared error may be left after full effort
LEFT = 0.6
#: sweeps at most of full effort, which is that of `apply_`
FULL = 100


@dataclass(frozen=True)
class Candidate:
    """A structure that a layer could have.

    Attributes:
        family: What was asked for.
        text: Which of its members.
        operators: Symbolic, one for each part of the output.
    """

    family: str
    text: str
    operators: tuple[LinearOperator, ...]


def families_of(families: Any) -> tuple[str, ...]:
    """Names of families, checked.

    Args:
        families: A name, with options or without, or several.

    Returns:
        The names.

    Raises:
        TypeError: If they are no names.
        ValueError: If there is none, one twice, or one is of no family or has malformed options.
    """
    given = (families,) if isinstance(families, str) else families
    if not isinstance(given, (list, tuple)) or not all(isinstance(one, str) for one in given):
        raise TypeError(f"compress(families={families!r:.60}): expected names of families, as ('low_rank', 'btt')")
    if not given or len(set(given)) < len(given):
        raise ValueError(f"compress(families={families!r:.60}): expected one family or more, each once")
    return tuple([parse(one).text for one in given])


def candidates(families: Sequence[str], sizes: Sequence[int], into: int, name: str) -> Iterator[Candidate]:
    """The structures of families that a layer could have.

    Args:
        families: Their names.
        sizes: Of the parts of its output.
        into: n.
        name: The layer's path, for errors.

    Yields:
        The structures; of several parts those that all parts can have.
    """
    for family in families:
        try:
            found = members(family, sizes[0], into)
        except ValueError:  # as of a rank that is out of range there
            continue
        for member in found:
            try:
                operators = tuple([build(member, size, into, {}, name) for size in sizes])
            except ValueError:
                continue
            yield Candidate(family, member.text, operators)


def options(
    weight: Any,
    found: Sequence[Candidate],
    C: Any = None,
    outputs: Sequence[tuple[Any, Any]] = (),
    layers: int = 1,
) -> tuple[Option, ...]:
    """What each structure of a layer costs and loses; the first is dense.

    Args:
        weight: W, (m, n).
        found: The structures.
        C: The second moment of inputs, (n, n), of the backend of W, in whose norm it is projected; None for the
            identity.
        outputs: For each of the layers that share W the metric of its outputs and the second moment of its inputs: the
            error is ½ Σ tr(A E C Eᴴ) then. Without, it is the share that is lost of ‖W C^½‖².
        layers: How many share W.

    Returns:
        The options.

    Raises:
        ValueError: If W or a second moment holds NaN or infinity.
    """
    m, n = weight.shape
    dense = Option("dense", "dense", m * n, layers * m * n, 0.0)
    if not found:
        return (dense,)
    space: Any = backends.namespace(backends.backend_of(weight))
    if not bool(space.all(space.isfinite(weight))):
        raise ValueError("the weight holds NaN or infinity")
    measure = _Measure(weight, C, outputs, [operator.shape[0] for operator in found[0].operators])
    whole = 1.0 if outputs else float(measure.goal.square(weight))
    made, rough = [dense], {}
    for one in found:
        params = sum([operator.num_params for operator in one.operators])
        with natural_order():
            macs = layers * sum([operator.cost().macs for operator in one.operators])
        lost = measure.closed_form(one)
        if lost is None:
            rough[len(made)] = one
            lost = measure.swept(one, ENOUGH, SWEEPS)
        made.append(Option(one.family, one.text, params, macs, lost / whole if whole > 0 else 0.0))
    for k, one in rough.items():
        best = LEFT * made[k].error
        if not any(x.params <= made[k].params and x.macs <= made[k].macs and x.error < best for x in made):
            lost = measure.swept(one, TOL, FULL) / whole if whole > 0 else 0.0
            made[k] = replace(made[k], error=min(lost, made[k].error))
    return tuple(made)


class _Measure:
    """What structures of one weight lose."""

    def __init__(self, weight: Any, C: Any, outputs: Sequence[tuple[Any, Any]], sizes: Sequence[int]) -> None:
        self.C = None if C is None else damped(C, C)
        self.goal = Goal(Dense(weight), None, C)
        self.outputs = [Goal(Dense(weight), *pair) for pair in outputs]
        metric = outputs[0][0] / 2 if outputs else None
        ends = [sum(sizes[: k + 1]) for k in range(len(sizes))]
        self.parts = [weight[end - size : end] for end, size in zip(ends, sizes)]
        self.spectra = [Spectra(Goal(Dense(part), None, self.C), metric) for part in self.parts]
        self.closed = not outputs or len(outputs) == len(sizes) == 1  # else layers or parts go together

    def closed_form(self, one: Candidate) -> float | None:
        """What is lost where optima are truncated SVDs; else None."""
        if not self.closed:
            return None
        lost = [spectrum.lost(target) for spectrum, target in zip(self.spectra, one.operators)]
        return None if None in lost else sum(filter(None, lost))

    def swept(self, one: Candidate, tol: float, sweeps: int) -> float:
        """What is lost after so many sweeps at most."""
        space = self.goal.space
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*had not converged", UserWarning)
            near = [self._near(*pair, tol, sweeps) for pair in zip(self.parts, one.operators)]
        E = space.concat([part - other for part, other in zip(self.parts, near)])
        if self.outputs:
            return sum([float(goal.square(E)) / 2 for goal in self.outputs])
        return float(self.goal.square(E))

    def _near(self, part: Any, target: LinearOperator, tol: float, sweeps: int) -> Any:
        found = project(part, target, second_moment=self.C, tol=tol, max_iterations=sweeps)
        return found.to(backend=self.goal.backend).to_dense()
