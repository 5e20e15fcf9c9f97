"""What is known of an operator: symmetric, positive definite, orthogonal and so on.

Knowledge is tri-state: a property is known to hold, known to fail, or unknown. `Knowledge` carries both sets; its
closure adds what follows (positive definite ⇒ Hermitian and invertible; diagonal ⇒ lower and upper triangular; …).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntFlag, auto
from functools import reduce
from operator import and_, or_


class Tag(IntFlag):
    """Properties of a linear operator that algorithms can use."""

    NONE = 0
    SYMMETRIC = auto()  #: A = Aᵀ
    HERMITIAN = auto()  #: A = Aᴴ
    POSITIVE_SEMIDEFINITE = auto()  #: Hermitian, xᴴ A x ≥ 0
    POSITIVE_DEFINITE = auto()  #: Hermitian, xᴴ A x > 0 for x ≠ 0
    ORTHOGONAL = auto()  #: square, Aᴴ A = I (unitary when complex)
    LOWER_TRIANGULAR = auto()  #: A[i, j] = 0 for j > i
    UPPER_TRIANGULAR = auto()  #: A[i, j] = 0 for j < i
    DIAGONAL = auto()  #: A[i, j] = 0 for j ≠ i
    INVERTIBLE = auto()  #: square, A⁻¹ exists


#: tags that only a square operator can have
SQUARE = (
    Tag.SYMMETRIC | Tag.HERMITIAN | Tag.POSITIVE_SEMIDEFINITE | Tag.POSITIVE_DEFINITE | Tag.ORTHOGONAL | Tag.INVERTIBLE
)
#: tags that the sum A + B has if both terms have them
ADDITIVE = (
    Tag.SYMMETRIC
    | Tag.HERMITIAN
    | Tag.POSITIVE_SEMIDEFINITE
    | Tag.LOWER_TRIANGULAR
    | Tag.UPPER_TRIANGULAR
    | Tag.DIAGONAL
)
#: tags that the product A B has if both factors have them
MULTIPLICATIVE = Tag.ORTHOGONAL | Tag.LOWER_TRIANGULAR | Tag.UPPER_TRIANGULAR | Tag.DIAGONAL | Tag.INVERTIBLE
#: tags that a block diagonal has if every block has them
BLOCKWISE = SQUARE | Tag.LOWER_TRIANGULAR | Tag.UPPER_TRIANGULAR | Tag.DIAGONAL
#: tags that the Kronecker product of square factors has if every factor has them
KRONECKER = BLOCKWISE
#: tags of Aᵀ that are those of A
_TRANSPOSE_KEEPS = SQUARE | Tag.DIAGONAL

_IMPLIES: tuple[tuple[Tag, Tag], ...] = (
    (Tag.POSITIVE_DEFINITE, Tag.POSITIVE_SEMIDEFINITE | Tag.INVERTIBLE),
    (Tag.POSITIVE_SEMIDEFINITE, Tag.HERMITIAN),
    (Tag.DIAGONAL, Tag.LOWER_TRIANGULAR | Tag.UPPER_TRIANGULAR),
    (Tag.LOWER_TRIANGULAR | Tag.UPPER_TRIANGULAR, Tag.DIAGONAL),
    (Tag.ORTHOGONAL, Tag.INVERTIBLE),
)


@dataclass(frozen=True)
class Knowledge:
    """The tags known to hold and the tags known to fail.

    Attributes:
        yes: Tags that hold.
        no: Tags that fail.
    """

    yes: Tag = Tag.NONE
    no: Tag = Tag.NONE

    def closure(self, square: bool, real: bool) -> Knowledge:
        """Add what follows from the tags, the shape and the field.

        Args:
            square: Whether the operator is square.
            real: Whether its dtype is real.

        Returns:
            The closed knowledge.

        Example:
            >>> Knowledge(Tag.POSITIVE_DEFINITE).closure(square=True, real=True).yes & Tag.SYMMETRIC
            <Tag.SYMMETRIC: 1>
        """
        yes, no = self.yes, self.no
        if not square:
            no |= SQUARE
        before = None
        while (yes, no) != before:
            before = (yes, no)
            for premise, conclusion in _IMPLIES:
                if premise in yes:
                    yes |= conclusion
                if conclusion & no and len(premise) == 1:
                    no |= premise
            if square and Tag.DIAGONAL in yes:
                yes |= Tag.SYMMETRIC
            if square and Tag.SYMMETRIC in no:
                no |= Tag.DIAGONAL
            if real:
                for one, other in ((Tag.SYMMETRIC, Tag.HERMITIAN), (Tag.HERMITIAN, Tag.SYMMETRIC)):
                    if one in yes:
                        yes |= other
                    if one in no:
                        no |= other
        return Knowledge(yes, no & ~yes)

    def __getitem__(self, tag: Tag) -> bool | None:
        """Whether a tag holds: True, False, or None if unknown."""
        return True if tag in self.yes else False if tag & self.no else None


def transposed(tags: Tag) -> Tag:
    """The tags of Aᵀ (and of Aᴴ), given those of A (a plain integer inside graphs of torch.compile)."""
    tags = Tag(tags)
    kept = tags & _TRANSPOSE_KEEPS
    if Tag.LOWER_TRIANGULAR in tags:
        kept |= Tag.UPPER_TRIANGULAR
    if Tag.UPPER_TRIANGULAR in tags:
        kept |= Tag.LOWER_TRIANGULAR
    return kept


def common(tags: Iterable[Tag]) -> Tag:
    """The tags that all have."""
    return reduce(and_, tags)


def either(tags: Iterable[Tag]) -> Tag:
    """The tags that any has."""
    return reduce(or_, tags, Tag.NONE)


def summed(tags: Iterable[Tag]) -> Tag:
    """The tags of a sum, given those of its terms."""
    terms = list(tags)
    kept = common(terms) & ADDITIVE
    if kept & Tag.POSITIVE_SEMIDEFINITE and any(Tag.POSITIVE_DEFINITE in each for each in terms):
        kept |= Tag.POSITIVE_DEFINITE
    return kept


class Properties:
    """The tags of an operator as properties: True, False, or None where nothing is known."""

    @property
    def tags(self) -> Knowledge:
        """All that is known of the operator, closed under implication."""
        raise NotImplementedError

    @property
    def is_symmetric(self) -> bool | None:
        """Whether A = Aᵀ; None if unknown."""
        return self.tags[Tag.SYMMETRIC]

    @property
    def is_hermitian(self) -> bool | None:
        """Whether A = Aᴴ; None if unknown."""
        return self.tags[Tag.HERMITIAN]

    @property
    def is_positive_semidefinite(self) -> bool | None:
        """Whether A is Hermitian with xᴴ A x ≥ 0; None if unknown."""
        return self.tags[Tag.POSITIVE_SEMIDEFINITE]

    @property
    def is_positive_definite(self) -> bool | None:
        """Whether A is Hermitian with xᴴ A x > 0 for x ≠ 0; None if unknown."""
        return self.tags[Tag.POSITIVE_DEFINITE]

    @property
    def is_orthogonal(self) -> bool | None:
        """Whether A is square with Aᴴ A = I (unitary when complex); None if unknown."""
        return self.tags[Tag.ORTHOGONAL]

    @property
    def is_diagonal(self) -> bool | None:
        """Whether all entries off the diagonal are zero; None if unknown."""
        return self.tags[Tag.DIAGONAL]

    @property
    def is_lower_triangular(self) -> bool | None:
        """Whether all entries above the diagonal are zero; None if unknown."""
        return self.tags[Tag.LOWER_TRIANGULAR]

    @property
    def is_upper_triangular(self) -> bool | None:
        """Whether all entries below the diagonal are zero; None if unknown."""
        return self.tags[Tag.UPPER_TRIANGULAR]

    @property
    def is_invertible(self) -> bool | None:
        """Whether A is square and has an inverse; None if unknown."""
        return self.tags[Tag.INVERTIBLE]
