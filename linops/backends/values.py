"""Values of fields that hold no parameters: as what is compared and hashed, and as text.

Plain values are themselves in JSON, tuples are lists, and what JSON has not is an object of one name:
``{"int": "…"}`` beyond 64 bits, ``{"float": "nan"}``, ``{"complex": […, …]}``, ``{"range": [0, 8, 2]}``. Index arrays
are in base64, in the smallest integers that hold them.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

from linops.tags import Tag


class Frozen:
    """An index array as a hashable value: equal if the numbers are, whatever the dtype, as torch has int32 as well."""

    __slots__ = ("_hash", "array")

    def __init__(self, array: Any):
        self.array: Any = array
        self._hash: int | None = None

    def _numbers(self) -> np.ndarray:
        array = self.array
        return np.asarray(array.detach().cpu() if hasattr(array, "detach") else array)

    @property
    def _is_abstract(self) -> bool:
        """Whether the array has no numbers, as on torch's meta device: it then equals itself alone."""
        return bool(getattr(self.array, "is_meta", False))

    def __hash__(self) -> int:
        if self._hash is None:  # of some of the numbers: jax.jit asks at every call
            if self._is_abstract:
                self._hash = 0
            else:
                numbers = self._numbers().reshape(-1)
                some = numbers[:: max(1, len(numbers) // 64)].astype(np.int64)
                self._hash = hash((len(numbers), some.tobytes()))
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frozen):
            return False
        if self.array is other.array:
            return True
        return not (self._is_abstract or other._is_abstract) and np.array_equal(self._numbers(), other._numbers())


class Exact:
    """A Python number as a hashable value: equal if type and digits are; so 2 and 2.0, 0.0 and -0.0 are not."""

    __slots__ = ("number",)

    def __init__(self, number: Any):
        self.number: Any = number

    def __hash__(self) -> int:
        return hash(repr(self.number))  # of NaN the hash is that of the object

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Exact):
            return False
        a, b = self.number, other.number
        return type(a) is type(b) and repr(a) == repr(b)


#: digits of an integer in a text
DIGITS = 400
#: what stands for the fields of a kind where values are compared
VALUES: dict[str, Any] = {"index": Frozen, "number": Exact}


def as_value(kind: str, field: Any) -> Any:
    """What stands for a field where it is compared and hashed.

    Args:
        kind: The field's kind, which is not ``"tree"``.
        field: What the field holds.

    Returns:
        Index arrays as `Frozen`, numbers as `Exact`, all else as it is.
    """
    value = VALUES.get(kind)
    return field if value is None or field is None else value(field)


def own(value: Any) -> Any:
    """What a field holds, of what stands for it.

    Args:
        value: From `as_value`.

    Returns:
        The field.
    """
    return value.array if type(value) is Frozen else value.number if type(value) is Exact else value


def to_plain(value: Any, where: str, keep: Callable[[np.ndarray], str | None] = lambda _: None) -> Any:
    """A value as plain data, of which JSON is made.

    Args:
        value: From `as_value`.
        where: What holds it, for errors.
        keep: Takes an index array, and says by which name it is kept beside the text; None leaves it in there.

    Returns:
        Dicts, lists, texts and numbers.

    Raises:
        TypeError: If no text can hold it, such as a callable.

    Example:
        >>> to_plain((1, range(0, 8, 2), 2j), "it")
        [1, {'range': [0, 8, 2]}, {'complex': ['0.0', '2.0']}]
    """
    if isinstance(value, Frozen):
        array = _narrow(np.ascontiguousarray(value._numbers()))
        if name := keep(array):
            return {"kept": name}
        data = base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
        return {"shape": list(array.shape), "dtype": array.dtype.name, "data": data}
    return _plain(own(value), where)


def _narrow(array: np.ndarray) -> np.ndarray:
    """Integers in the smallest dtype that holds them, without a sign if they need none."""
    if array.dtype.kind not in "iu":
        return array
    least, most = int(array.min(initial=0)), int(array.max(initial=0))
    return array.astype(np.promote_types(np.min_scalar_type(least), np.min_scalar_type(most)))


def _wide(array: np.ndarray) -> np.ndarray:
    """Integers in the dtype that every backend takes for indices; what is none as it is."""
    return array.astype(np.int64) if array.dtype.kind in "iu" else array


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Tag):
        return int(value)
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is int:
        if abs(value) >= 10**DIGITS:
            raise TypeError(f"{where} is an integer of more than {DIGITS} digits, which no text holds")
        return value if abs(value) < 2**63 else {"int": str(value)}
    if type(value) is float:
        return value if np.isfinite(value) else {"float": repr(value)}
    if type(value) is complex:
        return {"complex": [repr(value.real), repr(value.imag)]}
    if type(value) is range:
        return {"range": [value.start, value.stop, value.step]}
    if type(value) is tuple:
        return [_plain(item, where) for item in value]
    raise TypeError(f"{where} holds a {type(value).__name__}, which no text can: {value!r:.60}")


def from_plain(value: Any, kind: str, kept: Callable[[str], np.ndarray] | None = None) -> Any:
    """A field's value from plain data, which is not trusted.

    Args:
        value: From `to_plain`.
        kind: The field's kind, which is not ``"tree"``.
        kept: Gives the index arrays that are kept beside the text, by name.

    Returns:
        What the field holds.

    Raises:
        ValueError: If it is none.

    Example:
        >>> from_plain([1, {"range": [0, 8, 2]}], "static")
        (1, range(0, 8, 2))
    """
    if isinstance(value, list):
        return tuple([from_plain(item, kind, kept) for item in value])
    if kind == "index":
        if "kept" in value:
            if kept is None:
                raise ValueError(f"index array {value['kept']!r:.60} is not in the text, and nothing is beside it")
            return _wide(kept(value["kept"]))
        array = np.frombuffer(
            base64.b64decode(value["data"], validate=True), np.dtype(str(value["dtype"])).newbyteorder("<")
        )
        return _wide(array).reshape([int(size) for size in value["shape"]])
    if not isinstance(value, dict):
        if kind == "number" and isinstance(value, str):
            raise ValueError(f"no number {value!r:.60}")
        return value
    ((name, numbers),) = value.items()
    if name == "int" and len(numbers) <= DIGITS + 1:
        return int(numbers)
    if name in ("float", "complex"):
        number = float(numbers) if name == "float" else complex(*map(float, numbers))
        if kind != "number" and number != number:  # numbers are compared by their digits, all else by equality
            raise ValueError("NaN, which no field but a number holds")
        return number
    if name == "range":
        return range(*numbers)
    raise ValueError(f"no value {value!r:.60}")


def to_tags(value: Any) -> Tag:
    """Tags from the number that stands for them, which is not trusted.

    Args:
        value: The number.

    Returns:
        The tags.

    Raises:
        ValueError: If there are none of that number.

    Example:
        >>> to_tags(1)
        <Tag.SYMMETRIC: 1>
    """
    if type(value) is not int or value & ~sum(Tag):
        raise ValueError(f"no tags {value!r:.60}")
    return Tag(value)
