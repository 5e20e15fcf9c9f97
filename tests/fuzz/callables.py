"""Linear callables as people write them: that work in place, return what they were given, or the same buffer."""

BUFFERS = {}


def twice(x):
    x *= 2
    return x


def same(x):
    return x


def thrice(x):
    key = type(x), tuple(x.shape), x.dtype
    if key not in BUFFERS:
        BUFFERS[key] = x + x
    y = BUFFERS[key]
    y[:] = x
    y *= 3
    return y


def twice_functional(x):
    return 2 * x


def multiply(x, a):
    return a @ x


def multiply_adjoint(y, a):
    return a.mT.conj() @ y
