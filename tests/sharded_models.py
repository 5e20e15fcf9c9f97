"""Small models, wrapped by PyTorch's engines on several processes, and trained beside the same model on one."""

import copy
from functools import partial

import torch
import torch.distributed as dist
from layer_cases import OPERATORS
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel

import linops as lo
from linops.nn.torch.parts import Parts

#: how a model is wrapped
WAYS = ("ddp", "fsdp", "fsdp_kept", "fsdp_placed", "fsdp_bf16", "hybrid")
MORE = {
    "btt_rank_4": lambda: lo.btt(16, 16, rank=4, allow_dearer=True),
    "permuted_product": lambda: lo.Permute.random(16, seed=0) @ lo.monarch(16, 8, blocks=2) @ lo.Permute.random(8, 1),
}
#: no linear maps
NONLINEAR = {
    "chain": partial(lo.nn.torch.Chain, 16, 16, rank=4),
    "btt_mixture": partial(lo.nn.torch.BTTMixture, 16, 16, experts=4, balance=0, allow_dearer=True),
}

NAMES = (*OPERATORS, *MORE, *NONLINEAR)
#: whose scale has no effect, so that the gradient of a gain is noise, which AdamW scales up
SCALELESS = ("reflected_triangular",)


class Branch(nn.Sequential):
    """Structured, dense, structured with weight normalisation, dense, and in parts."""

    def __init__(self, name, dtype):
        build = (OPERATORS | MORE)[name]
        m, n = build().shape
        layers = [lo.nn.torch.Linear(build(), dtype=dtype, weight_norm=on and name not in SCALELESS) for on in (0, 1)]
        parts = Parts([lo.nn.torch.Linear(build(), bias=False, dtype=dtype) for _ in range(2)], bias=True)
        dense = [nn.Linear(m, n, dtype=dtype) for _ in range(2)]
        super().__init__(layers[0], nn.Tanh(), dense[0], layers[1], nn.Tanh(), dense[1], parts)
        with torch.no_grad():  # numbers everywhere, and mean squares that weight normalisation caps
            for parameter in self.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.5)


class NonlinearBranch(nn.Sequential):
    """A layer that is no linear map, dense, and another one."""

    def __init__(self, name, dtype):
        layers = [NONLINEAR[name](dtype=dtype) for _ in range(2)]
        super().__init__(layers[0], nn.Tanh(), nn.Linear(16, 16, dtype=dtype), layers[1])


class Model(nn.Module):
    """A branch for each name, each of its own inputs."""

    def __init__(self, names, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(0)
        self.branches = nn.ModuleDict(
            {name: (NonlinearBranch if name in NONLINEAR else Branch)(name, dtype) for name in names}
        )

    @property
    def layers(self):
        return [layer for branch in self.branches.values() for layer in branch if not isinstance(layer, nn.Tanh)]

    def forward(self, x):
        parts = x.split([branch[0].in_features for branch in self.branches.values()], dim=-1)
        return torch.cat([branch(part) for branch, part in zip(self.branches.values(), parts)], dim=-1)


def inputs(model, rows=8):
    """A batch, the same on all ranks."""
    n = sum(branch[0].in_features for branch in model.branches.values())
    x = torch.randn(rows, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x.to(next(model.parameters()).dtype)


def share(x):
    """This rank's rows."""
    return x.chunk(dist.get_world_size())[dist.get_rank()]


def wrapped(model, way):
    """The model under one of `WAYS`, with fully_shard on each branch and the root."""
    if way == "ddp":
        return DistributedDataParallel(model)
    ranks = dist.get_world_size()
    mesh = init_device_mesh("cpu", (ranks,))
    options = {"mesh": mesh}
    if way == "hybrid":
        options["mesh"] = init_device_mesh("cpu", (2, ranks // 2), mesh_dim_names=("replicate", "shard"))
    if way == "fsdp_kept":
        options["reshard_after_forward"] = False
    if way == "fsdp_placed":
        options["shard_placement_fn"] = lo.nn.torch.shard_placement
    if way == "fsdp_bf16":
        options["mp_policy"] = MixedPrecisionPolicy(torch.bfloat16, torch.float32)
    for branch in model.branches.values():
        fully_shard(branch, **options)
    return fully_shard(model, **options)


def assert_same(tensors, wanted, **close):
    """Assert that named tensors are those of one process: of each that is cut, the part that this rank has."""
    for (path, one), (_, other) in zip(tensors, wanted, strict=True):
        if isinstance(one, DTensor):
            other = distribute_tensor(other.detach(), one.device_mesh, one.placements, src_data_rank=None).to_local()
            one = one.to_local()
        torch.testing.assert_close(one.detach(), other.detach(), msg=lambda said, path=path: f"{path}: {said}", **close)


def loss_of(model, x):
    """A number that depends on all outputs: of rows alike, so the mean over ranks is that over all rows."""
    y = model(x)
    return (y.float() if y.dtype == torch.bfloat16 else y).square().sum(dim=-1).mean()


def halved(model, x):
    """Losses and gradients as FSDP2 with bfloat16 has them: of each rank's rows in bfloat16, their mean in float32."""
    parameters = dict(model.named_parameters())
    losses, gradients = [], {name: torch.zeros_like(one) for name, one in parameters.items()}
    ranks = dist.get_world_size()
    for rows in x.to(torch.bfloat16).chunk(ranks):
        cast = {name: one.detach().to(torch.bfloat16).requires_grad_() for name, one in parameters.items()}
        loss = loss_of(lambda rows, cast=cast: functional_call(model, cast, (rows,)), rows)
        for name, gradient in zip(cast, torch.autograd.grad(loss, list(cast.values()))):
            gradients[name] += gradient.float() / ranks
        losses.append(loss.detach())
    for name, one in parameters.items():
        one.grad = gradients[name]
    return torch.stack(losses).mean()


def optimizer_of(model, kind="adamw"):
    """AdamW, Muon with static rates, or Muon as it is by default, with the rates of linops."""
    options = {"muon": {"renormalize": False}, "renormalized": {"optimizer": "muon"}}.get(kind, {})
    options = {"optimizer": kind} | options
    groups = lo.nn.param_groups(model, lr=1e-2, weight_decay=0.1, **options)
    return torch.optim.AdamW(groups) if kind == "adamw" else lo.nn.torch.Muon(groups)


def same_as_one(names, way, kind="adamw", steps=3):
    """Assert that losses, gradients and parameters over some steps are those of one process."""
    half = way == "fsdp_bf16"
    single = Model(names, torch.float32 if half else torch.float64)
    model = wrapped(copy.deepcopy(single), way)
    inner = model.module if way == "ddp" else model
    x, optimizers = inputs(single), (optimizer_of(single, kind), optimizer_of(inner, kind))
    close = {"rtol": 1e-5, "atol": 1e-6} if half else {"rtol": 1e-10, "atol": 1e-12}
    for _ in range(steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = halved(single, x) if half else loss_of(single, x)
        if not half:
            loss.backward()
        ours = loss_of(model, share(x))
        ours.backward()
        mean = ours.detach().clone()
        dist.all_reduce(mean)
        torch.testing.assert_close(mean / dist.get_world_size(), loss.detach(), **close)
        assert_same(gradients(inner), gradients(single), **close)
        for optimizer in optimizers:
            optimizer.step()
    assert_same(inner.named_parameters(), single.named_parameters(), **close)


def gradients(model):
    """The gradients by name."""
    return [(name, parameter.grad) for name, parameter in model.named_parameters()]
