"""Train a small network with a structured hidden layer on scikit-learn's scanned digits, beside the dense one."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import linops as lo

STEPS, WIDTH = 100, 256


def train(family: str) -> None:
    """Train once and print parameters, loss and accuracy."""
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    x = torch.as_tensor(images, dtype=torch.float32) / 16
    y = torch.as_tensor(labels)
    train_x, train_y, test_x, test_y = x[:1400], y[:1400], x[1400:], y[1400:]

    model = nn.Sequential(nn.Linear(64, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, 10))
    if family != "dense":
        lo.nn.replace_linear_(model, family, where="2")
    optimizer = torch.optim.AdamW(lo.nn.param_groups(model, lr=1e-3))
    loss = torch.tensor(0.0)
    for _ in range(STEPS):
        batch = torch.randint(len(train_x), (128,))
        loss = nn.functional.cross_entropy(model(train_x[batch]), train_y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        accuracy = (model(test_x).argmax(dim=1) == test_y).float().mean().item()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{family:10} {parameters:>8,} parameters  train loss {loss.item():.3f}  test accuracy {accuracy:.3f}")


for name in ("dense", "btt", "monarch"):
    train(name)
