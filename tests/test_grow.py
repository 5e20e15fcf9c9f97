"""`lo.nn.grow_`: the model computes what it did, optimisers go on where they were, and what is new learns."""

import copy
from functools import partial

import pytest

import linops as lo

torch = pytest.importorskip("torch")

#: optimisers and rates
OPTIMIZERS = {
    "adamw": (partial(torch.optim.AdamW, weight_decay=0.1), 1e-2),
    "amsgrad": (partial(torch.optim.AdamW, amsgrad=True), 1e-2),
    "sgd": (partial(torch.optim.SGD, momentum=0.9), 1e-2),
    "rmsprop": (partial(torch.optim.RMSprop, momentum=0.9), 1e-4),
}
FAMILIES = {
    "btt": (partial(lo.btt, rank=2), "btt:rank=3", "cores_1"),
    "btt, padded": (lambda m, n: lo.btt(m, n, 1, out_dims=(6, 6), in_dims=(6, 6)), "btt:rank=2", "factors_1_cores_1"),
    "low rank": (partial(lo.low_rank, rank=2), "low_rank:rank=5", "U"),
    "tensor train": (partial(lo.tensor_train, rank=1, cores=3), "tensor_train:rank=2", None),
    "blast": (partial(lo.blast, rank=2), "blast:rank=4", "tensors_0"),
}


def trained(family, optimizer, m=32, n=32):
    """A model and its optimiser after twenty steps, data, and a function that takes one more step."""
    torch.manual_seed(0)
    layer = lo.nn.torch.Linear(family(m, n), dtype=torch.float64)
    model = torch.nn.Sequential(layer, torch.nn.Tanh(), torch.nn.Linear(m, 3, dtype=torch.float64))
    x, y = torch.randn(64, n, dtype=torch.float64), torch.randn(64, 3, dtype=torch.float64)
    make, lr = OPTIMIZERS[optimizer]
    optimizer = make(lo.nn.param_groups(model, lr=lr, optimizer="sgd" if optimizer == "sgd" else "adamw"))

    def step():
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()

    for _ in range(20):
        step()
    return model, optimizer, x, step


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("case", FAMILIES)
def test_training_goes_on(case, optimizer):
    family, target, last = FAMILIES[case]
    model, optimizer, x, step = trained(family, optimizer)
    layer, before = model[0], model(x).detach()
    old = dict(layer.named_parameters())
    states = {name: copy.deepcopy(optimizer.state[one]) for name, one in old.items()}
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    grads = {name: one.grad.clone() for name, one in old.items()}

    report = lo.nn.grow_(model, target, optimizer=optimizer)

    assert report.new_params > report.old_params
    torch.testing.assert_close(model(x), before, rtol=1e-12, atol=1e-12)
    new = dict(layer.named_parameters())
    assert list(new) == list(old)
    assert new["bias"] is old["bias"]
    assert [
        {key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups
    ] == groups
    held = [id(one) for group in optimizer.param_groups for one in group["params"]]
    assert sorted(held) == sorted(map(id, model.parameters()))
    assert set(map(id, optimizer.state)) == set(held)
    for name, one in new.items():
        if name == "bias":
            continue
        where = places(old[name], one)
        torch.testing.assert_close(one.detach().ravel()[where], old[name].detach().ravel(), rtol=0, atol=0)
        found = optimizer.state[one]
        assert found.keys() == states[name].keys()
        for key, value in [*states[name].items(), ("grad", grads[name])]:
            is_array = isinstance(value, torch.Tensor) and value.shape == old[name].shape
            now = one.grad if key == "grad" else found[key]
            if not is_array:
                assert now == value
                continue
            assert now.shape == one.shape
            torch.testing.assert_close(now.ravel()[where], value.ravel(), rtol=0, atol=0)
            assert now.count_nonzero() == value.count_nonzero()

    marks = {name: one.detach().clone() for name, one in new.items() if name != "bias"}
    fresh = {name: torch.ones(mark.numel(), dtype=bool) for name, mark in marks.items()}
    for name, mark in marks.items():
        fresh[name][places(old[name], mark)] = False

    def moved():
        return {name: (new[name].detach() != mark).ravel()[fresh[name]] for name, mark in marks.items()}

    step()
    if last is not None:
        assert not marks[last].ravel()[fresh[last]].any()
        assert learns(moved()[last], case)
    for _ in range(3):  # the others follow, once what was zero is not
        step()
    assert all(learns(one, case) for one in moved().values())


def learns(moved, case):
    """Whether new entries move: all of them, but for those of padding."""
    return bool(moved.all()) if "padded" not in case else 0.5 < moved.double().mean() < 1


def places(old, new):
    """Where in a grown leaf the old entries stand, in their order; they are all different."""
    positions = {value: place for place, value in enumerate(new.detach().ravel().tolist())}
    return torch.tensor([positions[value] for value in old.detach().ravel().tolist()])


def test_saved_states_load_into_a_model_of_the_new_rank():
    model, optimizer, x, _ = trained(partial(lo.btt, rank=1), "adamw")
    lo.nn.grow_(model, "btt:rank=2", optimizer=optimizer)
    other, _, _, _ = trained(partial(lo.btt, rank=2), "adamw")
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(x), model(x))
    fresh = torch.optim.AdamW(lo.nn.param_groups(other, lr=1e-2))
    assert model[0].structure == other[0].structure
    assert sum(one.numel() for group in fresh.param_groups for one in group["params"]) == sum(
        one.numel() for group in optimizer.param_groups for one in group["params"]
    )
    assert copy.deepcopy(model)(x).shape == (64, 3)


def test_where_and_shared_parameters():
    a, b, c = (lo.nn.torch.Linear(lo.btt(64, 64)) for _ in range(3))
    b.cores_0, b.cores_1 = a.cores_0, a.cores_1
    model = torch.nn.ModuleDict({"a": a, "b": b, "c": c})
    with pytest.raises(ValueError, match="'b' shares a parameter with a layer that grows"):
        lo.nn.grow_(model, "btt:rank=2", where="a")
    assert a.operator.ranks == (1,)
    report = lo.nn.grow_(model, "btt:rank=2", where=["a", "b"])
    assert [row.name for row in report.rows] == ["a", "b"]
    assert a.cores_0 is b.cores_0
    assert [layer.operator.ranks for layer in (a, b, c)] == [(2,), (2,), (1,)]
    lo.nn.grow_(model, "btt:rank=3", where="c", seed=None)
    assert c.operator.ranks == (3,)


def test_frozen_layers_stay_frozen():
    layer = lo.nn.torch.Linear(lo.low_rank(16, 16, rank=1)).requires_grad_(False)
    lo.nn.grow_(layer, "low_rank:rank=2")
    assert not any(one.requires_grad for one in layer.parameters())


@pytest.mark.parametrize(
    ("layer", "target", "message"),
    [
        (lambda: lo.nn.torch.Linear(lo.low_rank(16, 16, rank=2)), "low_rank:rank=1", "takes ranks 2, the target has 1"),
        (lambda: lo.nn.torch.Linear(lo.low_rank(64, 64, rank=2)), "btt:rank=2", "does not grow into"),
        (lambda: lo.nn.torch.Linear(lo.low_rank(16, 16, rank=1), weight_norm=True), "low_rank:rank=2", "fold_"),
        (lambda: torch.nn.Linear(3, 3), "low_rank", "no lo.nn.torch.Linear"),
    ],
)
def test_refusals_change_nothing(layer, target, message):
    layer = layer()
    before = dict(layer.named_parameters())
    with pytest.raises(ValueError, match=message):
        lo.nn.grow_(layer, target)
    assert all(one is before[name] for name, one in layer.named_parameters())


def test_optimisers_with_other_states_are_refused():
    layer = lo.nn.torch.Linear(lo.low_rank(16, 16, rank=1))
    optimizer = torch.optim.Adafactor(layer.parameters(), lr=1e-3)
    layer(torch.ones(1, 16)).sum().backward()
    optimizer.step()
    before = list(layer.parameters())
    with pytest.raises(ValueError, match=r"Adafactor holds '(row|col)_var'"):
        lo.nn.grow_(layer, "low_rank:rank=2", optimizer=optimizer)
    assert all(one is other for one, other in zip(before, layer.parameters()))
    with pytest.raises(TypeError, match=r"no torch\.optim\.Optimizer"):
        lo.nn.grow_(layer, "low_rank:rank=2", optimizer=layer)
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module"):
        lo.nn.grow_(3, "btt")
