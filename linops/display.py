"""An expression as a tree in HTML and for rich; the tree in text is its repr."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linops.expression import Expression

_STYLE = "margin:0;padding-left:1.2em;list-style:none;border-left:1px solid rgba(128,128,128,.4)"


def _children(expression: Expression) -> list[tuple[str, Any]]:
    """The operators below a node, with the names of their fields."""
    return [(name, child) for name, child in expression._children() if hasattr(child, "_words")]


def html(expression: Expression) -> str:
    """The tree as nested lists, for notebooks: a node a line, with shape, dtype, parameters and backend; branches fold.

    Args:
        expression: The operator.

    Returns:
        HTML; text of the user's is escaped.

    Example:
        >>> import linops as lo
        >>> print(html(lo.Identity(2)))
        <div class="linops" style="font-family:monospace"><span><b>Identity(2)</b> 2×2 no parameters</span></div>
    """
    parts: list[str] = []
    stack: list[tuple[str, Any]] = [("", expression)]
    while stack:  # a loop: expressions may be nested deeper than Python's stack
        name, node = stack.pop()
        if isinstance(node, str):
            parts.append(node)
            continue
        title, shape, rest = (escape(word) for word in node._words())
        label = f"<i>{escape(name)}</i> " if name else ""
        line = f"<span>{label}<b>{title}</b> {shape} {rest}</span>"
        children = _children(node)
        if not children:
            parts.append(line)
            continue
        parts.append(f'<details open=""><summary>{line}</summary><ul style="{_STYLE}">')
        items = [item for child in children for item in (("", "<li>"), child, ("", "</li>"))]
        stack += reversed([*items, ("", "</ul></details>")])
    return f'<div class="linops" style="font-family:monospace">{"".join(parts)}</div>'


def rich_tree(expression: Expression) -> Any:
    """The tree as a `rich.tree.Tree`.

    Args:
        expression: The operator.

    Returns:
        The tree.
    """
    from rich.text import Text
    from rich.tree import Tree

    def label(node: Expression) -> Text:
        title, shape, rest = node._words()
        return Text.assemble((title, "bold"), "  ", (shape, "cyan"), "  ", (rest, "dim"))

    root = Tree(label(expression))
    stack: list[tuple[Any, Any]] = [(root, expression)]
    while stack:
        tree, node = stack.pop()
        stack += [(tree.add(label(child)), child) for _, child in _children(node)]
    return root
