"""linops: a linear-operator algebra for people who design, count, run and train structured matrices."""

import linops.backends.spec as _spec_backend
from linops import nn, rules
from linops.declare import declare, index, tree
from linops.families import (
    block_diag,
    btt,
    dense,
    kronecker,
    low_rank,
    monarch,
    tensor_train,
)
from linops.operator import LinearOperator, assume
from linops.operators import (
    BlockDiag,
    BlockTensorTrain,
    Dense,
    Diagonal,
    Identity,
    Kronecker,
    LowRank,
    Pad,
    Permute,
    Power,
    Product,
    Scaled,
    Sum,
    TensorTrain,
    Zero,
    aslinearoperator,
    kron,
)
from linops.rules import simplify
from linops.scaling import fans, initial_stds, lr_multipliers
from linops.spec import Spec, spec
from linops.tags import Tag

__version__ = "0.1.0"
