"""linops: a linear-operator algebra for people who design, count, run and train structured matrices."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

import linops.algebra as _algebra
import linops.backends.spec as _spec_backend
from linops import kernels, nn, operators, plan, rules
from linops.closeness import allclose
from linops.declaration import declare, index, tree
from linops.families import (
    blast,
    block_diag,
    btt,
    butterfly,
    circulant,
    dense,
    einsum,
    kronecker,
    low_rank,
    low_rank_block,
    low_rank_semi_structured,
    low_rank_sparse,
    monarch,
    tensor_train,
    toeplitz,
)
from linops.freezing import freeze
from linops.hooks import inverted as _inverted
from linops.operator import LinearOperator, assume
from linops.operators import *
from linops.rules import simplify
from linops.sameness import same_structure
from linops.saving import load, save
from linops.scaling import fans, initial_stds, lr_multipliers
from linops.specs import Spec, spec
from linops.tags import Tag

if TYPE_CHECKING:  # to type checkers what `__getattr__` loads
    from linops import linalg, testing
    from linops.projection import Moments, ProjectionInfo, convert, project

__version__ = "0.1.0"

__all__ = [
    "LinearOperator",
    "Moments",
    "ProjectionInfo",
    "Spec",
    "Tag",
    "allclose",
    "assume",
    "blast",
    "block_diag",
    "btt",
    "butterfly",
    "circulant",
    "convert",
    "declare",
    "dense",
    "einsum",
    "fans",
    "freeze",
    "index",
    "initial_stds",
    "kernels",
    "kronecker",
    "linalg",
    "load",
    "low_rank",
    "low_rank_block",
    "low_rank_semi_structured",
    "low_rank_sparse",
    "lr_multipliers",
    "monarch",
    "nn",
    "plan",
    "project",
    "rules",
    "same_structure",
    "save",
    "simplify",
    "spec",
    "tensor_train",
    "testing",
    "toeplitz",
    "tree",
]
__all__ += operators.__all__


#: what takes two fifths of the time of importing linops, and so is imported when it is first used: name → module
_LATER = {"linalg": "linops.linalg", "testing": "linops.testing"} | dict.fromkeys(
    ("Moments", "ProjectionInfo", "convert", "project"), "linops.projection"
)


@_inverted.dispatch
def _by_linalg(a: LinearOperator):
    from linops.linalg import inv  # late, and a statement, which torch.compile follows

    return inv(a)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # type checkers know the names there are

    def __getattr__(name: str) -> Any:
        if name in _LATER:
            module = _import_module(_LATER[name])
            found = globals()[name] = module if module.__name__ == f"linops.{name}" else getattr(module, name)
            return found
        known = not name.startswith("_") and name in _import_module("linops.linalg").__all__
        raise AttributeError(f"module 'linops' has no attribute {name!r}" + f": lo.linalg.{name} is there" * known)
