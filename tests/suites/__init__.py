"""Other libraries' own tests, as they are installed, run against linops: ``python -m tests.suites [--all]``.

`plugin.py` is a pytest plugin that puts linops operators in the place of the library's own; `matmul.py` and
`interface.py` say how.
"""
