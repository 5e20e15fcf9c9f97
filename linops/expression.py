"""`Expression`: an immutable tree whose leaves are arrays or specs; what operators are before they multiply.

Everything here follows from the fields that an operator declares: leaves and their names, backend and dtype, copies,
moves, repr.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Self

from linops import backends, display
from linops.backends.tree import flatten
from linops.declaration import other_axes, remembered
from linops.specs import Spec, dtype_name, numpy_dtype
from linops.tags import Tag


def _items(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The arrays and operators of a field, with names: those of tuples carry the positions."""
    if isinstance(value, tuple):
        for number, item in enumerate(value):
            if isinstance(item, tuple):
                yield from _items(f"{name}_{number}", item)
            elif item is not None:
                yield f"{name}_{number}", item
    elif value is not None:
        yield name, value


@dataclass(frozen=True, eq=False, repr=False)
class Expression:
    """An immutable tree of operators over arrays and specs.

    Attributes:
        assumed: Tags declared by `assume`.
    """

    assumed: Tag = field(default=Tag.NONE, kw_only=True)

    _fields: ClassVar[tuple[tuple[str, str], ...]] = (("assumed", "static"),)
    _axes: ClassVar[tuple[tuple[str, Any], ...]] = ()
    #: whether something is found once a structure, such as plans
    _shares: ClassVar[bool] = False
    #: the structure whose findings hold, for its leaves are like those of another operator of it
    _shared: ClassVar[Any] = None
    #: index arrays that its constructor makes where they are not given, as long as a size among its fields says
    _completed: ClassVar[tuple[str, ...]] = ()
    #: the one backend that an operator without arrays runs on, if it is bound to one
    _home: ClassVar[str | None] = None

    if TYPE_CHECKING:  # an operator says them as properties, or as fields

        @property
        def structure(self) -> Any:
            """The operator without its numbers."""
            ...

        @property
        def shape(self) -> tuple[int, int]:
            """(m, n): maps n-vectors to m-vectors."""
            ...

    else:

        @remembered
        def shape(self) -> Any:
            """(m, n): maps n-vectors to m-vectors."""
            raise NotImplementedError(f"{type(self).__name__} does not say its shape")

    def _detail(self) -> str:
        """The constructor's arguments, briefly, for repr."""
        return ""

    @classmethod
    def _unchecked(cls, **values: Any) -> Any:
        """The operator with fields that are known to fit: neither checked nor converted."""
        operator = object.__new__(cls)
        operator.__dict__.update(values)
        return operator

    # ------------------------------------------------------------ leaves

    def _children(self) -> Iterator[tuple[str, Any]]:
        """The arrays and operators in the operator's own fields, with names."""
        for name, kind in self._fields:
            if kind == "tree":
                yield from _items(name, getattr(self, name))

    def _nodes(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """The operator and all below it, with the prefix of their leaves' names."""
        stack: list[tuple[str, Expression]] = [(prefix, self)]
        while stack:  # a loop: expressions may be nested deeper than Python's stack
            prefix, node = stack.pop()
            yield prefix, node
            below = [(f"{prefix}{name}_", child) for name, child in node._children() if isinstance(child, Expression)]
            stack += reversed(below)

    @remembered
    def _num_leaves(self) -> int:
        """How many leaves there are."""
        return sum([1 for _ in self.named_leaves()])

    def named_leaves(self) -> Iterator[tuple[str, Any]]:
        """The parameters (arrays or specs) with their names, in the order of the expression.

        Names are valid Python identifiers: the path of fields and positions, joined by underscores.

        Yields:
            Pairs of name and leaf.

        Example:
            >>> import linops as lo
            >>> dict(lo.LowRank(lo.spec(4, 2), lo.spec(2, 3)).named_leaves())
            {'U': spec(4, 2), 'V': spec(2, 3)}
        """
        path = [("", self._children())]  # a loop: expressions may be nested deeper than Python's stack
        while path:
            prefix, children = path[-1]
            for name, child in children:
                if isinstance(child, Expression):
                    path.append((f"{prefix}{name}_", child._children()))
                    break
                yield prefix + name, child
            else:
                path.pop()

    def _map(
        self,
        function: Callable[[Any], Any],
        index_function: Callable[[Any], Any] | None = None,
        *,
        alike: bool = False,
    ) -> Any:
        """The same expression with a function applied to every leaf (and index array); it is not checked again.

        If new leaves are `alike`, of the same shapes and dtypes, on one device, what is found of the structure holds.
        """
        operator = object.__new__(type(self))
        values = operator.__dict__
        if alike and self._shares:
            values["_shared"] = self.structure
        for name, kind in self._fields:
            value = getattr(self, name)
            if kind == "tree":
                value = _mapped(value, function, index_function, alike)
            elif kind == "index" and value is not None and index_function is not None:
                value = index_function(value)
            values[name] = value
        return operator

    def with_leaves(self, leaves: Iterable[Any]) -> Self:
        """The same expression with other leaves.

        Args:
            leaves: The new leaves, in the order of `named_leaves`.

        Returns:
            The operator.

        Raises:
            ValueError: If there are too few or too many leaves.

        Example:
            >>> import linops as lo
            >>> lo.Dense(lo.spec(2, 3)).with_leaves([lo.spec(4, 5)]).shape
            (4, 5)
        """
        leaves = list(leaves)
        expected = sum(1 for _ in self.named_leaves())
        if len(leaves) != expected:
            raise ValueError(f"{self._short()} has {expected} leaves, got {len(leaves)}")
        return self._with_leaves(iter(leaves))._checked()

    def _with_leaves(self, leaves: Iterator[Any]) -> Any:
        return self._map(lambda _: next(leaves))

    def _checked(self) -> Any:
        """The operator as its constructors make it, which raise where leaves do not fit."""
        return type(self)(
            **{
                name: _check(getattr(self, name)) if kind == "tree" else getattr(self, name)
                for name, kind in self._fields
            }
        )

    @remembered
    def _flattened(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Children and context, which `jax.jit` asks of every operator of an expression at every call."""
        return flatten(self)

    # ------------------------------------------------------------ what it is

    @remembered
    def backend(self) -> str | None:
        """``"numpy"``, ``"torch"``, ``"jax"``, ``"spec"`` (symbolic), or None: no arrays, it runs on any backend."""
        found = self._home
        for _, child in self._children():
            backend = child.backend if isinstance(child, Expression) else backends.backend_of(child)
            if backend == "spec":
                return backend
            found = found or backend
        return found

    @remembered
    def dtype(self) -> Any:
        """The dtype of the entries as the backend spells it, or None: without arrays, that of what it meets."""
        dtypes = [child.dtype for _, child in self._children() if child.dtype is not None]
        if not dtypes:
            return None
        numbers = [number for _, child in self._children() if child.dtype is None for number in child._numbers]
        if self.backend == "spec":  # whose leaves may be specs and arrays of any framework
            dtypes = [numpy_dtype(dtype) for dtype in dtypes]
        found = backends.result_type(self.backend, *dtypes, *numbers)
        # by what has no dtype of its own, such as a Fourier transform
        if self._is_complex and not backends.is_complex(found):
            found = backends.result_type(self.backend, found, 1j)
        return found

    @remembered
    def _numbers(self) -> tuple[Any, ...]:
        """The Python numbers in the expression, which promote weakly."""
        return tuple(
            [number for _, child in self._children() if isinstance(child, Expression) for number in child._numbers]
        )

    @remembered
    def _is_complex(self) -> bool:
        """Whether a leaf or a number in the expression is complex."""
        for _, child in self._children():
            if child._is_complex if isinstance(child, Expression) else backends.is_complex(child.dtype):
                return True
        return False

    @property
    def _itemsize(self) -> int:
        """Bytes of one number of a result; float32 or complex64 where the dtype is open."""
        return 8 if self.dtype is None and self._is_complex else backends.itemsize(self.dtype)

    @remembered
    def _first_leaf(self) -> Any:
        """The first leaf, or None if there is none."""
        return next((leaf for _, leaf in self.named_leaves()), None)

    @property
    def device(self) -> Any:
        """The device of the first leaf, or None if there is none."""
        leaf = self._first_leaf
        return None if leaf is None else backends.device_of(leaf)

    @property
    def is_symbolic(self) -> bool:
        """Whether a leaf is a spec."""
        return self.backend == "spec"

    @property
    def num_params(self) -> int:
        """The number of parameters: the sizes of all leaves."""
        return sum(prod(leaf.shape) for _, leaf in self.named_leaves())

    def to(self, backend: str | None = None, dtype: Any = None, device: Any = None) -> Self:
        """The operator with its arrays on another backend, dtype or device. Specs change their dtype alone.

        Args:
            backend: ``"numpy"``, ``"torch"`` or ``"jax"``; None keeps it.
            dtype: A dtype of any framework, or its name; None keeps it.
            device: A device as the framework names it; None keeps it.

        Returns:
            The operator.

        Raises:
            TypeError: If the backend cannot hold the dtype, as JAX without x64 cannot hold float64, or an operator is
                bound to another.
        """
        if backend is not None:
            backends.check_name(backend)
        target: Any = backend or self.backend
        for _, node in self._nodes():
            if node._home not in (None, target):
                raise TypeError(f"{node._short()} runs on {node._home} alone; it cannot move to {target}")

        def move(leaf: Any) -> Any:
            if isinstance(leaf, Spec):
                return leaf if dtype is None else Spec(leaf.shape, dtype)
            return backends.asarray(leaf, backend or str(backends.backend_of(leaf)), dtype, device)

        return self._map(move, lambda indices: backends.moved_indices(indices, self.backend, target, device))

    # ------------------------------------------------------------ text

    def _short(self) -> str:
        """The operator in a few words, for errors."""
        m, n = self.shape
        what = [dtype_name(self.dtype)] if self.dtype is not None else []
        what += [self.backend] if self.backend not in (None, "spec") else ["symbolic"] if self.is_symbolic else []
        return f"{type(self).__name__}({', '.join([f'{m}×{n}', *what])})"

    def _words(self) -> tuple[str, str, str]:
        """The node in three words: what it is, its shape, and what of its leaves is known."""
        try:
            (m, n), count_, dtype, detail = self.shape, self.num_params, self.dtype, self._detail()
        except Exception:  # a pytree may carry anything in the place of an array, such as a stack of them
            held = [
                f"{name} {tuple(getattr(leaf, 'shape', ())) or type(leaf).__name__}"
                for name, leaf in self.named_leaves()
            ]
            said = next((said for _, node in self._nodes() if (said := other_axes(node))), "")
            return f"{type(self).__name__}()", f"{said or 'of leaves that are not its own'}:", ", ".join(held)
        words = [] if dtype is None else [dtype_name(dtype)]
        words.append(f"{count_:,} parameter{'' if count_ == 1 else 's'}" if count_ else "no parameters")
        if self.backend not in (None, "spec"):
            words.append(str(self.backend))
        elif self.is_symbolic:
            words.append("symbolic")
        return f"{type(self).__name__}({detail})", f"{m}×{n}", "  ".join(words)

    def _line(self) -> str:
        return "  ".join(self._words())

    def _tree_lines(self) -> Iterator[str]:
        # what stands before the node's line, and before those below it
        stack: list[tuple[str, str, Expression]] = [("", "", self)]
        while stack:
            first, rest, node = stack.pop()
            yield first + node._line()
            children = [child for _, child in node._children() if isinstance(child, Expression)]
            below = [(f"{rest}├─ ", f"{rest}│  ", child) for child in children[:-1]]
            below += [(f"{rest}└─ ", f"{rest}   ", child) for child in children[-1:]]
            stack += reversed(below)

    def __repr__(self) -> str:
        return "\n".join(self._tree_lines())

    def _repr_html_(self) -> str:
        """The tree for notebooks."""
        return display.html(self)

    def __rich__(self) -> Any:
        """The tree for rich."""
        return display.rich_tree(self)

    # ------------------------------------------------------------ copies

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name, _ in self._fields}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def _check(value: Any) -> Any:
    """A field's value with its operators as their constructors make them."""
    if isinstance(value, tuple):
        return tuple([_check(item) for item in value])
    return value._checked() if isinstance(value, Expression) else value


def _mapped(
    value: Any, function: Callable[[Any], Any], index_function: Callable[[Any], Any] | None, alike: bool
) -> Any:
    """What `Expression._map` makes of a field's value."""
    if isinstance(value, Expression):
        return value._map(function, index_function, alike=alike)
    if isinstance(value, tuple):
        return tuple([_mapped(item, function, index_function, alike) for item in value])
    return None if value is None else function(value)
