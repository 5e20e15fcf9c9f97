"""Pages of the documentation of which a part is made by a command: write it, or say that it is stale."""

import sys


def with_table(text, begin, end, table):
    """A page with the table between two marks made anew."""
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n\n{table}\n\n{end}{rest.partition(end)[2]}"


def write_or_check(path, fresh, command):
    """Write a page where ``--write`` is asked for; else stop if it is not as it would be."""
    if "--write" in sys.argv[1:]:
        path.write_text(fresh, encoding="utf-8")
    elif not path.exists() or path.read_text(encoding="utf-8") != fresh:
        raise SystemExit(f"docs/{path.name} is stale: {command} --write")
