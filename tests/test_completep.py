"""CompleteP: ε and residual multipliers by width and depth, and features that move alike at every depth."""

import pytest
import torch
from torch import nn

import linops as lo
from linops.lab import depth_check
from linops.lab.models import MLP
from linops.lab.transformer import GPT, ViT


def model(width, depth=4, structure="dense"):
    with torch.device("meta"):
        net = MLP(40, 10, width, depth)
        if structure != "dense":
            lo.nn.replace_linear_(net, structure, where="blocks.*")
    return net


def by_name(groups, key):
    return {name: group.get(key) for group in groups for name in group["names"]}


@pytest.mark.parametrize("structure", ["dense", "btt"])
def test_epsilon_is_that_of_the_papers_table(structure):
    """At 2× the width and 4× the depth: ε / 8 in residual branches, ε / 2 elsewhere."""
    net, base = model(128, structure=structure), model(64)
    groups = lo.nn.param_groups(net, 1e-2, 0.1, base=base, decay="independent", depth={"blocks.*": 4.0}, eps=1e-6)
    for name, eps in by_name(groups, "eps").items():
        if name == "head.bias":  # of the classes, which grow with neither
            assert eps == 1e-6
        else:
            assert eps == pytest.approx(1e-6 / (8 if name.startswith("blocks") else 2)), name
    plain = lo.nn.param_groups(net, 1e-2, 0.1, base=base, decay="independent")
    assert by_name(groups, "lr") == by_name(plain, "lr")  # α = 1: rates do not depend on the depth
    assert set(by_name(plain, "eps").values()) == {None}
    if structure == "dense":  # the decay of the paper: λ times the width
        assert by_name(groups, "weight_decay")["blocks.0.up.weight"] == pytest.approx(0.2)


def test_epsilon_without_a_base_and_by_default():
    groups = lo.nn.param_groups(model(64), 1e-2, depth={"blocks.*": 2.0})
    found = by_name(groups, "eps")
    assert (found["blocks.1.down.weight"], found["head.weight"]) == (5e-9, 1e-8)
    optimizer = torch.optim.AdamW(lo.nn.param_groups(MLP(40, 10, 16), 1e-2, depth={"blocks.*": 2.0}))
    assert {group["eps"] for group in optimizer.param_groups} == {5e-9, 1e-8}
    muon = lo.nn.param_groups(model(64), 1e-2, optimizer="muon", depth={"blocks.*": 2.0})
    assert all(("eps" in group) == (group["algorithm"] == "adamw") for group in muon)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": "sgd", "eps": 1e-8}, "it has no ε"),
        ({"optimizer": "lion", "depth": {"blocks.*": 2.0}}, "it has no ε"),
        ({"depth": 2.0}, "expected patterns to positive numbers"),
        ({"depth": {"*": 0.0}}, "expected patterns to positive numbers"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        lo.nn.param_groups(nn.Linear(2, 2), 1e-2, **arguments)


@pytest.mark.parametrize("make", [MLP, GPT, ViT])
def test_branches_of_the_labs_models(make):
    sizes = {MLP: (40, 10), GPT: (20, 8), ViT: ((1, 8, 8), 10)}[make]
    plain, scaled = make(*sizes, width=16, depth=4), make(*sizes, width=16, depth=4, base_depth=2)
    branches = lambda net: {part.branch for part in net.modules() if hasattr(part, "branch")}  # noqa: E731
    assert (branches(plain), branches(scaled)) == ({1.0}, {0.5})
    scaled.load_state_dict(plain.state_dict())
    torch.manual_seed(0)
    for net in (plain, scaled):
        for name, parameter in net.named_parameters():
            if name.endswith(("down.weight", "out.weight")):  # which start at zero
                torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    x = torch.randint(20, (2, 8)) if make is GPT else torch.randn(2, 40 if make is MLP else 64)
    assert not torch.allclose(plain.features(x), scaled.features(x))


@pytest.mark.parametrize(
    "structure", ["dense", pytest.param("btt", marks=pytest.mark.full), pytest.param("monarch", marks=pytest.mark.full)]
)
def test_features_move_alike_at_every_depth(structure):
    """Over depths 2 … 32; of dense models by default two, of which the deeper without it moves by 1.8 times as much."""
    depths = (2, 16) if structure == "dense" else depth_check.DEPTHS
    assert abs(depth_check.slope(structure, True, depths)) <= 0.1
    if structure == "dense":
        assert depth_check.slope(structure, False, depths) >= 0.25


def test_runs_of_the_lab_follow_it():
    from linops.families.text import parse
    from linops.lab import runs
    from linops.lab.problems import make

    problem = make("mlp", "digits", None, 0, "cpu")
    plain, run = runs.Run(parse("btt"), 128, 8), runs.Run(parse("btt"), 128, 8, base_depth=2)
    model = runs.build(problem, run)
    assert model.blocks[0].branch == 2 / 8
    found = {name: group["eps"] for group in runs.parameter_groups(problem, run, model) for name in group["names"]}
    wide = problem.base_width / 128
    assert found["blocks.3.up.cores_0"] == pytest.approx(1e-8 * wide * 2 / 8)
    assert found["head.weight"] == pytest.approx(1e-8 * wide)
    assert not any("eps" in group for group in runs.parameter_groups(problem, plain, runs.build(problem, plain)))
    assert run.row(problem)["base_depth"] == 2
    assert "base_depth" not in plain.row(problem)
