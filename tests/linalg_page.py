"""The tables of `docs/linalg.md`, made of the rules in the code: python tests/linalg_page.py --write

Without --write it says whether the page is fresh. `tests/test_linalg_page.py` holds each rule against dense NumPy.
"""

import re
from inspect import isclass
from pathlib import Path

from made_page import write_or_check

import linops as lo
from linops.linalg.function import FUNCTIONS
from linops.operator import LinearOperator

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "linalg.md"
#: the functions that come first; others follow as they are declared
ORDER = ("solve", "lstsq", "pinv", "slogdet", "trace", "diagonal", "eigh", "eigvalsh", "eig", "eigvals", "svd", "norm")
BEGIN, END = "<!-- tables: python tests/linalg_page.py --write -->\n", "<!-- end of the tables -->"


def functions():
    """{function: the names under which users call it}, of those that they call."""
    found = {}
    for name, function in FUNCTIONS.items():
        if name in lo.linalg.__all__:
            found.setdefault(function, []).append(name)
    return dict(sorted(found.items(), key=lambda item: ORDER.index(item[1][0]) if item[1][0] in ORDER else len(ORDER)))


def rules(function):
    """A function's rules that are linops' own, those of a class together; the general ones last."""
    kinds = [kind for kind in function.rules if kind.__module__.startswith("linops.")]
    kinds.sort(key=lambda kind: (kind is LinearOperator, kind.__name__))
    return [rule for kind in kinds for rule in function.rules[kind]]


def structures():
    """The public classes of operators for which a function has a rule of their own."""
    classes = [getattr(lo.operators, name) for name in sorted(lo.operators.__all__)]
    classes = [each for each in classes if isclass(each)]
    return [each for each in classes if any(own(function, each) for function in functions())]


def own(function, kind):
    """The rules of a class and its bases, without those for any operator."""
    return [
        rule for base in kind.__mro__[: kind.__mro__.index(LinearOperator)] for rule in function.rules.get(base, ())
    ]


def name_of(kind):
    """What a table calls a class: the public classes that it stands for."""
    if kind is LinearOperator:
        return "any"
    if hasattr(lo.operators, kind.__name__) or not kind.__subclasses__():
        return f"`{kind.__name__}`"
    return ", ".join(f"`{name}`" for name in sorted(each.__name__ for each in kind.__subclasses__()))


def mark(function, kind):
    """✓ where a rule holds for all operators of a class, (✓) where one holds for some, — where there is none."""
    found = own(function, kind)
    return "✓" if any(rule.when is None for rule in found) else "(✓)" if found else "—"


def row(rule):
    """A rule in a table."""
    cells = ", ".join(filter(None, (name_of(rule.kind), rule.of))), rule.says, rule.cost or "—"
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def tables():
    """The tables."""
    columns = functions()
    lines = ["### Which structure has rules for what", ""]
    lines += [
        "✓: a rule for the structure. (✓): a rule for some operators of the structure. —: the rules for any operator,"
    ]
    lines += ["some of which are for diagonal, triangular, orthogonal, Hermitian or positive definite ones.", ""]
    lines += ['<div class="coverage" markdown>', ""]
    lines.append(f"| operator | {' | '.join(names[0] for names in columns.values())} |")
    lines.append("|---|" + ":-:|" * len(columns))
    for kind in structures():
        lines.append(f"| `{kind.__name__}` | {' | '.join(mark(function, kind) for function in columns)} |")
    lines += ["", "</div>", ""]
    alike = {}
    for function, names in columns.items():
        alike.setdefault(tuple(map(row, rules(function))), []).extend(names)
    for rows, names in alike.items():
        lines += [f"### {', '.join(names)}", "", "| structure | rule | cost |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def page():
    """The page with its tables as they are to be."""
    text = PAGE.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"{PAGE.relative_to(ROOT)} has no place for the tables: {BEGIN.strip()} … {END}")
    return pattern.sub(lambda _: f"{BEGIN}\n{tables()}\n{END}", text)


if __name__ == "__main__":
    write_or_check(PAGE, page(), "python tests/linalg_page.py")
