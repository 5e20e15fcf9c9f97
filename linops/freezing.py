"""`freeze`: an operator for many products with the same arrays, what can be multiplied beforehand being multiplied."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from linops import backends
from linops.dispatch import generic
from linops.operator import LinearOperator, as_batch, assume
from linops.operators.block import Block
from linops.operators.block_diag import BlockDiag
from linops.operators.choosing import has_sizes
from linops.operators.convolution import Convolution
from linops.operators.dense import Dense
from linops.operators.diagonal import Diagonal
from linops.operators.einsum import Einsum
from linops.operators.function import Function
from linops.operators.hessian import Hessian
from linops.operators.jacobian import Jacobian
from linops.operators.planned import network_of
from linops.operators.power import Power
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.operators.scipy_operator import ScipyOperator
from linops.operators.sum import Sum
from linops.plan.contraction import OPERAND, sizes_of
from linops.plan.network import Network, alphabet, joined
from linops.plan.plan import actions_along
from linops.plan.search import cheapest, path
from linops.rules.pairs import computable, merging_for
from linops.running import contract
from linops.specs import Spec


def freeze(A: LinearOperator, batch: int = 1) -> LinearOperator:
    """The operator for many products with `batch` vectors and the same arrays: its tensors are multiplied once, now.

    ``A @ x`` follows its leaves: what it gains from multiplying them with each other it pays for in every product.
    Where the leaves stay, as at inference, that is paid once. Which to multiply is found as for plans, by predicted
    time: all of them into one matrix, some, or none.

    Args:
        A: An operator; a symbolic one tells what would become of it.
        batch: The number of vectors of the products to come.

    Returns:
        The operator, with what is known of A. Products of A's arrays are arrays of its own, which do not follow changes
        of A's; arrays that nothing is multiplied with are A's. In torch they are differentiable; under `torch.no_grad`
        they keep no graph.

    Raises:
        TypeError: If A is no operator, or `batch` no integer.
        ValueError: If `batch` is negative.

    Example:
        >>> import linops as lo
        >>> P = lo.Permute.axes((8, 8), (1, 0))
        >>> B = lo.BlockDiag(lo.spec(8, 8, 8))
        >>> A = P @ B @ P @ B @ P @ B
        >>> lo.freeze(A, batch=1)
        Dense()  64×64  float32  4,096 parameters  symbolic
    """
    if isinstance(getattr(A, "operator", None), LinearOperator):
        raise TypeError(
            f"freeze: got a layer, {type(A).__name__}: lo.freeze(layer.operator, batch) freezes its operator, "
            "lo.nn.freeze_(model, batch) (in lo.nn.flax and lo.nn.equinox: freeze) every layer of a model"
        )
    if not isinstance(A, LinearOperator):
        raise TypeError(
            f"freeze: expected a linear operator, got {type(A).__name__}; lo.aslinearoperator wraps a matrix"
        )
    batch = as_batch(batch)
    with merging_for(A):
        found = frozen(A, batch)
    return found if found is A else assume(found, A.tags.yes & ~found.tags.yes)  # whatever a method forgot


@generic
def frozen(a, batch: int):
    """What an operator becomes for many products with `batch` vectors; itself, the very same, where nothing changes.

    `freeze` calls it on an operator, and it on the parts of one. A method for a class of yours returns the one that it
    got, or another operator of the same shape, dtype, backend and device; `freeze` keeps what is known of the whole.
    """


@frozen.dispatch
def _frozen_any(a: LinearOperator, batch: int):
    return _contracted(a, batch) or _with_frozen_parts(a, batch)


@frozen.dispatch
def _frozen_convolution(a: Convolution, batch: int):
    return assume(_written(a), a.tags.yes) if _pays_to_write(a, batch) else a


@frozen.dispatch
def _frozen_product(a: Product, batch: int):
    whole = _contracted(a, batch)
    if whole is not None:
        return whole
    factors = tuple([factor for part in a._parts[::-1] for factor in _spliced(a, part, frozen(part, batch))])
    if all(one is other for one, other in zip(a.factors, factors)):
        return a
    product = replace(a, factors=factors)
    return product if network_of(product) is None else frozen(product, batch)  # where a sum, say, has become a matrix


@frozen.dispatch
def _frozen_composite(a: Sum | Scaled | Power | Block, batch: int):
    return _contracted(a, batch) or _as_matrix(_with_frozen_parts(a, batch), batch)


def _contracted(A: LinearOperator, batch: int) -> LinearOperator | None:
    """The operator with its tensors multiplied with each other as is fastest; None if it is no network of tensors."""
    network = network_of(A) if has_sizes(A) else None
    if network is None:
        return None
    found = _multiplied_best(A, network, batch)
    return A if found is A else assume(found, A.tags.yes)


def _with_frozen_parts(A: LinearOperator, batch: int) -> LinearOperator:
    """The operator with the operators in its fields frozen."""
    values = {name: _within(getattr(A, name), batch) for name, kind in A._fields if kind == "tree"}
    return A if all(getattr(A, name) is value for name, value in values.items()) else replace(A, **values)


def _as_matrix(A: Any, batch: int) -> LinearOperator:
    """A composite as one matrix, where that is predicted to be faster; of a sum, the terms that can be written out."""
    if _has_callables(A):
        known = tuple([term for term in A.terms if not _has_callables(term)]) if isinstance(A, Sum) else ()
        one = _as_matrix(Sum(known), batch) if len(known) > 1 else None
        return (
            Sum((one, *[term for term in A.terms if _has_callables(term)]), assumed=A.assumed)
            if isinstance(one, Dense)
            else A
        )
    if A.dtype is None or not has_sizes(A) or not (A.is_symbolic or computable(A)):
        return A
    matrix, machine = Dense(Spec(A.shape, A.dtype)), A._target.machine
    if machine.total(matrix._lower(batch), A._itemsize) >= machine.total(A._lower(batch), A._itemsize):
        return A
    return assume(matrix if A.is_symbolic else Dense(A.to_dense()), A.tags.yes)


def _has_callables(A: LinearOperator) -> bool:
    """Whether the work of a product is not known, and entries are had by products alone."""
    return any(isinstance(node, (Function, Jacobian, Hessian, ScipyOperator)) for _, node in A._nodes())


def _pays_to_write(A: Convolution, batch: int) -> bool:
    """Whether the matrix of a convolution, written out once, is predicted to be faster than what runs."""
    if not A._may_be_written:
        return False
    machine, itemsize = A._target.machine, A._itemsize
    return machine.total(Dense(Spec(A.shape, A.dtype))._lower(batch), itemsize) < machine.total(
        A._lower(batch), itemsize
    )


def _written(A: Convolution) -> Dense:
    return Dense(Spec(A.shape, A.dtype) if A.is_symbolic else A.to_dense())


def _spliced(A: Product, part: LinearOperator, found: LinearOperator) -> tuple[LinearOperator, ...]:
    """The factors that a part of A becomes; a part that A made of its own factors becomes these again."""
    if isinstance(found, Product) and (found is not part or all(factor is not part for factor in A.factors)):
        return found.factors
    return (found,)


def _within(value: Any, batch: int) -> Any:
    """A field's value with its operators frozen; the same where nothing changes."""
    if isinstance(value, tuple):
        items = tuple([_within(item, batch) for item in value])
        return value if all(one is other for one, other in zip(value, items)) else items
    return frozen(value, batch) if isinstance(value, LinearOperator) else value


def _multiplied_best(A: LinearOperator, network: Network, batch: int) -> LinearOperator:
    """The operator of a network along the path of least predicted time; A where none is faster."""
    leaves, itemsize, machine = [leaf for _, leaf in A.named_leaves()], A._itemsize, A._target.machine
    if (
        len(network.tensors) < 2
        or any(leaf.dtype != A.dtype for leaf in leaves)
        or not (A.is_symbolic or computable(A))
    ):
        return A
    specs, count_ = [Spec(tuple(leaf.shape), leaf.dtype) for leaf in leaves], len(network.tensors)
    least, best = machine.total(A._lower(batch), itemsize), None
    for groups in {cheapest(network, batch, machine, itemsize, constants=True), ((0, count_ - 1),)}:
        if len(groups) < count_:
            along = path(network, groups, batch, machine, itemsize)
            seconds = machine.total(_multiplied(network, along, specs)._lower(batch), itemsize)
            if seconds < least:
                least, best = seconds, along
    return A if best is None else _multiplied(network, best, specs if A.is_symbolic else leaves)


def _multiplied(network: Network, along: Any, leaves: Any) -> LinearOperator:
    """The operator of a network whose tensors are multiplied along a path, up to the operand."""
    size = sizes_of(network.sizes)
    tensors = [leaves[place] for place in network.leaves]
    names, arrays, order = [], [], (network.out + network.into + "".join(network.tensors)).index
    for action in actions_along(network, along):
        tensor = tensors[action.tensor]
        if action.onto == OPERAND:
            names.append(action.blocks + "".join(sorted(action.rows, key=order)) + action.columns)
            turn = tuple([action.own.index(axis) for axis in names[-1]])
            arrays.append(_turned(tensor, tuple([size(axis) for axis in action.own]), turn))
        elif isinstance(tensor, Spec):
            tensors[action.onto] = Spec(tuple([size(axis) for axis in action.after]), tensor.dtype)
        else:
            tensors[action.onto] = contract(action.kernel(size), tensor, tensors[action.onto], 1)
    if len(names) == 1:
        return _single(names[0], arrays[0], network)
    return _einsum(names, arrays, network)


def _einsum(names: list[str], arrays: list[Any], network: Network) -> Einsum:
    """Tensors that act one after the other, axes that stand together being one."""
    size = sizes_of(network.sizes)
    *groups, into, out = joined([*names, network.into, network.out])
    arrays = [array.reshape(tuple([size(group) for group in axes])) for array, axes in zip(arrays, groups)]
    letters = dict(zip(dict.fromkeys([group for axes in (*groups, into, out) for group in axes]), alphabet()))
    *terms, operand, result = ("".join([letters[group] for group in axes]) for axes in (*groups, into, out))
    dims = tuple([size(group) for group in into])
    return Einsum(f"{','.join([*terms, operand])}->{result}", tensors=arrays, in_dims=dims, order=range(len(names)))


def _turned(tensor: Any, dims: tuple[int, ...], turn: tuple[int, ...]) -> Any:
    if isinstance(tensor, Spec):
        return Spec(tuple([dims[axis] for axis in turn]), tensor.dtype)
    return backends.copy(backends.permute(tensor.reshape(dims), turn))


def _single(names: str, array: Any, network: Network) -> LinearOperator:
    """One tensor as the plainest operator there is."""
    into, out, size = network.into, network.out, sizes_of(network.sizes)
    blocks = "".join([axis for axis in into if axis in out])

    def shaped(axes: str, *shape: int) -> Any:
        turn = tuple([names.index(axis) for axis in axes])
        turned = _turned(array, tuple([size(axis) for axis in names]), turn)
        return Spec(shape, turned.dtype) if isinstance(turned, Spec) else turned.reshape(shape)

    m, n, b = size(out), size(into), size(blocks)
    if set(names) == set(into) | set(out):
        if not blocks:
            return Dense(shaped(out + into, m, n))
        if into == out:
            return Diagonal(shaped(into, n))
        if into.startswith(blocks) and out.startswith(blocks):
            return BlockDiag(shaped(out + into[len(blocks) :], b, m // b, n // b))
    return _einsum([names], [array], network)
