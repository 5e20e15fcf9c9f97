"""Operators as layers of PyTorch, in a model of one's own, with the rates that they train at."""

from linops.nn.torch.compress import compress
from linops.nn.torch.frozen import freeze_, to_dense_
from linops.nn.torch.grow import grow_
from linops.nn.torch.layer import Linear
from linops.nn.torch.muon import Muon
from linops.nn.torch.project import from_linear
from linops.nn.torch.rates import param_groups
from linops.nn.torch.replace import replace_linear_
from linops.nn.torch.saving import load, save
from linops.nn.torch.schedules import keep_rates, set_lr

__all__ = [
    "Linear",
    "Muon",
    "compress",
    "freeze_",
    "from_linear",
    "grow_",
    "keep_rates",
    "load",
    "param_groups",
    "replace_linear_",
    "save",
    "set_lr",
    "to_dense_",
]
