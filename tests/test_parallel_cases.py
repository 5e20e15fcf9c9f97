"""Divided layers in the odd places of models: what repeats, is shared, empty, complex, copied or loaded."""

import copy
import io
import warnings

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

import linops as lo

Linear = lo.nn.torch.Linear


def full(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def share(x):
    return x.chunk(torch.distributed.get_world_size(), -1)[torch.distributed.get_rank()].clone()


def call(name):
    torch.manual_seed(0)
    return globals()[name]()


def divided(model, style=None):
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    other = copy.deepcopy(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "parallelize_: .* stay whole")
        return other, lo.nn.parallelize_(other, mesh, style=style)


def same(model, x, style=None):
    """Whether a model, divided, gives what it gives; and the styles of its layers."""
    other, rows = divided(model, style)
    torch.testing.assert_close(other(x), model(x))
    return [row.style for row in rows]


class Center(nn.Identity):
    def forward(self, x):
        return x - x.mean(-1, keepdim=True)


class Thrice(Linear):
    def forward(self, x):
        return 3 * super().forward(x)


def automatic():
    """Runs of a Sequential are cut where more than features is looked at, and where layers are used twice."""
    x, softmax = torch.randn(4, 16), nn.Softmax(-1)
    a, b, c, d, e = (Linear(lo.btt(16, 16)) for _ in range(5))
    hooked = nn.ReLU()
    hooked.register_forward_hook(lambda module, inputs, y: y / (1 + y.norm(dim=-1, keepdim=True)))
    odd = nn.Sequential(Linear(lo.dense(63, 16)), nn.ReLU(), Linear(lo.dense(8, 63)))
    return [
        same(nn.Sequential(a, softmax, b, softmax, c), x),
        same(nn.Sequential(a, nn.ReLU(), b, nn.ReLU(), a), x),
        same(nn.Sequential(a, Center(), b), x),
        same(nn.Sequential(a, hooked, b), x),
        same(odd, x),
        same(nn.Sequential(a, nn.ReLU(), d, nn.ReLU(), e), x),
    ]


def shapes():
    """Leaves that act twice, single vectors, empty batches, complex numbers, narrow numbers."""
    for style in ("whole", "colwise", "rowwise", "sharded"):
        for operator in (lo.btt(64, 64) ** 2, lo.low_rank(64, 64, rank=8) ** 3):
            same_in(Linear(operator), style, torch.randn(5, 64))
        for operator in (lo.btt(64, 64), lo.low_rank(64, 64, rank=4), lo.dense(64, 64), lo.kronecker(64, 64)):
            for lead in ((), (0,), (2, 0), (2, 3)):
                same_in(Linear(operator), style, torch.randn(*lead, 64))
            same_in(Linear(operator, dtype=torch.complex64), style, torch.randn(2, 64, dtype=torch.complex64))
            same_in(Linear(operator).double(), style, torch.randn(2, 64, dtype=torch.float64))


def same_in(layer, style, x):
    other, _ = divided(layer, style)
    into, out = style in ("rowwise", "sharded"), style in ("colwise", "sharded")
    y = layer(x)
    z = other(share(x) if into else x)
    torch.testing.assert_close(z, share(y) if out else y)
    y.abs().square().sum().backward()
    z.abs().square().sum().backward()
    for name, parameter in layer.named_parameters():
        gradient = full(other.get_parameter(name).grad)
        if name != "bias" or out or not into:
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-4)


def copies():
    """Copies, files and states of divided models."""
    model = nn.Sequential(Linear(lo.btt(16, 16)), nn.LayerNorm(8), Linear(lo.btt(16, 16)))
    other, _ = divided(model, {"0": "colwise", "1": "replicated", "2": "rowwise"})
    x = torch.randn(3, 16)
    y = other(x)
    torch.testing.assert_close(copy.deepcopy(other)(x), y)
    for layer, z in ((other[0], x), (other[1], share(x))):
        file = io.BytesIO()
        torch.save(layer, file)
        file.seek(0)
        torch.testing.assert_close(torch.load(file, weights_only=False)(z), layer(z))
    one = Linear(lo.dense(16, 16))
    for assign in (False, True):
        for placement in (None, Shard(0), Shard(1), Replicate()):
            two, _ = divided(Linear(lo.dense(16, 16)), "whole")
            state = {name: value.clone() for name, value in one.state_dict().items()}
            if placement is not None:
                matrix = distribute_tensor(state["matrix"], two.matrix.device_mesh, [placement])
                state |= {"matrix": matrix}
            two.load_state_dict(state, assign=assign)
            torch.testing.assert_close(two(x), one(x))


def second_derivatives():
    """Gradients of gradients, and gradients that accumulate."""
    one = Linear(lo.btt(16, 16)).double()
    two, _ = divided(one, "whole")
    x = torch.randn(3, 16, dtype=torch.float64, requires_grad=True)
    found = []
    for layer in (one, two):
        (slope,) = torch.autograd.grad(layer(x).tanh().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), x)[0])
    torch.testing.assert_close(*found)
    for _ in range(2):
        one(x).square().sum().backward()
        two(x).square().sum().backward()
    for name, parameter in one.named_parameters():
        torch.testing.assert_close(full(two.get_parameter(name).grad), parameter.grad)


def dense_between():
    """Bytes of torch's own layers between structured ones, wider and narrower; norms of gradients."""
    for middle in (nn.Linear(64, 16), nn.Linear(64, 256)):
        model = nn.Sequential(
            Linear(lo.btt(64, 32)), nn.GELU(), middle, nn.ReLU(), Linear(lo.btt(32, middle.out_features))
        ).double()
        other, rows = divided(model)
        x = torch.randn(5, 32, dtype=torch.float64, requires_grad=True)
        with lo.nn.torch.CommunicationMode() as mode:
            y = other(x)
            y.sum().backward()
        torch.testing.assert_close(y, model(x))
        assert dict(mode.counted) == dict(rows.communication(5))
        model(x).sum().backward()
        for kind in (1.0, 2.0, float("inf")):
            norms = [lo.nn.clip_grad_norm_(one.parameters(), 1e9, kind) for one in (model, other)]
            torch.testing.assert_close(*norms)


def refused():
    tied = nn.ModuleDict({"a": nn.Linear(16, 16), "b": nn.Linear(16, 16)})
    tied["b"].weight = tied["a"].weight
    said = []
    for model, style in (
        (tied, {"a": "colwise", "b": "rowwise"}),
        (tied, {"*": "colwise"}),
        (Thrice(lo.btt(16, 16)), "whole"),
    ):
        try:
            divided(model, style)
        except ValueError as error:
            said.append(str(error))
    return said


def told():
    """What is said of optimisers made before, of models with nothing to divide, and of input of another style."""
    mesh, said = init_device_mesh("cpu", (torch.distributed.get_world_size(),)), []
    torch.manual_seed(torch.distributed.get_rank())
    model = nn.Sequential(Linear(lo.btt(16, 16)), nn.LayerNorm(16), Linear(lo.btt(16, 16)))
    optimizer = torch.optim.AdamW(lo.nn.param_groups(model, lr=0.1))
    with torch.no_grad():
        model[1].weight.normal_()
    lo.nn.parallelize_(model, mesh, style={"0": "whole", "2": "rowwise"})
    others = [torch.empty(16) for _ in range(mesh.size())]
    torch.distributed.all_gather(others, model[1].weight.detach())
    assert all(torch.equal(other, others[0]) for other in others)
    with pytest.raises(ValueError, match="whole features need the style 'whole' or 'colwise'"):
        model(torch.randn(3, 16))
    model[0](torch.randn(3, 16)).sum().backward()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        optimizer.step()
        optimizer.step()
        lo.nn.parallelize_(nn.Sequential(nn.Linear(4, 4)), mesh)
        torch.optim.AdamW(lo.nn.param_groups(model, lr=0.1)).step()
    said += [str(one.message) for one in caught]
    with pytest.raises(ValueError, match="is a DistributedDataParallel, which would not synchronise"):
        lo.nn.parallelize_(nn.parallel.DistributedDataParallel(nn.Sequential(Linear(lo.btt(16, 16)))), mesh)
    return said


def test_what_would_train_wrongly_is_told(processes):
    for said in processes(2, call, "told"):
        assert len(said) == 2
        assert "holds parameters that parallelize_ has replaced" in said[0]
        assert "no structured layers" in said[1]


@pytest.mark.full
@pytest.mark.parametrize("function", [shapes, copies, second_derivatives, dense_between], ids=lambda one: one.__name__)
def test_odd_cases(processes, function):
    processes(2, call, function.__name__)


def test_automatic_styles(processes):
    whole = ["whole"] * 3
    for styles in processes(2, call, "automatic"):
        assert styles == [whole, ["whole", "whole"], whole[:2], whole[:2], whole[:2], ["colwise", "sharded", "rowwise"]]


def test_what_is_shared_or_unknown_is_refused(processes):
    for said in processes(2, call, "refused"):
        assert len(said) == 3
        assert "share the parameter 'weight'" in said[0]
        assert "share the parameter 'weight'" in said[1]
        assert "is a Thrice, whose forward may differ" in said[2]
