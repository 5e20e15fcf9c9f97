"""linops: a linear-operator algebra for people who design, count, run and train structured matrices."""

import linops.algebra as _algebra
import linops.backends.spec as _spec_backend
from linops import nn, rules, testing
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
    monarch,
    tensor_train,
    toeplitz,
)
from linops.freezing import freeze
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
from linops.rules import simplify
from linops.scaling import fans, initial_stds, lr_multipliers
from linops.specs import Spec, spec
from linops.structure import same_structure
from linops.tags import Tag

__version__ = "0.1.0"
