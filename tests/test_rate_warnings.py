"""What is warned of where rates are made: patterns that match nothing, and decay that CompleteP would not have."""

import warnings

import jax
import pytest
import torch
from torch import nn

import linops as lo

PLACES = ("torch", "flax", "equinox")


def torch_model(width=8):
    torch.manual_seed(0)
    blocks = nn.Sequential(nn.Linear(width, width), lo.btt(width, width).to_layer())
    return nn.ModuleDict({"blocks": blocks, "head": nn.Linear(width, 4)})


def flax_model(width=8):
    from flax import nnx

    rngs = nnx.Rngs(0)
    blocks = nnx.List([nnx.Linear(width, width, rngs=rngs), lo.nn.flax.Linear(lo.btt(width, width), rngs=rngs)])
    return nnx.Dict(blocks=blocks, head=nnx.Linear(width, 4, rngs=rngs))


def equinox_model(width=8):
    import equinox as eqx

    keys = jax.random.split(jax.random.key(0), 3)
    blocks = [eqx.nn.Linear(width, width, key=keys[0]), lo.nn.equinox.Linear(lo.btt(width, width), key=keys[1])]
    return {"blocks": blocks, "head": eqx.nn.Linear(width, 4, key=keys[2])}


MODELS = {"torch": torch_model, "flax": flax_model, "equinox": equinox_model}


def make(place, optimizer="adamw", **options):
    model = MODELS[place]()
    if place == "torch":
        return lo.nn.param_groups(model, 0.1, optimizer=optimizer, **options)
    return getattr(getattr(lo.nn, place), optimizer)(model, 0.1, **options)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"depth": {"block.*": 4, "blocks.*": 2}}, r"met no layer for depth='block\.\*'"),
        ({"optimizer": "muon", "adamw": "haed"}, "met no layer for adamw='haed'"),
        ({"optimizer": "muon", "adamw": ["haed", "re:tail"]}, r"met no layer for adamw=\['haed', 're:tail'\]"),
        ({"base": {"zzz.*": 16, "*": 8}}, r"met no layer for base='zzz\.\*'"),
        ({"matrices": {"head.wieght": "out in"}}, r"met no array for matrices='head\.wieght'"),
    ],
    ids=["depth", "adamw", "list", "base", "matrices"],
)
def test_a_pattern_that_matches_nothing_is_named_with_names_that_are_there(place, options, said):
    names = r"'blocks\.\*' \(2\), 'head'" if "matrices" not in options else r"'blocks\..*"
    with pytest.warns(UserWarning, match=rf"{said}, which matches none of the model's .*{names}") as caught:
        make(place, **options)
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize("place", PLACES)
def test_patterns_that_match_and_predicates_are_silent(place):
    make(place, "muon", depth={"blocks.*": 4}, adamw="head", base={"*": 8, lambda name, layer: False: 4})
    make(place, base=MODELS[place](4))


@pytest.mark.parametrize("place", ["flax", "equinox"])
@pytest.mark.parametrize("function", ["lr_multipliers", "decay_mask", "decay_shares"])
def test_trees_of_rates_and_decay_say_so_too(place, function):
    ask = getattr(getattr(lo.nn, place), function)
    with pytest.warns(UserWarning, match=rf"^{function} met no array for matrices='haed'") as caught:
        ask(MODELS[place](), matrices={"haed": "out in"})
    assert caught[0].filename == __file__
    if function == "lr_multipliers":
        with pytest.warns(UserWarning, match="^lr_multipliers met no layer for base='haed'"):
            ask(MODELS[place](), base={"haed": 4})


def test_a_frozen_layer_is_there():
    model = torch_model()
    model["head"].requires_grad_(False)
    lo.nn.param_groups(model, 0.1, optimizer="muon", adamw="head")


@pytest.mark.parametrize("place", PLACES)
def test_depth_beside_coupled_decay_is_warned_of_where_rates_have_factors(place):
    with pytest.warns(UserWarning, match=r"CompleteP keeps .* 1 to 2\. Take decay='product'") as caught:
        make(place, weight_decay=0.1, depth={"blocks.*": 4})
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(place, weight_decay=0.1, depth={"blocks.*": 4}, decay="product")
        make(place, weight_decay=0.1, depth={"blocks.*": 4}, decay="independent")
        make(place, weight_decay=0.1)
        make(place, depth={"blocks.*": 4})
        dense = nn.Sequential(nn.Linear(8, 8))
        lo.nn.param_groups(dense, 0.1, 0.1, depth={"0": 4})  # nothing but the plain rate


@pytest.mark.parametrize("decay", ["independent", "product"])
def test_by_the_other_decays_completep_holds(decay):
    def decayed(width, deeper):
        model = nn.Sequential(nn.Linear(width, width))
        (matrix, *_) = lo.nn.param_groups(model, 0.1, 0.2, base={"*": 8}, decay=decay, depth={"0": deeper})
        return matrix["lr"] * matrix["weight_decay"]

    assert decayed(32, 4) == pytest.approx(decayed(8, 1)) == pytest.approx(0.02)
