"""Trained weights in structures: what `weights="project"` does with a layer, in every framework. Needs none.

A layer W x + b whose inputs have mean μ and covariance C becomes Ŵ x + b̂. The mean of ‖W x + b − Ŵ x − b̂‖² is least
for b̂ = b + (W − Ŵ) μ, and is ‖(W − Ŵ) C^½‖² then: the bias takes the mean, and Ŵ is the nearest to W in the norm of the
covariance. Without a bias it is the nearest in the norm of the second moment. Where Ŵ sees other inputs x̃ than W did,
because layers before it are compressed already, b̂ = b + W μ − Ŵ μ̃, and the mean of x x̃ᴴ enters too.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

from linops import backends
from linops.nn.obstacles import brief
from linops.nn.spreads import Spread, joint_spread
from linops.nn.swap import Swap
from linops.operator import LinearOperator
from linops.projection import project

#: iterations stop where a sweep lowers the error by less than this share, which training on would not notice
TOL = 1e-3
#: the share of their mean that is added to the variances of features: where inputs do not vary, as of dead units, the
#: nearest weight counts, and not any
DAMPING = 1e-6


@dataclass(frozen=True)
class Fit:
    """The structured weight of a layer, or of layers that share one.

    Attributes:
        operators: For each part of the output, with arrays.
        errors: Of each part, the weight's and the activations'; None where inputs are not known.
        shifts: What is to be added to the bias, by the name of the layer.
        converged: Whether all iterations stopped by their tolerance.
        few: The layers of fewer inputs than features.
    """

    operators: tuple[LinearOperator, ...]
    errors: tuple[tuple[float, float | None], ...]
    shifts: Mapping[str, Any] = field(default_factory=dict)
    converged: bool = True
    few: tuple[str, ...] = ()


def groups(swaps: Iterable[Swap]) -> list[list[Swap]]:
    """Swaps in groups that share a weight.

    Args:
        swaps: The swaps.

    Returns:
        The groups, in the order of their first.
    """
    found: dict[str, list[Swap]] = {}
    for swap in swaps:
        found.setdefault(swap.tied_to or swap.found.name, []).append(swap)
    return list(found.values())


def check_moments(moments: Any, swaps: Iterable[Swap], weights: str) -> Mapping[str, Any]:
    """What a caller of `replace_linear` gives as moments.

    Args:
        moments: A dict of names of layers to `lo.Moments` or second moments, or None.
        swaps: The layers to be replaced.
        weights: What becomes of weights.

    Returns:
        The dict.

    Raises:
        TypeError: If it is none.
        ValueError: If weights are not projected, or a name is that of no layer that is replaced.
    """
    if moments is None:
        return {}
    if weights != "project":
        raise ValueError(f"replace_linear(weights={weights!r}, moments=…): moments are for weights='project'")
    if not isinstance(moments, Mapping):
        raise TypeError(
            f"replace_linear(moments={type(moments).__name__}): expected a dict of the names of layers to lo.Moments, "
            "or to second moments (n, n)"
        )
    known = [swap.found.name for swap in swaps]
    if unknown := [name for name in moments if name not in known]:
        raise ValueError(f"replace_linear(moments=…): {brief(unknown)} is no layer that is replaced: {brief(known)}")
    return moments


def fit(group: Sequence[Swap], weight: Any, spreads: Mapping[str, Spread]) -> Fit:
    """The structured weight of layers that share one.

    In the norm of inputs it is computed where their moments are, in their precision, float64 for `Moments`: in single
    precision directions of less than some 1e-7 of the variance are lost, which together can be a percent of outputs.

    Args:
        group: The layers.
        weight: W, (m, n), a constant.
        spreads: How their inputs are spread, by name; those of layers that are not there are not known.

    Returns:
        The fit. Arrays are of the framework, dtype and device of W, shifts of those of the spreads.

    Raises:
        ValueError: If W or the spreads hold NaN or infinity, or shapes do not fit.
        TypeError: If they are not of one kind.
    """
    found = group[0].found
    joint = joint_spread([*spreads.values()])
    operators: list[LinearOperator] = []
    errors: list[tuple[float, float | None]] = []
    converged, start = True, 0
    options: dict[str, Any] = {"tol": TOL, "return_info": True}
    if joint is not None:
        options |= {"second_moment": damped(joint.second_moment, joint.second_moment)}
        options |= {} if joint.cross is None else {"cross": damped(joint.cross, joint.second_moment)}
    for target in group[0].operators:
        part = weight[start : start + target.shape[0]]
        start += target.shape[0]
        try:
            with warnings.catch_warnings():  # one warning for all layers says it
                warnings.filterwarnings("ignore", ".*had not converged", UserWarning)
                operator, info = project(
                    part if joint is None else as_like(part, joint.second_moment), target, **options
                )
        except (TypeError, ValueError) as error:
            m, n = found.shape
            raise type(error)(f"layer {found.name!r} ({m}×{n}): {error}") from error
        if joint is not None:
            backend = str(backends.backend_of(weight))
            place = {"device": weight.device} if backend == "torch" else {}
            operator = operator.to(backend=backend, dtype=weight.dtype, **place)
        error = None if joint is None else _error(part, operator, joint)
        operators.append(operator)
        errors.append((info.weight_error, error))
        converged = converged and info.converged
    few = tuple([name for name, one in spreads.items() if one.count is not None and one.count < found.shape[1]])
    shifts = {name: _shift(weight, operators, one.means) for name, one in spreads.items() if one.means is not None}
    return Fit(tuple(operators), tuple(errors), shifts, converged, few)


def errors_of(swaps: Iterable[Swap], fits: Mapping[str, Fit]) -> dict[str, Sequence[tuple[float, float | None]]]:
    """The errors of layers' parts by name.

    Args:
        swaps: The layers.
        fits: By the name of the first layer that has the weight.

    Returns:
        The errors.
    """
    found = [(swap.found.name, fits.get(swap.tied_to or swap.found.name)) for swap in swaps]
    return {name: one.errors for name, one in found if one is not None}


def warn_of(fits: Mapping[str, Fit], unseen: Sequence[str] = (), stacklevel: int = 3) -> None:
    """One warning for each kind of thing that is to be known of projections.

    Args:
        fits: By the names of layers.
        unseen: The layers that no input reached.
        stacklevel: As in `warnings.warn`, of the caller.
    """
    few = [name for one in fits.values() for name in one.few]
    for names, what in (
        (unseen, "no input of the calibration reached {}: projected by the weight alone"),
        (
            few,
            "fewer inputs than features at {}: what no input reaches is free, and the activation error of other "
            "inputs is not known. Take more samples",
        ),
        (
            [name for name, one in fits.items() if not one.converged],
            "the iteration had not converged at {}: a longer one, by lo.project, may come nearer",
        ),
    ):
        if names:
            text = what.format(f"layer{'s' * (len(names) > 1)} {brief(names)}")
            warnings.warn(f"replace_linear(weights='project'): {text}", stacklevel=stacklevel)


def lines(name: str, one: Fit, shape: tuple[int, int], seconds: float) -> Iterator[str]:
    """What is said of a layer that is done, in columns: a line for each part.

    Args:
        name: The layer.
        one: Its fit.
        shape: (out_features, in_features).
        seconds: How long it took.
    """
    for number, (weight, activation) in enumerate(one.errors):
        part = name if len(one.errors) == 1 else f"{name}.{number}"
        size = f"{one.operators[number].shape[0]}×{shape[1]}"
        inputs = "" if activation is None else f"  activation error {activation:.3f}"
        yield f"{part:24}  {size:>11}  weight error {weight:.3f}{inputs}  {seconds:.1f} s"


def damped(moment: Any, C: Any) -> Any:
    """A moment of inputs with a little of the same in all directions.

    Args:
        moment: (n, n).
        C: The inputs' second moment.

    Returns:
        The moment, damped.
    """
    n = C.shape[0]
    space: Any = backends.namespace(backends.backend_of(C))
    return moment + DAMPING * space.mean(space.real(space.linalg.diagonal(C))) * backends.eye(moment, n, moment.dtype)


def as_like(array: Any, like: Any) -> Any:
    """An array where another one is, in its precision, complex if one of the two is."""
    is_complex = backends.is_complex(array.dtype) and not backends.is_complex(like.dtype)
    backend = str(backends.backend_of(like))
    dtype = backends.canonical_dtype("complex128", backend) if is_complex else like.dtype
    return backends.asarray(array, backend, dtype, like.device if backend == "torch" else None)


def _dense(operators: Sequence[LinearOperator], like: Any) -> Any:
    space: Any = backends.namespace(backends.backend_of(like))
    return space.concat([as_like(operator.to_dense(), like) for operator in operators], axis=0)


def _shift(weight: Any, operators: Sequence[LinearOperator], means: tuple[Any, Any]) -> Any:
    """W μ − Ŵ μ̃."""
    W, approximation = as_like(weight, means[1]), _dense(operators, means[1])
    before, now = [as_like(mean, W) for mean in means]
    return W @ before - approximation @ now


def _error(weight: Any, operator: LinearOperator, spread: Spread) -> float:
    """The root mean square of W x − Ŵ x̃ over that of W x."""
    C, P, before = spread.second_moment, spread.cross, spread.before
    space: Any = backends.namespace(backends.backend_of(C))
    W, V = as_like(weight, C), _dense([operator], C)

    def inner(A: Any, M: Any, B: Any) -> float:
        """The real part of tr(A M Bᴴ)."""
        return float(space.real(space.sum((A @ as_like(M, A)) * backends.conj(B))))

    if P is None:
        whole, left = inner(W, C, W), inner(W - V, C, W - V)
    else:
        whole = inner(W, before, W)
        left = whole - 2 * inner(W, P, V) + inner(V, C, V)
    return sqrt(max(left, 0.0) / whole) if whole > 0 else float(left > 0)
