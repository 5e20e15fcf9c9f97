"""What a run of the conformance suite found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One check.

    Attributes:
        check: Its name.
        outcome: ``"passed"``, ``"failed"``, ``"not applicable"`` or ``"skipped"``.
        reason: Why it failed, does not apply or was skipped.
    """

    check: str
    outcome: str
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """Which checks an operator passed, and why others did not apply. It prints as a table.

    Attributes:
        operator: The operator in a few words.
        backend: Where it was checked.
        dtype: The dtype of the operands.
        rows: One row a check.
    """

    operator: str
    backend: str
    dtype: str
    rows: tuple[Row, ...]

    def names(self, outcome: str) -> tuple[str, ...]:
        """The checks of an outcome.

        Args:
            outcome: ``"passed"``, ``"failed"``, ``"not applicable"`` or ``"skipped"``.

        Returns:
            Their names.
        """
        return tuple(row.check for row in self.rows if row.outcome == outcome)

    def __str__(self) -> str:
        check = max((len(row.check) for row in self.rows), default=0)
        outcome = max((len(row.outcome) for row in self.rows), default=0)
        lines = [f"{row.check:<{check}}  {row.outcome:<{outcome}}  {row.reason}".rstrip() for row in self.rows]
        return "\n".join([f"{self.operator} on {self.backend}, operands of {self.dtype}", *lines])


class ConformanceError(AssertionError):
    """An operator breaks a promise.

    Attributes:
        report: All that was found.

    Args:
        report: The report, with at least one failed row.
    """

    def __init__(self, report: Report) -> None:
        failed = [row for row in report.rows if row.outcome == "failed"]
        lines = [f"{report.operator} on {report.backend}: check {row.check!r} failed: {row.reason}" for row in failed]
        super().__init__("\n".join(lines))
        self.report = report

    def __reduce__(self) -> tuple[type[ConformanceError], tuple[Report]]:
        return type(self), (self.report,)
