"""The conformance suite: everything linops promises of an operator, checked of one operator by one call.

    import linops as lo, pytest

    @pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
    def test_outer(backend):
        lo.testing.check_operator(Outer(u, v), u[:, None] * v, backend=backend)

`CHECKS` is the table of checks, in the order in which they run. linops' own tests run it over its table of cases, and
`docs/coverage.md` shows what that covers.
"""

from linops.testing import algebra as _algebra  # each module puts its checks in the table
from linops.testing import copies as _copies
from linops.testing import frameworks as _frameworks
from linops.testing import solving as _solving
from linops.testing.check import CHECKS, Check, Subject, check_operator
from linops.testing.knowledge import false_claims
from linops.testing.report import ConformanceError, Report, Row

__all__ = ["CHECKS", "Check", "ConformanceError", "Report", "Row", "Subject", "check_operator", "false_claims"]
