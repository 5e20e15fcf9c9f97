"""What a swapped model must pass: checks by name, each a function of a model of the table and its swapped form."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn
from zoo import ZOO, Trial

import linops as lo
from linops.nn.torch.parts import Parts

FAMILY = "btt"
LAYERS = (lo.nn.torch.Linear, Parts)


@dataclass(frozen=True)
class Swapped:
    """A model of the table after the swap.

    Attributes:
        trial: It, with the swapped model.
        dense: The model as it was.
        report: What `replace_linear_` said.
        messages: Its warnings.
    """

    trial: Trial
    dense: nn.Module
    report: Any
    messages: tuple[str, ...]


def fresh(name: str, seed: int = 0) -> Swapped:
    """A model of the table, swapped."""
    torch.manual_seed(seed)
    trial = ZOO[name]()
    dense = copy.deepcopy(trial.model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = lo.nn.replace_linear_(trial.model, FAMILY, **trial.options)
    for model in (dense, trial.model):  # heads that start at zero would hide what is before them
        for parameter in model.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
    return Swapped(trial, dense, report, tuple(str(one.message) for one in caught))


#: one for the checks that leave it as it is
swapped = cache(fresh)


def structured(model: nn.Module) -> list[str]:
    """The names of the swapped layers, without those inside of others."""
    names = [name for name, module in model.named_modules() if isinstance(module, LAYERS)]
    return [name for name in names if not name.startswith(tuple(f"{other}." for other in names))]


def forward(name: str) -> str:
    """The outputs are those of the same model with each swapped layer written out as a dense one."""
    one = swapped(name)
    twin = copy.deepcopy(one.trial.model)
    for layer in structured(twin):
        parent, _, child = layer.rpartition(".")
        setattr(twin.get_submodule(parent), child, twin.get_submodule(layer).to_dense())
    with torch.no_grad():
        actual, expected = one.trial.forward(), one.trial.forward(twin)
    error = float((actual - expected).abs().max() / expected.abs().max())
    assert error < 1e-4, f"relative error {error:.1e}"
    assert len(one.report) >= 2
    return f"{error:.0e}"


def training(name: str) -> str:
    """The loss falls, every trainable parameter of a swapped layer has a finite gradient and moves."""
    one = fresh(name, seed=1)
    model = one.trial.model.train()
    parameters = {
        f"{layer}.{key}": parameter
        for layer in structured(model)
        for key, parameter in model.get_submodule(layer).named_parameters()
        if parameter.requires_grad
    }
    start = {key: parameter.detach().clone() for key, parameter in parameters.items()}
    optimizer = torch.optim.AdamW(lo.nn.param_groups(model, lr=3e-3))
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = one.trial.loss()
        loss.backward()
        without = [
            key
            for key, parameter in parameters.items()
            if parameter.grad is None or not parameter.grad.isfinite().all()
        ]
        assert not without, f"no gradient: {without[:3]}"
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0], f"{losses}"
    still = [key for key, parameter in parameters.items() if torch.equal(parameter.detach(), start[key])]
    assert not still, f"did not move: {still[:3]}"
    return f"{losses[0]:.1f} → {losses[-1]:.1f}"


def compiles(name: str) -> str:
    """torch.compile breaks its graph no more often than for the dense model, and gives the same outputs."""
    one = swapped(name)
    graphs = {"dense": 0, "swapped": 0}
    for kind, model in (("dense", one.dense), ("swapped", one.trial.model)):

        def count(graph: Any, _: Any, kind: str = kind) -> Any:
            graphs[kind] += 1
            return graph

        torch.compiler.reset()
        with torch.no_grad():
            compiled, expected = torch.compile(one.trial.forward, backend=count)(model), one.trial.forward(model)
        error = float((compiled - expected).abs().max() / expected.abs().max())
        assert error < 1e-4, f"{kind}: relative error {error:.1e}"
    torch.compiler.reset()
    assert 1 <= graphs["swapped"] <= graphs["dense"], f"graphs: {graphs}"
    return "one graph" if graphs["swapped"] == 1 else f"{graphs['swapped']} graphs, dense {graphs['dense']}"


def generate(name: str) -> str:
    """`generate` gives the tokens of a forward's own argmax, with its cache."""
    one = swapped(name)
    if one.trial.generate is None:
        return "-"
    ids = one.trial.inputs["input_ids"]
    with torch.no_grad():
        made = one.trial.model.generate(ids, **one.trial.generate)
        again = one.trial.model.generate(ids, **one.trial.generate, use_cache=False)
    assert torch.equal(made, again), "with and without a cache"
    assert made.shape[1] > 1
    return "same tokens"


def state_dict(name: str) -> str:
    """A state dict loads strictly into a model built and swapped anew, which gives the same outputs to the bit."""
    one, other = swapped(name), fresh(name, seed=2)
    state = {key: value.clone() for key, value in one.trial.model.state_dict().items()}
    other.trial.model.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(other.trial.forward(), one.trial.forward())
    return f"{len(state)} entries"


def report(name: str) -> str:
    """The report has every parameter of the model, before and now, in 80 columns; what is left alone has a reason."""
    one = swapped(name)
    totals = tuple(sum(parameter.numel() for parameter in model.parameters()) for model in (one.dense, one.trial.model))
    assert one.report.totals == totals
    assert sum(left.params for left in one.report.left) + one.report.new_params == totals[1]
    assert max(map(len, str(one.report).splitlines())) <= 80
    # a linear layer that is still there is named, with why
    dense = {key for key, module in one.trial.model.named_modules() if isinstance(module, nn.Linear)}
    named = {key for left in one.report.left if left.why for key in left.names} | set(one.report.skipped)
    assert dense <= named, f"left without a word: {sorted(dense - named)[:3]}"
    return f"{totals[1] / totals[0]:.0%} of {totals[0]:,}"


CHECKS: dict[str, Callable[[str], str]] = {
    "forward": forward,
    "training": training,
    "compile": compiles,
    "generate": generate,
    "state_dict": state_dict,
    "report": report,
}
