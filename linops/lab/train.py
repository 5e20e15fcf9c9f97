"""The training loop: cosine schedule, gradient clipping, logs, checkpoints; resumed runs equal uninterrupted ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import cos, pi
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Protocol

import torch
from torch import nn

from linops.lab import checkpoint, distributed
from linops.lab.rates import stepper
from linops.nn.torch.mixture import balance_loss

Progress = Callable[[int, float], None]

#: steps between two looks at the loss, each of which waits for the device
LOOK_EVERY = 20


class Task(Protocol):
    """What is learnt. A batch depends on seed and step alone, so runs are resumed, or shared by processes, anywhere."""

    def batch(self, step: int, size: int) -> Any:
        """The batch of a step: whatever `loss` takes, with `size` examples."""
        ...

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        """The mean loss over the examples of a batch."""
        ...


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        steps: Number of steps.
        batch: Examples a step, over all processes.
        warmup: Steps of linear warm-up.
        cosine: Whether the rates fall to zero as a half cosine; otherwise they stay.
        clip: The largest norm of the gradient; 0 does not clip.
        bf16: Whether to multiply in bfloat16 by autocast.
        compile: Whether to compile the model by `torch.compile`.
        checkpoint_every: Steps between two checkpoints; 0 writes none.
    """

    steps: int = 1000
    batch: int = 128
    warmup: int = 0
    cosine: bool = True
    clip: float = 0.0
    bf16: bool = False
    compile: bool = False
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise ValueError(f"training: {self.steps} steps of {self.batch} examples; expected at least one of each")

    def schedule(self, step: int) -> float:
        """The share of the full rate at a step.

        Args:
            step: From 0.

        Returns:
            A number from 0 to 1.

        Example:
            >>> Settings(steps=100).schedule(50)
            0.5
        """
        if step < self.warmup:
            return (step + 1) / self.warmup
        if not self.cosine:
            return 1.0
        return 0.5 * (1 + cos(pi * (step - self.warmup) / max(self.steps - self.warmup, 1)))


@dataclass(frozen=True)
class Trained:
    """What training leaves behind.

    Attributes:
        losses: The loss of the batch at every step, before the step.
        seconds: Time spent in steps, over all sessions of a resumed run.
        cpu_seconds: CPU time of this process in steps, all threads together: what else the machine does counts little.
    """

    losses: list[float]
    seconds: float
    cpu_seconds: float


def train(
    model: nn.Module,
    task: Task,
    groups: list[dict[str, Any]],
    settings: Settings,
    *,
    folder: Path | None = None,
    identity: dict[str, Any] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Trained:
    """Trains a model in place, with Adam or Muon; mixtures add their balance loss, which stands in no log.

    Args:
        model: The model, on its device.
        task: What to learn.
        groups: Parameter groups, each with ``params`` and ``lr``, the rate at its highest; `linops.lab.rates.stepper`
            makes the optimiser of them.
        settings: How.
        folder: Where ``log.jsonl`` and ``checkpoint.pt`` go; None writes nothing.
        identity: What else distinguishes this run (structure, width, seed …): a checkpoint of another run is refused.
        resume: Whether to go on from the folder's checkpoint, if there is one.
        progress: Called with the number of finished steps and the latest loss.

    Returns:
        The losses and the time.

    Raises:
        ValueError: If the checkpoint is of another run.
        FloatingPointError: If the loss is no longer finite.
    """
    device = next(model.parameters()).device
    rates = [group["lr"] for group in groups]
    optimizer = stepper(groups, device)
    identity = identity or {}
    losses, seconds, cpu_seconds, start = [], 0.0, 0.0, 0
    state = earlier(folder, settings, identity, device) if folder and resume else None
    if state is not None:
        start, losses = state["step"], state["losses"]
        seconds, cpu_seconds = state["seconds"], state["cpu_seconds"]
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"].cpu())
    log = checkpoint.Log(folder / "log.jsonl" if folder and distributed.is_first() else None, start)
    compiled: Any = torch.compile(model) if settings.compile else model
    parallel = distributed.parallel(compiled)
    parameters = list(model.parameters())
    waiting: list[torch.Tensor] = []
    clock, cpu_clock = perf_counter(), process_time()

    def look(step: int) -> None:
        """Reads the losses that wait on the device, and writes them down."""
        fresh = torch.stack(waiting).tolist()
        waiting.clear()
        first = len(losses)
        losses.extend(fresh)
        log.write(
            [
                {"step": first + k, "loss": loss, "lr_share": settings.schedule(first + k)}
                for k, loss in enumerate(fresh)
            ]
        )
        if not all(map(_is_finite, fresh)):
            raise FloatingPointError(f"the loss is {fresh[-1]} after {step} steps; lower the learning rate")
        if progress is not None:
            progress(step, losses[-1])

    for step in range(start, settings.steps):
        share = settings.schedule(step)
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate * share
        batch = distributed.share(task.batch(step, settings.batch))
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16):
            loss = task.loss(parallel, batch)
        optimizer.zero_grad()
        (loss + balance_loss(model)).backward()
        if settings.clip:
            nn.utils.clip_grad_norm_(parameters, settings.clip)
        optimizer.step()
        waiting.append(distributed.mean(loss.detach()))
        done = step + 1
        last = done == settings.steps
        saves = bool(folder) and bool(settings.checkpoint_every) and (last or done % settings.checkpoint_every == 0)
        if saves or last or done % LOOK_EVERY == 0:
            look(done)
        if saves and folder and distributed.is_first():
            state = {
                "identity": asdict(settings) | identity,
                "step": done,
                "losses": losses,
                "seconds": seconds + perf_counter() - clock,
                "cpu_seconds": cpu_seconds + process_time() - cpu_clock,
            }
            state |= {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()}
            checkpoint.save(folder / "checkpoint.pt", state)
    return Trained(losses, seconds + perf_counter() - clock, cpu_seconds + process_time() - cpu_clock)


def _is_finite(loss: float) -> bool:
    return abs(loss) < float("inf")  # False for nan


def earlier(folder: Path, settings: Settings, identity: dict[str, Any], device: Any = "cpu") -> dict[str, Any] | None:
    """The checkpoint of a folder.

    Args:
        folder: The folder.
        settings: How the run is trained.
        identity: What else tells it from others.
        device: Where the checkpoint's tensors go.

    Returns:
        The checkpoint, or None if there is none.

    Raises:
        ValueError: If it is of another run.
    """
    state = checkpoint.load(folder / "checkpoint.pt", device)
    theirs, ours = (state or {}).get("identity", {}), asdict(settings) | identity
    differing = (
        sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name)) if state else []
    )
    if differing:
        told = ", ".join(f"{name} {theirs.get(name)!r}, now {ours.get(name)!r}" for name in differing)
        raise ValueError(
            f"the checkpoint in {folder} is of another run ({told}): take another --out, or --force to train anew"
        )
    return state
