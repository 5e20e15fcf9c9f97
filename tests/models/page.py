"""The table of `docs/interop.md`, made of the models and checks of the trial: python tests/models/page.py --write

Without --write it says whether the table is fresh. A mark is a claim about a test of test_models.py, which is made of
the same lists.
"""

import sys
from pathlib import Path

from checks import CHECKS, swapped
from vision import make_importable
from zoo import ZOO

PAGE = Path(__file__).parents[2] / "docs" / "interop.md"
BEGIN, END = "<!-- table: python tests/models/page.py --write -->", "<!-- end of the table -->"
LIBRARIES = {"hf": "transformers", "timm": "timm", "torchvision": "torchvision", "torch": "PyTorch"}
HEADINGS = {
    "forward": "outputs",
    "training": "trains",
    "compile": "compiles",
    "generate": "generates",
    "state_dict": "state dict",
}


def row(name: str) -> list[str]:
    """A model's cells."""
    one = swapped(name)
    old, new = one.report.totals
    left = sorted({brief(reason) for reason in one.report.skipped.values()})
    left += [f"{kind.kind}: {kind.params / new:.0%}" for kind in one.report.left if "Expert" in kind.kind]
    cells = ["–" if check == "generate" and one.trial.generate is None else "✓" for check in HEADINGS]
    library = LIBRARIES[name.partition("_")[0]]
    return [
        f"{type(one.dense).__name__} ({library})",
        str(len(one.report)),
        f"{new / old:.0%}",
        *cells,
        "; ".join(left),
    ]


def brief(reason: str) -> str:
    """Why a layer was left, without the names of others."""
    return "tied head" if "shares its weight" in reason else reason.split(",")[0]


def table() -> str:
    """The table in Markdown."""
    assert set(CHECKS) == {*HEADINGS, "report"}
    header = ["model", "layers swapped", "parameters", *HEADINGS.values(), "left dense"]
    lines = [header, ["---"] * len(header), *map(row, ZOO)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def with_table(text: str) -> str:
    """The page with the table made anew."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    make_importable()
    text = PAGE.read_text(encoding="utf-8")
    fresh = with_table(text)
    if "--write" in sys.argv[1:]:
        PAGE.write_text(fresh, encoding="utf-8")
    elif fresh != text:
        raise SystemExit("docs/interop.md is stale: python tests/models/page.py --write")
