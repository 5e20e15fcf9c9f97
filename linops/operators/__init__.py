"""One file per operator: its leaves, product, transpose, cost, fans."""

from linops.operators.block_diag import BlockDiag
from linops.operators.block_tensor_train import BlockTensorTrain
from linops.operators.dense import Dense, aslinearoperator
from linops.operators.diagonal import Diagonal
from linops.operators.function import Function
from linops.operators.hessian import Hessian
from linops.operators.identity import Identity
from linops.operators.jacobian import Jacobian
from linops.operators.kronecker import Kronecker, kron
from linops.operators.low_rank import LowRank
from linops.operators.pad import Pad
from linops.operators.permute import Permute
from linops.operators.power import Power
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.operators.sliced import Sliced
from linops.operators.sum import Sum
from linops.operators.tensor_train import TensorTrain
from linops.operators.zero import Zero

__all__ = [
    "BlockDiag",
    "BlockTensorTrain",
    "Dense",
    "Diagonal",
    "Function",
    "Hessian",
    "Identity",
    "Jacobian",
    "Kronecker",
    "LowRank",
    "Pad",
    "Permute",
    "Power",
    "Product",
    "Scaled",
    "Sliced",
    "Sum",
    "TensorTrain",
    "Zero",
    "aslinearoperator",
    "kron",
]
