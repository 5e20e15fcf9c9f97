"""An operator as a layer of Equinox."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax

from linops.nn.jax import gains, normalized, parameters
from linops.nn.members import require_operator
from linops.operator import LinearOperator


class Linear(eqx.Module):
    """``y = x @ A.T + bias`` of an operator A: `equinox.nn.Linear` for any structure.

    The operator is a field, and its arrays are the layer's: `eqx.filter_jit`, `eqx.filter_grad`, `jax.vmap` and
    `eqx.tree_at` see them as they see any array of a module. Index arrays belong to the structure.

    Cost: that of the operator, and m additions a vector for the bias.

    Attributes:
        operator: A.
        bias: (m,) array, or None.
        gains: With weight normalisation, a (1,) array for each factor, by leaf; else None. The layer then computes with
            normalised factors, and `fold` gives the layer whose operator has them.
        parallel: How products run on a mesh; see `linops.nn.sharded`. None leaves it to XLA.
        scheme: How it was drawn, which saved files say.

    Args:
        operator: Any operator. Arrays of any backend become the parameters' initial values; specs are drawn with
            structure-aware scale.
        bias: Whether to add a bias, initially zero.
        dtype: The dtype of the parameters; None keeps that of the operator.
        zero_init: Whether a symbolic operator starts at zero, by the factor nearest the output alone.
        weight_norm: Whether each factor G acts as γ · G / max(1, rms(G) / s); see `linops.nn.torch.Linear`.
        scheme: How specs are drawn: ``"mup"``, ``"spectral"`` or ``"orthogonal"``, as in `LinearOperator.init`; for the
            latter two the host draws.
        key: A key of `jax.random`, needed for symbolic operators.

    Shape:
        Input (…, n), output (…, m).

    Raises:
        TypeError: If the operator mixes arrays and specs, or is symbolic and there is no key.
        ValueError: If an operator that cannot be zero is to start at zero, or one with arrays is; or there is no such
            scheme.

    Example:
        >>> import jax, linops as lo
        >>> layer = lo.nn.equinox.Linear(lo.btt(64, 16), key=jax.random.key(0))
        >>> layer(jax.numpy.zeros((2, 3, 16))).shape
        (2, 3, 64)
    """

    operator: Any
    bias: jax.Array | None
    gains: dict[str, jax.Array] | None
    parallel: Any = eqx.field(static=True)
    scheme: str = eqx.field(static=True)

    def __init__(
        self,
        operator: LinearOperator,
        bias: bool = True,
        dtype: Any = None,
        *,
        zero_init: bool = False,
        weight_norm: bool = False,
        scheme: str = "mup",
        key: Any = None,
    ) -> None:
        require_operator("lo.nn.equinox.Linear", operator, bias)
        self.operator = parameters(operator, dtype, key, zero_init, "key=jax.random.key(0)", scheme)
        self.bias = jax.numpy.zeros(operator.shape[0], dtype or self.operator.dtype) if bias else None
        self.gains = gains(self.operator) if weight_norm else None
        self.parallel, self.scheme = None, scheme

    @property
    def weight_norm(self) -> bool:
        """Whether factors are normalised."""
        return self.gains is not None

    @property
    def in_features(self) -> int:
        """The number of inputs, n."""
        return self.operator.shape[1]

    @property
    def out_features(self) -> int:
        """The number of outputs, m."""
        return self.operator.shape[0]

    def __call__(self, x: jax.Array, *, key: Any = None) -> jax.Array:
        """X @ A.T + bias over the last axis of x; the key is ignored, as in `equinox.nn`."""
        operator = self.operator if self.gains is None else normalized(self.operator, self.gains)
        y = operator._linear(jax.numpy.asarray(x)) if self.parallel is None else self.parallel(operator, x)
        return y if self.bias is None else y + self.bias

    def fold(self) -> Linear:
        """The layer with its weight normalisation multiplied into the operator.

        Returns:
            A layer without gains.
        """
        if self.gains is None:
            return self
        return eqx.tree_at(lambda one: (one.operator, one.gains), self, (normalized(self.operator, self.gains), None))

    def _with_parallel(self, parallel: Any) -> Linear:
        """The layer with products that run divided on a mesh, or as XLA has it."""
        new = object.__new__(type(self))
        for name, value in vars(self).items():
            object.__setattr__(new, name, parallel if name == "parallel" else value)
        return new

    def _placed_as(self, operator: Any, sharding: Any, everywhere: Any) -> Linear:
        """The layer with shardings in the place of its arrays."""
        bias = None if self.bias is None else sharding(None, self.bias)
        gains = None if self.gains is None else dict.fromkeys(self.gains, everywhere)
        leaves = jax.tree.leaves((operator, bias, gains))
        return jax.tree.unflatten(jax.tree.structure(self), leaves)

    def to_dense(self) -> eqx.nn.Linear:
        """An `equinox.nn.Linear` with the same weights, multiplied out.

        Returns:
            The dense layer; its weight is (m, n).
        """
        shape = (self.in_features, self.out_features, self.bias is not None)
        layer = eqx.filter_eval_shape(eqx.nn.Linear, *shape, key=jax.random.key(0))
        where = (lambda one: one.weight) if self.bias is None else (lambda one: (one.weight, one.bias))
        weight = self.fold().operator.to_dense()
        return eqx.tree_at(where, layer, weight if self.bias is None else (weight, self.bias))
