"""The balance loss of an Equinox model's mixtures, beside what a function of it returns.

A layer of Equinox returns its output and nothing else, often under `jax.vmap`, where it sees one row. So its scores go
through a primitive that does nothing, whose batching rule joins the rows; `with_balance_loss` traces a function, and
finds them in what was traced, of all rows together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Primitive
from jax.interpreters import ad, batching, mlir

from linops.nn.jax_nonlinear import balance_of
from linops.nn.nonlinear import Mixture

_scores_p = Primitive("linops_scores")
_scores_p.def_impl(lambda scores, mixture: scores)
_scores_p.def_abstract_eval(lambda scores, mixture: scores)
mlir.register_lowering(_scores_p, lambda context, scores, mixture: [scores])
batching.primitive_batchers[_scores_p] = lambda args, axes, mixture: (
    _scores_p.bind(jax.numpy.moveaxis(args[0], axes[0], 0), mixture=mixture),
    0,
)
ad.primitive_jvps[_scores_p] = lambda values, tangents, mixture: (
    _scores_p.bind(values[0], mixture=mixture),
    tangents[0],
)

#: calls whose inside is looked into; others that hold scores are an error
_CALLS = ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2")


def tagged(scores: Any, mixture: Mixture) -> Any:
    """The scores, which `with_balance_loss` finds."""
    return _scores_p.bind(scores, mixture=mixture) if mixture.balance else scores


def with_balance_loss(function: Callable[..., Any]) -> Callable[..., tuple[Any, jax.Array]]:
    """A function that returns beside its result the sum of the balance losses of the mixtures that it ran.

    It sees through `jax.vmap`, `jax.jit` and `jax.checkpoint` (which is then without effect), so that of a batch the
    loss is that of all rows. See `lo.nn.balance_loss` for the formula. A mixture that runs twice counts twice.

    Args:
        function: A function that calls models, such as ``jax.vmap(model)``.

    Returns:
        A function of the same arguments: (result, loss). The loss is zero where no mixture ran.

    Raises:
        ValueError: When called, if a mixture runs inside `jax.lax.scan`, another loop or a branch.

    Example:
        >>> import jax, linops as lo
        >>> model = lo.nn.equinox.BTTMixture(64, 16, experts=4, key=jax.random.key(0))
        >>> y, balance = lo.nn.equinox.with_balance_loss(jax.vmap(model))(jax.numpy.ones((8, 16)))
        >>> y.shape, balance.shape, float(balance) > 0.0099  # it is least, 0.01, where all experts are used alike
        ((8, 64), (), True)
    """

    def run(*args: Any, **kwargs: Any) -> tuple[Any, jax.Array]:
        seen: dict[str, Any] = {}

        def flat() -> list[Any]:
            arrays, seen["others"] = eqx.partition(function(*args, **kwargs), eqx.is_array)
            leaves, seen["tree"] = jax.tree.flatten(arrays)
            return leaves

        traced = jax.make_jaxpr(flat)()
        found: list[Any] = []
        leaves = _evaluated(traced.jaxpr, traced.consts, [], found)
        result = eqx.combine(jax.tree.unflatten(seen["tree"], leaves), seen["others"])
        return result, sum(found, jax.numpy.zeros(()))

    return run


def _evaluated(jaxpr: Any, consts: Any, args: Any, found: list[Any]) -> list[Any]:
    """The results of what was traced; `found` takes the balance losses on the way."""
    values: dict[Any, Any] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args)))

    def of(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else values[variable]

    for equation in jaxpr.eqns:
        given = [of(one) for one in equation.invars]
        inner = [one for one in _inner(equation.params) if _has_scores(one)]
        if equation.primitive is _scores_p:
            found.append(balance_of(equation.params["mixture"], given[0]))
            results = given
        elif inner and equation.primitive.name in _CALLS:
            own = inner[0]
            results = (
                _evaluated(own.jaxpr, own.consts, given, found)
                if isinstance(own, ClosedJaxpr)
                else _evaluated(own, (), given, found)
            )
        elif inner:
            raise ValueError(
                f"with_balance_loss: a mixture runs inside {equation.primitive.name}, of which no loss comes out; run "
                "its layers one by one, or make mixtures with balance=0"
            )
        else:
            bound = equation.primitive.get_bind_params(equation.params)
            functions, options = bound if isinstance(bound, tuple) else ((), bound)  # newer JAX has options alone
            results = equation.primitive.bind(*functions, *given, **options)
            results = results if equation.primitive.multiple_results else [results]
        values.update(zip(equation.outvars, results))
    return [of(one) for one in jaxpr.outvars]


def _inner(params: Any) -> Iterator[Any]:
    for value in params.values():
        for one in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(one, (Jaxpr, ClosedJaxpr)):
                yield one


def _has_scores(jaxpr: Any) -> bool:
    own = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    return any(one.primitive is _scores_p or any(map(_has_scores, _inner(one.params))) for one in own.eqns)
