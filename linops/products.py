"""Products with arrays: `Products`, which admits an operand, and multiplies it as an operator says.

Two operand layouts run through the library. *Features first*: an array (…, k) whose last axis counts vectors and whose
leading axes, flattened in row-major order, are the features; they may stay factored between two operators, so that a
permutation of axes is a view. *Rows*: an array (k, n) with a vector in each row, as in `torch.nn.Linear`.
"""

from __future__ import annotations

from math import prod
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np

from linops import backends
from linops.declaration import remembered
from linops.expression import Expression


class Products(Expression):
    """An expression that says its product with one array, and so multiplies all that stand for one."""

    if TYPE_CHECKING:

        @property
        def T(self) -> Products:
            """The transpose, which products from the left take."""
            ...

    # ------------------------------------------------------------ what an operator declares

    def _columns(self, x: Any) -> Any:
        """A x of a features-first x: (…, k) with n features → (…, k) with m features."""
        raise NotImplementedError(f"{type(self).__name__} does not say its product")

    def _rows(self, x: Any) -> Any:
        """X Aᵀ of rows: (k, n) → (k, m)."""
        return flat(self._columns(x.T)).T

    def _stacked(self, x: Any) -> Any:
        """A x[l] of every l: (l, n, k) → (l, m, k)."""
        count_, n, k = x.shape
        if count_ == 1:
            return flat(self._columns(x.reshape(n, k))).reshape(1, self.shape[0], k)
        columns = backends.permute(x, (1, 0, 2)).reshape(n, count_ * k)
        return backends.permute(self._columns(columns).reshape(self.shape[0], count_, k), (1, 0, 2))

    def _vector(self, x: Any) -> Any:
        """A x: (n,) → (m,)."""
        return self._columns(x.reshape(x.shape[0], 1)).reshape(self.shape[0])

    @property
    def _aliases(self) -> bool:
        """Whether a product may be a view of its operand."""
        return False

    @property
    def _prefers_rows(self) -> bool:
        """Whether rows in, rows out is the natural layout: plain matrix products only."""
        return False

    # ------------------------------------------------------------ what follows

    def _admitted(self, x: Any, left: bool) -> Any:
        """The array that x is or stands for, or NotImplemented; mixed backends and symbolic operators are errors."""
        theirs, ours = backends.backend_of(x), self.backend
        what = None
        if theirs is None:
            if isinstance(x, Number):
                raise ValueError(
                    f"{self._short()} @ {x!r}: a matrix product needs an array of at least one axis; c * A scales"
                )
            theirs, what = "numpy", type(x).__name__
            x = backends.plain(x, lambda: f"{self._short()} @ {what}" if left else f"{what} @ {self._short()}")
            if x is None:
                return NotImplemented
        if ours == "spec" or theirs == "spec":
            raise TypeError(
                f"{self._short()} is symbolic: it has no numbers to multiply by. "
                f"Make it concrete first: A.init(seed=0, backend={theirs!r})"
                if ours == "spec"
                else f"{self._short()} times {x!r}: a spec has no numbers"
            )
        if ours is not None and ours != theirs:
            operands = (f"{ours} operator {self._short()}", f"{what or theirs + ' array'} of shape {tuple(x.shape)}")
            one, other = operands if left else operands[::-1]
            raise TypeError(f"{one} @ {other}: mixed backends; convert one, as in A.to(backend={theirs!r})")
        return x

    def _matmul(self, x: Any) -> Any:
        ours, theirs = self.backend, backends.backend_of(x)
        if ours is None or theirs != ours or ours == "spec":
            x = self._admitted(x, left=True)
            if x is NotImplemented:
                return x
        shape = x.shape
        ndim = len(shape)
        m, n = self.shape
        if (shape[-2] if ndim > 1 else shape[0] if ndim else -1) != n:
            rows = "; vectors in rows, as in layers, are multiplied by x @ A.T" if ndim > 1 and shape[-1] == n else ""
            raise ValueError(f"{self._short()} @ array of shape {tuple(shape)}: expected ({n},) or (…, {n}, k){rows}")
        if ours != "torch":
            if x.dtype != self.dtype:
                x = self._promoted(x)
            if theirs == "jax" and backends.on_mesh(x):
                return backends.mesh_product(x, self, -1 if ndim == 1 else -2)
        elif self._is_mixed and not self._takes(x):
            return self._unmixed._matmul(x.to(self.dtype))
        if self._aliases:
            x = backends.copy(x)
        if ndim == 2:
            y = self._columns(x)
            return y if y.ndim == 2 else y.reshape(m, shape[1])
        if ndim == 1:
            return self._vector(x)
        y = self._stacked(x.reshape(prod(shape[:-2]), n, shape[-1]))
        return y.reshape(*shape[:-2], m, shape[-1])

    def _rmatmul(self, x: Any) -> Any:
        x = self._admitted(x, left=False)
        if x is NotImplemented:
            return x
        shape = x.shape
        m, n = self.shape
        if not shape or shape[-1] != m:
            raise ValueError(f"array of shape {tuple(shape)} @ {self._short()}: expected ({m},) or (…, k, {m})")
        transpose = self.T
        if self.backend != "torch":
            if x.dtype != self.dtype:
                x = self._promoted(x)
            if backends.backend_of(x) == "jax" and backends.on_mesh(x):
                return backends.mesh_product(x, transpose, -1)
        elif transpose._is_mixed and not transpose._takes(x):
            return self._unmixed._rmatmul(x.to(self.dtype))
        if transpose._aliases:
            x = backends.copy(x)
        if len(shape) == 1:
            return transpose._vector(x)
        return transpose._rows(x.reshape(prod(shape[:-1]), m)).reshape(*shape[:-1], n)

    def _promoted(self, x: Any) -> Any:
        """An operand in the precision of the result, as `numpy.matmul` takes it, for every sum and product on the way.

        Terms and factors may be narrower than the whole, and what has no array computes in the operand's dtype. A real
        operand stays real.
        """
        own = self._own_dtype
        if own is None:
            is_complex = self._is_complex
            if backends.is_inexact(x.dtype) and not (is_complex and backends.itemsize(x.dtype) == 2):
                return x
            # numbers count: of booleans they make integers, of integers floats, and complex ones of halves singles
            numbers = [1 if isinstance(number, int) else 1.0 for number in self._numbers] + [1j] * is_complex
            backend = backends.backend_of(x)
            dtype = backends.real_dtype(backends.result_type(backend, x.dtype, *numbers), backend)
            return x if dtype == x.dtype else backends.namespace(backend).astype(x, dtype)
        dtype = backends.result_type(self.backend, own, x.dtype)
        return x if dtype == x.dtype else x.astype(dtype)

    @remembered
    def _is_mixed(self) -> bool:
        """Whether, in torch, whose products mix no dtypes, real leaves stand in an operator that is complex."""
        return self.backend == "torch" and self._is_complex and self._has_real_leaves

    @remembered
    def _has_real_leaves(self) -> bool:
        """Whether there are any, but for those of operators that take operands of any dtype by themselves."""
        return any(
            child._has_real_leaves if isinstance(child, Products) else not backends.is_complex(child.dtype)
            for _, child in self._children()
        )

    @remembered
    def _meets_real(self) -> bool:
        """Whether a real operand meets every leaf before a number or a transform makes it complex."""
        return self._first_leaf is None or not self._is_complex

    def _takes(self, x: Any) -> bool:
        """Whether a mixed operator takes an operand as it is; if not, leaves and operand become complex.

        An operand of another precision, too, for torch to refuse.
        """
        if backends.real_dtype(x.dtype, "torch") != self._first_leaf.dtype:
            return True
        return self._meets_real and not backends.is_complex(x.dtype)

    @property
    def _unmixed(self) -> Any:
        """A mixed operator with complex leaves."""
        return _with_complex_leaves(self, self.dtype)

    @remembered
    def _own_dtype(self) -> Any:
        """The dtype of one's own operands, such as the identity: the precision of the entries; None where it is open.

        Torch mixes no dtypes in a product, so there it is that of the leaves.
        """
        if self.dtype is None:
            return None
        leaf = self._first_leaf
        return (
            leaf.dtype
            if self.backend == "torch" and leaf is not None
            else backends.real_dtype(self.dtype, self.backend)
        )

    def _unit_columns(self, first: int, count: int) -> Any:
        """Columns of the identity from one on, as an operand of one's own."""
        like = self._like
        one = backends.eye(like, count, like.dtype if self._own_dtype is None else self._own_dtype)
        return one if count == self.shape[1] else backends.spread(one, first, 1, self.shape[1])

    def _linear(self, x: Any) -> Any:
        """X Aᵀ over the last axis: (…, n) → (…, m), as layers compute it."""
        shape = x.shape
        m, n = self.shape
        if not shape or shape[-1] != n:
            raise ValueError(f"layer of {self._short()}: input of shape {tuple(shape)}; expected (…, {n})")
        if self.backend == "torch":
            if self._is_mixed and not self._takes(x):
                return self._unmixed._linear(x.to(self.dtype))
        elif backends.backend_of(x) == "jax" and backends.on_mesh(x):
            return backends.mesh_product(x, self, -1)
        if len(shape) == 1:
            return self._vector(x)
        if len(shape) == 2:
            return self._rows(x)
        return self._rows(x.reshape(prod(shape[:-1]), n)).reshape(*shape[:-1], m)

    @property
    def _like(self) -> Any:
        """A leaf, or if there is none an empty array: the backend, dtype and device of operands of one's own."""
        # bound to it: the framework's own default dtype
        if self._first_leaf is None and self.backend in ("torch", "jax"):
            return backends.namespace(self.backend).zeros(0)
        return np.empty(0, self.dtype) if self._first_leaf is None else self._first_leaf


def _with_complex_leaves(value: Any, dtype: Any) -> Any:
    """An operator, or what a field of one holds, with torch's real leaves converted to a complex dtype."""
    if isinstance(value, tuple):
        return tuple([_with_complex_leaves(item, dtype) for item in value])
    if not isinstance(value, Products):
        return None if value is None else value.to(dtype)
    if not value._has_real_leaves:
        return value
    operator = object.__new__(type(value))
    for name, kind in value._fields:
        held = getattr(value, name)
        operator.__dict__[name] = _with_complex_leaves(held, dtype) if kind == "tree" else held
    return operator


def flat(x: Any) -> Any:
    """A features-first array with its features in one axis: (…, k) → (n, k)."""
    if x.ndim == 2:
        return x
    shape = x.shape
    return x.reshape(prod(shape[:-1]), shape[-1])
