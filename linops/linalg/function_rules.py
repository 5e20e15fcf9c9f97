"""Functions of operators, structure by structure. Rules take an operator and a `Scalar`."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.linalg.dense_functions import real_of_real
from linops.linalg.function import Function
from linops.linalg.inputs import fits, of_whole
from linops.linalg.parts import space_of
from linops.linalg.recomposition import recomposed
from linops.linalg.scalars import Scalar, known, values
from linops.linalg.spectra import eigh_, is_hermitian, scalar_of, spectrum_of, split_shift
from linops.operator import LinearOperator
from linops.operators.block_diag import BlockDiag
from linops.operators.circulant import Circulant
from linops.operators.dense import Dense
from linops.operators.direct_sum import DirectSum
from linops.operators.identity import Identity
from linops.operators.kronecker import Kronecker
from linops.operators.kronecker_sum import KroneckerSum
from linops.operators.scaled import Scaled
from linops.operators.sum import Sum
from linops.operators.zero import Zero
from linops.tags import Tag

expm_: Function = Function("expm")
logm_: Function = Function("logm")
sqrtm_: Function = Function("sqrtm")
power_: Function = Function("matrix_power")
funm_: Function = Function("funm")


def _of_one(f: Scalar, a: LinearOperator, number: Any) -> LinearOperator:
    """The function of a multiple of the identity."""
    n = a.shape[0]
    if not n:
        return a
    if backends.is_array(number):
        gain = values(f, a, number.reshape(1))
        return known(f, a, Scaled(Identity(n), gain=gain.reshape(())))
    found = values(f, a, np.asarray([number]) * 1.0)[0].item()
    return Identity(n) if found == 1 else known(f, a, found * Identity(n)) if found else Zero(n, n)


def _pieces(function: Function, name: str) -> Any:
    return lambda a: [(function, part) for part in getattr(a, name)]


def _multiplied(a: Any) -> LinearOperator:
    """A multiple of parts as the multiples of these."""
    base = a.base

    def times(part: Any) -> LinearOperator:
        return Scaled(part, a.number, a.gain, a.divisor)

    if isinstance(base, DirectSum):
        return DirectSum([times(block) for block in base.blocks])
    if isinstance(base, KroneckerSum):
        return KroneckerSum([times(factor) for factor in base.factors])
    if isinstance(base, Scaled):
        c = scalar_of(a) * scalar_of(base)
        return Scaled(base.base, gain=c.reshape(())) if backends.is_array(c) else Scaled(base.base, c)
    if isinstance(base, BlockDiag):
        return BlockDiag(a._scale(base.blocks))
    return Circulant(a._scale(base.c), base.rows, base.columns, base.transposed)


def _is_multiple_of_parts(a: Any) -> bool:
    return isinstance(a.base, (DirectSum, KroneckerSum, Scaled, BlockDiag, Circulant)) and not is_hermitian(a)


def widest(function: Function, a: LinearOperator) -> int:
    """The size of the largest matrix that a rule and those of its parts write out, which no array holds yet."""
    rule = function.find(a)
    parts = list(rule.parts(a))
    if parts:
        return max(widest(part, operator) for part, operator in parts)
    return a.shape[0] if rule.kind is LinearOperator and type(a) is not Dense else 0


def by_eigenvectors(a: LinearOperator) -> bool:
    """Whether an operator is Hermitian, and its eigenvectors may be found unasked."""
    return is_hermitian(a) and (fits(a) or widest(eigh_, a) ** 2 < a.shape[0] ** 2)


def _common(function: Function) -> None:
    """The rules that hold for every function."""

    @function.rule("f(1) I", cost="1")
    def _identity(a: Identity, f: Scalar):
        return _of_one(f, a, 1)

    @function.rule("f(0) I", cost="1")
    def _zero(a: Zero, f: Scalar):
        return _of_one(f, a, 0)

    @function.rule("f(c) I", of="c I", when=lambda a: isinstance(a.base, Identity), cost="1")
    def _multiple(a: Scaled, f: Scalar):
        return _of_one(f, a, scalar_of(a))

    @function.rule(
        "that of the multiples of its parts",
        of="c times blocks, circulants, Kronecker sums",
        when=_is_multiple_of_parts,
        parts=lambda a: [(function, _multiplied(a))],
        cost="that of the parts",
    )
    def _multiple_of_parts(a: Scaled, f: Scalar):
        return function(_multiplied(a), f)

    @function.rule(
        "of a multiple of a Hermitian base: f of the multiples of its eigenvalues",
        when=lambda a: not is_hermitian(a) and by_eigenvectors(a.base),
        parts=lambda a: [(eigh_, a.base)],
        cost="that of eigh of the base",
    )
    def _multiple_of_hermitian(a: Scaled, f: Scalar):
        found, vectors = eigh_(a.base)
        return recomposed(f, a, found, vectors, a.base, scalar_of(a))

    @function.rule(
        "those of the blocks", of="square blocks", when=_square_blocks, parts=_pieces(function, "blocks"), cost="Σ n_k³"
    )
    def _direct_sum(a: DirectSum, f: Scalar):
        return DirectSum(of_whole(a, [function(block, f) for block in a.blocks]))

    @function.rule(
        "f of its spectrum",
        of="square",
        when=lambda a: a.shape[0] == a._length and a.shape[0] == a.shape[1],
        cost="n log n",
    )
    def _circulant(a: Circulant, f: Scalar):
        spectrum = spectrum_of(Circulant(a.c)) if a.shape[0] else a.c
        spectrum = space_of(spectrum).real(spectrum) if is_hermitian(a) else spectrum
        found = values(f, a, spectrum)
        kernel = backends.fourier(found + 0j, "ifft", a.shape[0], -1, None)
        return known(f, a, Circulant(real_of_real(f, a, found, kernel), transposed=a.transposed))


def _square_blocks(a: DirectSum) -> bool:
    return all(block.shape[0] == block.shape[1] for block in a.blocks)


for _function in (expm_, logm_, sqrtm_, power_, funm_):
    _common(_function)


# ---------------------------------------------------------------- rules of one function


@expm_.rule("the Kronecker product of the factors'", parts=_pieces(expm_, "factors"), cost="Σ n_k³")
def _expm_kronecker_sum(a: KroneckerSum, f: Scalar):
    return Kronecker(*of_whole(a, [expm_(factor, f) for factor in a.factors]))


def _unshifted(a: Any) -> Any:
    found = split_shift(a)
    return [] if found is None else [(expm_, found[1])]


@expm_.rule(
    "of c I + X: e^c times that of X", when=lambda a: split_shift(a) is not None, parts=_unshifted, cost="that of X"
)
def _expm_shifted(a: Sum, f: Scalar):
    shifts, rest = split_shift(a)  # type: ignore[misc]
    return known(f, a, _of_one(f, a, sum(scalar_of(shift) for shift in shifts)) @ expm_(rest, f))


def _semidefinite(a: Any) -> bool:
    return all(Tag.POSITIVE_SEMIDEFINITE in factor.tags.yes for factor in a.factors)


def _definite(a: Any) -> bool:
    return all(Tag.POSITIVE_DEFINITE in factor.tags.yes for factor in a.factors)


def _register_kronecker(function: Function) -> None:
    @function.rule(
        "the Kronecker product of the factors'",
        of="positive semidefinite factors",
        when=_semidefinite,
        parts=_pieces(function, "factors"),
        cost="Σ n_k³",
    )
    def _kronecker(a: Kronecker, f: Scalar):
        return known(f, a, Kronecker(*of_whole(a, [function(factor, f) for factor in a.factors])))


_register_kronecker(sqrtm_)
_register_kronecker(power_)


@logm_.rule(
    "the Kronecker sum of the factors'",
    of="positive definite factors",
    when=_definite,
    parts=_pieces(logm_, "factors"),
    cost="Σ n_k³",
)
def _logm_kronecker(a: Kronecker, f: Scalar):
    return known(f, a, KroneckerSum(*[logm_(factor, f) for factor in a.factors]))
