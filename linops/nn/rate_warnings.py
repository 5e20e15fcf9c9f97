"""What is warned of where rates are made: unknown arrays, patterns that match nothing, decay that depth breaks."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from linops.nn.patterns import warn_of_astray
from linops.nn.rates import Entry
from linops.nn.stepping import Stepped


def known_or_warned(where: str, entries: Iterable[Entry], stacklevel: int = 2) -> list[Entry]:
    """The entries; a warning, once for all of them, lists those of which it is unknown whether they are matrices.

    Args:
        where: The public function whose caller is warned.
        entries: The parameters.
        stacklevel: Of the warning, as the caller would give it.

    Returns:
        All of them.
    """
    entries = list(entries)
    found = [entry for entry in entries if not entry.is_known]
    if found:
        listed = ", ".join(f"{entry.name} {entry.size}" for entry in found[:8]) + (
            f" and {len(found) - 8} more" if len(found) > 8 else ""
        )
        warnings.warn(
            f"{where}: unknown whether these are matrices: {listed}. They are treated as vectors: the plain rate, no "
            f"decay, no Muon. Say what they are by matrices={{{found[0].name!r}: 'out in'}} (the names of the axes; "
            "see linops.nn.matrices), or None for no matrix",
            stacklevel=stacklevel + 1,
        )
    return entries


def warn_of_unmet(
    where: str,
    entries: Iterable[Entry],
    matrices: Any = None,
    *,
    stacklevel: int = 2,
    what: str = "the model's",
    **rest: Any,
) -> None:
    """Warn of patterns that match no layer, or no array: they change nothing.

    Args:
        where: The public function that was given them.
        entries: The parameters that patterns are for.
        matrices: Patterns over the names of arrays.
        stacklevel: Of the warning, as the caller would give it.
        what: Whose parameters they are.
        **rest: Arguments that have patterns over layers, by their names; what else they may be is passed over.
    """
    entries = list(entries)
    layers = dict.fromkeys(entry.path for entry in entries)
    told: dict[str, Any] = {"what": what, "stacklevel": stacklevel + 1}
    warn_of_astray(where, layers, "met no layer", **told, **{**rest, "base": _patterns(rest.get("base"))})
    warn_of_astray(where, [entry.name for entry in entries], "met no array", **told, matrices=matrices)


def warn_of_coupled(
    where: str, entries: Sequence[Entry], said: Iterable[Stepped], depth: Any, *, stacklevel: int = 2
) -> None:
    """Warn if rates that multiply the decay break CompleteP's rule, by which rate · decay stays as widths grow.

    Args:
        where: The public function that was given the depth.
        entries: The parameters, whose decay is coupled.
        said: How they are stepped.
        depth: How much deeper the model is; None says that it does not follow CompleteP.
        stacklevel: Of the warning, as the caller would give it.
    """
    found = [one.factor for entry, one in zip(entries, said) if entry.decays and one.rule == "adamw"]
    if depth is None or all(factor == 1 for factor in found):
        return
    low, high = f"{min(found):.3g}", f"{max(found):.3g}"
    warnings.warn(
        f"{where}(depth=…, decay='coupled'): CompleteP keeps the rate times the decay of a matrix as the model grows, "
        f"but here decay falls and rises with the factors on rates, {low}{f' to {high}' * (low != high)}. Take "
        "decay='product', by which structured layers decay as dense ones, or 'independent'",
        stacklevel=stacklevel + 1,
    )


def _patterns(base: Any) -> Any:
    """The patterns of a base, which may also be a model of names that are none."""
    return base if isinstance(base, Mapping) else None
