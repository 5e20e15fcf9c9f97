"""Train a structured network with FSDP2 on scikit-learn's scanned digits, and save it from all processes.

    python examples/fsdp.py
    torchrun --nproc-per-node=2 examples/fsdp.py

Both print the same losses: each step takes the same batch, of which each process has its share.
"""

import os
import tempfile

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from sklearn.datasets import load_digits
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import linops as lo

STEPS, BATCH, WIDTH = 60, 128, 256


def build() -> nn.Module:
    """The model on one process: its middle layer is Monarch of two blocks."""
    torch.manual_seed(0)  # the same numbers on all processes
    model = nn.Sequential(nn.Linear(64, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, 10))
    lo.nn.replace_linear_(model, "monarch:blocks=2", where="2")
    return model


def shard(model: nn.Module) -> nn.Module:
    """The model with its parameters cut over all processes."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in model:
        if any(True for _ in layer.parameters()):
            fully_shard(layer, mesh=mesh, shard_placement_fn=lo.nn.torch.shard_placement)
    return fully_shard(model, mesh=mesh, shard_placement_fn=lo.nn.torch.shard_placement)


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Train, and print the mean loss of all processes on the first."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.as_tensor(images, dtype=torch.float32) / 16, torch.as_tensor(labels)
    random = torch.Generator().manual_seed(0)
    for step in range(STEPS):
        batch = torch.randint(len(x), (BATCH,), generator=random).chunk(dist.get_world_size())[dist.get_rank()]
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 19:
            mean = loss.detach()
            dist.all_reduce(mean)
            say(f"step {step + 1}: loss {mean.item() / dist.get_world_size():.3f}")


def say(text: str) -> None:
    """Print on the first process."""
    if dist.get_rank() == 0:
        print(text)


def main() -> None:
    """Train, save in both ways, and load what was saved."""
    folder = [tempfile.mkdtemp()]
    dist.broadcast_object_list(folder)  # the first process's, for all
    model = shard(build())
    optimizer = torch.optim.AdamW(lo.nn.param_groups(model, lr=1e-3))
    train(model, optimizer)

    states = dict(zip(("model", "optimizer"), get_state_dict(model, optimizer)))
    dcp.save(states, checkpoint_id=os.path.join(folder[0], "checkpoint"))  # each process writes its part
    other = shard(build())
    another = torch.optim.AdamW(lo.nn.param_groups(other, lr=1e-3))
    states = dict(zip(("model", "optimizer"), get_state_dict(other, another)))
    dcp.load(states, checkpoint_id=os.path.join(folder[0], "checkpoint"))  # as many processes as there are now
    set_state_dict(other, another, model_state_dict=states["model"], optim_state_dict=states["optimizer"])

    path = os.path.join(folder[0], "model.safetensors")
    lo.nn.save(other, path)  # all processes call it; the first writes the model as it is on one
    if dist.get_rank() == 0:
        single = lo.nn.load(build(), path)
        print(f"saved {sum(parameter.numel() for parameter in single.parameters()):,} parameters")


if __name__ == "__main__":
    if "RANK" in os.environ:  # of torchrun
        dist.init_process_group("gloo")
    else:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    main()
    dist.destroy_process_group()
