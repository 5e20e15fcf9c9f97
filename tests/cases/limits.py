"""Which backends and dtypes a case has, where it has not all."""

BACKENDS = ("numpy", "torch", "jax")
DTYPES = ("float32", "float64", "complex128")


def only(*names, because):
    """Decorator: a case of only some backends or dtypes, named, for a reason; `conftest.py` leaves out the other tests.

    ``@only("torch", "jax", because="…")`` keeps every dtype, ``@only("float64", because="…")`` every backend.
    """
    assert because
    assert set(names) <= {*BACKENDS, *DTYPES}

    def mark(case):
        case.because = because
        case.names = {name for kind in (BACKENDS, DTYPES) for name in (set(kind) & set(names) or kind)}
        return case

    return mark


def names(case):
    """The backends and dtypes that a case has."""
    return getattr(case, "names", {*BACKENDS, *DTYPES})
