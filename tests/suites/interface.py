"""SciPy's tests of linear operators and of all that is built on them: matrices become linops operators.

`scipy.sparse.linalg.aslinearoperator`, through which tests and solvers turn every matrix into an operator, wraps it in
linops.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sys
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from scipy.sparse.linalg import _interface

import linops as lo

_original = _interface.aslinearoperator


def aslinearoperator(A: Any) -> Any:
    """SciPy's, of a linops operator where A is a matrix or a duck-typed operator."""
    matrix = isinstance(A, np.ndarray) or scipy.sparse.issparse(A)
    if matrix and np.ndim(A) == 2 and A.dtype.kind in "fciub":
        return lo.aslinearoperator(np.asarray(A) if isinstance(A, np.ndarray) else A).to_scipy()
    return _original(A)


def install() -> None:
    """Patch every module that holds the name."""
    for module in pkgutil.walk_packages(scipy.sparse.linalg.__path__, "scipy.sparse.linalg."):
        if ".tests" not in module.name:
            importlib.import_module(module.name)
    for name, module in list(sys.modules.items()):
        if name.startswith("scipy.") and vars(module).get("aslinearoperator") is _original:
            module.aslinearoperator = functools.wraps(_original)(aslinearoperator)
