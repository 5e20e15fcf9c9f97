"""The table of cases: each `case_*` takes a maker of random arrays and returns (operator, its dense matrix).

The matrix is built from the definition, by other means than the operator's own: loops, np.kron, einsum over the
formula.
"""

from importlib import import_module
from pkgutil import iter_modules

from cases.matrices import axes_matrix, block_matrix, index_matrix, kron_matrix, pad_matrix

__all__ = ["CASES", "axes_matrix", "block_matrix", "index_matrix", "kron_matrix", "pad_matrix"]

MODULES = [import_module(f"cases.{module.name}") for module in iter_modules(__path__)]
CASES = {
    name.removeprefix("case_"): case
    for module in MODULES
    for name, case in vars(module).items()
    if name.startswith("case_") and case.__module__ == module.__name__
}
