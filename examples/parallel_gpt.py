"""Train a small GPT with BTT layers, over data and over structure, on one process or under torchrun.

    python examples/parallel_gpt.py
    torchrun --nproc-per-node 4 --max-restarts 2 examples/parallel_gpt.py --model-ranks 2 --out runs/gpt

Each group of `--model-ranks` processes holds one copy of the model, divided by the structure of its layers; the groups
share each batch, and the parameters by FSDP2. Processes that are killed go on from the last checkpoint.
"""

import argparse
import json
import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy

import linops as lo
from linops.lab.distributed import session
from linops.lab.text import load_text
from linops.lab.transformer import GPT

CONTEXT, BATCH = 32, 8

parser = argparse.ArgumentParser()
parser.add_argument("--model-ranks", type=int, default=1, help="processes that share one copy of the model")
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--save-every", type=int, default=10)
parser.add_argument("--out", type=Path, help="folder for checkpoints and losses")


def build() -> GPT:
    """A GPT, structured; the same on every process."""
    torch.manual_seed(0)
    model = GPT(256, CONTEXT, width=64, depth=2)
    lo.nn.replace_linear_(model, "btt", where="layers.*")
    return model


def batch(text: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Bytes and those that follow them: the same for a step wherever it runs."""
    generator = torch.Generator().manual_seed(step)
    starts = torch.randint(len(text) - CONTEXT - 1, (BATCH,), generator=generator)
    rows = torch.stack([text[start : start + CONTEXT + 1] for start in starts])
    return rows[:, :-1], rows[:, 1:]


def main(options: argparse.Namespace) -> list[float]:
    """Train, and return the losses."""
    model, text = build(), torch.as_tensor(load_text()).long()
    data, share = 0, 1
    if dist.is_initialized():
        shape = dist.get_world_size() // options.model_ranks, options.model_ranks
        mesh = init_device_mesh("cpu", shape, mesh_dim_names=("data", "model"))
        style = {"*.[qkv]": "colwise", "*.out": "rowwise", "*.up": "colwise", "*.down": "rowwise"}
        divided = lo.nn.parallelize_(model, mesh, "model", style=style | {"*.[qk]_norm": "replicated"})
        if dist.get_rank() == 0:
            print(divided)
        fully_shard(model, mesh=mesh["data"])
        data, share = mesh["data"].get_local_rank(), mesh["data"].size()
    optimizer = torch.optim.AdamW(lo.nn.param_groups(model, lr=3e-3))
    losses = restore(options.out, model, optimizer)
    for step in range(len(losses), options.steps):
        x, y = (part.chunk(share)[data] for part in batch(text, step))
        loss = cross_entropy(model(x).flatten(0, 1), y.flatten())
        loss.backward()
        lo.nn.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss = loss.detach()
        if dist.is_initialized():
            dist.all_reduce(loss)
            loss /= dist.get_world_size()
        losses.append(loss.item())
        if options.out and (step + 1) % options.save_every == 0:
            save(options.out, step + 1, model, optimizer, losses)
    return losses


def save(out: Path, step: int, model: GPT, optimizer: torch.optim.Optimizer, losses: list[float]) -> None:
    """Write a checkpoint, of which `latest` speaks when it is whole."""
    weights, state = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": state}, checkpoint_id=out / f"step_{step}")
    if int(os.environ.get("RANK", "0")) == 0:
        (out / "latest.new").write_text(json.dumps({"step": step, "losses": losses}))
        (out / "latest.new").replace(out / "latest")


def restore(out: Path | None, model: GPT, optimizer: torch.optim.Optimizer) -> list[float]:
    """Go on from the last whole checkpoint, if there is one."""
    if out is None or not (out / "latest").exists():
        return []
    latest = json.loads((out / "latest").read_text())
    weights, state = get_state_dict(model, optimizer)
    kept = {"model": weights, "optimizer": state}
    dcp.load(kept, checkpoint_id=out / f"step_{latest['step']}")
    set_state_dict(model, optimizer, model_state_dict=kept["model"], optim_state_dict=kept["optimizer"])
    return latest["losses"]


if __name__ == "__main__":
    arguments = parser.parse_args()
    with session("cpu"):
        curve = main(arguments)
        if int(os.environ.get("RANK", "0")) == 0:
            print(f"losses: {curve[0]:.4f} … {curve[-1]:.4f} after {len(curve)} steps")
            if arguments.out:
                (arguments.out / "losses.json").write_text(json.dumps(curve))
