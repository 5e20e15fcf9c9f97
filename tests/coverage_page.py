"""`docs/coverage.md`, made of the tests that pytest collects: python tests/coverage_page.py --write

Without --write it says whether the page is fresh. A cell of the page is a claim about a collected test of
tests/test_conformance.py, which itself asserts that the check of the cell ran.
"""

import re
import subprocess
import sys
import textwrap
from collections import defaultdict
from inspect import isclass
from itertools import product
from pathlib import Path

from made_page import write_or_check

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "coverage.md"

#: short headings for the columns
HEADINGS = {
    "vectors_and_matrices": "A @ x",
    "batches": "batched",
    "left_products": "x @ A",
    "transposes": "T, H, conj",
    "adjoint": "dot-test",
    "linearity": "linear",
    "dtypes": "dtype kept",
    "counted_flops": "FLOPs",
    "copies": "pickle, copy",
    "identity": "hash, ==",
    "strides": "strided",
    "aliasing": "memory",
    "natural_way": "natural",
}
BACKENDS = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX"}


def operator_classes():
    """The public classes of operators, as the package has them."""
    import linops as lo

    return sorted(name for name in lo.operators.__all__ if isclass(getattr(lo.operators, name)))


def collected():
    """(case, backend, dtype) of every conformance test that pytest collects."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-m",
        "full or not full",
        "tests/test_conformance.py",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return re.findall(r"::test_conforms\[(\w+)-(numpy|torch|jax)-(\w+)\]", done.stdout)


def table(runs):
    """Of runs: {class: {case: shape}}, {(backend, class, check): {dtype: reasons not to run, {None} if one runs}}."""
    from cases import CASES
    from cases.limits import names
    from conformance import planned
    from helpers import DTYPES, build

    from linops.testing import CHECKS

    cases, cells = defaultdict(dict), defaultdict(lambda: defaultdict(set))
    for case, backend, dtype in runs:
        operator, plan = planned(case, backend, dtype)
        kind = type(operator).__name__
        cases[kind][case] = operator.shape
        for check, row in plan.items():
            cells[backend, kind, check][dtype].add(None if row is None else row.reason)
    for case, backend, dtype in product(CASES, BACKENDS, DTYPES):
        if not {backend, dtype} <= names(CASES[case]):
            for check in CHECKS:
                cells[backend, type(build(case, dtype)[0]).__name__, check][dtype].add(CASES[case].because)
    return cases, cells


def gaps(runs):
    """What no test runs and no reason excuses: lines of text."""
    from conformance import COSTLY
    from helpers import DTYPES

    from linops.testing import CHECKS

    cases, cells = table(runs)
    found = [f"{kind}: no case" for kind in operator_classes() if kind not in cases]
    for kind, backend, check, dtype in product(cases, BACKENDS, CHECKS, DTYPES):
        reasons = cells[backend, kind, check][dtype]
        if None not in reasons and (not reasons or reasons & set(COSTLY)):
            found.append(f"{kind}: {check} on {backend} in {dtype}: {'; '.join(sorted(reasons)) or 'no test'}")
    return found


def text_of(cell, notes):
    """A cell: a check mark, or the dtypes that run and the number of the reason why others do not."""
    ran = [dtype for dtype, reasons in cell.items() if None in reasons]
    if len(ran) == len(cell):
        return "✓"
    why = "; ".join(sorted({reason for dtype, reasons in cell.items() if dtype not in ran for reason in reasons}))
    number = notes.setdefault(why, len(notes) + 1)
    return f"{' '.join(ran)}<sup>{number}</sup>"


def filled(text, indent=""):
    """The text in lines of the page's width."""
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def sentence(reason):
    """A reason as a sentence; names such as torch.compile stay as they are."""
    first = reason.split()[0]
    return f"{reason if '.' in first else reason[0].upper() + reason[1:]}."


def page(runs):
    """The page."""
    from cases import CASES
    from helpers import DTYPES, TOLERANCE

    from linops.testing import CHECKS

    cases, cells = table(runs)
    limits = {getattr(case, "because", None) for case in CASES.values()}
    kinds = [kind for kind in operator_classes() if kind in cases]
    lines = [
        "---",
        "hide: [toc]",
        "---",
        "",
        "# Coverage",
        "",
        "<!-- Generated from the tests that pytest collects. Do not edit: python tests/coverage_page.py --write -->",
        "",
        filled(
            "This page shows what the tests run on each operator. A ✓ means that the [conformance suite](testing.md) "
            f"runs that check on cases of the operator in {', '.join(DTYPES[:-1])} and {DTYPES[-1]}, and that it "
            "passes; the tests assert that it ran. A number refers to the reason below the table why the check "
            "cannot run."
        ),
        "",
        filled(
            "Every check runs on every case in every dtype, except what has to be compiled first: that runs on at "
            "least one case for each operator. On JAX the other cases run their gradients in float64 and their "
            "products in complex128. Results are compared with matrices made from the definitions by loops, "
            f"`numpy.kron` and `einsum`. Errors may reach {TOLERANCE['float64']:g} of |A| |x| in double precision, and "
            f"{TOLERANCE['float32']:g} in single."
        ),
        "",
        filled(
            "`python tests/coverage_page.py --write` makes the page from the tests that pytest collects; a test fails "
            "when it is stale."
        ),
        "",
        f"**{len(runs):,}** runs of the suite over **{sum(map(len, cases.values()))}** cases "
        f"of **{len(kinds)}** operators.",
        "",
    ]
    for backend, title in BACKENDS.items():
        notes: dict[str, int] = {}
        rows, absent = [], {}
        for check in CHECKS:
            ours = [cells[backend, kind, check] for kind in kinds]
            reasons = {reason for cell in ours for each in cell.values() for reason in each}
            if None not in reasons:
                absent[check] = "; ".join(sorted(reasons - limits or reasons))
        checks = [check for check in CHECKS if check not in absent]
        for kind in kinds:
            texts = [text_of(cells[backend, kind, check], notes) for check in checks]
            rows.append(f"| `{kind}` | {' | '.join(texts)} |")
        headings = [HEADINGS.get(check, check) for check in checks]
        lines += [f"## {title}", "", '<div class="coverage" markdown>', "", f"| operator | {' | '.join(headings)} |"]
        lines += ["|---|" + ":-:|" * len(checks), *rows, "", "</div>", ""]
        lines += [filled(f"{number}. {sentence(why)}", "   ") for why, number in notes.items()] + [""] * bool(notes)
        by_reason = defaultdict(list)
        for check, why in absent.items():
            by_reason[why].append(HEADINGS.get(check, check))
        if absent:
            lines += ["These checks do not run on this backend:", ""]
            lines += [f"- {', '.join(names)}: {why}." for why, names in by_reason.items()] + [""]
    lines += ["## The checks", "", "| column | what it asserts |", "|---|---|"]
    for name, check in CHECKS.items():
        lines.append(f"| {HEADINGS.get(name, name)} | {' '.join((check.run.__doc__ or '').split())} |")
    lines += ["", "## The cases", "", "| operator | cases | shapes |", "|---|--:|---|"]
    for kind in kinds:
        shapes = sorted(set(cases[kind].values()))
        lines.append(f"| `{kind}` | {len(cases[kind])} | {', '.join(f'{m}×{n}' for m, n in shapes)} |")
    lines += [
        "",
        filled(
            "More tests are in `tests/`: layers (compilation, export, `functional_call`, state, second derivatives), "
            "random trees of all operators on all backends, 1×1 and empty operators, NaN and infinity, integers, wrong "
            "input, mistakes that other libraries made."
        ),
    ]
    return "\n".join(lines) + "\n"


def main():
    """Write the page, or say whether it is fresh."""
    sys.path.insert(0, str(Path(__file__).parent))
    import conftest  # noqa: F401  (JAX holds float64 in the tests)

    runs = collected()
    missing = gaps(runs)
    if missing:
        raise SystemExit("nothing covers:\n" + "\n".join(missing))
    write_or_check(PAGE, page(runs), "python tests/coverage_page.py")


if __name__ == "__main__":
    main()
