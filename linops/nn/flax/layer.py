"""An operator as a layer of Flax NNX."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from linops.nn.jax import gains, normalized, parameters
from linops.nn.members import require_operator
from linops.operator import LinearOperator
from linops.structure import Structure


class Linear(nnx.Module):
    """``y = x @ A.T + bias`` with the leaves of an operator A as `nnx.Param`: `nnx.Linear` for any structure.

    Each call computes from the parameters, which have the flat names of `LinearOperator.named_leaves`; the structure
    holds no array. So `nnx.split`, `nnx.state`, `nnx.jit`, `nnx.grad` and `nnx.vmap` work as they do for `nnx.Linear`,
    and two layers of equal structure share a compilation.

    Cost: that of the operator, and m additions a vector for the bias.

    Attributes:
        in_features: n.
        out_features: m.
        bias: (m,) parameter, or None.
        weight_norm: Whether factors are normalised.
        scheme: How it was drawn, which saved files say.
        parallel: How products run on a mesh; see `linops.nn.sharded`. None leaves it to XLA.

    Args:
        operator: Any operator. Arrays of any backend become the parameters' initial values; specs are drawn with
            structure-aware scale.
        bias: Whether to add a bias, initially zero.
        dtype: The dtype of the computation, to which input and parameters are cast; None promotes as JAX does.
        param_dtype: The dtype of the parameters; None keeps that of the operator.
        zero_init: Whether a symbolic operator starts at zero, by the factor nearest the output alone.
        weight_norm: Whether each factor G acts as γ · G / max(1, rms(G) / s), with γ the (1,) parameter
            ``<leaf>_gain``; see `linops.nn.torch.Linear`.
        scheme: How specs are drawn: ``"mup"``, ``"spectral"`` or ``"orthogonal"``, as in `LinearOperator.init`; for the
            latter two the host draws.
        rngs: The random streams, of which ``params`` is used; needed for symbolic operators.

    Shape:
        Input (…, n), output (…, m).

    Raises:
        TypeError: If the operator mixes arrays and specs, or is symbolic and there are no rngs.
        ValueError: If an operator that cannot be zero is to start at zero, or one with arrays is; or there is no such
            scheme.

    Example:
        >>> import jax, linops as lo
        >>> from flax import nnx
        >>> layer = lo.nn.flax.Linear(lo.btt(64, 16), rngs=nnx.Rngs(0))
        >>> layer(jax.numpy.zeros((2, 3, 16))).shape
        (2, 3, 64)
        >>> sorted(nnx.state(layer))
        ['bias', 'cores_0', 'cores_1']
    """

    out_features: int
    in_features: int
    bias: nnx.Param[jax.Array] | None

    def __init__(
        self,
        operator: LinearOperator,
        bias: bool = True,
        dtype: Any = None,
        param_dtype: Any = None,
        *,
        zero_init: bool = False,
        weight_norm: bool = False,
        scheme: str = "mup",
        rngs: nnx.Rngs | None = None,
    ) -> None:
        require_operator("lo.nn.flax.Linear", operator, bias)
        key = rngs.params() if rngs is not None and operator.is_symbolic else None
        operator = parameters(operator, param_dtype, key, zero_init, "rngs=nnx.Rngs(0)", scheme)
        self.dtype = dtype
        self.out_features, self.in_features = operator.shape
        self._structure = operator.structure
        for name, leaf in operator.named_leaves():
            setattr(self, name, nnx.Param(leaf))
        self.bias = (
            nnx.Param(jax.numpy.zeros(self.out_features, param_dtype or operator.dtype)) if bias else nnx.data(None)
        )
        self.weight_norm: bool = weight_norm
        self.scheme: str = scheme
        self.parallel: Any = None
        for name, gain in (gains(operator) if weight_norm else {}).items():
            setattr(self, f"{name}_gain", nnx.Param(gain))

    @property
    def structure(self) -> Structure:
        """The operator without its numbers; its `operator` has specs in the place of the leaves."""
        return self._structure

    @property
    def leaf_names(self) -> tuple[str, ...]:
        """The names of the operator's parameters."""
        return self._structure.names

    @property
    def operator(self) -> Any:
        """The operator over the layer's parameters as they are now, normalised if they are to be."""
        operator = self._structure.fill([getattr(self, name).get_value() for name in self.leaf_names])
        if not self.weight_norm:
            return operator
        named = {name: getattr(self, f"{name}_gain", None) for name in self.leaf_names}
        return normalized(operator, {name: gain.get_value() for name, gain in named.items() if gain is not None})

    def fold(self) -> None:
        """Multiply the weight normalisation into the parameters, in place."""
        for name, leaf in list(self.operator.named_leaves()):
            getattr(self, name).set_value(leaf)
            if self.weight_norm and hasattr(self, f"{name}_gain"):
                delattr(self, f"{name}_gain")
        self.weight_norm = False

    def __call__(self, x: jax.Array, out_sharding: Any = None) -> jax.Array:
        """X @ A.T + bias over the last axis; other axes keep their sharding or get another, as in `nnx.Linear`."""
        operator, bias, x = self.operator, None if self.bias is None else self.bias.get_value(), jax.numpy.asarray(x)
        if self.dtype is not None:
            operator, bias, x = jax.tree.map(lambda array: array.astype(self.dtype), (operator, bias, x))
        y = self._product(operator, x)
        y = y if bias is None else y + bias
        return y if out_sharding is None else jax.sharding.reshard(y, out_sharding)

    def _product(self, operator: Any, x: jax.Array) -> jax.Array:
        return operator._linear(x) if self.parallel is None else self.parallel(operator, x)

    def _over(self, operator: LinearOperator) -> Linear:
        """The same kind of layer over another operator, without a bias."""
        return Linear(operator, False, self.dtype, scheme=self.scheme)

    def to_dense(self) -> nnx.Linear:
        """An `nnx.Linear` with the same weights, multiplied out.

        Returns:
            The dense layer; its kernel is (n, m), the transpose of the operator's matrix.
        """
        kernel = self.operator.to_dense().T

        def build() -> nnx.Linear:
            options = {"use_bias": self.bias is not None, "dtype": self.dtype, "param_dtype": kernel.dtype}
            return nnx.Linear(*kernel.shape, **options, rngs=nnx.Rngs(0))

        layer = nnx.eval_shape(build)
        layer.kernel = nnx.Param(kernel)
        if self.bias is not None:
            layer.bias = nnx.Param(self.bias.get_value())
        return layer
