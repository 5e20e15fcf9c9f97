"""How an Equinox model is run on a calibration set, and tells what its layers are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import numpy as np

from linops.nn.calibration import Calls, Listener, Runner, Watch
from linops.nn.equinox.dense import exchanged
from linops.nn.jax_calibration import Telling, is_traced, tell


def _mapped(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The model over the first axis of its arguments, as it takes one example."""
    return jax.vmap(lambda args, kwargs: model(*args, **kwargs))(args, kwargs)


CALLS = Calls((jax.Array, np.ndarray), _mapped, lambda model: model)


def watching(now: Callable[[], Any], run: Runner) -> Watch:
    """What runs a model and tells what its layers are given: others stand in their place while it runs.

    Args:
        now: The model as it is.
        run: What runs it.

    Returns:
        The function.
    """
    original = now()

    def watch(
        heard: Mapping[str, Listener],
        enough: Callable[[], bool],
        before: Mapping[str, Listener] | None = None,
        first: Callable[[], object] = bool,
    ) -> None:
        telling = Telling()

        def watched(model: Any, listeners: Mapping[str, Listener]) -> Any:
            def other(name: str, layer: Any) -> Any:
                return _watched(layer, telling.to(listeners[name])) if name in listeners else layer

            return eqx.nn.inference_mode(exchanged(model, other))

        model = watched(now(), heard)
        if before is not None:
            model = _After(model, watched(original, before), telling.settled(lambda: bool(first())))
        run(model, telling.settled(enough))
        telling.settle()

    return watch


class _Watched(eqx.nn.Linear):
    """A layer that tells its input."""

    listener: Listener = eqx.field(static=True)

    def __call__(self, x: Any, *, key: Any = None) -> Any:
        return super().__call__(tell(self.listener, x), key=key)


def _watched(layer: eqx.nn.Linear, listener: Listener) -> _Watched:
    watched = object.__new__(_Watched)
    for name, value in (*vars(layer).items(), ("listener", listener)):
        object.__setattr__(watched, name, value)
    return watched


class _After(eqx.Module):
    """A model that is called after another one."""

    model: Any
    original: Any
    first: Callable[[], object] = eqx.field(static=True)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not is_traced(args, kwargs):
            self.first()
        self.original(*args, **kwargs)
        return self.model(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name in ("model", "original", "first"):
            raise AttributeError(name)
        return getattr(self.model, name)
