"""Train a dense MLP, ViT and GPT of the lab briefly, compress each at two budgets, and train the results on.

``python examples/project_and_train_on.py [steps]`` takes the number of steps of dense training; 10, the default, show
the way in seconds, a thousand or more show what compression costs.
"""

import copy
import sys
import warnings

import torch

import linops as lo
from linops.lab.problems import make

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 10
BATCH, RATE = 64, 4e-3


def train(model, problem, steps, rate, start=0):
    """Some steps of AdamW, each leaf of a structure at its own rate, decayed to zero."""
    optimizer = torch.optim.AdamW(lo.nn.param_groups(model, lr=rate))
    lo.nn.keep_rates(optimizer)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, steps)
    for step in range(steps):
        loss = problem.loss(model, problem.batch(start + step, BATCH))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def score(model, problem):
    """How well a model does on what it was not trained on."""
    found = problem.evaluate(model)
    return "  ".join(f"{name} {value:.3f}" for name, value in found.items() if name.startswith("test"))


for name, width in (("mlp", 64), ("vit", 32), ("gpt", 32)):
    torch.manual_seed(0)
    problem = make(name, None, None, 0, "cpu")
    model = problem.model(width)
    train(model, problem, STEPS, RATE)
    print(f"{name}: dense, {sum(p.numel() for p in model.parameters()):,} parameters: {score(model, problem)}")
    structured = [path for path, _ in model.named_modules() if problem.structured(path)]
    batches = [problem.batch(10**6 + number, BATCH)[0] for number in range(4)]
    for budget in (0.5, 0.25):
        small = copy.deepcopy(model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of brief calibration
            plan = lo.nn.compress(small, budget, ("low_rank", "btt"), batches, where=structured)
            plan.apply_()
        before = score(small, problem)
        train(small, problem, STEPS // 4, RATE / 4, start=10**5)
        print(f"  {plan.cost / plan.dense:.2f} of the weights: {before}; trained on: {score(small, problem)}")
