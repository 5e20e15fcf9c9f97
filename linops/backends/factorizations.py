"""What the array API's `linalg` extension and LAPACK have, as primitives with one method a backend.

Matrices are (n, n), right-hand sides (n, k); those marked so take stacks (…, n, n) too. Nothing here looks at numbers:
a singular matrix gives infinities or NaN, and `has_zero` and `all_finite` let the caller say so.
"""

from __future__ import annotations

from linops.dispatch import generic


@generic
def lu_factor(a):
    """(L and U in one array, pivots), of partial pivoting, as LAPACK's getrf."""


@generic
def lu_solve(lu, pivots, b, transposed: bool):
    """A⁻¹ b, or A⁻ᵀ b, by what `lu_factor` gave."""


@generic
def lu_sign(pivots):
    """The sign of the permutation of the pivots, as a real number."""


@generic
def lu_order(pivots):
    """The order of rows that the pivots make of 0 … n - 1: A[order] = L U."""


@generic
def lu_inverse(lu, pivots):
    """A⁻¹ by what `lu_factor` gave."""


@generic
def cholesky(a):
    """The lower L of A = L Lᴴ, of the lower triangle; NaN, or zeros on the diagonal, where A is not definite."""


@generic
def cholesky_solve(lower, b):
    """A⁻¹ b of A = L Lᴴ."""


@generic
def cholesky_inverse(lower):
    """A⁻¹ of A = L Lᴴ."""


@generic
def solve(a, b):
    """A⁻¹ b, stacks too."""


@generic
def inverse(a):
    """A⁻¹, stacks too; NaN or infinities where it is singular."""


@generic
def slogdet(a):
    """(sign, log |det|), stacks too."""


@generic
def log_product(x):
    """(sign, log |Π x|) of the product of a vector of numbers; (0, −inf) where one is zero."""


@generic
def eigh(a):
    """(ascending eigenvalues, eigenvectors in columns) of a Hermitian matrix, of its lower triangle; stacks too."""


@generic
def dots(x, y):
    """The inner products Σ x̄ᵢ yᵢ along the last axis of two stacks of vectors of one dtype."""


@generic
def column_dots(x, y):
    """The inner products Σ x̄ᵢ yᵢ of the columns of two (n, k) of one dtype: (k,)."""


@generic
def leading_eigenvectors(a, count: int):
    """Those of the largest eigenvalues of a Hermitian matrix, ascending, of its lower triangle; stacks of constants."""


@generic
def eigvalsh(a):
    """The eigenvalues of a Hermitian matrix in ascending order; stacks too."""


@generic
def eig(a):
    """(eigenvalues, eigenvectors in columns), complex; stacks too."""


@generic
def eigvals(a):
    """Eigenvalues, complex; stacks too."""


@generic
def svd(a):
    """Thin (U, s, Vᴴ); stacks too."""


@generic
def svdvals(a):
    """Singular values in descending order; stacks too."""


@generic
def qr(a):
    """Thin (Q, R)."""


@generic
def tridiagonal_solve(b, lower, diag, upper):
    """A⁻¹ b of a tridiagonal A, with pivoting; without gradients."""


@generic
def tridiagonal_elimination(diag, lower, upper):
    """LAPACK's gttrf of three rows or more, of NumPy's numbers, singular or not: four diagonals, and the swaps."""


@generic
def tridiagonal_factor(diag, lower, upper):
    """What elimination makes of a tridiagonal A, of NumPy's numbers; None where it is singular, or tiny."""


@generic
def tridiagonal_slogdet(diag, lower, upper):
    """(sign, log |det|) of a tridiagonal A of one dtype, with pivoting."""


@generic
def tridiagonal_pivots(diag, squares):
    """The pivots δ_0 = d_0, δ_i = d_i − q_(i−1) / δ_(i−1) of a Hermitian tridiagonal A without pivoting; real, n > 0.

    ``squares`` are the q_i = |A_(i+1, i)|². A is positive definite where all are above zero; others may be NaN.
    """


@generic
def tridiagonal_substitute(b, factors, transposed: bool):
    """A⁻¹ b, or A⁻ᵀ b, by what `tridiagonal_factor` gave, of NumPy's numbers."""


@generic
def eigh_tridiagonal(diag, beside):
    """`eigh` of a real symmetric tridiagonal matrix."""


@generic
def implicit_solve(b, operator, solve):
    """(A⁻¹ b, what else) by a black box, differentiable by the products of A: forward and back, again and again.

    ``solve(A, b)`` of an operator and right-hand sides (n, k), without gradients, gives x and a tuple of arrays. The
    derivative of x with respect to A's leaves and b is that of the equation A x = b, not of how it was solved: with λ =
    A⁻ᴴ x̄, b̄ = λ, and the leaves get the gradient of the product A x with the cotangent −λ. Where solving takes more
    than A, ``solve`` has attributes: ``H`` and ``T`` solve with Aᴴ and Aᵀ, ``again`` for the derivatives of x.
    One that is ``recipe(*given)``, of a hashable recipe and trees of arrays, says these two, and is compiled once.
    """


@generic
def has_zero(x):
    """Whether a number is zero; False where they cannot be looked at."""


@generic
def is_known(x):
    """Whether there are numbers to look at: nothing is being traced or transformed."""


@generic
def is_constant(x):
    """Whether an array may be kept for later products: no trace, graph or transformation holds it."""


@generic
def stop_gradient(x):
    """The array as a constant, to whom it concerns."""


@generic
def on_numpy(b, function, arrays):
    """``function(b, *arrays)`` of NumPy arrays, with a result like b, as an array of b's framework; no gradients."""


@generic
def found_on_numpy(x, like, function, derivative):
    """``function(x)`` of NumPy's numbers, an array like another, whose derivative along t is ``derivative(x, t)``.

    That is linear in t, and of the framework, so that it has derivatives itself.
    """


@generic
def iterate(like, state: tuple, keeps_on, step):
    """The last of the states that ``step`` makes of one another, while ``keeps_on(state)``, a single boolean, holds.

    States are tuples of arrays and integers, which become arrays where the loop is compiled; ``like`` is an array of
    the backend. NumPy does not warn of infinities and NaN meanwhile.
    """


@generic
def apart(like, function, arguments: tuple):
    """``function(*arguments)``, outside of what torch compiles: what iterates, and looks at numbers meanwhile."""


@generic
def put(x, axis: int, index, value):
    """X with an index, or a slice, of an axis replaced: written to where the framework can; x is no longer of use."""


@generic
def tell(x, function, rest):
    """Call a function with x and the rest once they have numbers, from compiled programs too; it returns nothing."""


@generic
def pinv(a, rtol: float):
    """The pseudoinverse without singular values below rtol times the largest; stacks too."""
