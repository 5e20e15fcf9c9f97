"""Dispatch: by classes alone, as plum would, which is asked where no method is the most specific."""

from itertools import product

import jax
import numpy as np
import plum
import pytest
import torch
from cases import CASES
from helpers import build

import linops as lo
from linops import backends, dispatch, operator, rules
from linops.backends import primitives
from linops.rules import functions

backends.load("torch")
backends.load("jax")

MODULES = (primitives, operator, functions, rules)
FUNCTIONS = {
    f"{module.__name__}.{name}": value.resolver
    for module in MODULES
    for name, value in vars(module).items()
    if isinstance(getattr(value, "resolver", None), dispatch.Resolver)
}


def test_the_functions_are_found():
    names = (
        "block_matmul",
        "gather",
        "compose",
        "add",
        "initialize",
        "meet",
        "merge",
        "commute",
        "join",
        "absorb",
        "reduce",
    )
    for name in names:
        assert any(found.endswith(f".{name}") for found in FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_are_faithful(name):
    methods = FUNCTIONS[name].plum.methods
    assert methods
    for method in methods:
        assert method.signature.is_faithful, method
        assert method.return_type in (object, None) or "Any" in str(method.return_type), (
            f"{method}: a return annotation"
        )


def test_the_dispatcher_is_our_own():
    assert dispatch.dispatcher() is not plum.dispatch
    assert primitives.block_matmul.resolver.plum in dispatch.dispatcher().functions.values()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_methods_are_those_that_plum_chooses(name):
    resolver = FUNCTIONS[name]
    dispatcher, reference = plum.Dispatcher(), None  # of the arguments that choose, alone
    for kinds, method in resolver.registered.items():

        def stand_in(*arguments, method=method):
            return method

        reference = dispatcher.multi(kinds)(stand_in)
    operators = {type(node): node for case in CASES for _, node in build(case)[0]._nodes()}
    arrays = [np.ones(1), torch.ones(1), jax.numpy.ones(1), torch.nn.Parameter(torch.ones(1)), lo.spec(1), "text", 1]
    chosen = 0
    for arguments in product((*operators.values(), *arrays), repeat=resolver.count):
        try:
            expected = reference.resolve_method(arguments)[0].__kwdefaults__["method"]
        except (plum.NotFoundLookupError, plum.AmbiguousLookupError) as error:
            with pytest.raises(type(error)):
                resolver.method(*arguments, *[None] * (resolver.function.__code__.co_argcount - resolver.count))
        else:
            assert resolver.method(*arguments) is expected
            chosen += 1
    assert chosen


def test_where_no_method_is_the_most_specific_plum_says_so():
    @dispatch.generic_pair
    def meets(a, b):
        """Which method two operators get."""

    @meets.dispatch
    def _left(a: lo.Dense, b: lo.LinearOperator):
        return "left"

    @meets.dispatch
    def _right(a: lo.LinearOperator, b: lo.Dense):
        return "right"

    dense, other = lo.Dense(lo.spec(2, 2)), lo.Identity(2)
    assert (meets(dense, other), meets(other, dense)) == ("left", "right")
    with pytest.raises(plum.AmbiguousLookupError):
        meets(dense, dense)
    with pytest.raises(plum.NotFoundLookupError):
        meets(other, other)

    @meets.dispatch
    def _both(a: lo.Dense, b: lo.Dense):
        return "both"

    assert meets(dense, dense) == "both"  # known to plum, too, which has the others already
    assert meets.resolver.plum(dense, dense) == "both"


def test_every_backend_has_every_primitive_of_products():
    products = (
        "block_matmul",
        "crossed_matmul",
        "shared_matmul",
        "sparse_matmul",
        "gather",
        "pad_rows",
        "spread",
        "scatter",
    )
    for name in (*products, "map_columns", "concatenate", "permute", "copy", "conj", "eye", "zeros", "jvp", "vjp"):
        firsts = [str(method.signature.types[0]) for method in getattr(primitives, name).resolver.plum.methods]
        for kind in ("numpy.ndarray", "torch.Tensor", "Tracer"):
            assert any(kind in first for first in firsts), f"{name} has no method for {kind}"


def test_a_union_names_all_its_classes():
    @dispatch.generic
    def kind_of(a):
        """Which method an operator gets."""

    @kind_of.dispatch
    def _any(a: lo.LinearOperator):
        return "any"

    @kind_of.dispatch
    def _some(a: lo.Sum | lo.Scaled):
        return "some"

    A = lo.Dense(lo.spec(3, 3))
    assert [kind_of(one) for one in (A, A + A, 2 * A, lo.Power(A, 2))] == ["any", "some", "some", "any"]


def test_a_method_added_later_is_used():
    class Marked(lo.Identity):
        pass

    assert isinstance(lo.Dense(lo.spec(3, 3)) @ Marked(3), lo.Dense)  # resolved once, as an identity

    @operator.compose.dispatch
    def _compose_marked(a: lo.Dense, b: Marked):
        return "met"

    try:
        assert lo.Dense(lo.spec(3, 3)) @ Marked(3) == "met"
    finally:
        del operator.compose.resolver.registered[lo.Dense, Marked]


@pytest.mark.parametrize("name", ["meet", "merge", "commute", "join", "absorb", "reduce"])
def test_a_rule_says_what_it_is_for(name):
    rule = getattr(rules, name)
    before = dict(rule.resolver.registered)

    def bare(a, b):
        return a

    def half(a, b: lo.Dense):
        return a

    def one(a: lo.Dense):
        return a

    def three(a: lo.Dense, b: lo.Dense, c):
        return a

    refused = {three: "three takes 3, expected"}
    if name == "reduce":
        refused[lambda a: a] = r"<lambda> does not say which a it is for; annotate .* def <lambda>\(a: lo\.Dense\)"
    else:
        refused[one] = "one takes 1, expected 2 arguments"
        refused[bare] = r"bare does not say which a( and b)? it is for; annotate with classes, as in def bare\(a: lo"
        refused[half] = "half does not say which a it is for"
    for method, words in refused.items():
        with pytest.raises(TypeError, match=rf"{name}\(a.*\): the method {words}"):
            rule.dispatch(method)
    assert rule.resolver.registered == before


@pytest.mark.parametrize("is_late", [False, True])
def test_classes_of_several_bases_take_the_most_specific_method_whenever_they_are_made(is_late):
    class A:
        pass

    class B(A):
        pass

    class M:
        pass

    def both():
        return type("E", (B, A), {}), type("C", (B, M), {})

    made = None if is_late else both()

    @dispatch.generic
    def what(one):
        """What it is."""

    @what.dispatch
    def _of_a(one: A):
        return "A"

    @what.dispatch
    def _of_b(one: B):
        return "B"

    @what.dispatch
    def _of_m(one: M):
        return "M"

    specific, ambiguous = made or both()
    assert what(specific()) == "B"
    with pytest.raises(plum.AmbiguousLookupError):
        what(ambiguous())
