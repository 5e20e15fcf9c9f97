"""Function: a callable as an operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any

import numpy as np

from linops import backends
from linops.checks import callable_name, require_callable, require_leaves, require_params, require_size
from linops.declaration import declare, remembered, tree
from linops.operator import LinearOperator, flat
from linops.plan.step import Step
from linops.tags import Tag


@declare(init=False)
class Function(LinearOperator):
    """The operator whose product a callable computes: A x = matvec(x, *params), Aᴴ y = rmatvec(y, *params).

    Nothing is known of a callable but its linearity, which is not checked. Arrays in `params` are leaves: they have
    gradients, move between backends and dtypes, and are arguments of compiled functions; arrays that a callable closes
    over are constants. Without params an operator has no backend, and runs on what it meets. Let a callable be a
    function of a module: the operator then pickles, and JAX compiles once.

    Aᵀ y = conj(rmatvec(conj(y))). Without `rmatvec`, torch and JAX transpose `matvec` by reverse mode; NumPy cannot.

    A callable may write to its operand, return it, or return a buffer that it keeps: it gets a copy, and what it
    returns is copied in turn (in NumPy only where someone else holds it). To params it must not write.

    Where a framework transposes, what `matvec` detaches (``torch.no_grad``, ``jax.lax.stop_gradient``) is taken to be
    constant.

    A matrix is multiplied at once: by one call where `vectorized`, else by the framework's vmap. NumPy has none, and
    calls once for each column: the one exception to the rule that products never loop over columns.

    Inside torch.compile write ``A.__matmul__(x)`` for ``A @ x`` (and ``A.__rmatmul__(y)`` for ``y @ A``): Dynamo puts
    ``@`` into its graph whole, operator and all, and a Python function cannot stand in a graph. Layers compile as they
    are.

    Cost: unknown; counted are the `macs` that are given (none by default), params read and numbers moved.

    Attributes:
        shape: (m, n).
        product: Given as `matvec`: (n,) array, *params → (m,) array; None if only the adjoint is known.
        adjoint_product: Given as `rmatvec`: (m,) array, *params → (n,) array, the adjoint, as in SciPy; or None.
        params: Arrays or specs, passed to both callables after the vector.
        vectorized: Whether both callables take matrices, (n, k) → (m, k); vectors then come as (n, 1).
        complex_entries: Whether entries are complex where no param is, as those of a Fourier transform.
        macs: Multiply-accumulates of one call a vector, for costs; twice as many where a framework transposes
            a vectorized one.
        runs_on: The backend of callables without params: say ``"jax"`` of one that closes over JAX arrays. The operator
            then is of it, also where it makes operands itself (`to_dense`, ``A[0]``), which are NumPy's otherwise. None
            runs on what it meets.
        conjugated: Whether this is the conjugate of what the callables compute; set by `conj`, `T` and `H`.

    Raises:
        TypeError: If an argument is of another type, a callable is not hashable, or returns no array of its operand's
            backend.
        ValueError: If both callables are missing, or one returns an array of another shape.
        NotImplementedError: If NumPy is to do without the callable.

    Example:
        >>> import linops as lo, numpy as np
        >>> A = lo.Function((2, 3), np.diff, lambda y: np.pad(y, (1, 0)) - np.pad(y, (0, 1)))
        >>> A @ np.array([1., 4., 9.]), A.H @ np.ones(2)
        (array([3., 5.]), array([-1.,  0.,  1.]))
    """

    shape: tuple[int, int] = field()
    product: Callable[..., Any] | None = None
    adjoint_product: Callable[..., Any] | None = None
    params: Any = tree(default=())
    vectorized: bool = False
    complex_entries: bool = False
    macs: int = 0
    runs_on: str | None = None
    conjugated: bool = False

    def __init__(
        self,
        shape: Any,
        matvec: Callable[..., Any] | None = None,
        rmatvec: Callable[..., Any] | None = None,
        params: Any = (),
        vectorized: bool = False,
        complex_entries: bool = False,
        macs: int = 0,
        runs_on: str | None = None,
        conjugated: bool = False,
        *,
        product: Any = None,
        adjoint_product: Any = None,
        assumed: Tag = Tag.NONE,
    ) -> None:
        # the fields have other names than the arguments: `matvec` and `rmatvec` are products of every operator
        fields = {
            "shape": shape,
            "product": matvec if product is None else product,
            "adjoint_product": rmatvec if adjoint_product is None else adjoint_product,
            "params": params,
            "vectorized": vectorized,
            "complex_entries": complex_entries,
            "macs": macs,
            "runs_on": runs_on,
            "conjugated": conjugated,
            "assumed": assumed,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    def __post_init__(self) -> None:
        if not isinstance(self.shape, (tuple, list)) or len(self.shape) != 2:
            raise TypeError(f"Function: shape must be (m, n), got {self.shape!r}")
        for name, size in zip("mn", self.shape):
            require_size("Function", name, size)
        m, n = (int(size) for size in self.shape)
        if self.product is None and self.adjoint_product is None:
            raise ValueError(f"Function({m}×{n}): give matvec, rmatvec, or both")
        require_callable(f"Function({m}×{n})", "matvec", self.product)
        require_callable(f"Function({m}×{n})", "rmatvec", self.adjoint_product)
        require_size("Function", "macs", self.macs)
        object.__setattr__(self, "shape", (m, n))
        object.__setattr__(self, "params", require_params("Function", self.params))
        require_leaves(self)
        if self.runs_on is not None:
            backends.check_name(self.runs_on)
            backends.load(self.runs_on)
            given = backends.backend_of(self.params[0]) if self.params else None
            if given not in (None, "spec", self.runs_on):
                raise TypeError(f"Function({m}×{n}): params are {given} arrays, runs_on={self.runs_on!r}")

    @property
    def _home(self) -> str | None:
        return self.runs_on

    @remembered
    def _is_complex(self) -> bool:
        return self.complex_entries or LinearOperator._is_complex.function(self)

    def _columns(self, x: Any) -> Any:
        return (backends.applied if self.vectorized else backends.map_columns)(flat(x), self._apply)

    def _vector(self, x: Any) -> Any:
        return super()._vector(x) if self.vectorized else backends.applied(x, self._apply)

    def _apply(self, x: Any) -> Any:
        """A x of what the callables take."""
        if self.conjugated:
            return backends.conj(self._compute(backends.conj(x)))
        return self._compute(x)

    def _compute(self, x: Any) -> Any:
        if self.product is not None:
            return self._call("matvec", x)
        if not backends.differentiates(x):
            given = callable_name(self.adjoint_product)
            raise NotImplementedError(
                f"{self._short()}: NumPy cannot transpose {given}: give the adjoint too, as rmatvec"
            )
        known = [dtype for dtype in (self.dtype, 1j if self._is_complex else None) if dtype is not None]
        dtype = backends.result_type(backends.backend_of(x), x.dtype, *known)
        zeros = backends.zeros(x, (self.shape[0], *x.shape[1:]), dtype)
        return backends.conj(backends.vjp(zeros, lambda y: self._call("rmatvec", y), backends.conj(x)))

    def _call(self, name: str, x: Any) -> Any:
        function: Any = self.product if name == "matvec" else self.adjoint_product
        y: Any
        try:
            y = function(x, *self.params)
        except Exception as error:
            if self.backend is None and isinstance(x, np.ndarray):
                error.add_note(
                    f"{self._short()}: its operand is a NumPy array. "
                    f"If {name} is torch's or JAX's, say so: runs_on='torch'."
                )
            raise
        if isinstance(y, np.ndarray) and type(y) is not np.ndarray:
            y = np.asarray(backends.plain(y, f"{self._short()}: {name} returned"))
        given = backends.backend_of(y)
        if given != backends.backend_of(x):
            hint = f"; of {given}'s callables say runs_on={given!r}" if given and self.backend is None else ""
            raise TypeError(
                f"{self._short()}: {name} returned {type(y).__name__}, "
                f"expected an array as its operand, {type(x).__name__}{hint}"
            )
        expected = (self.shape[0 if name == "matvec" else 1], *x.shape[1:])
        if tuple(y.shape) != expected:
            raise ValueError(
                f"{self._short()}: {name} returned shape {tuple(y.shape)} for {tuple(x.shape)}, expected {expected}"
            )
        return y

    def _adjoint(self, conjugated: bool) -> Function:
        m, n = self.shape
        options = self.params, self.vectorized, self.complex_entries, self.macs, self.runs_on
        return Function((n, m), self.adjoint_product, self.product, *options, conjugated=conjugated)

    def _transpose(self) -> Function:
        return self._adjoint(not self.conjugated)

    def _conj(self) -> Function:
        options = self.params, self.vectorized, self.complex_entries, self.macs, self.runs_on
        return Function(self.shape, self.product, self.adjoint_product, *options, conjugated=not self.conjugated)

    def _lower(self, batch: int) -> tuple[Step, ...]:
        m, n = self.shape
        detail = f"({n}, {batch}) → ({m}, {batch})" + ("" if self.macs else ", work unknown")
        # reverse mode computes the function too: of a whole matrix, or once for all columns
        macs = 2 * self.macs if self.product is None and self.vectorized else self.macs
        return (Step("function", detail, macs * batch, inputs=n * batch, weights=self.num_params, outputs=m * batch),)

    def _detail(self) -> str:
        name = (
            callable_name(self.product)
            if self.product is not None
            else f"{callable_name(self.adjoint_product)}, adjoint"
        )
        return f"{name}, conjugated" if self.conjugated else name
