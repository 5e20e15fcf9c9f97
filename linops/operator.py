"""`LinearOperator`: the algebra's face. No mathematics of any one structure lives here.

Two operand layouts run through the library. *Features first*: an array (…, k) whose last axis counts vectors and whose
leading axes, flattened in row-major order, are the features; they may stay factored between two operators, so that a
permutation of axes is a view. *Rows*: an array (k, n) with a vector in each row, as in `torch.nn.Linear`.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from math import prod
from numbers import Number
from types import EllipsisType
from typing import Any, ClassVar, Protocol, Self, TypeAlias, TypeVar, overload

import numpy as np

from linops import backends
from linops.cost import Cost, count
from linops.declaration import remembered, require_final
from linops.dispatch import generic, generic_pair
from linops.expression import Expression
from linops.habits import Habits
from linops.plan import Step, Target, explain, natural_order
from linops.plan.network import Axes, Graph
from linops.plan.plan import planned_for
from linops.plan.target import nearest, target_of
from linops.specs import Spec
from linops.structure import Structure
from linops.subscript import selections
from linops.tags import Knowledge, Properties, Tag, transposed

# ---------------------------------------------------------------- what the signs do (methods: algebra/), and others


@generic_pair
def compose(a, b):
    """The operator A B."""


@generic_pair
def add(a, b):
    """The operator A + B."""


@generic_pair
def scale(scalar, a):
    """The operator c A of a number or 0-d array c, and an operator or matrix A."""


@generic_pair
def divide(a, scalar):
    """The operator A / c of an operator A, and a number or 0-d array c."""


@generic
def power(a, exponent: int):
    """The operator A ** k, k ≥ 0."""


@generic
def slice_(a, rows, columns):
    """The operator A[rows, columns] of ranges and index arrays; the array A[i, j], A[i, columns] or A[rows, j]."""


@generic
def initialize(a, seed, backend, dtype, device, scheme):
    """The operator with its specs replaced by arrays (scaling.py)."""


@generic
def exported(a):
    """The operator as scipy's (operators/scipy_operator.py)."""


@generic
def make_layer(a, bias, framework):
    """A layer of a framework that computes the operator (nn/)."""


# ---------------------------------------------------------------- the base class


class SupportsArray(Protocol):
    """An array of any framework, to type checkers: its products with an operator are arrays of its kind."""

    @property
    def shape(self) -> Any:
        """The sizes of its axes."""

    @property
    def dtype(self) -> Any:
        """The dtype of its numbers."""

    def __array__(self, *args: Any, **kwargs: Any) -> Any: ...


ArrayLike = TypeVar("ArrayLike", bound=SupportsArray)
Operator = TypeVar("Operator", bound="LinearOperator")
#: keys of rows or columns that keep their axis, to type checkers
Several: TypeAlias = "slice | EllipsisType | list[int] | list[bool] | np.ndarray"


@dataclass(frozen=True, eq=False, repr=False)
class LinearOperator(Expression, Properties, Habits):
    """A linear map from n- to m-vectors, of shape (m, n): an immutable expression whose leaves are arrays or specs.

    Products follow `numpy.matmul`: ``A @ x`` for x of shape (n,) or (…, n, k), ``x @ A`` for (m,) or (…, k, m), ``A @
    B`` composes. The arrays decide the backend; mixing backends is an error. Symbolic operators (with a spec leaf) have
    everything but products.

    Authors of operators implement `shape`, `_columns`, `_transpose` and `_lower`, and `_leaf_fans` where leaves
    multiply activations.
    """

    __array_ufunc__: ClassVar[None] = None
    __array_priority__: ClassVar[float] = 1e6

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        require_final(cls)

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

    def _transpose(self) -> LinearOperator:
        """Aᵀ in closed form."""
        raise NotImplementedError(f"{type(self).__name__} does not say its transpose")

    def _conj(self) -> LinearOperator:
        """The complex conjugate in closed form: that of every leaf, unless an operator says otherwise."""
        return self._map(backends.conj)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        """The steps of a features-first product with `batch` vectors."""
        raise NotImplementedError(f"{type(self).__name__} does not say its cost")

    def _stacked_steps(self, count: int, batch: int) -> tuple[Step, ...]:
        """The steps of `_stacked`, of `count` operands with `batch` vectors each."""
        return self._lower(count * batch)

    def _trace(self, graph: Graph, axes: Axes, leaf: int) -> Axes | None:
        """Adds the operator's tensors to a network, as contractions over named axes.

        Args:
            graph: The network.
            axes: The axes of the operand.
            leaf: Which of the network's leaves the operator's first one is.

        Returns:
            The axes of the result; None for an operator that is no such contraction, or does not fit the axes.
        """
        return None

    def _leaf_fans(self) -> dict[str, tuple[int, int]]:
        """(fan_in, fan_out) of the operator's own leaves, by name; leaves it does not name are scalars or vectors."""
        return {}

    def _output_leaves(self) -> tuple[str, ...]:
        """The last leaf of every chain of factors: where these are zero the operator is, and only they have gradients.

        None, for an operator that no leaves make zero, or of which nothing is known.
        """
        return ()

    def _knowledge(self) -> Knowledge:
        """What is known of the operator, before `assumed` and the closure."""
        return Knowledge()

    @property
    def _is_zero(self) -> bool:
        """Whether the operator is zero and has no leaves: sums leave it out, and products with it are `Zero`."""
        return False

    @property
    def _aliases(self) -> bool:
        """Whether a product may be a view of its operand."""
        return False

    @property
    def _prefers_rows(self) -> bool:
        """Whether rows in, rows out is the natural layout: plain matrix products only."""
        return False

    # ------------------------------------------------------------ what it costs

    def _steps(self, batch: int, order: str) -> tuple[Step, ...]:
        """The steps of a product as it runs, or in the natural order."""
        _ = self.shape  # which tells of leaves that do not fit
        if order not in ("planned", "natural"):
            raise ValueError(
                f"order must be 'planned' (what runs) or 'natural' (the order of the factors), got {order!r}"
            )
        if order == "planned":
            return self._lower(as_batch(batch))
        with natural_order():
            return self._lower(as_batch(batch))

    def cost(self, batch: int = 1, order: str = "planned") -> Cost:
        """Parameters, MACs, FLOPs and bytes of a product, forward and backward.

        Args:
            batch: Number of vectors.
            order: ``"planned"`` counts what runs: the order of least predicted time for so many vectors, so that more
                vectors may take fewer FLOPs. ``"natural"`` counts the order of the factors, which never falls as the
                batch grows: a budget.

        Returns:
            The cost.

        Example:
            >>> import linops as lo
            >>> lo.Dense(lo.spec(4, 3)).cost(batch=10).macs
            120
        """
        return count(self._steps(batch, order), self.num_params, batch, self._itemsize)

    def flops(self, batch: int = 1, order: str = "planned") -> int:
        """FLOPs (additions and multiplications) of a product with `batch` vectors.

        Args:
            batch: Number of vectors.
            order: ``"planned"`` counts what runs, ``"natural"`` the order of the factors; see `cost`.

        Returns:
            The number of FLOPs: 2 per multiply-accumulate.

        Example:
            >>> import linops as lo
            >>> lo.Dense(lo.spec(4, 3)).flops()
            24
        """
        return self.cost(batch, order).flops

    def explain(self, batch: int = 1, order: str = "planned", target: str | Target | None = None) -> str:
        """What a product runs, step by step, its cost, and its predicted time on one thread, or on an accelerator.

        Args:
            batch: Number of vectors.
            order: ``"planned"`` shows what runs, ``"natural"`` the order of the factors; see `cost`.
            target: Where the product is imagined to run: an accelerator (``"a100"``, ``"h100"``, ``"h200"``,
                ``"b200"``, ``"tpu-v5p"``), whose times are estimates from its datasheet; a backend on a kind of device
                such as ``"numpy/cpu"``; or a `lo.plan.Target`. None is where the arrays are, an operator without arrays
                as if torch ran it on a CPU.

        Returns:
            A table as text; its first line has the FLOPs of the natural order where others run.

        Raises:
            ValueError: If no numbers are known of the target.
            TypeError: If it is neither a name nor a target.

        Example:
            >>> import linops as lo
            >>> A = lo.dense(8192, 8192, dtype="bfloat16")
            >>> print(A.explain(batch=4096, target="h100").splitlines()[-1].split())
            ['total', '274,877,906,944', '549,755,813,888', '268,435,456', '577', 'µs']
        """
        where = self._target if target is None else target if isinstance(target, Target) else Target.named(target)
        with nullcontext() if target is None else planned_for(where):
            steps, found = self._steps(batch, order), self.flops(batch, order)
        natural = self.flops(batch, "natural")
        vectors = f"{batch} vector{'' if batch == 1 else 's'}"
        header = f"{self._short()} @ ({self.shape[1]}, {batch}): {self.num_params:,} parameters, {vectors}"
        header += f", by a plan (in the natural order {natural:,} FLOPs)" if found != natural else ""
        header += "" if target is None else f"; estimated on {where.name}"
        if found != natural and target_of(where.backend, where.device) is None:
            header += f", and planned so once a machine file has numbers of {where.backend}/{where.device}"
        return explain(header, steps, self._itemsize, where.machine)

    @property
    def _target(self) -> Target:
        """Where its products run, as far as numbers are known of it."""
        leaf = self._first_leaf
        return nearest(self.backend, "cpu" if leaf is None else backends.device_kind(leaf))

    # ------------------------------------------------------------ products

    @overload
    def __matmul__(self, other: LinearOperator) -> LinearOperator: ...
    @overload
    def __matmul__(self, other: ArrayLike) -> ArrayLike: ...
    @overload
    def __matmul__(self, other: object) -> Any: ...
    def __matmul__(self, other: Any) -> Any:
        if isinstance(other, LinearOperator) or backends.foreign_kind(other):
            return compose(self, other)
        return self._matmul(other)

    @overload
    def __rmatmul__(self, other: ArrayLike) -> ArrayLike: ...
    @overload
    def __rmatmul__(self, other: object) -> Any: ...
    def __rmatmul__(self, other: Any) -> Any:
        return compose(other, self) if backends.foreign_kind(other) else self._rmatmul(other)

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
        if ours != "torch" and x.dtype != self.dtype:
            x = self._promoted(x)
        if theirs == "jax" and backends.on_mesh(x):
            return backends.mesh_product(x, self, -1 if ndim == 1 else -2)
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
        if self.backend != "torch" and x.dtype != self.dtype:
            x = self._promoted(x)
        if backends.backend_of(x) == "jax" and backends.on_mesh(x):
            return backends.mesh_product(x, transpose, -1)
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
        if backends.backend_of(x) == "jax" and backends.on_mesh(x):
            return backends.mesh_product(x, self, -1)
        if len(shape) == 1:
            return self._vector(x)
        if len(shape) == 2:
            return self._rows(x)
        return self._rows(x.reshape(prod(shape[:-1]), n)).reshape(*shape[:-1], m)

    # ------------------------------------------------------------ algebra

    @property
    def T(self) -> LinearOperator:
        """The transpose, unconjugated; kept where it has no numbers of its own, so what it knows is found once."""
        known = self.__dict__
        if (kept := known.get("_kept")) is not None:
            return kept
        _ = self.shape  # which tells of leaves that do not fit
        transpose = _assuming(self._transpose(), transposed(self.assumed))
        if "_kept" not in known and self.backend in (None, "numpy", "spec") and not backends.is_compiling():
            known["_kept"] = transpose if _is_view(transpose, self) else None  # looked at once
        return transpose

    @property
    def H(self) -> LinearOperator:
        """The adjoint: the conjugate transpose."""
        return self.T.conj()

    def conj(self) -> LinearOperator:
        """The complex conjugate."""
        return _assuming(self._conj(), self.assumed)

    def __add__(self, other: Any) -> LinearOperator:
        return add(self, other) if _summand(self, other) else NotImplemented

    def __radd__(self, other: Any) -> LinearOperator:
        if type(other) is int and other == 0:  # where the built-in sum starts
            return self
        return add(other, self) if _summand(self, other) else NotImplemented

    def __sub__(self, other: Any) -> LinearOperator:
        return add(self, scale(-1, other)) if _summand(self, other) else NotImplemented

    def __rsub__(self, other: Any) -> LinearOperator:
        return add(other, -self) if _summand(self, other) else NotImplemented

    def __mul__(self, scalar: Any) -> LinearOperator:
        if _scalar(scalar):
            return scale(scalar, self)
        if _operand(scalar):  # which NumPy would multiply entry by entry
            raise TypeError(
                f"{self._short()} * {type(scalar).__name__}: expected a number; A @ B composes, A @ x multiplies"
            )
        return NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, scalar: Any) -> LinearOperator:
        if _scalar(scalar):
            return divide(self, scalar)
        if _operand(scalar):
            raise TypeError(f"{self._short()} / {type(scalar).__name__}: expected a number")
        return NotImplemented

    def __neg__(self) -> LinearOperator:
        return scale(-1, self)

    def __pos__(self) -> LinearOperator:
        return self

    def __pow__(self, exponent: Any) -> LinearOperator:
        return power(self, int(exponent)) if isinstance(exponent, (int, np.integer)) else NotImplemented

    @overload
    def __getitem__(self, key: Several | tuple[Several, Several]) -> LinearOperator: ...
    @overload
    def __getitem__(self, key: object) -> Any: ...
    def __getitem__(self, key: Any) -> Any:
        """The operator of some rows and columns, or entries as an array.

        Keys are integers, slices, ``...``, integer arrays (negative numbers count from the end, repeats are allowed)
        and boolean masks, for the rows alone or for rows and columns. Two arrays select every row with every column, as
        `numpy.ix_` does. As in NumPy an integer drops its axis: ``A[i]`` is an (n,) array, ``A[:, j]`` an (m,) array,
        both by one product, and ``A[i, j]`` an entry.

        Args:
            key: The selection.

        Returns:
            An operator, or where a key is an integer an array of its own.

        Raises:
            IndexError: Where NumPy raises it.
            TypeError: If entries of a symbolic operator are asked for.

        Example:
            >>> import linops as lo
            >>> lo.Dense(lo.spec(4, 3))[1:, [2, 0]].shape
            (3, 2)
        """
        return slice_(self, *selections(key, self.shape, self._short))

    __iter__ = None  # a loop over rows would be as many products

    # ------------------------------------------------------------ conversion

    def to_dense(self) -> Any:
        """The (m, n) array of the operator on its backend; it may share memory with a leaf.

        Returns:
            An array; of NumPy float64 if the operator has no arrays.

        Raises:
            TypeError: If the operator is symbolic.

        Example:
            >>> import linops as lo
            >>> lo.Permute([1, 0]).to_dense()
            array([[0., 1.],
                   [1., 0.]])
        """
        if self.is_symbolic:
            raise TypeError(
                f"{self._short()} is symbolic: it has no entries. "
                "Make it concrete first: A.init(seed=0, backend='numpy')"
            )
        _ = self.shape  # which tells of leaves that do not fit
        return self._entries()

    def _entries(self) -> Any:
        """The (m, n) array of a concrete operator."""
        return flat(self._columns(self._unit_columns(0, self.shape[1])))

    def to_scipy(self) -> Any:
        """The operator as a `scipy.sparse.linalg.LinearOperator`, for `cg`, `eigsh`, `svds` and their like.

        They take an operator as it is, too (it has `matvec` and `rmatvec`); this has products of matrices and a scipy
        dtype besides. `lo.aslinearoperator` is the way back, and ``A.to_scipy() @ B`` of another operator is an
        operator.

        Returns:
            The scipy operator, with products on both sides by this one.

        Raises:
            TypeError: If the operator is symbolic, or its arrays are not NumPy's.

        Example:
            >>> import linops as lo, numpy as np, scipy.sparse.linalg
            >>> A = lo.Diagonal(np.array([1., 4.]))
            >>> scipy.sparse.linalg.cg(A.to_scipy(), np.ones(2))[0]
            array([1.  , 0.25])
        """
        if self.is_symbolic:
            raise TypeError(
                f"{self._short()} is symbolic: it has no numbers. "
                "Make it concrete first: A.init(seed=0, backend='numpy')"
            )
        if self.backend not in (None, "numpy"):
            raise TypeError(
                f"{self._short()}.to_scipy(): scipy runs on NumPy; convert it first, as in A.to(backend='numpy')"
            )
        return exported(self)

    @property
    def _like(self) -> Any:
        """A leaf, or if there is none an empty array: the backend, dtype and device of operands of one's own."""
        # bound to it: the framework's own default dtype
        if self._first_leaf is None and self.backend in ("torch", "jax"):
            return backends.namespace(self.backend).zeros(0)
        return np.empty(0, self.dtype) if self._first_leaf is None else self._first_leaf

    def init(
        self, seed: Any = 0, backend: str = "numpy", dtype: Any = None, device: Any = None, scheme: str = "mup"
    ) -> Self:
        """The operator with its specs replaced by random arrays of structure-aware scale (`scaling.py`).

        The same seed gives the same numbers on every backend.

        Args:
            seed: An integer or a `numpy.random.Generator`.
            backend: ``"numpy"``, ``"torch"`` or ``"jax"``.
            dtype: A dtype, or None for that of the specs.
            device: A device of the framework, or None for its default.
            scheme: ``"mup"``: std sqrt(1/fan_in) · min(1, sqrt(fan_out/fan_in)) a leaf.

        Returns:
            The concrete operator.

        Raises:
            ValueError: If there is no such scheme or backend.

        Example:
            >>> import linops as lo
            >>> lo.Dense(lo.spec(2, 3)).init(seed=0).to_dense().shape
            (2, 3)
        """
        return initialize(self, seed, backend, dtype, device, scheme)

    def to_layer(self, bias: bool = True, framework: str | None = None) -> Any:
        """A layer of a framework that computes ``x @ A.T + bias`` from its own parameters.

        Args:
            bias: Whether to add a bias, initially zero.
            framework: ``"torch"``, or for operators with arrays ``"flax"`` or ``"equinox"``; None takes torch for
                symbolic operators and those of torch.

        Returns:
            The ``Linear`` of `linops.nn.torch`, `linops.nn.flax` or `linops.nn.equinox`.
        """
        return make_layer(self, bias, framework)

    # ------------------------------------------------------------ knowledge

    @remembered
    def structure(self) -> Structure:
        """The operator without its numbers, as a hashable value: classes, fixed fields, index arrays, shapes, dtypes.

        Example:
            >>> import linops as lo
            >>> A = lo.btt(16, 16)
            >>> A.structure == A.init(seed=0).structure, A.structure == A.T.structure
            (True, False)
        """
        return self._shared or Structure(self)

    @remembered
    def tags(self) -> Knowledge:  # once a node, or nested expressions would ask again and again
        """All that is known of the operator, closed under implication."""
        known = self._knowledge()
        m, n = self.shape
        return Knowledge(known.yes | self.assumed, known.no).closure(square=m == n, real=not self._is_complex)


def as_batch(batch: Any) -> Any:
    """A number of vectors, or an error."""
    if not isinstance(batch, (int, np.integer)):
        raise TypeError(f"batch must be an integer (the number of vectors), got {batch!r}")
    if batch < 0:
        raise ValueError(f"batch must not be negative, got {batch}")
    return int(batch)


def flat(x: Any) -> Any:
    """A features-first array with its features in one axis: (…, k) → (n, k)."""
    if x.ndim == 2:
        return x
    shape = x.shape
    return x.reshape(prod(shape[:-1]), shape[-1])


def assume(operator: Operator, tags: Tag) -> Operator:
    """The operator, declared to have properties; nothing is checked.

    Args:
        operator: An operator.
        tags: What is known of it, as in ``lo.Tag.POSITIVE_DEFINITE | lo.Tag.LOWER_TRIANGULAR``.

    Returns:
        The operator with the declaration.

    Raises:
        TypeError: If `tags` is no `lo.Tag`.
        ValueError: If the operator cannot have the properties.

    Example:
        >>> import linops as lo
        >>> A = lo.assume(lo.Dense(lo.spec(3, 3)), lo.Tag.POSITIVE_DEFINITE)
        >>> A.is_symmetric, (-A).is_positive_definite, A.is_diagonal
        (True, False, None)
    """
    if not isinstance(tags, Tag):
        raise TypeError(f"assume({operator._short()}, {tags!r}): expected lo.Tag, as in lo.Tag.POSITIVE_DEFINITE")
    false = tags & operator.tags.no
    if false:
        raise ValueError(f"assume({operator._short()}, {tags!r}): it is known not to be {false!r}")
    return _assuming(operator, tags)


def _assuming(operator: Operator, tags: Tag) -> Operator:
    return replace(operator, assumed=operator.assumed | tags) if tags else operator


def _is_view(one: LinearOperator, other: LinearOperator) -> bool:
    """Whether an operator's arrays are specs and views of another's in NumPy, and so follow what is written there."""
    for _, node in one._nodes():
        if not all(
            kind != "index" or isinstance(getattr(node, name), np.ndarray | None) for name, kind in node._fields
        ):
            return False
    roots = {id(_root(leaf)) for _, leaf in other.named_leaves()}
    return all(
        type(leaf) is Spec or (type(leaf) is np.ndarray and id(_root(leaf)) in roots) for _, leaf in one.named_leaves()
    )


def _root(array: Any) -> Any:
    """The array that holds the memory of a view."""
    while isinstance(base := getattr(array, "base", None), np.ndarray):
        array = base
    return array


def _operand(value: Any) -> bool:
    if isinstance(value, LinearOperator) or backends.is_array(value):
        return True
    return backends.foreign_kind(value) is not None or backends.stands_for_array(value)


def _summand(operator: LinearOperator, value: Any) -> bool:
    """Whether a value can stand in a sum; a number cannot, as NumPy would add it to every entry."""
    if isinstance(value, LinearOperator):
        return True
    if _scalar(value):
        m, n = operator.shape
        shift = f"; A + c * lo.Identity({n}) shifts the diagonal" if m == n else ""
        raise TypeError(
            f"{operator._short()} plus the {type(value).__name__} {value}: expected an operator or a matrix{shift}"
        )
    if backends.is_array(value) and len(value.shape) != 2:
        raise ValueError(
            f"{operator._short()} plus an array of shape {tuple(value.shape)}: "
            "expected a matrix (2 axes), as sums do not broadcast"
        )
    return _operand(value)


def _scalar(value: Any) -> bool:
    return isinstance(value, (Number, np.bool_)) or (backends.is_array(value) and len(value.shape) == 0)
