"""`Planned`: operators of several tensors, which run in the order that is fastest for the number of vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from linops import backends
from linops.declaration import remembered
from linops.kernels.choice import STATE
from linops.operator import LinearOperator, flat
from linops.operators.chained import Chained, network_of
from linops.operators.choosing import Choosing
from linops.plan.plan import Plan, choose, representative, trains, ways
from linops.plan.step import Step
from linops.plan.target import Target
from linops.running import multiply
from linops.tuning import JAX_PARTS

#: of a class of batches: it is not known whether the same runs whatever gradients are wanted of, or it does not
UNDECIDED, UNSETTLED = "undecided", "unsettled"


class Forked(NamedTuple):
    """Several ways of a product that JAX traces, when it is not known yet what gradients will be wanted of.

    Attributes:
        forward: The plan where none are wanted, or None for the natural order.
        batch: Number of vectors.
        at_once: How many of them are multiplied at a time; 0 for all (`linops.backends.jax_parts`).
    """

    forward: Plan | None
    batch: int
    at_once: int = 0


class Planned(Choosing, Chained):
    """An operator of several tensors: it runs in the order of its factors, or along a plan.

    A plan multiplies some of the tensors with each other before they meet the operand. It is made once a structure,
    target, class of batches, and what gradients are wanted of: torch says so at the product. JAX does not, so that the
    product carries a rule for derivatives that takes the plan of those that are then wanted (`backends.forked`).
    """

    def _natural(self, x: Any) -> Any:
        """A x of a features-first x in the natural order; see `_columns`."""
        raise NotImplementedError

    def _natural_vector(self, x: Any) -> Any:
        """A x of a vector in the natural order: (n,) → (m,)."""
        return self._natural(x.reshape(x.shape[0], 1)).reshape(self.shape[0])

    def _natural_rows(self, x: Any) -> Any:
        """X Aᵀ of rows in the natural order; see `_rows`."""
        return flat(self._natural(x.T)).T

    def _natural_steps(self, batch: int) -> tuple[Step, ...]:
        """The steps of the natural order; see `_lower`."""
        raise NotImplementedError

    def _make(self, size: int, target: Target, wanted: int) -> Plan | None:
        network = network_of(self)
        if network is None:
            return None
        batch = representative(size)
        return choose(network, batch, target.machine, self._itemsize, self._natural_steps, wanted)

    def _plan_at(self, batch: Any, x: Any) -> Any:
        """What runs on an operand: a plan, None for the natural order, or `Forked` where JAX decides later."""
        if type(batch) is not int or backends.is_compiling():
            return None
        if ways.get() is not None:
            plan = self._plan(batch)
        else:
            plan = self._plans.get(~batch.bit_length(), UNDECIDED)
            if plan is None:
                return None
            if plan is UNDECIDED or plan is UNSETTLED:
                plan = self._plan_for(batch, x, plan)
        return None if plan is None or x.dtype != self.dtype else plan

    def _plan_for(self, batch: int, x: Any, known: str) -> Any:
        """As `_plan_at`, where what runs depends on what gradients are wanted, or that is not decided yet."""
        backend = self.backend
        if backend == "torch":
            wanted = backends.gradients_wanted(x, self._leaves) if backends.is_recording() else 0
            if wanted and known is UNDECIDED:
                return self._decided(batch, wanted)
            return self._found(batch.bit_length(), wanted)
        plan = self._plan(batch)
        if backend != "jax":
            self._plans[~batch.bit_length()] = plan
        elif backends.is_traced_among(x, self._leaves) and not self._is_settled(batch):
            return Forked(plan, batch, backends.vectors_at_once(x, batch) if self._is_large(batch) else 0)
        return plan

    def _decided(self, batch: int, wanted: int) -> Any:
        """The plan for gradients that are wanted; and decides, one search a product, whether it is that of all others.

        So where leaves were frozen before it is decided, they have a plan of their own.
        """
        plans, before = self._plans, len(self._plans)
        plan = self._plan(batch, wanted)
        for wish in (0, *self._wishes):
            if len(plans) > before and self._plan_target is not None:
                return plan  # the next product looks further
            if self._plan(batch, wish) != plan:
                plans[~batch.bit_length()] = UNSETTLED
                return plan
        plans[~batch.bit_length()] = plan
        return plan

    def _is_settled(self, batch: int) -> bool:
        """Whether for so many vectors the same runs, whatever gradients are wanted of.

        Never of a plan that multiplies tensors with each other: in `jax.shard_map` gradients are to be summed over
        devices as those of the tensors, which `backends.forked` sees to, and not as those of their products. Nor where
        some numbers of vectors are multiplied in parts.
        """
        plans, size = self._plans, batch.bit_length()
        if ~size not in plans:
            plan = self._plan(batch)
            is_one = not (plan and plan.merges) and not self._is_large((1 << size) - 1)
            is_settled = is_one and all(self._plan(batch, wanted) == plan for wanted in self._wishes)
            plans[~size] = plan if is_settled else UNSETTLED
        return plans[~size] is not UNSETTLED

    def _is_large(self, batch: int) -> bool:
        """Whether what JAX keeps between the steps of a product exceeds the cache by far."""
        between = [step.outputs for step in self._lower(batch)[:-1] if not (step.merges or step.of_leaf)]
        return max(between, default=0) * self._itemsize >= JAX_PARTS

    @remembered
    def _wishes(self) -> tuple[int, ...]:
        """What gradients may be wanted of, as far as it matters: of the operand, of all leaves, of both."""
        leaves = self._everything - 1
        return 1, leaves, leaves + 1

    @remembered
    def _everything(self) -> int:
        """Gradients are wanted of the operand and of all leaves."""
        return (2 << self._num_leaves) - 1

    def _columns(self, x: Any) -> Any:
        if STATE.asked and (y := self._compiled(x, x.shape[-1], False)) is not None:
            return y
        plan = self._plan_at(x.shape[-1], x)
        return self._natural(x) if plan is None else self._along(plan, x, Planned._columns_along)

    def _vector(self, x: Any) -> Any:
        if STATE.asked and (y := self._compiled(x, 1, False)) is not None:
            return y
        plan = self._plan_at(1, x)
        return self._natural_vector(x) if plan is None else self._along(plan, x, Planned._vector_along)

    def _rows(self, x: Any) -> Any:
        if STATE.asked and (y := self._compiled(x, x.shape[0], True)) is not None:
            return y
        plan = self._plan_at(x.shape[0], x)
        if isinstance(plan, Forked) and plan.at_once:  # also where gradients are wanted
            return backends.rows_in_parts(x, self._rows, plan.at_once)
        return self._natural_rows(x) if plan is None else self._along(plan, x, Planned._rows_along)

    @remembered
    def _chain(self) -> Any:
        """As of `Chained`; found once for all that share a structure."""
        return self._once("chain", self._find_chain)

    def _along(self, plan: Any, x: Any, product: Callable[[Any, Plan | None, Any], Any]) -> Any:
        """A product along a plan, or along the one for those gradients that JAX then wants."""
        if not isinstance(plan, Forked):
            return product(self, plan, x)

        def forward(wanted: int, leaves: Sequence[Any], x: Any) -> Any:
            operator = self._with_leaves(iter(leaves))
            if plan.at_once and not wanted:
                x = x.reshape(self.shape[1], x.shape[-1])
                return backends.columns_in_parts(x, operator._columns, plan.at_once, self.shape[0])
            y = product(operator, self._plan(plan.batch, wanted) if wanted else plan.forward, x)
            return flat(y) if y.ndim > 2 else y  # in each way of one shape, as JAX asks of a rule

        return backends.forked(x, self._leaves, forward)

    def _columns_along(self, plan: Plan | None, x: Any) -> Any:
        return self._natural(x) if plan is None else multiply(plan, self._leaves, x)

    def _vector_along(self, plan: Plan | None, x: Any) -> Any:
        if plan is None:
            return self._natural_vector(x)
        return multiply(plan, self._leaves, x.reshape(x.shape[0], 1)).reshape(self.shape[0])

    def _rows_along(self, plan: Plan | None, x: Any) -> Any:
        return self._natural_rows(x) if plan is None else flat(multiply(plan, self._leaves, x.T)).T

    def _lower(self, batch: int) -> tuple[Step, ...]:
        plan = self._plan(batch, self._everything if trains.get() else 0)
        return self._natural_steps(batch) if plan is None else plan.steps(batch)


def first_leaves(operators: tuple[LinearOperator, ...], leaf: int) -> list[int]:
    """Which leaf the first one of each operator is.

    Args:
        operators: Operators in the order of their leaves.
        leaf: Which leaf the first one of all is.

    Returns:
        Positions.
    """
    return [*accumulate([operator._num_leaves for operator in operators[:-1]], initial=leaf)]
