"""Two plums in one process: CoLA installs a fork as ``plum``, which lacks what linops needs of plum-dispatch."""

from __future__ import annotations

import sys
from pathlib import Path

#: the directory in CoLA's environment that has plum-dispatch
PLUM = "plum-dispatch"


def forget_fork() -> None:
    """Once the fork's user is imported: let ``import plum`` find plum-dispatch; earlier imports keep the fork."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "plum"]:
        del sys.modules[name]
    sys.path.insert(0, str(Path(sys.prefix) / PLUM))
