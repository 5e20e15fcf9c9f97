"""An operator as a layer of Flax NNX that acts on several axes at once."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import jax
from flax import nnx

from linops.nn.flax.layer import Linear
from linops.nn.members import require_operator
from linops.operator import LinearOperator


class LinearGeneral(Linear):
    """`nnx.LinearGeneral`, as in attention, of any structure: `lo.nn.flax.Linear` that joins and splits axes.

    Attributes:
        in_shape: The sizes of the axes that are joined, the first slowest; their product is n.
        out_shape: The sizes of the axes that come last in the result, the first slowest; their product is m.
        axis: Where those axes of x are; their order does not count.

    Args:
        operator: As for `Linear`.
        in_features: One size, or several.
        out_features: One size, or several.
        axis: Which axes of x, one or several.
        bias: Whether to add a bias of shape `out_shape`, initially zero.
        **options: As for `Linear`.

    Shape:
        Input with axes of `in_features`, output (…, out_features).

    Raises:
        ValueError: If the sizes are not those of the operator.

    Example:
        >>> import jax, linops as lo
        >>> from flax import nnx
        >>> heads = lo.nn.flax.LinearGeneral(lo.btt(64, 16), 16, (4, 16), rngs=nnx.Rngs(0))
        >>> heads(jax.numpy.zeros((2, 3, 16))).shape
        (2, 3, 4, 16)
    """

    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    axis: tuple[int, ...]

    def __init__(
        self,
        operator: LinearOperator,
        in_features: int | Sequence[int],
        out_features: int | Sequence[int],
        axis: int | Sequence[int] = -1,
        bias: bool = True,
        **options: Any,
    ) -> None:
        require_operator("lo.nn.flax.LinearGeneral", operator)
        self.in_shape, self.out_shape, self.axis = (_several(value) for value in (in_features, out_features, axis))
        sizes = prod(self.out_shape), prod(self.in_shape)
        if sizes != operator.shape or len(self.axis) != len(self.in_shape):
            given = f"axes {self.in_shape} at {self.axis} to {self.out_shape}"
            raise ValueError(
                f"LinearGeneral({operator._short()}): {given} do not fit; "
                "expected its features, and an axis for each size"
            )
        super().__init__(operator, bias, **options)
        if self.bias is not None:
            self.bias = nnx.Param(self.bias.get_value().reshape(self.out_shape))

    def _product(self, operator: Any, x: jax.Array) -> jax.Array:
        axes = sorted(axis % x.ndim for axis in self.axis)  # as `nnx.LinearGeneral` takes them: by place
        x = jax.numpy.moveaxis(x, axes, range(-len(axes), 0))
        rest = x.shape[: x.ndim - len(self.axis)]
        if x.shape[len(rest) :] != self.in_shape:
            raise ValueError(
                f"layer of {operator._short()}: "
                f"axes {self.axis} of sizes {x.shape[len(rest) :]}; expected {self.in_shape}"
            )
        return super()._product(operator, x.reshape(*rest, self.in_features)).reshape(*rest, *self.out_shape)

    def _over(self, operator: LinearOperator) -> LinearGeneral:
        return LinearGeneral(operator, self.in_shape, self.out_shape, self.axis, False, dtype=self.dtype)

    def to_dense(self) -> Any:
        """An `nnx.LinearGeneral` with the same weights, multiplied out."""
        kernel = self.operator.to_dense().T.reshape(*self.in_shape, *self.out_shape)

        def build() -> nnx.LinearGeneral:
            options = {"use_bias": self.bias is not None, "dtype": self.dtype, "param_dtype": kernel.dtype}
            return nnx.LinearGeneral(self.in_shape, self.out_shape, axis=self.axis, **options, rngs=nnx.Rngs(0))

        layer = nnx.eval_shape(build)
        layer.kernel = nnx.Param(kernel)
        if self.bias is not None:
            layer.bias = nnx.Param(self.bias.get_value())
        return layer


def _several(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,)
