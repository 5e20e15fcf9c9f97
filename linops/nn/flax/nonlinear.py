"""Structures that are no linear maps as layers of Flax NNX, and the loss that keeps the experts of mixtures in use."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import jax
from flax import nnx

from linops.nn import nonlinear as descriptions
from linops.nn.jax_nonlinear import balance_of, mapped, start
from linops.nn.nonlinear import btt_mixture, chain

#: whether `with_balance_loss` runs, which must miss no mixture
_SUMMED: ContextVar[bool] = ContextVar("with_balance_loss", default=False)
_WAY = (
    "give a model, or a function whose first argument is the model: with_balance_loss(lambda model, x: …)(model, x); "
    "a transformation inside takes the model as an argument too, as nnx.remat(lambda model, x: model(x))(model, x)"
)


class BalanceLoss(nnx.Intermediate):
    """The balance losses of a mixture, which ``nnx.capture(model, BalanceLoss)`` returns."""


class Nonlinear(nnx.Module):
    """A layer over the leaves of an operator that is no linear map: it has no operator and no kernel.

    Parameters have the names of leaves. `Chain` and `BTTMixture` are such layers.

    Attributes:
        nonlinear: What it computes, without numbers.
        in_features: n.
        out_features: m.
        bias: (m,) parameter, or None.

    Args:
        nonlinear: What it is to compute.
        bias: Whether to add a bias, initially zero.
        dtype: The dtype of the computation, to which input and parameters are cast; None promotes as JAX does.
        param_dtype: The dtype of the parameters; None takes that of the leaves.
        zero_init: Whether it starts at zero, by the factor nearest the output alone.
        rngs: The random streams, of which ``params`` is used.

    Shape:
        Input (…, n), output (…, m).

    Raises:
        TypeError: If there are no rngs.
    """

    out_features: int
    in_features: int
    bias: nnx.Param[jax.Array] | None

    def __init__(
        self,
        nonlinear: Any,
        bias: bool = True,
        dtype: Any = None,
        param_dtype: Any = None,
        *,
        zero_init: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self.nonlinear: Any = nonlinear
        self.dtype = dtype
        self.out_features, self.in_features = nonlinear.shape
        key = None if rngs is None else rngs.params()
        for name, leaf in start(nonlinear, param_dtype, key, zero_init, "rngs=nnx.Rngs(0)").items():
            setattr(self, name, nnx.Param(leaf))
        zeros = jax.numpy.zeros(self.out_features, param_dtype or nonlinear.operator.dtype)
        self.bias = nnx.Param(zeros) if bias else nnx.data(None)

    @property
    def leaf_names(self) -> tuple[str, ...]:
        """The names of the parameters but the bias."""
        return tuple(self.nonlinear.leaves)

    def __call__(self, x: jax.Array, out_sharding: Any = None) -> jax.Array:
        """The map and the bias over the last axis; other axes keep their sharding or get `out_sharding`."""
        leaves = {name: getattr(self, name).get_value() for name in self.leaf_names}
        bias, x = None if self.bias is None else self.bias.get_value(), jax.numpy.asarray(x)
        if self.dtype is not None:
            leaves, bias, x = jax.tree.map(lambda array: array.astype(self.dtype), (leaves, bias, x))
        y, scores = mapped(self.nonlinear, leaves, x)
        if scores is not None and self.nonlinear.balance:
            if hasattr(self, "__captures__"):
                self.sow(BalanceLoss, "balance_loss", balance_of(self.nonlinear, scores))
            elif _SUMMED.get():
                raise ValueError(f"with_balance_loss: a mixture runs that is not of the model; {_WAY}")
        y = y if bias is None else y + bias
        return y if out_sharding is None else jax.sharding.reshard(y, out_sharding)


class Chain(Nonlinear):
    """``y = U σ(V x) + bias``: a layer of low rank with an activation between its factors; see `linops.nn.torch.Chain`.

    Args:
        out_features: m.
        in_features: n.
        rank: r; None takes that of `linops.low_rank`.
        activation: σ: a name as for `lo.nn.chain`, or a function of arrays.
        bias: Whether to add a bias, initially zero.
        dtype: As of `Nonlinear`.
        param_dtype: As of `Nonlinear`.
        zero_init: Whether it starts at zero, by U alone.
        nonlinear: What it is to compute, where that is at hand; it stands for sizes, rank and activation.
        rngs: The random streams, of which ``params`` is used.

    Raises:
        ValueError: If the layer costs more than a dense one.
        TypeError: If there are no rngs.

    Example:
        >>> import jax, linops as lo
        >>> from flax import nnx
        >>> layer = lo.nn.flax.Chain(64, 16, rank=4, rngs=nnx.Rngs(0))
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
        param_dtype: Any = None,
        *,
        zero_init: bool = False,
        nonlinear: Any = None,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        found = chain(out_features, in_features, rank, activation) if nonlinear is None else nonlinear
        super().__init__(found, bias, dtype, param_dtype, zero_init=zero_init, rngs=rngs)


class BTTMixture(Nonlinear):
    """A mixture of experts, each a BTT, of which every vector uses `active`; see `linops.nn.torch.BTTMixture`.

    Its balance loss is a `BalanceLoss`, an `nnx.Intermediate`, sown where `nnx.capture` asks for it;
    `lo.nn.flax.with_balance_loss` is that, summed.

    Args:
        out_features: m.
        in_features: n.
        experts: Their number.
        active: How many of them a vector uses.
        balance: The factor of the balance loss; 0 for none.
        bias: Whether to add a bias, initially zero.
        dtype: As of `Nonlinear`.
        param_dtype: As of `Nonlinear`.
        zero_init: Whether it starts at zero.
        nonlinear: What it is to compute, where that is at hand; it stands for sizes and options.
        rngs: The random streams, of which ``params`` is used.
        **options: Of `lo.nn.btt_mixture`, as ``rank=2``.

    Raises:
        ValueError: If it costs more than dense, or fewer experts than one are active, or more than all.
        TypeError: If there are no rngs.

    Example:
        >>> import jax, linops as lo
        >>> from flax import nnx
        >>> layer = lo.nn.flax.BTTMixture(64, 16, experts=4, active=2, rngs=nnx.Rngs(0))
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
        param_dtype: Any = None,
        *,
        zero_init: bool = False,
        nonlinear: Any = None,
        rngs: nnx.Rngs | None = None,
        **options: Any,
    ) -> None:
        if nonlinear is None:
            nonlinear = btt_mixture(out_features, in_features, experts, active, balance, **options)
        super().__init__(nonlinear, bias, dtype, param_dtype, zero_init=zero_init, rngs=rngs)


#: the layer of each structure that is no linear map
LAYERS: dict[type, Any] = {descriptions.Chain: Chain, descriptions.Mixture: BTTMixture}


def with_balance_loss(function: Any) -> Callable[..., tuple[Any, jax.Array]]:
    """A function that returns beside its result the sum of the balance losses of the mixtures that it ran.

    It is `nnx.capture` of `BalanceLoss`, summed; see `lo.nn.balance_loss` for the formula. A mixture that runs twice
    counts twice. Inside, `nnx.jit` and `nnx.remat` take the model as an argument; under `vmap` each row would be a
    batch of its own, so a mixture runs on all rows.

    Args:
        function: A model, a method of one, or a function whose first argument is the model, or a tuple or list of
            models.

    Returns:
        A function of the same arguments: (result, loss). The loss is zero where no mixture ran.

    Raises:
        ValueError: When called, if there is no model in the first argument, or a mixture runs that is not of it, as one
            in a closure: its loss would be missed.

    Example:
        >>> import linops as lo
        >>> from flax import nnx
        >>> model = nnx.Sequential(lo.nn.flax.BTTMixture(64, 16, experts=4, rngs=nnx.Rngs(0)))
        >>> def loss(model, x):
        ...     y, balance = lo.nn.flax.with_balance_loss(model)(x)
        ...     return (y**2).mean() + balance
        >>> value, gradients = nnx.value_and_grad(loss)(model, jax.numpy.ones((8, 16)))
    """
    run: Any = nnx.capture(function, BalanceLoss)
    owner = function.__self__ if inspect.ismethod(function) else function

    def summed(*args: Any, **kwargs: Any) -> tuple[Any, jax.Array]:
        if not isinstance(owner, nnx.Module) and not (args and any(True for _ in nnx.iter_modules(args[0]))):
            what = f"argument, of type {type(args[0]).__name__}, has no model in it" if args else "argument is missing"
            raise ValueError(f"with_balance_loss: the first {what}; {_WAY}")
        before = _SUMMED.set(True)
        try:
            result, found = run(*args, **kwargs)
        finally:
            _SUMMED.reset(before)
        return result, sum([loss.sum() for loss in jax.tree.leaves(found)], jax.numpy.zeros(()))

    return summed
