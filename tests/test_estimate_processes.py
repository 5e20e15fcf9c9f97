"""Bytes and memory of `lo.nn.estimate`, against what FSDP2 and DDP hold and send on gloo processes."""

import functools
import warnings
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from estimate_models import Decoder, loss_of
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

import linops as lo

SHAPES = {
    "gpt": {"d_model": 32, "layers": 2, "heads": 4, "ff": 64, "vocab": 48, "seq": 16},
    "llama": {"d_model": 32, "layers": 2, "heads": 4, "kv_heads": 2, "ff": 48, "vocab": 48, "seq": 16, "gated": True},
}
#: what is expected of a step, in the words of `lo.nn.estimate`
HELD = ("parameters", "gradients", "optimizer")


def local(tensor):
    own = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return own.numel() * own.element_size()


def held_by(model, optimizer):
    """Bytes of this rank: parameters, gradients, state but for the count of steps."""
    states = [one for state in optimizer.state.values() for key, one in state.items() if key != "step"]
    named = (model.parameters(), [one.grad for one in model.parameters()], states)
    return dict(zip(HELD, [sum(map(local, tensors)) for tensors in named]))


def counted(collective, share, sent, function):
    """A collective of torch that writes down the bytes that a rank sends by a ring."""

    @functools.wraps(function)
    def run(*arguments, **words):
        tensors = [one for one in (*arguments, *words.values()) if isinstance(one, torch.Tensor)]
        whole = max([one.numel() * one.element_size() for one in tensors])
        sent[collective] = sent.get(collective, 0) + round(share * whole)
        return function(*arguments, **words)

    return run


def train(name, family, engine, precision, optimizer):
    """A step of training; what this rank holds, and what it has sent."""
    torch.manual_seed(0)
    model, ranks = Decoder(lo.nn.Transformer(**SHAPES[name])), dist.get_world_size()
    if family != "dense":
        lo.nn.replace_linear_(model, family, exclude="head")
    sent, share = {}, (ranks - 1) / ranks
    tokens = torch.zeros(2, 16, dtype=torch.int64)
    if engine == "fsdp":
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if precision == "mixed" else MixedPrecisionPolicy()
        options = {"shard_placement_fn": lo.nn.torch.shard_placement, "reshard_after_forward": True}
        options |= {"mp_policy": policy}
        for layer in model.layers:
            fully_shard(layer, **options)
        fully_shard(model, **options)
    run = model
    if engine == "ddp":

        def reduce(_, bucket):
            buffer = bucket.buffer()
            sent["all_reduce"] = sent.get("all_reduce", 0) + round(2 * share * buffer.numel() * buffer.element_size())
            return dist.all_reduce(buffer, async_op=True).get_future().then(lambda found: found.value()[0] / ranks)

        run = DistributedDataParallel(model)
        run.register_comm_hook(None, reduce)
    made = {"adamw": torch.optim.AdamW, "momentum": functools.partial(torch.optim.SGD, momentum=0.9)}
    if optimizer == "muon":
        stepped = lo.nn.muon.Muon(lo.nn.param_groups(model, lr=0.01, optimizer="muon", adamw=["embed", "positions"]))
    else:
        stepped = made[optimizer](model.parameters(), lr=0.01)
    with (
        patch.object(dist, "all_gather_single", counted("all_gather", share, sent, dist.all_gather_single)),
        patch.object(dist, "reduce_scatter_single", counted("reduce_scatter", share, sent, dist.reduce_scatter_single)),
    ):
        loss_of(run, tokens).backward()
    stepped.step()
    return held_by(model, stepped), sent


def divided_mlp(family):
    """What this rank holds of an MLP whose layers are divided, and has sent in a step."""
    model = mlp_of(family)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "parallelize_: .* stay whole")
        lo.nn.parallelize_(model, init_device_mesh("cpu", (dist.get_world_size(),)))
    x = torch.randn(6, 64, requires_grad=True)
    with lo.nn.torch.CommunicationMode() as mode:
        model(x).sum().backward()
    return sum(map(local, model.parameters())), dict(mode.counted)


def mlp_of(family):
    torch.manual_seed(0)
    layers = [lo.families.text.parse(family)(*shape).to_layer() for shape in ((128, 64), (64, 128))]
    return torch.nn.Sequential(layers[0], torch.nn.GELU(), layers[1])


CASES = [
    ("gpt", "dense", "fsdp", "float32", "adamw", 2),
    ("llama", "btt:rank=1", "fsdp", "mixed", "adamw", 2),
    ("gpt", "low_rank", "ddp", "float32", "momentum", 2),
    ("llama", "monarch:blocks=2", "fsdp", "float32", "momentum", 4),
    ("llama", "dense", "fsdp", "mixed", "adamw", 4),
    ("gpt", "kronecker", "ddp", "float32", "adamw", 4),
    ("gpt", "block_diag", "ddp", "float32", "muon", 2),
]


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "family", "engine", "precision", "optimizer", "ranks"),
    CASES,
)
def test_what_ranks_hold_and_send_is_what_was_estimated(processes, name, family, engine, precision, optimizer, ranks):
    found = processes(ranks, train, name, family, engine, precision, optimizer)
    options = {"engine": engine, "precision": precision, "optimizer": optimizer}
    said = lo.nn.estimate(lo.nn.Transformer(**SHAPES[name]), ranks, 2, families=[family], **options)[family]
    for held, sent in found:
        assert held == {part: getattr(said.memory, part) for part in HELD}
        assert sent == said.sent["data"]


@pytest.mark.parametrize(
    "family",
    [
        "btt:rank=1",
        "low_rank",
        "monarch",
        "block_diag",
        *(pytest.param(f"low_rank_{one}", marks=pytest.mark.full) for one in ("block", "sparse")),
    ],
)
def test_layers_divided_among_ranks(processes, family):
    said = lo.nn.estimate(mlp_of(family), {"model": 2}, 6, precision="float32")
    for held, sent in processes(2, divided_mlp, family):
        assert held == said.memory.parameters
        assert sent == dict(said.sent["model"])
