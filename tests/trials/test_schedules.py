"""Structure-aware rates under every scheduler of torch, loops of one's own, checkpoints and trainers."""

import copy
import math
import warnings

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

import linops as lo

STEPS = 12
#: each scheduler on an optimiser of rate 1: how to make it, and what becomes of groups of different rates without
#: `keep_rates`
SCHEDULERS = {
    "LambdaLR": (lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step), "right"),
    "MultiplicativeLR": (lambda o: lr_scheduler.MultiplicativeLR(o, lambda step: 0.9), "right"),
    "StepLR": (lambda o: lr_scheduler.StepLR(o, 3), "right"),
    "MultiStepLR": (lambda o: lr_scheduler.MultiStepLR(o, [2, 5]), "right"),
    "ConstantLR": (lambda o: lr_scheduler.ConstantLR(o, total_iters=4), "right"),
    "LinearLR": (lambda o: lr_scheduler.LinearLR(o, total_iters=4), "right"),
    "ExponentialLR": (lambda o: lr_scheduler.ExponentialLR(o, 0.9), "right"),
    "PolynomialLR": (lambda o: lr_scheduler.PolynomialLR(o, STEPS, power=2), "right"),
    "CosineAnnealingLR": (lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS), "right"),
    "CosineAnnealingLR eta_min": (lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS - 1, eta_min=0.1), "warned"),
    "CosineAnnealingWarmRestarts": (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5), "right"),
    "CosineAnnealingWarmRestarts eta_min": (
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5, eta_min=0.1),
        "warned",
    ),
    "SequentialLR": (
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, total_iters=3), lr_scheduler.CosineAnnealingLR(o, 9)], [3]
        ),
        "right",
    ),
    "ChainedScheduler": (
        lambda o: lr_scheduler.ChainedScheduler(
            [lr_scheduler.ConstantLR(o, total_iters=3), lr_scheduler.ExponentialLR(o, 0.9)]
        ),
        "right",
    ),
    "OneCycleLR": (
        lambda o: lr_scheduler.OneCycleLR(o, max_lr=1.0, total_steps=STEPS + 1, cycle_momentum=False),
        "warned",
    ),
    "OneCycleLR list": (
        lambda o: lr_scheduler.OneCycleLR(
            o, max_lr=[group["lr"] for group in o.param_groups], total_steps=STEPS + 1, cycle_momentum=False
        ),
        "right",
    ),
    "CyclicLR": (lambda o: lr_scheduler.CyclicLR(o, 0.1, 1.0, step_size_up=3, cycle_momentum=False), "warned"),
    "ReduceLROnPlateau": (lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.7, patience=0), "right"),
    "ReduceLROnPlateau min_lr": (lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0, min_lr=0.3), "warned"),
    "SWALR": (lambda o: torch.optim.swa_utils.SWALR(o, swa_lr=0.05, anneal_epochs=4), "warned"),
}
LOOPS = {
    "constant": (lambda step: 1.0, "warned"),
    "warmup and cosine": (lambda step: min(1, step / 3) * (1 + math.cos(math.pi * step / STEPS)) / 2, "warned"),
}


def net(width=64):
    torch.manual_seed(0)
    return lo.low_rank(2 * width, width, rank=4).to_layer()


def optimizer_of(model, kind=torch.optim.SGD, lr=1.0, **options):
    groups = lo.nn.param_groups(model, lr=lr, **options)
    for group in groups:
        group.pop("optimizer", None)  # SGD shows Adam's rates here, on purpose
    return kind(groups)


def moved(optimizer, scheduler=None, loop=None, steps=STEPS):
    """How far each group's first parameter moves, step by step, at a gradient of one: the rate of SGD."""
    found = []
    for step in range(steps):
        if loop is not None:
            loop(optimizer, step)
        before = [group["params"][0].detach().clone() for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        if scheduler is not None:
            scheduler.step(*([1.0] if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else []))
        found.append(
            [(old - group["params"][0].detach()).mean().item() for old, group in zip(before, optimizer.param_groups)]
        )
    return torch.tensor(found, dtype=torch.float64)


def plain():
    """An optimiser of one group of rate 1."""
    return torch.optim.SGD([nn.Parameter(torch.zeros(3, dtype=torch.float64))], lr=1.0)


def structured():
    optimizer = optimizer_of(net().double())
    return optimizer, torch.tensor([group["lr_multiplier"] for group in optimizer.param_groups], dtype=torch.float64)


def test_trial_12_every_scheduler_of_torch_is_in_the_table():
    assert {name.split()[0] for name in SCHEDULERS} == {*lr_scheduler.__all__, "SWALR"} - {"LRScheduler"}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_trial_12_kept_rates_are_right_under_every_scheduler(name):
    make, _ = SCHEDULERS[name]
    reference = plain()
    expected = moved(reference, make(reference))
    optimizer, multipliers = structured()
    lo.nn.keep_rates(optimizer)
    torch.testing.assert_close(moved(optimizer, make(optimizer)), expected * multipliers)
    # what a scheduler and a log see is the rate of a dense layer
    assert len({group["lr"] for group in optimizer.param_groups}) == 1


@pytest.mark.parametrize("name", SCHEDULERS)
def test_trial_12_without_it_rates_are_right_or_warned_of(name):
    make, fate = SCHEDULERS[name]
    reference = plain()
    expected = moved(reference, make(reference))
    optimizer, multipliers = structured()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = moved(optimizer, make(optimizer))
    right = torch.allclose(found, expected * multipliers)
    assert fate == ("right" if right else "warned" if caught else "wrong")
    assert len(caught) == (fate == "warned")
    assert all("lo.nn.set_lr(optimizer, lr)" in str(one.message) and one.filename == __file__ for one in caught)


@pytest.mark.parametrize("name", LOOPS)
def test_trial_12_a_loop_of_ones_own(name):
    rate, _ = LOOPS[name]

    def naive(optimizer, step):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)

    def ours(optimizer, step):
        lo.nn.set_lr(optimizer, rate(step))

    expected = moved(plain(), loop=naive)
    optimizer, multipliers = structured()
    torch.testing.assert_close(moved(optimizer, loop=ours), expected * multipliers)
    optimizer, multipliers = structured()
    with pytest.warns(UserWarning, match="structure-aware rates are lost") as record:
        moved(optimizer, loop=naive)
    assert len(record) == 1
    for loop in (naive, ours):
        optimizer, multipliers = structured()
        torch.testing.assert_close(moved(lo.nn.keep_rates(optimizer), loop=loop), expected * multipliers)


def test_trial_12_timms_schedulers():
    scheduler = pytest.importorskip("timm.scheduler", exc_type=(ImportError, RuntimeError))
    make = {
        "cosine": lambda o: scheduler.CosineLRScheduler(o, STEPS, lr_min=0.1, warmup_t=3, warmup_lr_init=0.01),
        "poly": lambda o: scheduler.PolyLRScheduler(o, STEPS, lr_min=0.1),
    }
    for build in make.values():
        found = []
        for optimizer in (plain(), lo.nn.keep_rates(structured()[0])):
            schedule = build(optimizer)
            found.append(moved(optimizer, loop=lambda _, step, schedule=schedule: schedule.step(step, 1.0)))
        torch.testing.assert_close(found[1], found[0] * structured()[1])


OPTIMIZERS = {
    "sgd": lambda groups: torch.optim.SGD(groups, momentum=0.9),
    "adamw": torch.optim.AdamW,
    "foreach": lambda groups: torch.optim.AdamW(groups, foreach=True),
    "fused": lambda groups: torch.optim.AdamW(groups, fused=True),
    "tensor": lambda groups: torch.optim.AdamW(
        [group | {"lr": torch.tensor(group["lr"])} for group in groups], foreach=False
    ),
    "muon": lo.nn.muon.Muon,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_trial_12_set_and_kept_rates_of_every_kind_of_optimiser(name):
    """Setting the multiplied rates, and multiplying at the step, train alike."""
    losses = []
    for keep in (False, True):
        model = net()
        groups = lo.nn.param_groups(
            model, lr=0.01, optimizer=name if name in ("muon", "sgd") else "adamw", adamw_lr=0.003, weight_decay=0.1
        )
        optimizer = OPTIMIZERS[name](groups)
        if keep:
            lo.nn.keep_rates(optimizer)
        x = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
        for step in range(4):
            lo.nn.set_lr(optimizer, 0.01 / (1 + step))
            optimizer.zero_grad()
            loss = (model(x) - 1).square().mean()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


# ---------------------------------------------------------------- checkpoints and copies


def rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize("second", [False, True], ids=["into plain", "into kept"])
@pytest.mark.parametrize("first", [False, True], ids=["from plain", "from kept"])
def test_trial_12_state_dicts_have_the_multiplied_rates(first, second, tmp_path):
    def make(keep):
        optimizer, multipliers = structured()
        optimizer = lo.nn.keep_rates(optimizer) if keep else optimizer
        return optimizer, lr_scheduler.CosineAnnealingLR(optimizer, STEPS), multipliers

    reference = plain()
    expected = moved(reference, lr_scheduler.CosineAnnealingLR(reference, STEPS), steps=8)
    optimizer, scheduler, multipliers = make(first)
    moved(optimizer, scheduler, steps=4)
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, tmp_path / "state.pt")
    resumed, other, _ = make(second)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert [group["lr"] for group in state["optimizer"]["param_groups"]] == pytest.approx(
        [r * m for r, m in zip([expected[4, 0].item()] * 3, multipliers.tolist())]
    )
    resumed.load_state_dict(state["optimizer"])
    if first == second:
        other.load_state_dict(state["scheduler"])
        assert rates(resumed) == rates(optimizer)
        torch.testing.assert_close(moved(resumed, other, steps=4), expected[4:] * multipliers)
    else:
        torch.testing.assert_close(moved(resumed, steps=1), expected[4:5] * multipliers)


def test_trial_12_copies_and_loaded_optimisers_are_watched_too():
    optimizer, _ = structured()
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for twin in (copy.deepcopy(optimizer), optimizer):
        assert rates(twin) == rates(optimizer)
        for group in twin.param_groups:
            group["lr"] = 0.5
        with pytest.warns(UserWarning, match="structure-aware rates are lost"):
            twin.step()


def test_trial_12_rates_changed_on_purpose_are_not_warned_of():
    optimizer, _ = structured()
    optimizer.param_groups[0]["lr"] *= 2
    optimizer.step()


def test_rates_that_are_wiped_after_many_changes_are_warned_of():
    optimizer = torch.optim.SGD(
        lo.nn.param_groups(lo.nn.torch.Linear(lo.low_rank(64, 16, rank=4)), 0.1, optimizer="sgd")
    )
    for step in range(100):
        lo.nn.set_lr(optimizer, 0.1 / (1 + step))
        optimizer.step()
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    with pytest.warns(UserWarning, match="have the rates 0.01, which are not in proportion"):
        [optimizer.step() for _ in range(64)]


def test_trial_12_a_step_that_raises_leaves_rates_right():
    optimizer, multipliers = structured()
    lo.nn.keep_rates(optimizer)

    def closure():
        raise RuntimeError("in the loss")

    with pytest.raises(RuntimeError, match="in the loss"):
        optimizer.step(closure)
    torch.testing.assert_close(moved(optimizer, steps=1)[0], multipliers)
    assert rates(optimizer) == [1.0] * len(multipliers)


def test_trial_12_groups_added_later_have_no_multiplier():
    optimizer, multipliers = structured()
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2, dtype=torch.float64))], "lr": 1.0})
    lo.nn.set_lr(optimizer, 0.5)
    assert rates(optimizer) == [*(0.5 * multipliers).tolist(), 0.5]
    torch.testing.assert_close(
        moved(lo.nn.keep_rates(optimizer), steps=1)[0],
        torch.tensor([*(0.5 * multipliers).tolist(), 0.5], dtype=torch.float64),
    )


def test_trial_12_muons_adamw_rate_is_in_the_multiplier():
    groups = lo.nn.param_groups(net(), lr=0.02, optimizer="muon", adamw_lr=0.001)
    assert all(group["lr"] == pytest.approx(0.02 * group["lr_multiplier"]) for group in groups)


@pytest.mark.parametrize("call", [lambda o: lo.nn.set_lr(o, 1.0), lo.nn.keep_rates])
def test_trial_12_groups_that_are_not_ours(call):
    with pytest.raises(ValueError, match="no group has an lr_multiplier"):
        call(plain())


def test_trial_12_keep_comes_before_the_scheduler():
    optimizer, _ = structured()
    lr_scheduler.ExponentialLR(optimizer, 0.9)
    with pytest.raises(ValueError, match="call keep_rates before making it"):
        lo.nn.keep_rates(optimizer)


def test_trial_12_equal_multipliers_are_not_warned_of():
    optimizer = optimizer_of(nn.Linear(4, 4))
    for group in optimizer.param_groups:
        group["lr"] = 0.5
    optimizer.step()
    optimizer, _ = structured()
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # the start of a warm-up
    optimizer.step()


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch compiling
@pytest.mark.parametrize("keep", [False, True])
def test_trial_12_compiled_steps(keep):
    optimizer, twin = structured()[0], structured()[0]
    if keep:
        lo.nn.keep_rates(optimizer)
    step = torch.compile(lambda: optimizer.step(), backend="eager")
    for _ in range(2):
        for one in (optimizer, twin):
            for group in one.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.ones_like(parameter)
        step()
        twin.step()
    for ours, theirs in zip(optimizer.param_groups, twin.param_groups):
        torch.testing.assert_close(ours["params"], theirs["params"])


def test_kept_rates_are_saved_as_they_are_where_a_step_has_raised():
    def interrupted():
        raise KeyboardInterrupt

    optimizer, other = lo.nn.keep_rates(optimizer_of(net())), lo.nn.keep_rates(optimizer_of(net()))
    before = optimizer.state_dict()["param_groups"]
    with pytest.raises(KeyboardInterrupt):
        optimizer.step(interrupted)
    state = optimizer.state_dict()
    assert state["param_groups"] == before
    other.load_state_dict(state)
    assert {group["lr"] for group in other.param_groups} == {1.0}


@pytest.mark.parametrize("keys", [{"lr_multiplier": 2.0, "lr": 0.1}, {"lr_multiplier": 2.0}])
def test_groups_of_other_libraries_are_not_heeded(keys):
    class Other(torch.optim.Optimizer):
        """One that multiplies by itself, or has rates of another name."""

        def __init__(self, groups):
            super().__init__(groups, {})

        def step(self, closure=None):
            return None

    lo.nn.param_groups(net(), lr=1.0)  # from now on a hook is there
    other = {**keys, "lr_multiplier": 1.0}
    groups = [{"params": [nn.Parameter(torch.ones(2))], **one} for one in (keys, other)]
    Other(groups).step()


def test_kept_rates_leave_nothing_in_the_groups_that_they_are_loaded_into():
    optimizer, other = lo.nn.keep_rates(optimizer_of(net())), lo.nn.keep_rates(optimizer_of(net()))
    before = [set(group) for group in other.param_groups]
    state = optimizer.state_dict()
    other.load_state_dict(state)
    assert [set(group) for group in other.param_groups] == before
    assert all("kept_rates" in group for group in state["param_groups"])  # the caller's own stays as it is


# ---------------------------------------------------------------- names


@pytest.mark.full
def test_trial_31_modules_are_found_without_importing_them():
    import subprocess
    import sys

    code = "import sys, linops as lo; assert not {'torch', 'jax'} & {*sys.modules}; "
    code += "print(lo.nn.muon.Muon.__name__, 'muon' in dir(lo.nn))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "Muon True\n", done.stderr
