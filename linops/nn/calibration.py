"""What a model's layers are given while it runs on a calibration set. Needs no framework.

A framework gives a `Watch`, which runs its model and tells what layers are given; the rest is here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, Protocol

from linops.projection import Moments

#: what runs a model on a calibration set; it may stop after a batch when the function says so
Runner = Callable[[Any, Callable[[], bool]], object]
#: what is told the input of a layer, at each of its calls
Listener = Callable[[Any], object]


class Watch(Protocol):
    """Runs a model on a calibration set, and tells what its layers are given."""

    def __call__(
        self,
        heard: Mapping[str, Listener],
        enough: Callable[[], bool],
        before: Mapping[str, Listener] | None = None,
        first: Callable[[], object] = bool,
    ) -> None:
        """Run the model.

        Args:
            heard: By the names of layers, what is told their inputs.
            enough: Whether the run may stop after a batch.
            before: The same of the model as it was, which runs on the same inputs before each call of the model.
            first: What is called before each such pair of calls, where these do not run compiled.
        """


@dataclass(frozen=True)
class Calls:
    """How models of a framework are called.

    Attributes:
        arrays: The classes of one array.
        call: Calls a model, with a tuple of arguments and a dict of named ones.
        signed: What of a model has the signature of its call.
    """

    arrays: tuple[type, ...]
    call: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
    signed: Callable[[Any], Callable[..., Any]]

    def __call__(self, model: Any, batch: Any, number: int) -> Any:
        """What a model gives for a batch.

        Args:
            model: The model.
            batch: An array; a tuple or list of arguments; or a dict of named ones.
            number: Which batch it is, for errors.

        Returns:
            What the model returns.

        Raises:
            TypeError: If the batch is none of these.
        """
        if isinstance(batch, self.arrays):
            return self.call(model, (batch,), {})
        if isinstance(batch, Mapping):
            return self.call(model, (), dict(batch))
        if isinstance(batch, (tuple, list)):
            try:
                signature(self.signed(model)).bind(*batch)
            except TypeError as error:
                raise TypeError(
                    f"calibration: batch {number} is a {type(batch).__name__} of {len(batch)}, which are the model's "
                    f"arguments: {error}; of pairs with labels take the inputs: calibration=[x for x, _ in loader]"
                ) from None
            return self.call(model, tuple(batch), {})
        raise TypeError(
            f"calibration: batch {number} is of {type(batch).__name__}; expected an array, or a tuple, list or dict of "
            "the model's arguments"
        )

    def runner(self, calibration: Any) -> Runner:
        """What runs a model on a calibration set, as often as it is asked to.

        Args:
            calibration: Batches, or a function that takes the model and runs it.

        Returns:
            A function of the model and of another one, which says whether enough was seen.

        Raises:
            TypeError: If it is one batch, can be read only once, or is none of the above.
        """
        if isinstance(calibration, (*self.arrays, Mapping, str)):
            kind = type(calibration).__name__
            raise TypeError(f"calibration={kind}: expected batches; of one batch, calibration=[batch]")
        if isinstance(calibration, Iterable):
            if iter(calibration) is calibration:
                raise TypeError(
                    f"calibration={type(calibration).__name__}: it can be read once, and is read once a layer; give "
                    "list(batches), a DataLoader, or a function that takes the model and runs it"
                )
            return partial(self._run, calibration)
        if callable(calibration):
            return lambda model, enough: calibration(model)
        raise TypeError(
            f"calibration={calibration!r:.60}: expected batches, or a function that takes the model and runs it"
        )

    def _run(self, batches: Iterable[Any], model: Any, enough: Callable[[], bool]) -> None:
        number = 0
        for batch in batches:
            number += 1
            self(model, batch, number)
            if enough():
                return
        if not number:
            raise ValueError("calibration: there is no batch; a calibration set must not be empty")


def check_calibration(weights: str, calibration: Any, sequential: bool, anchor: bool, moments: Any) -> None:
    """Refuse options of `replace_linear` that say nothing together.

    Raises:
        ValueError: If they do not.
    """
    if weights != "project" and calibration is not None:
        raise ValueError(f"replace_linear(weights={weights!r}, calibration=…): calibration is for weights='project'")
    if moments is not None and calibration is not None:
        raise ValueError("replace_linear: calibration and moments both say what layers are given; give one of them")
    if anchor and (calibration is None or not sequential):
        why = (
            "there is no calibration" if calibration is None else "with sequential=False all inputs are the original's"
        )
        raise ValueError(f"replace_linear(anchor=True): {why}")


def order(watch: Watch, names: Iterable[str]) -> list[str]:
    """Layers in the order of the forward pass.

    Args:
        watch: What runs the model.
        names: Of the layers.

    Returns:
        The names of those that were reached.
    """
    reached: dict[str, None] = {}
    heard = {name: partial(_reached, reached, name) for name in names}
    watch(heard, lambda: len(reached) == len(heard))
    return list(reached)


def _reached(reached: dict[str, None], name: str, x: Any) -> None:
    reached.setdefault(name)


def moments(watch: Watch, sizes: Mapping[str, int], anchor: bool = False) -> dict[str, Moments]:
    """The moments of what layers are given, in one pass.

    Args:
        watch: What runs the model.
        sizes: The number of features of each layer's input.
        anchor: Whether they hold, too, what the layers of the same names are given in the model as it was.

    Returns:
        Moments by name; of layers that were not reached their count is zero.

    Raises:
        ValueError: If an input holds NaN or infinity, or the original gives a layer another number of vectors.
    """
    found = {name: Moments(size) for name, size in sizes.items()}
    before: dict[str, deque[Any]] = {name: deque() for name in sizes}

    def add(name: str, x: Any) -> None:
        if anchor and not before[name]:
            raise _astray(name)
        try:
            found[name].add(x, before[name].popleft() if anchor else None)
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}") from error

    def all_used() -> None:
        for name, one in before.items():
            if one:
                raise _astray(name)

    heard = {name: partial(add, name) for name in sizes}
    if not anchor:
        watch(heard, bool)
        return found
    watch(heard, bool, {name: one.append for name, one in before.items()}, all_used)
    all_used()
    return found


def _astray(name: str) -> ValueError:
    return ValueError(
        f"layer {name!r}: the original model does not call it as often as the compressed one, or a part of the model "
        "was called by itself; use anchor=False"
    )
