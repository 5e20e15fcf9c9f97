"""A model's own initial scale of a layer, kept or dropped by `replace_linear_`, and what the report says of it."""

import math
import re

import numpy as np
import pytest
import torch
from test_replace import Conv1D
from torch import nn

import linops as lo


class Block(nn.Module):
    """A residual block as GPT-2 starts it: weights of 0.02, projections to the residual by 1/√(2 · layers) smaller."""

    def __init__(self, kind, layers, range_=None):
        super().__init__()
        self.c_fc, self.c_proj = kind(256, 1024), kind(1024, 256)
        for weight, std in ((self.c_fc.weight, 0.02), (self.c_proj.weight, 0.02 / math.sqrt(2 * layers))):
            nn.init.normal_(weight, std=std)
        if range_ is not None:
            self.config = type("Config", (), {"initializer_range": range_})()


def conv1d(into, out):
    return Conv1D(out, into)


def linear(into, out):
    return nn.Linear(into, out)


def replaced(make, **options):
    """Norms of a model's new matrices, and the report; the same seed draws the same numbers."""
    torch.manual_seed(0)
    model = make()
    torch.manual_seed(1)
    report = lo.nn.replace_linear_(model, **options)
    return {row.name: float(model.get_submodule(row.name).to_dense().weight.detach().norm()) for row in report}, report


@pytest.mark.parametrize("range_", [None, 0.02], ids=["Conv1D", "initializer_range"])
def test_residual_projections_stay_smaller(range_):
    kind = conv1d if range_ is None else linear
    make = lambda: Block(kind, 8, range_)  # noqa: E731
    kept, report = replaced(make, family="btt")
    plain, dropped = replaced(make, family="btt", scale="structure")
    assert kept["c_fc"] == plain["c_fc"]  # at the default: exactly the structure's own
    assert kept["c_proj"] / plain["c_proj"] == pytest.approx(0.25, rel=0.01)
    assert [row.kept_scale for row in dropped] == [1, 1]
    assert [row.own_scale for row in report] == [row.own_scale for row in dropped] == pytest.approx([1, 0.25], rel=0.01)
    assert report[0].kept_scale == 1
    assert report[1].kept_scale == report[1].own_scale
    assert "own scale ×0.25 of the default, kept" in " ".join(str(report).split())
    assert "own scale ×0.25 of the default, dropped" in " ".join(str(dropped).split())


@pytest.mark.parametrize("scale", ["keep", "structure"])
@pytest.mark.parametrize(
    ("factors", "how_many"), [((0.2, 1), " in 1 of 2"), ((0.2, 1, 0.2), " in 2 of 3"), ((0.2, 0.2), "")]
)
@pytest.mark.parametrize("framework", ["torch", "flax", "equinox"])
def test_of_layers_in_one_line_the_report_says_how_many_are_smaller(framework, factors, how_many, scale):
    told = " ".join(str(of_one_line(framework, factors, scale)).split())
    assert f"{len(factors)} × 64×64" in told
    what = "kept" if scale == "keep" else "dropped"
    found = re.findall(r"own scale ×(\S+) of the default, (\w+)( in \d of \d)?", told)
    assert found == [("0.2", what, how_many)]
    assert re.search(r"initial scale ×\S+( to ×\S+)?;", told)


def of_one_line(framework, factors, scale):
    """The report of layers of one size, some of them smaller than usual."""
    if framework == "torch":
        torch.manual_seed(0)
        model = nn.Sequential(*[nn.Linear(64, 64) for _ in factors])
        for layer, factor in zip(model, factors):
            layer.weight.detach().mul_(factor)
        return lo.nn.replace_linear_(model, "btt", scale=scale)
    import equinox as eqx
    import jax
    from flax import nnx

    if framework == "flax":
        rngs = nnx.Rngs(0)
        layers = [nnx.Linear(64, 64, rngs=rngs) for _ in factors]
        for layer, factor in zip(layers, factors):
            layer.kernel[...] *= factor
        return lo.nn.flax.replace_linear(nnx.Sequential(*layers), "btt", rngs=rngs, scale=scale)
    keys = jax.random.split(jax.random.key(0), len(factors))
    layers = [eqx.nn.Linear(64, 64, key=key) for key in keys]
    layers = [eqx.tree_at(lambda one: one.weight, one, one.weight * factor) for one, factor in zip(layers, factors)]
    return lo.nn.equinox.replace_linear(eqx.nn.Sequential(layers), "btt", key=keys[0], scale=scale)[1]


def test_linear_layers_are_measured_by_torchs_default():
    def make():
        layer = nn.Linear(1024, 256)
        nn.init.normal_(layer.weight, std=0.3 / math.sqrt(3 * 1024))
        return nn.Sequential(layer)

    kept, _ = replaced(make, family="low_rank")
    plain, _ = replaced(make, family="low_rank", scale="structure")
    assert kept["0"] / plain["0"] == pytest.approx(0.3, rel=0.01)


@pytest.mark.parametrize(
    "start",
    [
        lambda weight: None,
        lambda weight: nn.init.xavier_uniform_(weight),
        lambda weight: nn.init.kaiming_normal_(weight),
        lambda weight: nn.init.normal_(weight, std=lo.initial_stds(lo.dense(*weight.shape))["matrix"]),
    ],
    ids=["default", "xavier", "kaiming", "mup"],
)
def test_usual_ways_to_start_change_nothing(start):
    def make():
        layers = [nn.Linear(64, 256), nn.Linear(256, 64), nn.Linear(64, 64)]
        for layer in layers:
            start(layer.weight)
        return nn.Sequential(*layers)

    assert replaced(make, family="btt")[0] == replaced(make, family="btt", scale="structure")[0]


@pytest.mark.parametrize("family", lo.families.FAMILIES)
def test_the_whole_matrix_is_scaled_in_every_family(family):
    def make():
        layer = nn.Linear(64, 64)
        layer.weight.data.mul_(0.1)
        return nn.Sequential(layer)

    options = {"allow_dearer": True} if family in ("circulant", "toeplitz") else {}
    kept, (row,) = replaced(make, family=family, **options)
    plain, _ = replaced(make, family=family, scale="structure", **options)
    assert kept["0"] == pytest.approx(row.kept_scale * plain["0"], rel=1e-5)
    assert row.kept_scale == pytest.approx(0.1, rel=0.02)


def test_redrawn_parameters_keep_it_and_zero_stays_zero():
    model = Block(conv1d, 8)
    nn.init.zeros_(model.c_fc.weight)
    report = lo.nn.replace_linear_(model, "btt")
    assert [row.kept_scale == 1 for row in report] == [True, False]
    before = model.c_proj.to_dense().weight.detach().norm()
    model.c_proj.reset_parameters()
    assert float(model.c_proj.to_dense().weight.detach().norm()) == pytest.approx(float(before), rel=0.2)
    assert not model.c_fc.to_dense().weight.any()


def test_parts_and_what_is_not_known():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 192))
    model[0].weight.data.mul_(0.1)
    report = lo.nn.replace_linear_(model, "btt", parts={"0": 3})
    assert [row.kept_scale for row in report] == pytest.approx([0.1] * 3, rel=0.02)
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(64, 64))
    (row,) = lo.nn.replace_linear_(model, "btt")
    assert (row.own_scale, row.kept_scale) == (None, 1)
    with pytest.raises(ValueError, match=r"scale='own'.*'keep' or 'structure'"):
        lo.nn.replace_linear_(nn.Sequential(nn.Linear(4, 4)), "btt", scale="own")


@pytest.mark.full
def test_flax_and_equinox_keep_it_too():
    import equinox as eqx
    import jax
    from flax import nnx

    def flax(scale):
        model = nnx.Dict(up=nnx.Linear(64, 64, rngs=nnx.Rngs(0)), down=nnx.Linear(64, 64, rngs=nnx.Rngs(1)))
        model["down"].kernel.set_value(model["down"].kernel.get_value() * 0.25)
        report = lo.nn.flax.replace_linear(model, "btt", rngs=nnx.Rngs(2), scale=scale)
        matrices = {name: np.asarray(model[name].operator.to_dense()) for name in ("up", "down")}
        return matrices, {row.name: row.kept_scale for row in report}

    def equinox(scale):
        keys = jax.random.split(jax.random.key(0))
        model = {name: eqx.nn.Linear(64, 64, key=key) for name, key in zip(("up", "down"), keys)}
        model["down"] = eqx.tree_at(lambda layer: layer.weight, model["down"], model["down"].weight * 0.25)
        model, report = lo.nn.equinox.replace_linear(model, "btt", key=keys[0], scale=scale)
        matrices = {name: np.asarray(model[name].operator.to_dense()) for name in ("up", "down")}
        return matrices, {row.name.strip("[]'"): row.kept_scale for row in report}

    for swapped in (flax, equinox):
        (kept, factors), (plain, ones) = swapped("keep"), swapped("structure")
        assert ones == {"up": 1, "down": 1}
        assert factors["up"] == 1
        assert factors["down"] == pytest.approx(0.25, rel=0.03)
        np.testing.assert_array_equal(kept["up"], plain["up"])
        np.testing.assert_allclose(kept["down"], plain["down"] * factors["down"], rtol=1e-5, atol=1e-7)
