"""How a product runs: its steps, their order, and what they take."""

from linops.plan.explanation import explain
from linops.plan.machine import Machine
from linops.plan.plan import natural_order
from linops.plan.step import Step
from linops.plan.target import Target, target_of

__all__ = ["Machine", "Step", "Target", "explain", "natural_order", "target_of"]
