"""Models that start from trained weights: `from_linear`, and `replace_linear` with `weights="project"`."""

import copy
from itertools import pairwise

import pytest
import torch
from test_replace import Conv1D
from torch import nn

import linops as lo

replace_ = lo.nn.replace_linear_


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def randn(*shape, seed=0, **kind):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(**kind)


def planted(m, n, family="low_rank:rank=2", seed=0, **kind):
    """The matrix of a member of a family."""
    member = lo.families.text.parse(family)(m, n).init(seed=seed, backend="torch", dtype=torch.float64)
    return member.to_dense().detach().to(**kind)


def net(seed=0, widths=(12, 16, 16, 8), **kind):
    torch.manual_seed(seed)
    layers = [layer for n, m in pairwise(widths) for layer in (nn.Linear(n, m, **kind), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def matrix(layer):
    return layer.operator.to_dense().detach()


def skewed(count, n, seed=0, shift=1.0):
    """Inputs of a steep spectrum about a mean that is not zero."""
    x = randn(count, n, seed=seed, dtype=torch.float64) * torch.arange(1, n + 1) ** -1.5
    return x @ torch.linalg.qr(randn(n, n, seed=seed + 1, dtype=torch.float64))[0] + shift


# ---------------------------------------------------------------- one layer


@pytest.mark.parametrize("family", ["low_rank:rank=2", "btt", "monarch:blocks=4", "kronecker", "block_diag"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_member_comes_back(family, bias):
    linear = nn.Linear(16, 16, bias=bias, dtype=torch.float64)
    linear.weight.data = planted(16, 16, family)
    x = randn(5, 16, dtype=torch.float64)
    for given in ({}, {"inputs": skewed(100, 16)}, {"second_moment": torch.eye(16, dtype=torch.float64)}):
        layer = lo.nn.from_linear(linear, family, **given)
        torch.testing.assert_close(layer(x), linear(x), rtol=1e-6, atol=1e-8)
        assert layer.weight.dtype == torch.float64
        assert (layer.bias is not None) == bias
        assert (
            layer.structure == lo.nn.torch.Linear(lo.families.text.parse(family)(16, 16), dtype=torch.float64).structure
        )


@pytest.mark.parametrize(
    ("family", "options"),
    [("low_rank:rank=3", {}), ("low_rank", {"rank": 3}), (lo.low_rank, {"rank": 3}), (lo.low_rank(8, 12, rank=3), {})],
    ids=["text", "name", "function", "operator"],
)
def test_families_of_every_kind(family, options):
    linear = nn.Linear(12, 8)
    layer = lo.nn.from_linear(linear, family, **options)
    U, s, V = torch.linalg.svd(linear.weight.detach())
    torch.testing.assert_close(matrix(layer), U[:, :3] * s[:3] @ V[:3])
    assert torch.equal(layer.bias, linear.bias)
    assert layer.bias is not linear.bias


@pytest.mark.parametrize("bias", [True, False])
def test_inputs_are_the_norm_and_the_bias_takes_the_mean(bias):
    """The optimum over the inputs, by least squares: the leading directions of W C^½, about the means with a bias."""
    linear, x = nn.Linear(12, 8, bias=bias, dtype=torch.float64), skewed(200, 12)
    layer = lo.nn.from_linear(linear, "low_rank", rank=3, inputs=[x[:50], x[50:]])
    mean = x.mean(0) if bias else torch.zeros(12)
    y = (x - mean) @ linear.weight.detach().T
    U = torch.linalg.svd(y.T)[0][:, :3]
    best = linear(x).mean(0) + y @ U @ U.T if bias else y @ U @ U.T
    torch.testing.assert_close(layer(x), best, rtol=1e-6, atol=2e-5)  # but for a little damping
    known = lo.Moments(12)
    known.add(x)
    again = lo.nn.from_linear(linear, "low_rank", rank=3, inputs=known)
    torch.testing.assert_close(again(x), layer(x))


def test_a_second_moment_leaves_the_bias():
    linear, x = nn.Linear(12, 8, dtype=torch.float64), skewed(200, 12)
    layer = lo.nn.from_linear(linear, "low_rank", rank=3, second_moment=x.T @ x / 200)
    y = x @ linear.weight.detach().T
    U = torch.linalg.svd(y.T)[0][:, :3]
    torch.testing.assert_close(layer(x), y @ U @ U.T + linear.bias, rtol=1e-6, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype):
    linear = nn.Linear(16, 16, dtype=dtype)
    linear.weight.data = planted(16, 16, dtype=dtype)
    layer = lo.nn.from_linear(linear, "low_rank", rank=2, inputs=randn(64, 16, dtype=dtype))
    assert {parameter.dtype for parameter in layer.parameters()} == {dtype}
    error = matrix(layer).float() - linear.weight.detach().float()
    assert error.norm() < 4 * torch.finfo(dtype).eps * linear.weight.float().norm()


def test_to_dense_gives_the_layer_back():
    for old in (nn.Linear(12, 8), Conv1D(8, 12)):
        layer = lo.nn.from_linear(old, "low_rank", rank=8, allow_dearer=True)
        dense, x = layer.to_dense(), randn(5, 12)
        assert type(dense) is nn.Linear
        torch.testing.assert_close(dense(x), old(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(dense(x), layer(x))


def test_frozen_layers_and_modes_are_kept():
    linear = nn.Linear(16, 16).eval().requires_grad_(False)
    linear.bias.requires_grad_(True)
    layer = lo.nn.from_linear(linear, "btt")
    assert not layer.training
    assert layer.bias.requires_grad
    assert not any(parameter.requires_grad for name, parameter in layer.named_parameters() if name != "bias")


def test_zeros_start_at_zero_and_learn():
    linear = nn.Linear(16, 16)
    nn.init.zeros_(linear.weight)
    layer = lo.nn.from_linear(linear, "btt", inputs=randn(64, 16))
    torch.testing.assert_close(layer(randn(3, 16)), linear(randn(3, 16)))
    layer(randn(3, 16)).sum().backward()
    assert any(parameter.grad.any() for name, parameter in layer.named_parameters() if name != "bias")


@pytest.mark.parametrize(
    ("linear", "arguments", "error", "match"),
    [
        (nn.Conv2d(1, 1, 1), {}, TypeError, r"from_linear\(Conv2d\): expected a torch.nn.Linear"),
        (nn.Linear(16, 16, device="meta"), {}, ValueError, "'linear' is on the meta device"),
        (nn.Linear(16, 16), {"inputs": torch.ones(3, 5)}, ValueError, r"\(3, 5\): expected \(…, 16\)"),
        (nn.Linear(16, 16), {"second_moment": torch.ones(3, 3)}, ValueError, r"\(3, 3\), expected \(16, 16\)"),
        (nn.Linear(16, 16), {"inputs": lo.Moments(4)}, ValueError, r"\(4, 4\), expected \(16, 16\)"),
        (nn.Linear(16, 16), {"inputs": torch.full((20, 16), torch.nan)}, ValueError, "activations hold NaN"),
        (nn.Linear(16, 16), {"inputs": torch.ones(20, 16), "second_moment": torch.eye(16)}, ValueError, "give one"),
        (nn.Linear(16, 16), {"family": lo.btt(8, 8)}, ValueError, "has another shape than the layer, 16×16"),
        (nn.Linear(16, 16), {"family": lo.btt(16, 16), "rank": 2}, ValueError, r"takes no options \['rank'\]"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(16, 16)), {}, ValueError, "computes its weight"),
    ],
)
def test_from_linear_refuses(linear, arguments, error, match):
    with pytest.raises(error, match=match):
        lo.nn.from_linear(linear, **{"family": "btt", **arguments})


# ---------------------------------------------------------------- models, by weights alone


@pytest.mark.parametrize("family", ["low_rank", "btt", "monarch"])
def test_each_weight_is_projected(family):
    model = net()
    dense = copy.deepcopy(model)
    report = replace_(model, family, weights="project")
    for row in report:
        old, new = dense.get_submodule(row.name).requires_grad_(False), model.get_submodule(row.name)
        best = lo.project(old.weight.detach(), new.structure.operator).to_dense()
        torch.testing.assert_close(matrix(new), best)
        assert torch.equal(new.bias, old.bias)
        error = (old.weight - best).norm() / old.weight.norm()
        assert row.weight_error == pytest.approx(float(error), rel=1e-4)
        assert row.activation_error is None
    assert all(len(line) <= 80 for line in str(report).splitlines())
    assert "weight error 0." in " ".join(str(report).split())


def test_parts_are_projected_each_by_itself():
    model = nn.Sequential(nn.Linear(16, 48))
    weight = model[0].weight.detach().clone()
    report = replace_(model, "low_rank", weights="project", rank=4, parts={"0": 3})
    for part, rows in zip(model[0].layers, weight.split(16)):
        torch.testing.assert_close(matrix(part), lo.project(rows, "low_rank:rank=4").to_dense())
    assert [row.name for row in report] == ["0.0", "0.1", "0.2"]
    assert len({row.weight_error for row in report}) == 3


@pytest.mark.parametrize("calibrated", [False, True])
def test_conv1d(calibrated):
    model = nn.Sequential(Conv1D(16, 12), nn.ReLU(), Conv1D(8, 16))
    model[0].weight.data, model[2].weight.data = planted(16, 12, dtype=torch.float32).T, planted(8, 16).float().T
    x = randn(64, 12)
    before = model(x)
    replace_(model, "low_rank", weights="project", rank=2, calibration=[x] if calibrated else None)
    torch.testing.assert_close(model(x), before, rtol=1e-3, atol=1e-4)


def test_hooks_modes_and_trainability_are_kept():
    model, seen = net(), []
    model[0].register_forward_hook(lambda *_: seen.append("after"))
    model[2].register_forward_pre_hook(lambda *_: seen.append("before"))
    model[2].requires_grad_(False)
    model[2].eval()
    bias = model[0].bias
    replace_(model, "low_rank", weights="project", calibration=[randn(64, 12)])
    seen.clear()
    model(randn(2, 12))
    assert seen == ["after", "before"]
    assert model[0].bias is bias
    assert [layer.training for layer in model] == [True, True, False, True, True]
    assert isinstance(model[2], lo.nn.torch.Linear)
    assert not any(parameter.requires_grad for parameter in model[2].parameters())
    assert all(parameter.requires_grad for parameter in model[0].parameters())
    assert not any(len(module._forward_pre_hooks) for module in model if module is not model[2])


def test_zero_layers_stay_zero_and_learn():
    model = net()
    nn.init.zeros_(model[4].weight)
    before = model(randn(3, 12))
    report = replace_(model, "btt", weights="project", calibration=[randn(64, 12)])
    torch.testing.assert_close(model(randn(3, 12)), before)
    assert [row.zero_init for row in report] == [False, False, True]
    assert report[2].weight_error is None
    model(randn(3, 12)).sum().backward()
    assert any(parameter.grad.any() for name, parameter in model[4].named_parameters() if name != "bias")


@pytest.mark.parametrize("calibrated", [False, True])
def test_weight_norm_does_not_cap_trained_weights(calibrated):
    model, x = net(), randn(64, 12)
    for layer in model[::2]:
        layer.weight.data = 50 * planted(*layer.weight.shape, dtype=torch.float32)
    before = model(x).detach()
    replace_(model, "low_rank", weights="project", rank=2, weight_norm=True, calibration=[x] if calibrated else None)
    torch.testing.assert_close(model(x), before, rtol=1e-4, atol=1e-5 * float(before.abs().max()))
    assert model[0].U_gain > 1


def test_the_meta_device_is_refused_by_name():
    model = net(device="meta")
    with pytest.raises(ValueError, match=r"layer '0' is on the meta device.*3 such"):
        replace_(model, "btt", weights="project")
    assert type(model[0]) is nn.Linear
