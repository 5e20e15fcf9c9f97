"""Griffe extension: docstrings say "Example:", which griffe's Google parser knows as "Examples:"."""

import griffe


class Examples(griffe.Extension):
    """Renames the section, so that examples are shown as code."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        """Rename it in one docstring."""
        if obj.docstring:
            lines = obj.docstring.value.split("\n")
            obj.docstring.value = "\n".join("Examples:" if line == "Example:" else line for line in lines)
