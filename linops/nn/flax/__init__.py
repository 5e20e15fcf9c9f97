"""Operators as layers of Flax NNX, in a model of one's own and in checkpoints that PyTorch and Equinox read."""

from linops.nn.flax.adamw import adamw
from linops.nn.flax.checkpoint import load_state_dict, state_dict
from linops.nn.flax.frozen import freeze, to_dense
from linops.nn.flax.general import LinearGeneral
from linops.nn.flax.layer import Linear
from linops.nn.flax.muon import muon
from linops.nn.flax.nonlinear import BalanceLoss, BTTMixture, Chain, with_balance_loss
from linops.nn.flax.project import from_linear
from linops.nn.flax.rates import decay_mask, decay_shares, lr_multipliers
from linops.nn.flax.replace import replace_linear
from linops.nn.flax.saving import load, save

__all__ = [
    "BTTMixture",
    "BalanceLoss",
    "Chain",
    "Linear",
    "LinearGeneral",
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
