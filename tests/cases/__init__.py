"""The table of cases: each `case_*` takes a maker of random arrays and returns (operator, its dense matrix).

The matrix is built from the definition, by other means than the operator's own: loops, np.kron, einsum over the
formula.
"""

from cases import blocks, butterflies, composites, constants, functions, sliced, sparse, trains, transforms, tri
from cases.matrices import axes_matrix, block_matrix, index_matrix, kron_matrix, pad_matrix

__all__ = ["CASES", "axes_matrix", "block_matrix", "index_matrix", "kron_matrix", "pad_matrix"]

MODULES = (blocks, butterflies, composites, constants, functions, sliced, sparse, trains, transforms, tri)
CASES = {
    name.removeprefix("case_"): case
    for module in MODULES
    for name, case in vars(module).items()
    if name.startswith("case_") and case.__module__ == module.__name__
}
