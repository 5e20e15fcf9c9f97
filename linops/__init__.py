"""linops: a linear-operator algebra for people who design, count, run and train structured matrices."""

import linops.backends.spec as _spec_backend
import linops.rules as _rules
from linops import nn, rules, testing
from linops.compare import allclose
from linops.declare import declare, index, tree
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
    monarch,
    tensor_train,
    toeplitz,
)
from linops.operator import LinearOperator, assume
from linops.operators import (
    DFT,
    Block,
    BlockDiag,
    BlockTensorTrain,
    Butterfly,
    Circulant,
    Dense,
    Diagonal,
    Einsum,
    Function,
    Hadamard,
    Hessian,
    Householder,
    Identity,
    Jacobian,
    Kronecker,
    KroneckerSum,
    LowRank,
    Pad,
    Permute,
    Power,
    Product,
    Scaled,
    Sliced,
    Sparse,
    Sum,
    TensorTrain,
    Toeplitz,
    Triangular,
    Tridiagonal,
    Zero,
    aslinearoperator,
    hstack,
    kron,
    vstack,
)
from linops.rules import freeze, simplify
from linops.scaling import fans, initial_stds, lr_multipliers
from linops.spec import Spec, spec
from linops.structure import same_structure
from linops.tags import Tag

__version__ = "0.1.0"
