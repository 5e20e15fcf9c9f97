"""The size parameter of a family: how far it goes, and what it is where nothing is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Knob:
    """The option of a family by which its members are smaller or larger, such as a rank or a number of blocks.

    Attributes:
        name: The option's name.
        default: (m, n) → the usual value; None takes the default of the family's signature. It is lowered to where it
            fits and the member costs no more than dense.
        most: (m, n) → the largest value that is possible; None if none is too large.
        least: The smallest value.
        grows: Whether members cost more the larger the value is, as with ranks; otherwise they cost less, as with
            blocks.
        advice: What an error advises where a member costs more than dense.

    Example:
        >>> blocks = Knob("blocks", default=lambda m, n: 4, most=min, grows=False)
        >>> blocks.usual(64, 64), blocks.usual(64, 3)
        (4, 3)
        >>> list(blocks.ladder(64, 18))
        [1, 2, 3, 4, 6, 8, 12, 16, 18]
    """

    name: str
    default: Callable[[int, int], int] | None = None
    most: Callable[[int, int], int] | None = None
    least: int = 1
    grows: bool = True
    advice: str = ""

    def usual(self, m: int, n: int) -> int:
        """The usual value, at most the largest that is possible.

        Args:
            m: out_features.
            n: in_features.

        Returns:
            The value.
        """
        value = self.least if self.default is None else max(self.least, self.default(m, n))
        return value if self.most is None else min(value, self.most(m, n))

    def downward(self, m: int, n: int) -> Iterator[int]:
        """The values to take where nothing is said, the usual one first.

        Args:
            m: out_features.
            n: in_features.

        Yields:
            The usual value and those below.
        """
        usual = self.usual(m, n)
        yield usual
        yield from range(usual - 1, self.least - 1, -1)

    def ladder(self, m: int, n: int) -> Iterator[int]:
        """The values worth a look: powers of two, those times three, and the ends of the range.

        Args:
            m: out_features.
            n: in_features.

        Yields:
            The values in ascending order; without an end if none is too large.
        """
        most = None if self.most is None else self.most(m, n)
        low, high = 1, 2  # 1, 2, 3, 4, 6, 8, 12 …
        yield self.least
        while most is None or low < most:
            if low > self.least:
                yield low
            low, high = high, 3 if low == 1 else 2 * low
        if most > self.least:
            yield most

    def require(self, where: str, m: int, n: int, value: int) -> None:
        """Raise unless a value is possible.

        Args:
            where: The family and its sizes, for the error.
            m: out_features.
            n: in_features.
            value: The value.

        Raises:
            ValueError: If it is too small or too large; the message says the range.
        """
        if value < self.least:
            raise ValueError(f"{where}: {self.name} must be at least {self.least}, got {value}")
        if self.most is not None and value > (most := self.most(m, n)):
            given = f"{value} {self.name} do" if self.name.endswith("s") else f"{self.name} {value} does"
            raise ValueError(f"{where}: {given} not fit; expected {self.name} from {self.least} to {most}")

    def advice_at(self, m: int, n: int, value: int) -> str:
        """What to advise where a member costs more than dense, if a cheaper value is left.

        Args:
            m: out_features.
            n: in_features.
            value: The member's value.

        Returns:
            The advice, or nothing.
        """
        end = self.least if self.grows else self.most(m, n) if self.most else None
        return "" if value == end else self.advice
