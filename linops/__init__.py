"""linops: a linear-operator algebra for people who design, count, run and train structured matrices."""

from typing import TYPE_CHECKING

import linops.algebra as _algebra
import linops.backends.spec as _spec_backend
from linops import kernels, linalg, nn, operators, plan, rules, testing
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
from linops.operator import LinearOperator, assume
from linops.operators import *
from linops.projection import Moments, ProjectionInfo, convert, project
from linops.rules import simplify
from linops.sameness import same_structure
from linops.saving import load, save
from linops.scaling import fans, initial_stds, lr_multipliers
from linops.specs import Spec, spec
from linops.tags import Tag

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


if not TYPE_CHECKING:  # type checkers know the names there are

    def __getattr__(name: str) -> object:
        hint = f": lo.linalg.{name} is there" if name in linalg.__all__ else ""
        raise AttributeError(f"module 'linops' has no attribute {name!r}{hint}")
