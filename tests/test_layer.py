"""The torch layer as a module: products, names, devices, dtypes, state."""

import copy
import pickle

import numpy as np
import pytest
import torch
from layer_cases import OPERATORS, every_operator, expected, inputs, layer_of
from torch import nn

import linops as lo


@every_operator
@pytest.mark.parametrize("leading", [(), (1,), (5,), (2, 3), (2, 0, 3)], ids=str)
def test_any_leading_dimensions(name, leading):
    layer = layer_of(name)
    x = inputs(layer, *leading)
    y = layer(x)
    assert y.shape == (*leading, layer.out_features)
    torch.testing.assert_close(y, expected(layer, x), rtol=1e-12, atol=1e-12)


@every_operator
def test_an_output_is_no_view_unless_of_the_input(name):
    layer = layer_of(name, bias=False)
    x = inputs(layer, 2, 3)
    y = layer(x)
    assert y._base is None  # FSDP2 loses its hooks where a view is written to
    before, kept = x.clone(), y.detach().clone()
    gradient = torch.autograd.grad(y.add_(1).sum(), list(layer.parameters()))
    torch.testing.assert_close(y, kept + 1)
    assert torch.equal(x, before)
    for one, other in zip(gradient, torch.autograd.grad(expected(layer, x).sum(), list(layer.parameters()))):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


@every_operator
def test_outputs_are_contiguous_as_of_dense_layers(name):
    for bias in (True, False):
        layer = layer_of(name, bias=bias)
        x = inputs(layer, 2, 3)
        y = layer(x)
        assert y.is_contiguous()
        assert y.view(6, -1).shape == (6, layer.out_features)
        layer.features_first = True
        torch.testing.assert_close(layer(x), y, rtol=0, atol=0)


def test_outputs_may_keep_the_layout_of_the_product():
    layer = lo.btt(64, 64).to_layer()
    layer.features_first = True
    assert layer(torch.ones(2, 64)).T.is_contiguous()


def test_an_output_that_is_the_input_shows_it():
    layer = lo.nn.torch.Linear(lo.Identity(4), bias=False)
    x = torch.ones(2, 4, requires_grad=True) * 1
    assert layer(x) is x or layer(x)._base is x


def test_input_of_the_wrong_size_is_refused_by_name():
    layer = lo.btt(16, 8).to_layer()
    with pytest.raises(ValueError, match=r"BlockTensorTrain\(16×8.*\(2, 7\).*\(…, 8\)"):
        layer(torch.zeros(2, 7))


@every_operator
def test_gradients_are_those_of_dense_arithmetic(name):
    layer = layer_of(name)
    x = inputs(layer, 3).requires_grad_()
    ours = torch.autograd.grad(layer(x).sin().sum(), [x, *layer.parameters()])
    theirs = torch.autograd.grad(expected(layer, x).sin().sum(), [x, *layer.parameters()])
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


@every_operator
def test_parameters_have_the_flat_names_of_the_leaves(name):
    operator = OPERATORS[name]()
    layer = operator.to_layer()
    assert [key for key, _ in layer.named_parameters()] == [*dict(operator.named_leaves()), "bias"]
    assert all(key.isidentifier() for key in layer.state_dict())
    assert [tuple(p.shape) for p in layer.parameters()][:-1] == [leaf.shape for _, leaf in operator.named_leaves()]


def test_parameter_names_are_stable():
    names = {
        name: list(OPERATORS[name]().to_layer(bias=False).state_dict())
        for name in ("low_rank", "kronecker", "monarch", "btt_padded")
    }
    assert names == {
        "low_rank": ["U", "V"],
        "kronecker": ["factors_0_matrix", "factors_1_matrix"],
        "monarch": ["factors_1_blocks", "factors_3_blocks"],
        "btt_padded": ["factors_1_cores_0", "factors_1_cores_1"],
    }


def test_bias_starts_at_zero_and_may_be_left_out():
    assert not lo.btt(12, 8).to_layer().bias.any()
    layer = lo.btt(12, 8).to_layer(bias=False)
    assert layer.bias is None
    assert "bias" not in layer.state_dict()


def test_arrays_become_initial_values_and_stay_the_operators_own():
    operator = lo.btt(12, 8).init(seed=0, backend="torch", dtype="float64")
    before = operator.to_dense().clone()
    layer = operator.to_layer()
    torch.testing.assert_close(layer.operator.to_dense(), before)
    with torch.no_grad():
        layer.cores_0.zero_()
    torch.testing.assert_close(operator.to_dense(), before)


def test_mixed_specs_and_arrays_are_refused():
    mixed = lo.Dense(lo.spec(3, 2)) @ lo.Kronecker(np.ones((1, 2)), np.ones((2, 1)))
    with pytest.raises(TypeError, match="some leaves are specs"):
        mixed.to_layer()


@every_operator
def test_operator_and_dense_layer_are_the_same_map(name):
    layer = layer_of(name)
    x = inputs(layer, 4)
    dense = layer.to_dense()
    assert type(dense) is nn.Linear
    assert dense.weight.dtype == torch.float64
    torch.testing.assert_close(dense(x), layer(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(x @ layer.operator.T + layer.bias, layer(x), rtol=1e-12, atol=1e-12)
    assert layer.operator.shape == OPERATORS[name]().shape


def test_repr_says_sizes_and_structure():
    text = repr(lo.monarch(12, 8, blocks=2).to_layer(bias=False))
    assert "in_features=8, out_features=12, bias=False" in text
    assert "BlockDiag(2 blocks of 6×4)" in text
    assert "weight_norm" not in text
    assert "weight_norm=True" in repr(lo.nn.torch.Linear(lo.dense(2, 2), weight_norm=True))


# ---------------------------------------------------------------- devices and dtypes


@every_operator
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_dtype(name, dtype):
    layer = lo.nn.torch.Linear(OPERATORS[name](), dtype=dtype)
    assert {parameter.dtype for parameter in layer.parameters()} == {dtype}
    y = layer(inputs(layer, 3).to(dtype))
    assert y.dtype == dtype
    reference = expected(layer.double(), inputs(layer, 3).to(dtype).double())
    tolerance = {torch.float64: 1e-12, torch.bfloat16: 5e-2, torch.float16: 5e-3}[dtype]
    torch.testing.assert_close(
        y.double(), reference, rtol=tolerance, atol=tolerance * float(reference.detach().abs().max())
    )


@every_operator
def test_autocast_gives_the_narrow_dtype_as_for_dense(name):
    layer = layer_of(name, dtype="float32")
    x = inputs(layer, 5, dtype="float32")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
        y.float().sum().backward()
    # these run no matrix product, or add what does not: not autocast
    added = "sum", "low_rank_sparse", "low_rank_semi_structured"
    if name not in (*added, "tridiagonal", "circulant", "toeplitz", "sparse", "sparse_transposed"):
        assert y.dtype == torch.bfloat16
    reference = expected(layer, x).detach()
    assert float((y.detach().float() - reference).norm() / reference.norm()) < 0.03
    assert all(parameter.grad.dtype == torch.float32 for parameter in layer.parameters())


@every_operator
def test_meta_device_then_to_empty_and_reset(name):
    with torch.device("meta"):
        layer = lo.nn.torch.Linear(OPERATORS[name]())
    assert all(parameter.is_meta for parameter in layer.parameters())
    assert layer(torch.zeros(2, layer.in_features, device="meta")).shape == (2, layer.out_features)
    layer = layer.to_empty(device="cpu")
    torch.manual_seed(0)
    layer.reset_parameters()
    torch.manual_seed(0)
    fresh = lo.nn.torch.Linear(OPERATORS[name]())
    x = inputs(layer, 3, dtype="float32")
    torch.testing.assert_close(layer(x), fresh(x))


def test_device_argument():
    layer = lo.nn.torch.Linear(lo.btt(12, 8), device="meta", dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in layer.parameters()} == {("meta", torch.bfloat16)}


@every_operator
def test_reset_draws_the_structure_aware_scale(name):
    torch.manual_seed(0)
    layer = OPERATORS[name]().to_layer()
    draws = {key: [] for key in lo.initial_stds(layer.structure.operator)}
    for _ in range(300):
        layer.reset_parameters()
        for key, values in draws.items():
            values.append(getattr(layer, key).detach().clone())
    for key, std in lo.initial_stds(layer.structure.operator).items():
        values = torch.stack(draws[key])
        assert torch.all(values == 1) if std is None else abs(float(values.std()) / std - 1) < 0.1


# ---------------------------------------------------------------- state


@every_operator
def test_deepcopy_pickle_and_save_keep_the_map(name, tmp_path):
    layer = layer_of(name)
    x = inputs(layer, 3)
    torch.save(layer, tmp_path / "layer.pt")
    copies = [
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        torch.load(tmp_path / "layer.pt", weights_only=False),
    ]
    y = layer(x).detach()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    for other in copies:
        torch.testing.assert_close(other(x), y)


@every_operator
def test_state_dict_loads_by_copy_and_by_assignment(name):
    layer = layer_of(name)
    x = inputs(layer, 3)
    state = layer.state_dict()
    other = lo.nn.torch.Linear(OPERATORS[name](), dtype=torch.float64)
    other.load_state_dict(state)
    torch.testing.assert_close(other(x), layer(x))
    meta = lo.nn.torch.Linear(OPERATORS[name](), device="meta")
    meta.load_state_dict(state, assign=True)
    torch.testing.assert_close(meta(x), layer(x))
    assert meta.bias.data_ptr() == layer.bias.data_ptr()


def test_index_arrays_are_buffers_outside_the_state():
    layer = OPERATORS["permuted"]().to_layer()
    buffers = dict(layer.named_buffers())
    assert sorted(buffers) == ["factors_0_indices", "factors_1_factors_0_indices", "factors_2_indices"]
    assert not set(buffers) & set(layer.state_dict())
    assert all(buffer.is_meta for buffer in copy.deepcopy(layer).to("meta").buffers())
    assert all(buffer.dtype == torch.int64 for buffer in copy.deepcopy(layer).half().buffers())
    for buffer, original in zip(copy.deepcopy(layer).to_empty(device="cpu").buffers(), layer.buffers()):
        assert torch.equal(buffer, original)


def test_layer_of_a_torch_operator_with_indices():
    operator = OPERATORS["permuted"]().init(seed=0, backend="torch").to(backend="torch")
    layer = operator.to_layer(bias=False)
    x = inputs(layer, 3, dtype="float32")
    torch.testing.assert_close(layer(x), x @ operator.T)
    torch.testing.assert_close(pickle.loads(pickle.dumps(layer))(x), x @ operator.T)
