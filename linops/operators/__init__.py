"""One file per operator: its leaves, product, transpose, cost, fans."""

from linops.operators.block import Block, hstack, vstack
from linops.operators.block_diag import BlockDiag
from linops.operators.block_tensor_train import BlockTensorTrain
from linops.operators.butterfly import Butterfly
from linops.operators.circulant import Circulant
from linops.operators.dense import Dense
from linops.operators.dft import DFT
from linops.operators.diagonal import Diagonal
from linops.operators.direct_sum import DirectSum
from linops.operators.einsum import Einsum
from linops.operators.function import Function
from linops.operators.hadamard import Hadamard
from linops.operators.hessian import Hessian
from linops.operators.householder import Householder
from linops.operators.identity import Identity
from linops.operators.jacobian import Jacobian
from linops.operators.kronecker import Kronecker, kron
from linops.operators.kronecker_sum import KroneckerSum
from linops.operators.low_rank import LowRank
from linops.operators.pad import Pad
from linops.operators.permute import Permute
from linops.operators.permute_axes import PermuteAxes
from linops.operators.power import Power
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.operators.selected import Selected
from linops.operators.sliced import Sliced
from linops.operators.sparse import Sparse
from linops.operators.sum import Sum
from linops.operators.tensor_train import TensorTrain
from linops.operators.toeplitz import Toeplitz
from linops.operators.triangular import Triangular
from linops.operators.tridiagonal import Tridiagonal
from linops.operators.wrap import aslinearoperator
from linops.operators.zero import Zero

__all__ = [
    "DFT",
    "Block",
    "BlockDiag",
    "BlockTensorTrain",
    "Butterfly",
    "Circulant",
    "Dense",
    "Diagonal",
    "DirectSum",
    "Einsum",
    "Function",
    "Hadamard",
    "Hessian",
    "Householder",
    "Identity",
    "Jacobian",
    "Kronecker",
    "KroneckerSum",
    "LowRank",
    "Pad",
    "Permute",
    "PermuteAxes",
    "Power",
    "Product",
    "Scaled",
    "Selected",
    "Sliced",
    "Sparse",
    "Sum",
    "TensorTrain",
    "Toeplitz",
    "Triangular",
    "Tridiagonal",
    "Zero",
    "aslinearoperator",
    "hstack",
    "kron",
    "vstack",
]
