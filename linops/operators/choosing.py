"""`Choosing`: operators that run in the way that is fastest for the number of vectors, and what that is decided for."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from linops import backends
from linops.declaration import remembered
from linops.operator import LinearOperator
from linops.plan.plan import NATURAL, Plans, ways
from linops.plan.target import Target, target_of

#: what was found of structures: plans by backend and class of batches, and where products are cut
PLANS = Plans(bound=4096)


class Choosing(LinearOperator):
    """An operator that runs its natural way, or another where that is predicted to be faster for a number of vectors.

    It is decided once a class of batches (up to a factor of two). Under torch.compile and torch.export, where the
    number of vectors may be a symbol, the natural way runs.
    """

    _shares = True

    @remembered
    def _plans(self) -> dict[Hashable, Any]:
        """What was decided, by class of batches: by all operators of the structure and target."""
        return self._once("plans", self._find_plans)

    def _find_plans(self) -> dict[Hashable, Any]:
        target = self._plan_target
        return {} if target is None else PLANS.get((target, self.structure.outline), dict)

    @remembered
    def _plan_target(self) -> Target | None:
        """What plans are made for; see `target_for`."""
        return self._once("target", lambda: target_for(self))

    def _once(self, what: Hashable, find: Callable[[], Any]) -> Any:
        """What is found; of operators that share a structure it is looked for once."""
        if self._shared is None:
            return find()
        known = self._shared.known
        if what not in known:
            known[what] = find()
        return known[what]

    def _plan(self, batch: Any, wanted: int = 0) -> Any:
        """What runs for a number of vectors, or None for the natural way.

        Where gradients are wanted (see `linops.plan.gradient`), forward and backward pass count.
        """
        if type(batch) is not int or backends.is_compiling():
            return None
        size, way = batch.bit_length(), ways.get()
        if way is not None:
            return None if way == NATURAL else self._made(size, way, wanted)
        return self._found(size, wanted)

    def _found(self, size: int, wanted: int) -> Any:
        """As `_plan`, for the batches of so many binary digits."""
        plans, key = self._plans, (size, wanted) if wanted else size
        return plans[key] if key in plans else plans.setdefault(key, self._made(size, self._plan_target, wanted))

    def _made(self, size: int, target: Any, wanted: int) -> Any:
        """As `_make`; None where no plans are made."""
        return None if self._plan_target is None else self._make(size, target, wanted)

    def _make(self, size: int, target: Any, wanted: int) -> Any:
        """What runs on a target for the batches of so many binary digits, or None for the natural way; see `_plan`."""
        raise NotImplementedError


def target_for(operator: LinearOperator) -> Target | None:
    """What plans are made for: leaves of one dtype of at least 32 bits, of known sizes, on one device of known numbers.

    Products of narrower or of several dtypes would be rounded earlier than in the natural order, or overflow.

    Args:
        operator: The operator.

    Returns:
        The target, or None where no plans are made.
    """
    dtype = operator.dtype
    if dtype is None or (backends.itemsize(dtype) < 4 and backends.is_inexact(dtype)) or not has_sizes(operator):
        return None
    leaves = [leaf for _, leaf in operator.named_leaves()]
    kinds = {backends.device_kind(leaf) for leaf in leaves if leaf.dtype == dtype}
    if len(kinds) != 1 or any(leaf.dtype != dtype for leaf in leaves):
        return None
    return target_of(operator.backend, kinds.pop())


def has_sizes(operator: LinearOperator) -> bool:
    """Whether the sizes of all leaves are known: they are no symbols, as in programs that are exported for any size.

    Args:
        operator: The operator.

    Returns:
        True or False.
    """
    return all(type(size) is int for _, leaf in operator.named_leaves() for size in leaf.shape)
