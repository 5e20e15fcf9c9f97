"""Random expressions of all operators against dense arithmetic: ``python -m tests.fuzz --seconds 60 --backend numpy``.

`draw.py` draws expressions of the kinds in `leaves.py` and `nodes.py`, each kind with the matrix it stands for in exact
arithmetic (`twin.py`); `check.py` compares every way to multiply with it, within a bound on rounding errors;
`shrink.py` makes failures small.
"""
