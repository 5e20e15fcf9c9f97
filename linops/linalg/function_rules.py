"""Functions of operators, structure by structure. Rules take an operator and a `Scalar`."""

from __future__ import annotations

from typing import Any

import numpy as np

from linops import backends
from linops.backends import factorizations as lapack
from linops.linalg.chebyshev import HermitianFunction
from linops.linalg.exponential import Exponential
from linops.linalg.function import Function
from linops.linalg.inputs import fits, matrix_of, singular
from linops.linalg.scalars import EXP, Scalar, known, no_real, recomposed, space_of, values
from linops.linalg.spectra import eigh_, is_hermitian, scalar_of, spectrum_of, split_shift
from linops.linalg.traces import diagonal_
from linops.operator import LinearOperator
from linops.operators.block_diag import BlockDiag
from linops.operators.circulant import Circulant
from linops.operators.dense import Dense
from linops.operators.diagonal import Diagonal
from linops.operators.direct_sum import DirectSum
from linops.operators.identity import Identity
from linops.operators.kronecker import Kronecker
from linops.operators.kronecker_sum import KroneckerSum
from linops.operators.scaled import Scaled
from linops.operators.sum import Sum
from linops.operators.zero import Zero
from linops.plan.step import Step
from linops.tags import Tag

expm_, logm_, sqrtm_, power_, funm_ = map(Function, ("expm", "logm", "sqrtm", "matrix_power", "funm"))
#: of n up to this a matrix that is not there yet is written out for a function that also has products alone
SMALL = 1024


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


def _multiplied(a: Any) -> LinearOperator | None:
    """A multiple of parts as the multiples of these; None of others."""
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
    if isinstance(base, Circulant):
        return Circulant(a._scale(base.c), base.rows, base.columns, base.transposed)
    return None


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


def _dense_steps(a: LinearOperator) -> Any:
    n = a.shape[0]
    return (Step("matrix function", f"({n}, {n})", macs=15 * n**3, inputs=n * n, outputs=n * n),)


def _block_steps(a: Any) -> Any:
    count, n, _ = a.blocks.shape
    return (Step("batched matrix function", f"({count}, {n}, {n})", macs=15 * count * n**3, inputs=count * n * n),)


def of_matrix(f: Scalar, a: LinearOperator, matrix: Any) -> Any:
    """The function of matrices that were written out.

    Args:
        f: The function.
        a: Whose they are.
        matrix: A stack of matrices.

    Returns:
        A stack.

    Raises:
        SingularError: If one is singular, and the function has no value.
        ValueError: If the function of a real matrix is not real, or is not found.
    """
    assert f.matrix is not None
    if f.pole and lapack.is_known(matrix) and lapack.has_zero(lapack.slogdet(matrix)[0]):
        raise singular(a)
    found = f.matrix(matrix)
    if _has_nan(found) and not _has_nan(matrix):
        if f is EXP:
            return found  # it is too large
        if lapack.has_zero(lapack.slogdet(matrix)[0]):
            raise singular(a)
        if not a._is_complex:
            raise no_real(f, a)
        found = _by_eigenvectors(f, a, matrix)  # iterations do not reach what is on the branch cut
    return found


def _has_nan(x: Any) -> bool:
    return lapack.is_known(x) and bool(space_of(x).isnan(x).any())


def _by_eigenvectors(f: Scalar, a: LinearOperator, matrix: Any) -> Any:
    """V f(w) V⁻¹, unless that loses half the digits."""
    found, vectors = lapack.eig(matrix)
    image = values(f, a, found.reshape(-1)).reshape(found.shape)
    size = lapack.svdvals(lapack.stop_gradient(vectors))
    space = space_of(vectors)
    wrong = ~(size[..., -1] > space.finfo(matrix.dtype).eps ** 0.5 * size[..., 0])
    if lapack.is_known(wrong) and bool(wrong.any()):
        raise ValueError(
            f"linalg.{f.name}({a._short()}): its eigenvectors are nearly dependent, which loses more than half the "
            "digits; lo.linalg.expm, logm, sqrtm and matrix_power take such matrices without negative eigenvalues, "
            "funm any that is known to be Hermitian"
        )
    result = (vectors * image[..., None, :]) @ lapack.inverse(vectors)
    result = space.where(wrong[..., None, None], space.nan, result)
    return _real_of_real(f, a, image.reshape(-1), result)


def _common(function: Function) -> None:
    """The rules that hold for every function."""

    @function.rule("f(1) I", cost="1")
    def _identity(a: Identity, f: Scalar):
        return _of_one(f, a, 1)

    @function.rule("f(0) I", cost="1")
    def _zero(a: Zero, f: Scalar):
        return _of_one(f, a, 0)

    @function.rule("f(c) I", when=lambda a: isinstance(a.base, Identity), cost="1")
    def _multiple(a: Scaled, f: Scalar):
        return _of_one(f, a, scalar_of(a))

    @function.rule(
        "that of the multiples of its parts",
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
        return recomposed(f, a, values(f, a, scalar_of(a) * found), vectors)

    @function.rule("those of the blocks", when=_square_blocks, parts=_pieces(function, "blocks"), cost="Σ n_k³")
    def _direct_sum(a: DirectSum, f: Scalar):
        return DirectSum([function(block, f) for block in a.blocks])

    @function.rule(
        "f of its spectrum", when=lambda a: a.shape[0] == a._length and a.shape[0] == a.shape[1], cost="n log n"
    )
    def _circulant(a: Circulant, f: Scalar):
        spectrum = spectrum_of(Circulant(a.c)) if a.shape[0] else a.c
        spectrum = space_of(spectrum).real(spectrum) if is_hermitian(a) else spectrum
        found = values(f, a, spectrum)
        kernel = backends.fourier(found + 0j, "ifft", a.shape[0], -1, None)
        return known(f, a, Circulant(_real_of_real(f, a, found, kernel), transposed=a.transposed))


def _square_blocks(a: DirectSum) -> bool:
    return all(block.shape[0] == block.shape[1] for block in a.blocks)


def _real_of_real(f: Scalar, a: LinearOperator, found: Any, result: Any) -> Any:
    """A function of a real operator as real numbers, unless the function makes real ones complex."""
    if a._is_complex or (backends.is_complex(found.dtype) and _makes_complex(f, found)):
        return result
    space = space_of(result)
    away, size = space.abs(lapack.stop_gradient(space.imag(result))), space.abs(lapack.stop_gradient(result))
    wrong = space.amax(away) > space.finfo(result.dtype).eps ** 0.5 * space.amax(size)
    if lapack.is_known(wrong) and bool(wrong):
        raise no_real(f, a)
    return space.where(wrong, space.nan, space.real(result))


def _makes_complex(f: Scalar, like: Any) -> bool:
    """Whether the values of real numbers are complex."""
    return f.matrix is None and backends.is_complex(f.numbers(space_of(like).real(like[:1])).dtype)


for _function in (expm_, logm_, sqrtm_, power_, funm_):
    _common(_function)


# ---------------------------------------------------------------- rules of one function


@expm_.rule("the Kronecker product of the factors'", parts=_pieces(expm_, "factors"), cost="Σ n_k³")
def _expm_kronecker_sum(a: KroneckerSum, f: Scalar):
    return Kronecker(*[expm_(factor, f) for factor in a.factors])


def _unshifted(a: Any) -> Any:
    found = split_shift(a)
    return [] if found is None else [(expm_, found[1])]


@expm_.rule("of c I + X: e^c times that of X", when=split_shift, parts=_unshifted, cost="that of X")
def _expm_shifted(a: Sum, f: Scalar):
    shifts, rest = split_shift(a)  # type: ignore[misc]
    return known(f, a, _of_one(f, a, sum(scalar_of(shift) for shift in shifts)) @ expm_(rest, f))


def _semidefinite(a: Any) -> bool:
    return all(Tag.POSITIVE_SEMIDEFINITE in factor.tags.yes for factor in a.factors)


def _definite(a: Any) -> bool:
    return all(Tag.POSITIVE_DEFINITE in factor.tags.yes for factor in a.factors)


def _register_kronecker(function: Function) -> None:
    @function.rule(
        "the Kronecker product of the factors'", when=_semidefinite, parts=_pieces(function, "factors"), cost="Σ n_k³"
    )
    def _kronecker(a: Kronecker, f: Scalar):
        return known(f, a, Kronecker(*[function(factor, f) for factor in a.factors]))


_register_kronecker(sqrtm_)
_register_kronecker(power_)


@logm_.rule("the Kronecker sum of the factors'", when=_definite, parts=_pieces(logm_, "factors"), cost="Σ n_k³")
def _logm_kronecker(a: Kronecker, f: Scalar):
    return known(f, a, KroneckerSum(*[logm_(factor, f) for factor in a.factors]))


# ---------------------------------------------------------------- any operator


def _any(function: Function) -> None:
    """The rules that hold for every operator, for one function."""

    @function.rule(
        "f of its diagonal", when=lambda a: Tag.DIAGONAL in a.tags.yes, parts=lambda a: [(diagonal_, a)], cost="n"
    )
    def _diagonal(a: LinearOperator, f: Scalar):
        return known(f, a, Diagonal(values(f, a, diagonal_(a))))

    @function.rule(
        "V f(w) Vᴴ of eigenvectors",
        when=lambda a: by_eigenvectors(a) and (function not in _MATRIX_FREE or widest(eigh_, a) <= SMALL),
        parts=lambda a: [(eigh_, a)],
        cost="that of eigh",
    )
    def _hermitian(a: LinearOperator, f: Scalar):
        found, vectors = eigh_(a)
        return recomposed(f, a, values(f, a, found), vectors)


_MATRIX_FREE = (expm_, funm_)


def _batched(function: Function) -> None:
    @function.rule(
        "those of the blocks, batched",
        when=lambda a: a.blocks.shape[1] == a.blocks.shape[2] and not is_hermitian(a),
        steps=_block_steps,
        cost="b n³",
    )
    def _blocks(a: BlockDiag, f: Scalar):
        return BlockDiag(of_matrix(f, a, a.blocks))


def _written(function: Function) -> None:
    @function.rule("dense, of the matrix written out", steps=_dense_steps, cost="n³")
    def _dense(a: LinearOperator, f: Scalar):
        found = of_matrix(f, a, matrix_of(a))
        space = space_of(found)
        if Tag.LOWER_TRIANGULAR in a.tags.yes:
            found = space.tril(found)
        elif Tag.UPPER_TRIANGULAR in a.tags.yes:
            found = space.triu(found)
        return known(f, a, Dense(found), real=f is EXP)


for _function in (expm_, logm_, sqrtm_, power_, funm_):
    _any(_function)
for _function in (expm_, logm_, sqrtm_, power_):
    _batched(_function)


def _large(a: LinearOperator) -> bool:
    return not fits(a) or (a.shape[0] > SMALL and type(a) is not Dense)


@expm_.rule("products alone, by Taylor polynomials", when=_large, cost="9 ‖A‖ products a product")
def _expm_large(a: LinearOperator, f: Scalar):
    return Exponential(a)


@funm_.rule(
    "products alone, by a Chebyshev series", when=lambda a: is_hermitian(a) and _large(a), cost="products a product"
)
def _funm_large(a: LinearOperator, f: Scalar):
    return HermitianFunction(a, f.numbers)


for _function in (expm_, logm_, sqrtm_, power_):
    _written(_function)


@funm_.rule("V f(w) V⁻¹ of eigenvectors, of the matrix written out", steps=_dense_steps, cost="n³")
def _funm_eig(a: LinearOperator, f: Scalar):
    return Dense(_by_eigenvectors(f, a, matrix_of(a))) if a.shape[0] else a


@funm_.rule(
    "V f(w) V⁻¹ of eigenvectors, batched",
    when=lambda a: a.blocks.shape[1] == a.blocks.shape[2] and not is_hermitian(a),
    steps=_block_steps,
    cost="b n³",
)
def _funm_blocks(a: BlockDiag, f: Scalar):
    return BlockDiag(_by_eigenvectors(f, a, a.blocks)) if a.shape[0] else a
