"""`LinearOperator`: the algebra's face. No mathematics of any one structure lives here.

What follows from a few methods stands in its bases: products with arrays, counts, conversions, properties, habits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Number
from types import EllipsisType
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar, overload

import numpy as np

from linops import backends
from linops.conversion import Conversions
from linops.counting import Counted, as_batch
from linops.declaration import remembered, require_final
from linops.habits import Habits
from linops.hooks import add, compose, divide, exported, initialize, make_layer, power, scale, slice_
from linops.plan.network import Axes, Graph
from linops.products import flat
from linops.specs import Spec
from linops.structure import Structure
from linops.subscript import selections
from linops.tags import Knowledge, Properties, Tag, transposed

__all__ = [
    "ArrayLike",
    "LinearOperator",
    "Operator",
    "Several",
    "SupportsArray",
    "add",
    "as_batch",
    "assume",
    "compose",
    "divide",
    "exported",
    "flat",
    "initialize",
    "make_layer",
    "power",
    "scale",
    "slice_",
]


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
Several: TypeAlias = "slice | EllipsisType | range | list[int] | list[bool] | np.ndarray"


@dataclass(frozen=True, eq=False, repr=False)
class LinearOperator(Conversions, Counted, Properties, Habits):
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

    def _transpose(self) -> LinearOperator:
        """Aᵀ in closed form."""
        raise NotImplementedError(f"{type(self).__name__} does not say its transpose")

    def _conj(self) -> LinearOperator:
        """The complex conjugate in closed form: that of every leaf, unless an operator says otherwise."""
        return self._map(backends.conj)

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

    def _leaf_matrices(self) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
        """Which axes of its own leaves are rows and columns, by name, where these are not the last two."""
        return {}

    def _output_leaves(self) -> tuple[str, ...]:
        """The last leaf of every chain of factors: where these are zero the operator is, and only they have gradients.

        None, for an operator that no leaves make zero, or of which nothing is known.
        """
        return ()

    #: whether what the operator is made of is added; else it is multiplied
    _adds: ClassVar[bool] = False

    @property
    def _repeats(self) -> int:
        """How many times all that it is made of is multiplied; 0 where it does not depend on the size of that."""
        return 1

    def _knowledge(self) -> Knowledge:
        """What is known of the operator, before `assumed` and the closure."""
        return Knowledge()

    @property
    def _is_zero(self) -> bool:
        """Whether the operator is zero and has no leaves: sums leave it out, and products with it are `Zero`."""
        return False

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
        if isinstance(exponent, (int, np.integer)):
            return power(self, int(exponent))
        if _scalar(exponent):
            raise TypeError(
                f"{self._short()} ** {type(exponent).__name__}: expected an integer; lo.linalg.matrix_power(A, p) has "
                "fractional powers"
            )
        return NotImplemented

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
