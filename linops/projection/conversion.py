"""`convert`: an operator as a member of another structure, where it is one exactly."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.checks import generator
from linops.dispatch import generic
from linops.families.registry import FAMILIES
from linops.families.text import Variant, parse
from linops.operator import LinearOperator
from linops.operators.block_tensor_train import BlockTensorTrain
from linops.operators.circulant import Circulant
from linops.operators.dense import Dense
from linops.operators.diagonal import Diagonal
from linops.operators.kronecker import Kronecker
from linops.operators.low_rank import LowRank
from linops.operators.planned import network_of
from linops.operators.product import Product
from linops.operators.scaled import Scaled
from linops.operators.tensor_train import TensorTrain
from linops.operators.wrap import aslinearoperator
from linops.operators.zero import Zero
from linops.projection import transforms
from linops.projection.asking import target_of, with_options
from linops.projection.growth import Growth
from linops.projection.inside import core_of, framed
from linops.projection.moving import moved
from linops.projection.permutations import Assignment
from linops.projection.uneven import evened, uneven
from linops.projection.wired import wired
from linops.scaling import initial_stds
from linops.specs import Spec, dtype_name


def convert(A: Any, target: Any, *, seed: Any = 0, **family_options: Any) -> LinearOperator:
    """An operator as a member of another structure, exactly: the same matrix, up to the rounding of products of leaves.

    Nothing is fitted and no number is looked at: leaves are reshaped, repeated, padded and multiplied with each other,
    so it works on traced arrays, and gradients flow to the leaves of A. Converted are

    * contractions of leaves into each other (low rank, Kronecker products, tensor trains, block tensor trains, Monarch,
      BLAST and other einsums, butterflies, block-diagonal and diagonal matrices, products of these with permutations),
      where the ranks of the target are large enough: low rank r is a block tensor train of rank r, a butterfly is a
      product of fewer, larger factors, and any matrix is a block tensor train of two cores whose rank is the smaller
      side of its blocks;
    * matrices whose entries are parameters (diagonals, bands, patterns, triangles, Toeplitz, circulant) into those with
      room for them;
    * circulant matrices into ``F.H @ Diagonal @ F`` with `DFT`, and back;
    * everything into `Dense`.

    Members of families that are padded to their size are converted inside the pads, where these agree.

    A rank that is larger than needed is filled up so that training can use it: new components are zero in the leaf that
    acts last, and drawn with the structure-aware initial scale in the others, from which the zeros get a gradient.

    Args:
        A: An operator or matrix with arrays, of any framework.
        target: As in `linops.project`: a family or its name, with options or without (``"btt:rank=2"``), or an operator
            of specs of the same shape. Where A has dims (`BlockTensorTrain`, `TensorTrain`, `Kronecker`) a family that
            splits sizes takes those of A, if they are as many.
        seed: Of the numbers in components that a rank has over; None for zeros.
        **family_options: Options of a target that is a family, as ``rank=2``.

    Returns:
        The operator, of A's framework, dtype and device.

    Raises:
        ValueError: If A is not exactly, or not by its structure alone, a member: take `linops.project` for the nearest.
        TypeError: If A is symbolic, or the target is no structure of specs.

    Example:
        >>> import linops as lo
        >>> A = lo.low_rank(64, 64, rank=2).init(seed=0)
        >>> B = lo.convert(A, "btt:rank=2")
        >>> B.num_params, lo.allclose(A, B)
        (2048, True)
        >>> lo.convert(B, "btt:rank=3").ranks
        (3,)
    """
    operator = aslinearoperator(A)
    if operator.is_symbolic:
        raise TypeError(
            f"convert({operator._short()}, …): it is symbolic, without numbers. The operator comes first, then the "
            "structure: convert(A, target)"
        )
    m, n = operator.shape
    target = with_options(target, family_options, "convert")
    structure = target_of(_with_dims(target, operator, m, n), m, n, "convert")
    given = [name for name, leaf in structure.named_leaves() if not isinstance(leaf, Spec)]
    if given:
        raise TypeError(
            f"convert({operator._short()}, {structure._short()}): {given[0]} of the target is an array; expected "
            "specs, as in target.structure.operator"
        )
    random = None if seed is None else generator("convert", seed)
    found = converted(structure, operator, random)
    if isinstance(found, LinearOperator):
        return found
    raise ValueError(
        f"convert({operator._short()}, {structure._short()}): {found}; lo.project finds the nearest member, where "
        "there is no exact one"
    )


def _with_dims(target: Any, A: LinearOperator, m: int, n: int) -> Any:
    """A family that splits sizes with the dims of A, if A is split too."""
    if isinstance(target, str) and target.partition(":")[0] in FAMILIES:
        target = parse(target)
    name = next((name for name, family in FAMILIES.items() if family is target), None)
    variant = Variant(name, name) if name else target
    if not isinstance(variant, Variant) or variant.family not in _SPLITTING:
        return target
    core, (count, kind) = core_of(A), _SPLITTING[variant.family]
    if isinstance(core, BlockTensorTrain):
        out, into = core.out_dims, core.in_dims
    elif isinstance(core, (TensorTrain, Kronecker)):
        shapes = (
            [core.shape[1:3] for core in core.cores]
            if isinstance(core, TensorTrain)
            else [f.shape for f in core.factors]
        )
        out, into = zip(*shapes)
    else:
        return target
    options = dict(variant.options)
    if isinstance(core, kind):
        options.setdefault(count, len(out))
    if options.get(count, 2) != len(out) or {"in_dims", "out_dims"} & options.keys():
        return target
    return Variant(variant.text, variant.family, {**options, "out_dims": out, "in_dims": into})(m, n)


#: families that split sizes: the option that says into how many, and their class
_SPLITTING = {
    "btt": ("cores", BlockTensorTrain),
    "tensor_train": ("cores", TensorTrain),
    "kronecker": ("factors", Kronecker),
}


@generic
def converted(target, A, random):
    """A as a member of a structure, or a text that says why it is none.

    Args:
        target: An operator of specs.
        A: A concrete operator of the same shape.
        random: Where numbers in components that a rank has over come from, or None.
    """


@converted.dispatch
def _convert_any(target: LinearOperator, A: Any, random: Any):
    return by_leaves(target, A, random)


def by_leaves(target: LinearOperator, A: LinearOperator, random: Any) -> LinearOperator | str:
    """A as a member of a structure by its leaves: as it is, by contraction, by its entries, or as a dense matrix.

    Args:
        target: The structure.
        A: A concrete operator.
        random: See `converted`.

    Returns:
        The member, or why there is none.
    """
    leaves = [leaf for _, leaf in A.named_leaves()]
    if _is_member(target, A, leaves):
        return target.with_leaves(leaves)
    if 0 in A.shape or isinstance(A, Zero) or (isinstance(A, LowRank) and not A.U.shape[1]):
        return _nothing(target, leaves, random)
    source = _source(A)
    reason = wired(target, source, random)
    if isinstance(reason, LinearOperator):
        return reason
    found = moved(target, source) if network_of(target) is None or network_of(source) is None else None
    if found is not None:
        return found
    if target.num_params >= A.shape[0] * A.shape[1] and not isinstance(source, Dense):
        found = by_leaves(target, Dense(_matrix(A)), random)  # no larger than the result
        if isinstance(found, LinearOperator):
            return found
    return reason


@converted.dispatch
def _convert_dense(target: Dense, A: Any, random: Any):
    lacking = target.assumed & ~A.tags.yes
    if lacking:
        return f"the matrix is not known to be {lacking.name}"
    return Dense(_matrix(A), assumed=target.assumed)


@converted.dispatch
def _convert_permutation(target: Assignment, A: Any, random: Any):
    return A if transforms.permutes(A) else "it is not known to be a permutation"


@converted.dispatch
def _convert_scaled(target: Scaled, A: Any, random: Any):
    if target.gain is not None or not target.number:
        return "a gain that is to be found is no structure"
    found = converted(target.base, A / target.number, random)
    return Scaled(found, target.number) if isinstance(found, LinearOperator) else found


@converted.dispatch
def _convert_circulant(target: Circulant, A: Any, random: Any):
    found = transforms.circulant(target, A)
    return by_leaves(target, A, random) if found is None else found


@converted.dispatch
def _convert_product(target: Product, A: Any, random: Any):
    found = transforms.diagonalized(target, _source(A))
    return by_leaves(target, A, random) if found is None else found


def _nothing(target: LinearOperator, leaves: list[Any], random: Any) -> LinearOperator | str:
    """The member that is zero: as for training, in the leaves that act last alone."""
    zero = target._output_leaves()
    if not zero:
        return f"no leaves of {target._short()} are its zero"
    like, growth = leaves[0] if leaves else np.zeros(()), Growth(tuple(initial_stds(target).values()), random)
    found = []
    for number, (name, spec) in enumerate(target.named_leaves()):
        empty = backends.zeros(like, tuple(spec.shape), like.dtype)
        found.append(empty if name in zero else growth.filled(empty, np.ones((), bool), number))
    return target.with_leaves(found)


def _is_member(target: LinearOperator, A: LinearOperator, leaves: list[Any]) -> bool:
    """Whether A has the structure already, but for dtypes."""
    specs = [leaf for _, leaf in target.named_leaves()]
    if [tuple(leaf.shape) for leaf in leaves] != [tuple(leaf.shape) for leaf in specs]:
        return False
    alike = target.with_leaves([Spec(tuple(leaf.shape), dtype_name(leaf.dtype)) for leaf in leaves])
    return alike.structure == A.structure


def _matrix(A: LinearOperator) -> Any:
    dense = A.to_dense()
    return dense if A.backend is not None else backends.asarray(np.asarray(dense), "numpy")


def _source(A: LinearOperator) -> LinearOperator:
    """A with a factor multiplied into a leaf, uneven blocks in even form, and an array for a diagonal that has none."""
    if isinstance(A, Scaled):
        base = _source(A.base)
        leaves = [leaf for _, leaf in base.named_leaves()]
        if leaves and base.dtype == A.dtype:
            factor = A.number if A.gain is None else A.number * A.gain
            return base.with_leaves([leaves[0] * factor, *leaves[1:]])
    frame = framed(A)
    core = A if frame is None else frame.core
    chain = uneven(core)
    if chain is not None:
        even = evened(core, chain)
        return even if frame is None else frame.left @ even @ frame.right
    if isinstance(A, Diagonal) or A.is_diagonal is not True or any(A.named_leaves()):
        return A
    return Diagonal(transforms.diagonal_of(A))
