"""How a product runs: its steps, in the order in which they run."""

from linops.plan.step import Step, explain

__all__ = ["Step", "explain"]
