"""``python -m benchmarks.cuda``: as ``python -m benchmarks cuda``."""

import sys

from benchmarks.bare import main

main(["cuda", *sys.argv[1:]])
