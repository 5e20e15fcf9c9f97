"""What a case says of its operator besides the matrix: decorators, from which the tests over operators follow."""

SMALLEST = ((0, 3), (3, 0), (0, 0), (1, 1))


def thorough(case):
    """Every check runs over this case in every dtype, also those that compile: one case an operator at least.

    Where no case of a class says so, its first one is taken.
    """
    case.thorough = True
    return case


def small(*makers):
    """Decorator: makers of the smallest operators of the class: 1×1, and 0×n, n×0, 0×0 where they exist."""

    def mark(case):
        case.small = makers
        return case

    return mark


def refuses(make, error, *fragments):
    """Decorator: a constructor's bad input, the class of error that it raises, and what the message has in it."""

    def mark(case):
        case.refused = [*getattr(case, "refused", []), (make, error, list(fragments))]
        return case

    return mark


def of(kind):
    """Decorator: the class of a case that only a framework can build, so that choosing tests need not import one."""

    def mark(case):
        case.kind = kind.__name__
        return case

    return mark
