"""`Settings`: what methods and preconditioners have in common, which are values of named settings."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from linops.linalg.hints import SETTINGS


class Settings:
    """A frozen dataclass that says which settings it has, where it is given another."""

    def __new__(cls, *args: Any, **given: Any) -> Any:
        """Raises TypeError where a setting is given that there is not."""
        for name in given:
            known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
            if name not in known:
                hint = f"; it is called {SETTINGS[name]}" if name in SETTINGS else ""
                raise TypeError(f"{cls.__name__}: no setting {name!r}{hint}. It has {', '.join(known) or 'none'}")
        return object.__new__(cls)
