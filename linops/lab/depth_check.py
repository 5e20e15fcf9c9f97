"""The coordinate check over depth: how far a few steps move what the head of the paper's MLP reads, by depth.

With the residual multiplier and ε of CompleteP (Dey et al., 2025) models of every depth move alike: the slope of log Δh
in log depth is near zero. Without them features move the further, the deeper the model is.

    linops coord-check --over-depth
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from rich.console import Console
from torch.nn.functional import cross_entropy

from linops.families.text import Variant
from linops.lab.experiments import with_dense
from linops.lab.fits import PowerLaw, power_law
from linops.lab.mnist1d import generate
from linops.lab.models import MLP
from linops.lab.tables import table
from linops.nn import balance_loss, param_groups, replace_linear_

DEPTHS = (2, 4, 8, 16, 32)
BASE_DEPTH = 2


def trained(
    structure: str, depth: int, completep: bool, *, width: int = 64, lr: float = 3e-3, steps: int = 20, seed: int = 0
) -> tuple[float, float]:
    """Δh and the loss after a few steps of AdamW on MNIST-1D, at a batch of 128.

    Args:
        structure: Of the blocks' layers.
        depth: Number of blocks.
        completep: Whether branches and ε scale with the depth.
        width: Of the model.
        lr: The rate.
        steps: How many.
        seed: Of weights and batches.

    Returns:
        The root mean square, over 256 examples and features, of the change of what the head reads; and the mean loss of
        the last tenth of the steps.
    """
    x, y = (torch.from_numpy(array) for array in generate(8192, seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MLP(40, 10, width, depth, BASE_DEPTH if completep else None)
        if structure != "dense":
            replace_linear_(model, structure, where="blocks.*")
    deeper = {"blocks.*": depth / BASE_DEPTH} if completep else None
    optimizer = torch.optim.AdamW(param_groups(model, lr, depth=deeper))
    with torch.no_grad():
        before = model.features(x[:256])
    order, losses = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        batch = torch.randint(len(x), (128,), generator=order)
        loss = cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        (loss + balance_loss(model)).backward()
        optimizer.step()
        losses.append(loss.detach())
    with torch.no_grad():
        change = (model.features(x[:256]) - before).square().mean().sqrt()
    last = losses[-max(1, steps // 10) :]
    return float(change), float(torch.stack(last).mean())


def slope(structure: str, completep: bool, depths: Sequence[int] = DEPTHS, **options: float) -> float:
    """The slope of log Δh in log depth.

    Args:
        structure: Of the blocks' layers.
        completep: Whether branches and ε scale with the depth.
        depths: The depths.
        **options: For `trained`.

    Returns:
        The slope.
    """
    changes = [trained(structure, depth, completep, **options)[0] for depth in depths]  # type: ignore[arg-type]
    return power_law(list(depths), changes).exponent


def run_depth_check(console: Console, structures: Sequence[Variant], seed: int = 0) -> dict[str, PowerLaw]:
    """Print Δh over depth of each structure, without CompleteP and with it.

    Args:
        console: Where to print.
        structures: Of the blocks' layers; dense is added.
        seed: Of weights, batches and data.

    Returns:
        Power laws of Δh in depth, by the rows of the table.
    """
    laws, cells = {}, []
    for structure in with_dense(structures):
        for completep in (False, True):
            changes = [trained(structure.text, depth, completep, seed=seed)[0] for depth in DEPTHS]
            name = f"{structure.text}, CompleteP" if completep else structure.text
            laws[name] = power_law(list(DEPTHS), changes)
            cells.append((name, *[f"{change:.3f}" for change in changes], f"{laws[name].exponent:.2f}"))
    caption = (
        f"MNIST-1D, width 64, 20 steps of AdamW at 0.003, seed {seed}: how far they move what the head reads.\n"
        f"CompleteP: branches times {BASE_DEPTH} / depth, and Adam's epsilon by depth. Slope: of log in log depth."
    )
    console.print(table("Coordinate check over depth", ["structure", *map(str, DEPTHS), "slope"], cells, caption))
    return laws
