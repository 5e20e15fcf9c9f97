"""How a product runs: its steps, their order, and what they take."""

from linops.plan.explanation import explain
from linops.plan.machine import Machine, machine_of
from linops.plan.plan import natural_order
from linops.plan.step import Step

__all__ = ["Machine", "Step", "explain", "machine_of", "natural_order"]
