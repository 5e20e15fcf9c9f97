"""What the layers of JAX's frameworks share: parameters from an operator, and their normalisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from linops import backends
from linops.nn.swap import Swap
from linops.operator import LinearOperator
from linops.scaling import initial_stds, require_scheme
from linops.specs import Spec, dtype_name, numpy_dtype


def one_copy(operator: LinearOperator) -> Any:
    """The symbolic operator of one copy where leaves have leading axes, as of layers stacked for `jax.lax.scan`.

    Args:
        operator: An operator whose leaves have a shape and a dtype.

    Returns:
        The operator without the leading axes; one of which that cannot be told, such as a partly filtered one, as it
        is.

    Example:
        >>> import jax, linops as lo
        >>> stacked = jax.vmap(lambda key: lo.btt(64, 16).init(seed=0, backend="jax"))(jax.numpy.arange(3))
        >>> one_copy(stacked).shape
        (64, 16)
    """
    fewest = min((len(leaf.shape) for _, leaf in operator.named_leaves() if leaf is not None), default=0)
    for count in range(fewest + 1):
        one = operator._map(lambda leaf, count=count: Spec(tuple(leaf.shape[count:]), dtype_name(leaf.dtype)))
        try:
            for _, node in reversed(list(one._nodes())):
                getattr(node, "__post_init__", bool)()  # the checks of construction: they count axes
        except (TypeError, ValueError):
            continue
        return one
    return operator


def parameters(operator: LinearOperator, dtype: Any, key: Any, zero_init: bool, how: str, scheme: str = "mup") -> Any:
    """The operator with JAX arrays as its leaves.

    Arrays of any backend are converted; specs are drawn with structure-aware scale (`linops.initial_stds`), scalars
    become one.

    Args:
        operator: Any operator.
        dtype: The dtype of the leaves; None keeps theirs.
        key: A key of `jax.random` for specs; may be traced. None if the operator has arrays.
        zero_init: Whether specs are to make the operator zero, by the factor nearest the output alone.
        how: How the caller's layer takes a key, for errors: ``"key=jax.random.key(0)"``.
        scheme: How specs are drawn; see `LinearOperator.init`.

    Returns:
        The operator.

    Raises:
        TypeError: If some leaves are specs and some are arrays, if specs come without a key, or if JAX cannot hold the
            dtype.
        ValueError: If an operator that cannot be zero is to start at zero, or one with arrays is; or there is no such
            scheme.
    """
    require_scheme("Linear", scheme)
    leaves = list(operator.named_leaves())
    symbolic = [isinstance(leaf, Spec) for _, leaf in leaves]
    if zero_init and not any(symbolic):
        raise ValueError(
            f"Linear({operator._short()}, zero_init=True): its arrays are its initial values; give a symbolic operator"
        )
    if not any(symbolic):
        return operator.to(backend="jax", dtype=dtype)
    if not all(symbolic):
        raise TypeError(f"Linear({operator._short()}): some leaves are specs and some are arrays; call init first")
    if key is None:
        raise TypeError(
            f"Linear({operator._short()}): a symbolic operator needs {how}, or A.init(seed=0, backend='jax') first"
        )
    zeros = operator._output_leaves() if zero_init else ()
    if zero_init and not zeros:
        raise ValueError(f"Linear({operator._short()}, zero_init=True): no factor of it can be zero")
    if scheme != "mup":
        return started(_by_host(operator, dtype, key, scheme), dict.fromkeys(zeros, 0))
    stds = initial_stds(operator) | dict.fromkeys(zeros, 0.0)
    keys = jax.random.split(key, len(leaves))
    return operator.with_leaves(
        [drawn(keys[i], leaf.shape, stds[name], dtype or leaf.dtype) for i, (name, leaf) in enumerate(leaves)]
    )


def _by_host(operator: LinearOperator, dtype: Any, key: Any, scheme: str) -> Any:
    """Specs drawn by NumPy, whose decompositions and norms `init` has, from bits of a key; also where it is traced."""
    kinds = [jax.ShapeDtypeStruct(leaf.shape, held(dtype or leaf.dtype)) for _, leaf in operator.named_leaves()]

    def numbers(bits: Any) -> list[np.ndarray]:
        drawn = operator.init(np.random.default_rng(np.asarray(bits)), dtype=dtype, scheme=scheme)
        return [np.asarray(leaf, kind.dtype) for (_, leaf), kind in zip(drawn.named_leaves(), kinds)]

    bits = jax.random.bits(key, (4,))
    return operator.with_leaves(jax.pure_callback(numbers, kinds, bits, vmap_method="sequential"))


def drawn(key: Any, shape: tuple[int, ...], std: float | None, dtype: Any) -> jax.Array:
    """Normal random numbers of a standard deviation; ones where it is None.

    Args:
        key: A key of `jax.random`.
        shape: Of the array.
        std: The standard deviation.
        dtype: The dtype.

    Returns:
        The array.
    """
    dtype = held(dtype)
    return (
        jax.numpy.ones(shape, dtype)
        if std is None
        else jax.random.normal(key, shape, dtype) * jax.numpy.asarray(std, dtype)
    )


def gains(operator: LinearOperator) -> dict[str, jax.Array]:
    """The learned scalars γ of weight normalisation, initially one: one for each leaf that multiplies activations.

    Args:
        operator: An operator with arrays.

    Returns:
        A dict from the names of leaves to arrays of shape (1,), as in PyTorch.
    """
    stds = initial_stds(operator)
    return {name: jax.numpy.ones(1, leaf.dtype) for name, leaf in operator.named_leaves() if stds[name]}


def raised(operator: LinearOperator, factors: dict[str, Any]) -> dict[str, Any]:
    """Gains of weight normalisation with which an operator acts as it is, for what would be capped.

    Args:
        operator: An operator with arrays.
        factors: γ by the names of leaves.

    Returns:
        γ by the names of leaves.
    """
    stds: dict[str, Any] = dict(initial_stds(operator))
    found = dict(factors)
    for name, leaf in operator.named_leaves():
        if name in found:
            excess = jax.numpy.mean(jax.numpy.square(jax.numpy.abs(leaf))) / stds[name] ** 2
            found[name] = found[name] * jax.numpy.sqrt(jax.numpy.maximum(excess, 1)).astype(found[name].dtype)
    return found


def require_numbers(swaps: Sequence[Swap], weight: Callable[[Any], Any]) -> None:
    """Raise where a weight has no numbers to project.

    Args:
        swaps: The layers.
        weight: The matrix (m, n) of a layer.

    Raises:
        ValueError: If one is abstract or traced.
    """
    for swap in swaps:
        if not swap.zero_init and isinstance(weight(swap.found.layer), (jax.ShapeDtypeStruct, Tracer)):
            raise ValueError(
                f"layer {swap.found.name!r} is abstract or traced, so that its weight has no numbers to project; "
                "project outside of eval_shape, jit and vmap, or use weights='init'"
            )


def normalized(operator: LinearOperator, factors: dict[str, Any]) -> Any:
    """The operator with every factor G normalised: γ · G / max(1, rms(G) / s), with s its structure-aware initial std.

    Source: Qiu et al., "Compute Better Spent" (ICML 2024), for transformers.

    Args:
        operator: An operator with arrays.
        factors: γ by the names of leaves.

    Returns:
        The operator.
    """
    stds = initial_stds(operator)
    leaves = [
        _capped(leaf, factors[name], stds[name]) if name in factors else leaf for name, leaf in operator.named_leaves()
    ]
    return jax.tree.structure(operator).unflatten(leaves)


def _capped(leaf: Any, gain: Any, std: Any) -> Any:
    # max(1, rms / s) as the root of a maximum, for the root has no gradient at zero
    excess = jax.numpy.mean(jax.numpy.square(jax.numpy.abs(leaf))) / std**2
    return leaf * (gain / jax.numpy.sqrt(jax.numpy.where(excess >= 1, excess, 1)))


def is_zero(array: Any) -> bool:
    """Whether an array is all zero, which cannot be seen of an abstract one or one that JAX traces.

    Args:
        array: An array, a tracer, or a `jax.ShapeDtypeStruct`.

    Returns:
        True or False.
    """
    return not isinstance(array, (jax.ShapeDtypeStruct, Tracer)) and not bool(jax.numpy.any(array))


def entry_scale(old: Any, operator: LinearOperator) -> float | None:
    """The root mean square of an operator's entries, by 64 random vectors, over that of the matrix it replaces.

    Args:
        old: The matrix, or its transpose.
        operator: The operator.

    Returns:
        The ratio; None where numbers cannot be seen, or one of the two is zero.
    """
    arrays = [old, *(leaf for _, leaf in operator.named_leaves())]
    if any(isinstance(array, (jax.ShapeDtypeStruct, Tracer)) for array in arrays):
        return None
    wide = jax.numpy.promote_types(old.dtype, "float32")
    return output_scale(old, operator.to(dtype=wide)._linear, operator.shape[1])


def output_scale(weight: Any, function: Callable[[Any], Any], into: int) -> float | None:
    """The root mean square of outputs for normal inputs over what it is of the dense layer before.

    Args:
        weight: The dense matrix, or its transpose.
        function: Of rows, in float32 at least.
        into: How many numbers they have.

    Returns:
        The ratio; None where numbers cannot be seen, or one of the two is zero.
    """
    if isinstance(weight, (jax.ShapeDtypeStruct, Tracer)) or not weight.size:
        return None
    wide = jax.numpy.promote_types(weight.dtype, "float32")
    before = float(jax.numpy.linalg.norm(jax.numpy.ravel(weight).astype(wide))) / weight.size**0.5
    x = jax.numpy.asarray(np.random.default_rng(0).standard_normal((64, into)), wide)
    y = function(x).astype(wide)
    norm = jax.numpy.linalg.norm(y) / jax.numpy.linalg.norm(x)
    return float(norm) / y.shape[1] ** 0.5 / before or None if before else None


def started(operator: LinearOperator, factors: Mapping[str, float]) -> Any:
    """An operator with leaves scaled, by which a model's own initial scale is kept.

    Args:
        operator: An operator with arrays, which may be abstract or traced.
        factors: Of leaves, by name.

    Returns:
        The operator.
    """
    return operator.with_leaves(
        [leaf * factors[name] if name in factors else leaf for name, leaf in operator.named_leaves()]
    )


def stds_of(weight: Any, usual: float) -> tuple[float, float] | None:
    """The root mean square of a weight, and the usual one; None of an abstract or traced one, or one of no entries.

    Args:
        weight: An array, a tracer, or a `jax.ShapeDtypeStruct`.
        usual: The standard deviation with which its framework starts it.

    Returns:
        Both.
    """
    if isinstance(weight, (jax.ShapeDtypeStruct, Tracer)) or not weight.size:
        return None
    wide = jax.numpy.promote_types(weight.dtype, "float32")
    return float(jax.numpy.linalg.norm(jax.numpy.ravel(weight).astype(wide))) / weight.size**0.5, usual


def shifted(bias: Any, shift: Any) -> Any:
    """A bias with an addition, summed in float64.

    Args:
        bias: An array.
        shift: An array of its size, of any framework.

    Returns:
        An array like the bias.
    """
    wide = np.asarray(bias, "complex128" if jax.numpy.iscomplexobj(bias) else "float64")
    return jax.numpy.asarray(wide + backends.to_numpy(shift).reshape(wide.shape), bias.dtype)


def held(dtype: Any) -> Any:
    """A dtype as JAX spells it.

    Args:
        dtype: A dtype of any framework, or its name.

    Returns:
        A NumPy dtype.

    Raises:
        TypeError: If JAX cannot hold it as it stands: 64 bits without x64.
    """
    wanted = numpy_dtype(dtype)
    if jax.dtypes.canonicalize_dtype(wanted) != wanted:
        raise TypeError(
            f"JAX cannot hold {wanted}: call jax.config.update('jax_enable_x64', True) first, or ask for another dtype="
        )
    return wanted


__all__ = [
    "drawn",
    "entry_scale",
    "gains",
    "held",
    "is_zero",
    "normalized",
    "one_copy",
    "output_scale",
    "parameters",
    "raised",
    "require_numbers",
    "shifted",
    "started",
    "stds_of",
]
