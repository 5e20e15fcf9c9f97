"""``python -m benchmarks``: by typer, or where that is not installed, with plain text."""

import sys
from importlib.util import find_spec

if find_spec("typer"):
    from benchmarks.commands import app

    app()
else:
    from benchmarks.bare import main

    main(sys.argv[1:])
