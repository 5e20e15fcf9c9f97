"""Plans: the program of a product that takes the least predicted time, for a class of batches."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Lock
from typing import Any

from linops.plan.contraction import OPERAND, Action, Path, Program, actions, program, sizes_of
from linops.plan.gradient import Marked, marked, tensors_wanted, total
from linops.plan.machine import Machine
from linops.plan.network import Network
from linops.plan.search import cheapest, path
from linops.plan.step import Step, copy_step
from linops.plan.target import Target
from linops.tuning import PLAN_GAIN, TRAINING_GAIN

#: how products run here: for a target, in the natural order, or as is best where their arrays are
ways: ContextVar[Target | str | None] = ContextVar("ways", default=None)
NATURAL = "natural"


@contextmanager
def natural_order() -> Iterator[None]:
    """A context in which products run, and are counted, in the order of their factors: no plan is made or used.

    Every count of a product is then linear in the number of vectors.

    Example:
        >>> import linops as lo
        >>> from linops.plan import natural_order
        >>> A = lo.dense(4, 512) @ lo.Dense(lo.spec(512, 512))  # cheaper from the left for many vectors
        >>> with natural_order():
        ...     natural = A.flops(batch=512)
        >>> natural / A.flops(batch=512) > 30
        True
    """
    token = ways.set(NATURAL)
    try:
        yield
    finally:
        ways.reset(token)


@contextmanager
def planned_for(target: Target) -> Iterator[None]:
    """A context in which products are counted as they would be planned for a target, wherever their arrays are.

    Args:
        target: The target.
    """
    token = ways.set(target)
    try:
        yield
    finally:
        ways.reset(token)


#: whether products are counted as they run where gradients of their operands and of all leaves are wanted
trains: ContextVar[bool] = ContextVar("trains", default=False)


@contextmanager
def for_training(yes: bool = True) -> Iterator[None]:
    """A context in which products are counted as they run in training.

    Args:
        yes: Whether they are, or as they run where no gradients are wanted.
    """
    token = trains.set(yes)
    try:
        yield
    finally:
        trains.reset(token)


@dataclass(frozen=True)
class Plan:
    """How a product runs, other than in the order of its factors.

    Attributes:
        network: Its tensors.
        path: Which of them act on which.
        program: What runs, in numbers.
    """

    network: Network
    path: Path
    program: Program

    @property
    def merges(self) -> bool:
        """Whether tensors are multiplied with each other."""
        return any(kernel.onto != OPERAND for kernel in self.program.kernels)

    def steps(self, batch: int) -> tuple[Step, ...]:
        """What runs, and what it costs.

        Args:
            batch: Number of vectors.

        Returns:
            The steps.
        """
        return tuple([step for step, *_ in self.marked(batch, 0)])

    def marked(self, batch: int, wanted: int) -> list[Marked]:
        """What runs, with which gradients are wanted of each step.

        Args:
            batch: Number of vectors.
            wanted: Of what gradients are wanted; see `linops.plan.gradient`.

        Returns:
            The steps.
        """
        network, found = self.network, []
        size = sizes_of(network.sizes)
        asks = dict(enumerate(tensors_wanted(network, wanted))) | {OPERAND: bool(wanted & 1)}
        for action in actions_along(network, self.path):
            own, onto = asks[action.tensor], asks[action.onto]
            found += [(step, onto, own) for step in action.steps(size, batch)]
            asks[action.onto] = own or onto
        if self.program.turn:
            found.append((copy_step("axes of the result", inputs=size(network.out) * batch), asks[OPERAND], False))
        return found


def plan_along(network: Network, along: Path) -> Plan:
    """A plan with a path.

    Args:
        network: The network.
        along: The path.

    Returns:
        The plan.
    """
    found = actions_along(network, along)
    return Plan(network, along, program(found, network.into, network.out, sizes_of(network.sizes)))


def actions_along(network: Network, along: Path) -> tuple[Action, ...]:
    """How the tensors of a network act on each other and on the operand along a path.

    Args:
        network: The network.
        along: The path.

    Returns:
        The actions.
    """
    return actions(network.tensors, network.into, network.out, along, tuple(network.sizes.items()))


def representative(size: int) -> int:
    """The number of vectors for which a class of batches is planned, the least of it: more of them make plans pay more.

    Args:
        size: The class: how many binary digits the numbers of vectors have. Those of one class, up to twice as many,
            share a plan.

    Returns:
        Number of vectors.
    """
    return 1 << size >> 1 or 1


def choose(
    network: Network,
    batch: int,
    machine: Machine,
    itemsize: int,
    natural: Callable[[int], Iterable[Step]],
    wanted: int = 0,
) -> Plan | None:
    """The plan for a product with a number of vectors.

    Args:
        network: The network.
        batch: Number of vectors.
        machine: What steps take.
        itemsize: Bytes of a number.
        natural: The steps of the product in the order of its factors, of a number of vectors.
        wanted: Of what gradients are wanted, whose backward pass then counts too; see `linops.plan.gradient`.

    Returns:
        The plan, or None if none is predicted to be faster than the natural order by `PLAN_GAIN`, or by
        `TRAINING_GAIN`.
    """
    if len(network.tensors) < 2:
        return None
    groups = cheapest(network, batch, machine, itemsize, wanted=wanted)
    if len(groups) == len(network.tensors):
        return None
    found = plan_along(network, path(network, groups, batch, machine, itemsize, wanted))
    steps = marked_naturally(network, tuple(natural(batch)), wanted)
    gain = TRAINING_GAIN if wanted else PLAN_GAIN
    faster = gain * total(found.marked(batch, wanted), machine, itemsize) < total(steps, machine, itemsize)
    return found if faster else None


def marked_naturally(network: Network | None, steps: tuple[Step, ...], wanted: int) -> list[Marked]:
    """The steps of a product in the order of its factors, with which gradients are wanted of each.

    Args:
        network: The network, if it is one.
        steps: The steps.
        wanted: Of what gradients are wanted; see `linops.plan.gradient`.

    Returns:
        The steps. They do not say which tensor they read: it is the next one where so many of them read one as there
        are tensors. Where not, all count as wanted if one is.
    """
    reads = sum([step.weights > 0 or step.gradient_macs > 0 for step in steps])
    asks = [] if network is None else tensors_wanted(network, wanted)
    if len(asks) != reads:
        asks = [wanted > 1] * reads
    return marked(steps, bool(wanted & 1), iter(asks))


_MISSING = object()


class Plans:
    """What was made for structures, such as plans by class of batches; the oldest go where there are more than a bound.

    Args:
        bound: How many are kept.
    """

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self._plans: dict[Hashable, Any] = {}
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What was made for a key, or is made now.

        Args:
            key: The key.
            make: Makes it.

        Returns:
            What was made.
        """
        found = self._plans.get(key, _MISSING)
        if found is not _MISSING:
            return found
        made = make()
        with self._lock:
            while len(self._plans) >= self.bound:
                self._plans.pop(next(iter(self._plans)))
            self._plans[key] = made
        return made

    def __len__(self) -> int:
        return len(self._plans)
