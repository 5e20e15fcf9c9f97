"""Whether what a command needs fits this machine's memory, asked before anything is computed."""

from __future__ import annotations

import os


def available() -> int | None:
    """Bytes of memory that this machine has, or None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def require(needed: int, what: str, limit: int | None = None) -> None:
    """Refuses what cannot fit.

    Args:
        needed: Bytes, at least.
        what: What needs them.
        limit: Bytes that there are; by default this machine's.

    Raises:
        MemoryError: If more is needed than there is.

    Example:
        >>> require(2**40, "a matrix", limit=2**30)
        Traceback (most recent call last):
        MemoryError: a matrix: at least 1 TiB; this machine has 1 GiB
    """
    limit = available() if limit is None else limit
    if limit is not None and needed > limit:
        raise MemoryError(f"{what}: at least {amount(needed)}; this machine has {amount(limit)}")


def amount(size: int) -> str:
    """Bytes as people read them.

    Args:
        size: Bytes.

    Returns:
        The text.

    Example:
        >>> amount(3 * 2**30), amount(10**30)
        ('3 GiB', '8.27e+05 YiB')
    """
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
    power = min(max(size.bit_length() - 1, 0) // 10, len(units) - 1)
    return f"{size / 2 ** (10 * power):.3g} {units[power]}"
