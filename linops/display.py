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
    return f'<div class="linops" style="font-family:monospace">{_node(expression, "")}</div>'


def _node(expression: Expression, name: str) -> str:
    title, shape, rest = (escape(word) for word in expression._words())
    label = f"<i>{escape(name)}</i> " if name else ""
    line = f"<span>{label}<b>{title}</b> {shape} {rest}</span>"
    children = _children(expression)
    if not children:
        return line
    items = "".join(f"<li>{_node(child, name)}</li>" for name, child in children)
    return f'<details open=""><summary>{line}</summary><ul style="{_STYLE}">{items}</ul></details>'


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

    def grow(tree: Any, node: Expression) -> Any:
        for _, child in _children(node):
            grow(tree.add(label(child)), child)
        return tree

    return grow(Tree(label(expression)), expression)
