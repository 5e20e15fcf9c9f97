"""``python -m benchmarks``: by typer and rich, or where those are not installed, with plain text."""

import sys
from importlib.util import find_spec

if find_spec("typer") and find_spec("rich"):
    from benchmarks.commands import app

    app()
else:
    from benchmarks.bare import main

    main(sys.argv[1:])
