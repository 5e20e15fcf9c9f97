"""What users of NumPy, SciPy and torch try by habit: names that work on operators, and hints for those that do not."""

from __future__ import annotations

from collections.abc import Callable
from inspect import getattr_static
from typing import Any

import numpy as np

from linops import backends
from linops.specs import Spec

#: how many entries of a matrix NumPy is given unasked; beyond, `to_dense` asks for them
DENSE_LIMIT = 2**20

_ARRAY = (
    "an operator is no array, A.to_dense() gives that; where another library's operator S stands at its left, write "
    "lo.aslinearoperator(S) @ A"
)
_MOVE = "A.to(device=…) and A.to(dtype=…) move and cast operators"

#: name → what to write. One line a group.
HINTS = {
    name: hint
    for names, hint in {
        "solve": "lo.linalg.solve(A, b) solves, lo.linalg.inv(A) keeps what it makes for many right-hand sides",
        "inv inverse I": "lo.linalg.inv(A), or A ** -1, is the inverse as an operator; lo.linalg.solve(A, b) solves",
        "trace": "lo.linalg.trace(A)",
        "diagonal diag": "lo.linalg.diagonal(A)",
        "rank": "lo.linalg.matrix_rank(A)",
        "power": "A ** k, or lo.linalg.matrix_power(A, p) of a fractional p",
        "det": "lo.linalg.det(A); lo.linalg.slogdet(A) does not overflow",
        **{
            name: f"lo.linalg.{name}(A{rest})"
            for names, rest in [
                ("pinv slogdet logdet expm logm sqrtm", ""),
                ("eig eigh eigvals eigvalsh svd svdvals norm cond cholesky qr lu", ""),
                ("lstsq", ", b"),
                ("eigsh svds", ", k"),
                ("funm", ", f"),
                ("matrix_power", ", p"),
            ]
            for name in names.split()
        },
        "sum mean": "numpy.ones(m) @ A sums the rows, A @ numpy.ones(n) the columns",
        "real imag": "(A + A.conj()) / 2 and (A - A.conj()) / 2j",
        "conjugate": "A.conj()",
        "mT": "A.T",
        "mv mm matmul": "A @ x",
        "numpy": "A.to(backend='numpy') moves the operator, A.to_dense() gives the array",
        "cpu cuda float double half bfloat16 type": _MOVE,
        "detach requires_grad_ clone": "A.with_leaves(…) takes other leaves, A.copy() copies them",
        "parameters named_parameters state_dict": (
            "A.named_leaves() are the arrays by name, A.to_layer() is a module that trains them"
        ),
        "save": (
            "pickle keeps an operator; dict(A.named_leaves()) are its arrays, "
            "for numpy.savez, safetensors and their like"
        ),
        "tocsr tocsc tocoo": "scipy.sparse.csr_array(A.to_dense()) finds the entries of the matrix that are not zero",
        "size nnz numel": "m * n of A.shape are entries, A.num_params parameters",
        "reshape ravel flatten view squeeze tolist item fill": _ARRAY,
        "max min abs round clip any all argmax cumsum prod std var": _ARRAY,
    }.items()
    for name in names.split()
}


class Habits:
    """Names of SciPy's operators, sparse matrices and NumPy's arrays that operators have as well."""

    ndim = 2
    #: pandas leaves ``frame + A`` to the operator
    __pandas_priority__ = 5000

    def matvec(self: Any, x: Any) -> Any:
        """A x of one vector, as SciPy's solvers ask for it.

        Args:
            x: (n,) or (n, 1) array.

        Returns:
            (m,) or (m, 1) array.

        Raises:
            ValueError: If it has another shape.

        Example:
            >>> import linops as lo, numpy as np
            >>> lo.Diagonal([2., 3.]).matvec(np.ones(2))
            array([2., 3.])
        """
        _require_vector(self, x, 1)
        return self @ x

    def rmatvec(self: Any, y: Any) -> Any:
        """Aᴴ y of one vector.

        Args:
            y: (m,) or (m, 1) array.

        Returns:
            (n,) or (n, 1) array.

        Raises:
            ValueError: If it has another shape.

        Example:
            >>> import linops as lo, numpy as np
            >>> lo.Diagonal([2j, 3j]).rmatvec(np.ones(2))
            array([0.-2.j, 0.-3.j])
        """
        _require_vector(self, y, 0)
        return adjoint_product(self, y)

    def matmat(self: Any, X: Any) -> Any:
        """A X of a matrix.

        Args:
            X: (n, k) array.

        Returns:
            (m, k) array.
        """
        return self @ X

    def rmatmat(self: Any, Y: Any) -> Any:
        """Aᴴ Y of a matrix.

        Args:
            Y: (m, k) array.

        Returns:
            (n, k) array.
        """
        return adjoint_product(self, Y)

    def dot(self: Any, other: Any) -> Any:
        """``A @ other``."""
        return self @ other

    def transpose(self: Any) -> Any:
        """``A.T``."""
        return self.T

    def adjoint(self: Any) -> Any:
        """``A.H``."""
        return self.H

    def astype(self: Any, dtype: Any) -> Any:
        """``A.to(dtype=dtype)``."""
        return self.to(dtype=dtype)

    def copy(self: Any) -> Any:
        """The operator with copies of its arrays; in torch the copies are differentiable.

        Returns:
            The operator, which shares no memory with this one.

        Example:
            >>> import linops as lo, numpy as np
            >>> A = lo.Dense(np.eye(2))
            >>> A.copy().matrix is A.matrix
            False
        """
        return self._map(_copied, _copied)

    def toarray(self: Any) -> Any:
        """The (m, n) array of the operator on its backend, as `to_dense`, but never memory of a leaf.

        Returns:
            A fresh array.

        Example:
            >>> import linops as lo
            >>> lo.Permute([1, 0]).toarray()
            array([[0., 1.],
                   [1., 0.]])
        """
        dense = self.to_dense()
        return backends.copy(dense) if _is_leaf(self, dense) else dense

    todense = toarray

    # ------------------------------------------------------------ NumPy

    def __array__(self: Any, dtype: Any = None, copy: bool | None = None) -> Any:
        """The entries as an array of its own, for `numpy.asarray`.

        Raises:
            TypeError: If the operator is symbolic, its arrays are of another framework, or the matrix has more than
                `DENSE_LIMIT` entries and more than the operator has parameters: many functions ask for it unasked, as
                scipy's matrices do in ``S @ A``.
            ValueError: If no copy is allowed and one is needed.
        """
        if self.is_symbolic:
            raise TypeError(
                f"numpy.asarray({self._short()}): it has no entries; "
                "make it concrete first: A.init(seed=0, backend='numpy')"
            )
        if self.backend not in (None, "numpy"):
            raise TypeError(f"numpy.asarray({self._short()}): convert it first, as in A.to(backend='numpy').to_dense()")
        m, n = self.shape
        if m * n > max(DENSE_LIMIT, self.num_params):
            raise TypeError(
                f"numpy.asarray({self._short()}): the matrix has {m * n:,} entries, the operator {self.num_params:,} "
                "parameters; ask for it by A.to_dense(), or keep the operator: A @ x, lo.aslinearoperator(S) @ A of "
                "another library's S at its left"
            )
        dense = self.to_dense()
        if copy is False:
            if not _is_leaf(self, dense):
                raise ValueError(f"numpy.asarray({self._short()}, copy=False): its matrix is in no memory yet")
            dense = dense.view()
            dense.flags.writeable = False
            return np.asarray(dense, dtype=dtype)
        return np.array(dense, dtype=dtype, copy=_is_leaf(self, dense) or None)

    def __array_function__(self: Any, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """NumPy's functions: ``numpy.dot`` and a few more are products and views of operators; others get arrays."""
        ours = FUNCTIONS.get(function)
        return function(*_as_arrays(args), **_as_arrays(kwargs)) if ours is None else ours(*args, **kwargs)

    def __dir__(self) -> list[str]:
        """The names that are there, without those that only hint."""
        kind, held = type(self), self.__dict__
        return [
            name for name in super().__dir__() if name in held or not isinstance(getattr_static(kind, name, None), Hint)
        ]


class Hint:
    """A name that is not there: asking for it is an AttributeError that says what to write instead.

    As a descriptor of the class, for a ``__getattr__`` would slow every attribute down. A field of the same name takes
    its place.
    """

    name: str
    text: str

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Raises."""
        raise AttributeError(f"{owner.__name__!r} object has no attribute {self.name!r}: {self.text}")


for _name, _text in HINTS.items():
    setattr(Habits, _name, Hint(_name, _text))


def adjoint_product(operator: Any, y: Any) -> Any:
    """Aᴴ y, without a conjugate of the leaves."""
    return backends.conj(operator.T @ (backends.conj(y) if backends.is_array(y) else np.conj(y)))


def _require_vector(operator: Any, x: Any, axis: int) -> None:
    """Raise unless x is one vector."""
    size, shape = operator.shape[axis], tuple(np.shape(x) if isinstance(x, (list, tuple)) else x.shape)
    if shape not in ((size,), (size, 1)):
        raise ValueError(f"{operator._short()} and a vector of shape {shape}: expected ({size},) or ({size}, 1)")


def _is_leaf(operator: Any, array: Any) -> bool:
    return any(array is leaf for _, leaf in operator.named_leaves())


def _copied(array: Any) -> Any:
    return array if isinstance(array, Spec) else backends.copy(array)


def _as_arrays(value: Any) -> Any:
    """Arguments with arrays in the place of operators."""
    if isinstance(value, Habits):
        return np.asarray(value)
    if isinstance(value, (list, tuple)):
        return type(value)([_as_arrays(item) for item in value]) if type(value) in (list, tuple) else value
    return {name: _as_arrays(item) for name, item in value.items()} if isinstance(value, dict) else value


def _dot(a: Any, b: Any) -> Any:
    return a @ b


def _transpose(a: Any, axes: Any = None) -> Any:
    if axes is not None and tuple([axis % 2 for axis in axes]) != (1, 0):
        raise ValueError(f"numpy.transpose({a._short()}, {axes}): expected (1, 0)")
    return a.T


#: what NumPy's functions are of operators; `kron` is added where it is
FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.dot: _dot,
    np.transpose: _transpose,
    np.shape: lambda a: a.shape,
    np.ndim: lambda a: 2,
}
