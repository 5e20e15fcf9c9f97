"""Operators as layers of PyTorch, in a model of one's own, with the rates that they train at."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from linops.nn.torch.chain import Chain
from linops.nn.torch.compress import compress
from linops.nn.torch.frozen import freeze_, to_dense_
from linops.nn.torch.grow import grow_
from linops.nn.torch.layer import Linear
from linops.nn.torch.mixture import BTTMixture, balance_loss
from linops.nn.torch.muon import Muon
from linops.nn.torch.project import from_linear
from linops.nn.torch.rates import param_groups
from linops.nn.torch.replace import replace_linear_
from linops.nn.torch.saving import load, save
from linops.nn.torch.schedules import keep_rates, set_lr
from linops.nn.torch.sharded import shard_placement
from linops.nn.torch.watching import watch

if TYPE_CHECKING:  # to type checkers what `__getattr__` loads
    from linops.nn.torch.clipping import clip_grad_norm_
    from linops.nn.torch.collectives import CommunicationMode
    from linops.nn.torch.divided import DividedLinear
    from linops.nn.torch.parallel import divisions, parallelize_

__all__ = [
    "BTTMixture",
    "Chain",
    "CommunicationMode",
    "DividedLinear",
    "Linear",
    "Muon",
    "balance_loss",
    "clip_grad_norm_",
    "compress",
    "divisions",
    "freeze_",
    "from_linear",
    "grow_",
    "keep_rates",
    "load",
    "parallelize_",
    "param_groups",
    "replace_linear_",
    "save",
    "set_lr",
    "shard_placement",
    "to_dense_",
    "watch",
]

#: what needs torch.distributed.tensor, which takes as long to import as all of this
_DISTRIBUTED = {
    "CommunicationMode": "collectives",
    "DividedLinear": "divided",
    "clip_grad_norm_": "clipping",
    "divisions": "parallel",
    "parallelize_": "parallel",
}


def __getattr__(name: str) -> Any:
    if name in _DISTRIBUTED:
        return getattr(import_module(f"linops.nn.torch.{_DISTRIBUTED[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
