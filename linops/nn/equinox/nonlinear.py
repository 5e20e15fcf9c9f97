"""Structures that are no linear maps as layers of Equinox."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax

from linops.nn import nonlinear as descriptions
from linops.nn.equinox.balance import tagged
from linops.nn.jax_nonlinear import mapped, start
from linops.nn.nonlinear import btt_mixture, chain


class Nonlinear(eqx.Module):
    """A layer over the leaves of an operator that is no linear map: it has no operator and no weight.

    `Chain` and `BTTMixture` are such layers.

    Attributes:
        leaves: The parameters but the bias, by name.
        bias: (m,) array, or None.
        nonlinear: What it computes, without numbers.

    Args:
        nonlinear: What it is to compute.
        bias: Whether to add a bias, initially zero.
        dtype: The dtype of the parameters; None takes that of the leaves.
        zero_init: Whether it starts at zero, by the factor nearest the output alone.
        key: A key of `jax.random`.

    Shape:
        Input (…, n), output (…, m).

    Raises:
        TypeError: If there is no key.
    """

    leaves: dict[str, jax.Array]
    bias: jax.Array | None
    nonlinear: Any = eqx.field(static=True)

    def __init__(
        self, nonlinear: Any, bias: bool = True, dtype: Any = None, *, zero_init: bool = False, key: Any = None
    ) -> None:
        self.nonlinear = nonlinear
        self.leaves = start(nonlinear, dtype, key, zero_init, "key=jax.random.key(0)")
        zeros = jax.numpy.zeros(nonlinear.shape[0], dtype or nonlinear.operator.dtype)
        self.bias = zeros if bias else None

    @property
    def in_features(self) -> int:
        """The number of inputs, n."""
        return self.nonlinear.shape[1]

    @property
    def out_features(self) -> int:
        """The number of outputs, m."""
        return self.nonlinear.shape[0]

    def __call__(self, x: jax.Array, *, key: Any = None) -> jax.Array:
        """The map and the bias over the last axis of x; the key is ignored, as in `equinox.nn`."""
        y, _ = mapped(self.nonlinear, self.leaves, jax.numpy.asarray(x), lambda one: tagged(one, self.nonlinear))
        return y if self.bias is None else y + self.bias


class Chain(Nonlinear):
    """``y = U σ(V x) + bias``: a layer of low rank with an activation between its factors; see `linops.nn.torch.Chain`.

    Args:
        out_features: m.
        in_features: n.
        rank: r; None takes that of `linops.low_rank`.
        activation: σ: a name as for `lo.nn.chain`, or a function of arrays.
        bias: Whether to add a bias, initially zero.
        dtype: The dtype of the parameters; None takes float32.
        zero_init: Whether it starts at zero, by U alone.
        nonlinear: What it is to compute, where that is at hand; it stands for sizes, rank and activation.
        key: A key of `jax.random`.

    Raises:
        ValueError: If the layer costs more than a dense one.
        TypeError: If there is no key.

    Example:
        >>> import jax, linops as lo
        >>> layer = lo.nn.equinox.Chain(64, 16, rank=4, key=jax.random.key(0))
        >>> layer(jax.numpy.zeros((2, 3, 16))).shape
        (2, 3, 64)
    """

    def __init__(
        self,
        out_features: int,
        in_features: int,
        rank: int | None = None,
        activation: Any = "silu",
        bias: bool = True,
        dtype: Any = None,
        *,
        zero_init: bool = False,
        nonlinear: Any = None,
        key: Any = None,
    ) -> None:
        found = chain(out_features, in_features, rank, activation) if nonlinear is None else nonlinear
        super().__init__(found, bias, dtype, zero_init=zero_init, key=key)


class BTTMixture(Nonlinear):
    """A mixture of experts, each a BTT, of which every vector uses `active`; see `linops.nn.torch.BTTMixture`.

    Call it on all rows at once where that is possible, (…, n): under `jax.vmap` each row gathers copies of the leaves
    of its experts. The balance loss comes from `lo.nn.equinox.with_balance_loss`.

    Args:
        out_features: m.
        in_features: n.
        experts: Their number.
        active: How many of them a vector uses.
        balance: The factor of the balance loss; 0 for none.
        bias: Whether to add a bias, initially zero.
        dtype: The dtype of the parameters; None takes float32.
        zero_init: Whether it starts at zero.
        nonlinear: What it is to compute, where that is at hand; it stands for sizes and options.
        key: A key of `jax.random`.
        **options: Of `lo.nn.btt_mixture`, as ``rank=2``.

    Raises:
        ValueError: If it costs more than dense, or fewer experts than one are active, or more than all.
        TypeError: If there is no key.

    Example:
        >>> import jax, linops as lo
        >>> layer = lo.nn.equinox.BTTMixture(64, 16, experts=4, active=2, key=jax.random.key(0))
        >>> layer(jax.numpy.zeros((2, 3, 16))).shape
        (2, 3, 64)
    """

    def __init__(
        self,
        out_features: int,
        in_features: int,
        experts: int = 8,
        active: int = 2,
        balance: float = 0.01,
        bias: bool = True,
        dtype: Any = None,
        *,
        zero_init: bool = False,
        nonlinear: Any = None,
        key: Any = None,
        **options: Any,
    ) -> None:
        if nonlinear is None:
            nonlinear = btt_mixture(out_features, in_features, experts, active, balance, **options)
        super().__init__(nonlinear, bias, dtype, zero_init=zero_init, key=key)


#: the layer of each structure that is no linear map
LAYERS: dict[type, Any] = {descriptions.Chain: Chain, descriptions.Mixture: BTTMixture}
