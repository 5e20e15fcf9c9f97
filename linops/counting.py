"""What a product costs: `Counted`, which counts and explains the steps that an operator says."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np

from linops import backends
from linops.cost import Cost, count
from linops.expression import Expression
from linops.plan import Step, Target, explain, natural_order
from linops.plan.gradient import backward
from linops.plan.plan import for_training, planned_for
from linops.plan.target import nearest, target_of

#: columns of the lines above a table
_WIDTH = 80


class Counted(Expression):
    """An expression that says the steps of its product, and so what a product costs."""

    # ------------------------------------------------------------ what an operator declares

    def _lower(self, batch: int) -> tuple[Step, ...]:
        """The steps of a features-first product with `batch` vectors."""
        raise NotImplementedError(f"{type(self).__name__} does not say its cost")

    def _stacked_steps(self, count: int, batch: int) -> tuple[Step, ...]:
        """The steps of `_stacked`, of `count` operands with `batch` vectors each."""
        return self._lower(count * batch)

    # ------------------------------------------------------------ what follows

    def _steps(self, batch: int, order: str, training: bool = False) -> tuple[Step, ...]:
        """The steps of a product as it runs, in training or not, or in the natural order."""
        _ = self.shape  # which tells of leaves that do not fit
        if order not in ("planned", "natural"):
            raise ValueError(
                f"order must be 'planned' (what runs) or 'natural' (the order of the factors), got {order!r}"
            )
        with for_training(training) if order == "planned" else natural_order():
            return self._lower(as_batch(batch))

    def cost(self, batch: int = 1, order: str = "planned", training: bool = False) -> Cost:
        """Parameters, MACs, FLOPs and bytes of a product, forward and backward.

        Args:
            batch: Number of vectors.
            order: ``"planned"`` counts what runs: the order of least predicted time for so many vectors, so that more
                vectors may take fewer FLOPs. ``"natural"`` counts the order of the factors, which never falls as the
                batch grows: a budget.
            training: Whether the order is that in which gradients of the operand and all leaves are computed, too:
                that of least predicted time for forward and backward.

        Returns:
            The cost.

        Example:
            >>> import linops as lo
            >>> lo.Dense(lo.spec(4, 3)).cost(batch=10).macs
            120
        """
        return self._counted(self._steps(batch, order, training), batch)

    def _counted(self, steps: tuple[Step, ...], batch: int) -> Cost:
        """The cost of steps."""
        return count(steps, self.num_params, batch, self._itemsize)

    def flops(self, batch: int = 1, order: str = "planned", training: bool = False) -> int:
        """FLOPs (additions and multiplications) of a product with `batch` vectors.

        Args:
            batch: Number of vectors.
            order: ``"planned"`` counts what runs, ``"natural"`` the order of the factors; see `cost`.
            training: Whether it is one of a training step; those of the backward pass are not among them.

        Returns:
            The number of FLOPs: 2 per multiply-accumulate.

        Example:
            >>> import linops as lo
            >>> lo.Dense(lo.spec(4, 3)).flops()
            24
        """
        return self.cost(batch, order, training).flops

    def explain(
        self, batch: int = 1, order: str = "planned", target: str | Target | None = None, training: bool = False
    ) -> str:
        """What a product runs, step by step, its cost, and its predicted time on one thread, or on an accelerator.

        Args:
            batch: Number of vectors.
            order: ``"planned"`` shows what runs, ``"natural"`` the order of the factors; see `cost`.
            target: Where the product is imagined to run: an accelerator (``"a100"``, ``"h100"``, ``"h200"``,
                ``"b200"``, ``"tpu-v5p"``), whose times are estimates from its datasheet; a backend on a kind of device
                such as ``"numpy/cpu"``; or a `lo.plan.Target`. None is where the arrays are, an operator without arrays
                as if torch ran it on a CPU.
            training: Whether to show a training step: the order of least predicted time for both passes, and the steps
                of the gradients of the operand (``grad x``) and of what multiplies it (``grad A``).

        Returns:
            A table as text; the lines above it have the FLOPs of the natural order where others run.

        Raises:
            ValueError: If no numbers are known of the target.
            TypeError: If it is neither a name nor a target.

        Example:
            >>> import linops as lo
            >>> A = lo.dense(8192, 8192, dtype="bfloat16")
            >>> print(A.explain(batch=4096, target="h100").splitlines()[-1].split())
            ['total', '274,877,906,944', '549,755,813,888', '268,435,456', '577', 'µs']
        """
        where = self._target if target is None else target if isinstance(target, Target) else Target.named(target)
        with nullcontext() if target is None else planned_for(where):
            steps = self._steps(batch, order, training)
        found, natural = self._counted(steps, batch).flops, self.flops(batch, "natural")
        vectors = f"{batch} vector{'' if batch == 1 else 's'}"
        header = [f"{self._short()} @ ({self.shape[1]}, {batch}): {self.num_params:,} parameters"]
        notes = [f", {vectors}"]
        notes += [f", by a plan (in the natural order {natural:,} FLOPs)"] if found != natural else []
        notes += [] if target is None else [f"; estimated on {where.name}"]
        if found != natural and target_of(where.backend, where.device) is None:
            notes += [f", and planned so once a machine file has numbers of {where.backend}/{where.device}"]
        if training:
            notes += ["; a training step"]
            steps += backward([(step, True, True) for step in steps])
        notes += [f"; times of {where.name}"] if target is None else []
        for note in notes:
            if len(header[-1] + note) <= _WIDTH:
                header[-1] += note
            else:
                header.append(note[2:])
        return explain("\n".join(header), steps, self._itemsize, where.machine, training)

    @property
    def _target(self) -> Target:
        """Where its products run, as far as numbers are known of it."""
        leaf = self._first_leaf
        return nearest(self.backend, "cpu" if leaf is None else backends.device_kind(leaf))


def as_batch(batch: Any) -> Any:
    """A number of vectors, or an error."""
    if not isinstance(batch, (int, np.integer)):
        raise TypeError(f"batch must be an integer (the number of vectors), got {batch!r}")
    if batch < 0:
        raise ValueError(f"batch must not be negative, got {batch}")
    return int(batch)
