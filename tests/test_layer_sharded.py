"""The torch layer under FSDP2, in one process."""

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import linops as lo


def test_fully_shard(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        layer = lo.nn.torch.Linear(lo.Permute.random(16, seed=0) @ lo.btt(16, 16, rank=2), weight_norm=True)
        x = torch.randn(5, 16)
        y = layer(x)
        y.sum().backward()
        gradients = {name: parameter.grad for name, parameter in layer.named_parameters()}
        layer.zero_grad()
        fully_shard(layer, mesh=init_device_mesh("cpu", (1,)))
        sharded = layer(x)
        torch.testing.assert_close(sharded, y)
        sharded.sum().backward()
        for name, parameter in layer.named_parameters():
            assert isinstance(parameter, DTensor)
            torch.testing.assert_close(parameter.grad.full_tensor(), gradients[name])
        torch.optim.AdamW(lo.nn.param_groups(layer, lr=0.1)).step()
        assert not torch.equal(layer(x), y)
    finally:
        dist.destroy_process_group()
