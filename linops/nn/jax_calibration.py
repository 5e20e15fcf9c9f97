"""What layers of JAX's frameworks are given while a model runs: told to the host, also from within transformations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.custom_batching import custom_vmap
from jax.experimental import io_callback

from linops.nn.calibration import Listener


class Telling:
    """What tells listeners the arrays of layers, eager or compiled, in the order in which layers run.

    Under `jax.vmap` an array is told once, with the axis that is mapped in front. What listeners raise is kept until
    `settle`, as what is raised within a compiled program is another error.
    """

    def __init__(self) -> None:
        self._error: Exception | None = None

    def to(self, listener: Listener) -> Listener:
        """A listener that raises nothing, and is told nothing once one has.

        Args:
            listener: The listener.

        Returns:
            The other.
        """

        def tell(x: Any) -> None:
            if self._error is not None:
                return
            try:
                listener(np.asarray(x))
            except Exception as error:
                self._error = error

        return tell

    def settle(self) -> None:
        """Wait until everything is told, and raise what a listener has raised."""
        jax.effects_barrier()
        if self._error is not None:
            raise self._error

    def settled(self, enough: Callable[[], bool]) -> Callable[[], bool]:
        """The function after `settle`.

        Args:
            enough: The function.

        Returns:
            The other.
        """

        def settled() -> bool:
            self.settle()
            return enough()

        return settled


def tell(listener: Listener, x: Any) -> Any:
    """Tell an array of a layer.

    Args:
        listener: Takes it in NumPy.
        x: The array, which may be traced.

    Returns:
        The array, to go on with.
    """
    if not isinstance(x, Tracer):
        listener(x)
        return x

    @custom_vmap
    def told(x: Any) -> Any:
        io_callback(listener, None, x, ordered=True)
        return x

    @told.def_vmap
    def _(size: int, batched: Any, x: Any) -> Any:
        return told(x), True

    return told(x)


def is_traced(*values: Any) -> bool:
    """Whether an array in one of some pytrees is traced."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))
