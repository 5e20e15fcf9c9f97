"""What an operator becomes: `Conversions` to arrays, to scipy's operators, to layers, and from specs to numbers."""

from __future__ import annotations

from typing import Any, Self

from linops.hooks import exported, initialize, make_layer
from linops.products import Products, flat


class Conversions(Products):
    """The conversions of an expression that multiplies."""

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
        return self._entries() if self._meets_real or not self._is_mixed else self._unmixed._entries()

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
            scheme: ``"mup"``: normal, of std sqrt(1/fan_in) · min(1, sqrt(fan_out/fan_in)) a leaf, so that norms are
                right but for a factor. ``"spectral"``: as that, and then the leaves that are multiplied are scaled
                alike, so that the operator has the spectral norm sqrt(m/n) (by 60 steps of Lanczos, with its transpose;
                of normal leaves it is 1.5 to 4 times that). ``"orthogonal"``: the matrices of leaves are orthogonal,
                then as ``"spectral"``. Leaves that are no matrices (circulants, sparse values) stay normal; an operator
                with parts that are not drawn has the norm that comes out.

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
