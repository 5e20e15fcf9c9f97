"""linops: a linear-operator algebra for people who design, count, run and train structured matrices."""

import linops.backends.spec as _spec_backend
import linops.rules as _rules
from linops import nn
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
    Function,
    Hessian,
    Identity,
    Jacobian,
    Kronecker,
    LowRank,
    Pad,
    Permute,
    Power,
    Product,
    Scaled,
    Sliced,
    Sum,
    TensorTrain,
    Zero,
    aslinearoperator,
    kron,
)
from linops.scaling import fans, initial_stds, lr_multipliers
from linops.spec import Spec, spec
from linops.tags import Tag

__version__ = "0.1.0"
