"""Operators as layers of Equinox, in a model of one's own and in checkpoints that PyTorch and Flax read."""

from linops.nn.equinox.adamw import adamw
from linops.nn.equinox.balance import with_balance_loss
from linops.nn.equinox.checkpoint import load_state_dict, state_dict
from linops.nn.equinox.frozen import freeze, to_dense
from linops.nn.equinox.layer import Linear
from linops.nn.equinox.muon import muon
from linops.nn.equinox.nonlinear import BTTMixture, Chain
from linops.nn.equinox.project import from_linear
from linops.nn.equinox.rates import decay_mask, decay_shares, lr_multipliers
from linops.nn.equinox.replace import replace_linear
from linops.nn.equinox.saving import load, save

__all__ = [
    "BTTMixture",
    "Chain",
    "Linear",
    "adamw",
    "decay_mask",
    "decay_shares",
    "freeze",
    "from_linear",
    "load",
    "load_state_dict",
    "lr_multipliers",
    "muon",
    "replace_linear",
    "save",
    "state_dict",
    "to_dense",
    "with_balance_loss",
]
