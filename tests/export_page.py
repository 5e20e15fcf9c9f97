"""The table of `docs/export.md`, made of the layers and ways of exports.py: python tests/export_page.py --write

Without --write it says whether the table is fresh. A mark is a claim about a test of test_export.py, which is made of
the same lists: ✓ that the exported layer gives the layer's numbers at other batches, a number that it fails, and why.
"""

from pathlib import Path

from exports import ROWS, WAYS
from made_page import with_table, write_or_check

PAGE = Path(__file__).parents[1] / "docs" / "export.md"
BEGIN, END = "<!-- table: python tests/export_page.py --write -->", "<!-- end of the table -->"


def table():
    """The table in Markdown, and its reasons."""
    notes = {}
    header = ["layer", *(way.title for way in WAYS.values())]
    lines = [header, ["---", *[":-:"] * len(WAYS)]]
    for row in ROWS.values():
        reasons = [row.fails.get(way) or row.lacks.get(way) for way in WAYS]
        marks = [f"<sup>{notes.setdefault(why, len(notes) + 1)}</sup>" if why else "✓" for why in reasons]
        lines.append([row.title, *marks])
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return "\n".join([text, "", *(f"{number}. {why}." for why, number in notes.items())])


def page():
    """The page with its table as it is to be."""
    return with_table(PAGE.read_text(encoding="utf-8"), BEGIN, END, table())


if __name__ == "__main__":
    write_or_check(PAGE, page(), "python tests/export_page.py")
