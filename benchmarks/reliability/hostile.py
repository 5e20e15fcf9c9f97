"""Files that are damaged or hostile: each by a name that says what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

#: what a file of one operator has beside its structure
DOCUMENT = {"version": 1, "holds": "operator", "tensors": {}}
DIAGONAL = {"class": "Diagonal", "diagonal": {"shape": [4], "dtype": "float32"}}
TENSOR = {"diagonal": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}


def file(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file.

    Args:
        header: The header, as text or as plain data.
        data: What follows it.
        length: What the file says of its header's length; None for the truth.

    Returns:
        The bytes.
    """
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def operator(
    operators: Any = (DIAGONAL,), tensors: Any = TENSOR, data: bytes = bytes(16), document: Any = DOCUMENT, **more: Any
) -> bytes:
    """A file of an operator.

    Args:
        operators: What its structure lists, or the structure's text.
        tensors: The header's tensors.
        data: What follows the header.
        document: What the file says of itself, or its text.
        **more: Other fields of the structure.

    Returns:
        The bytes.
    """
    structure = {"format": "linops.structure", "version": 1, "operators": operators} | more
    text = operators if isinstance(operators, str) else json.dumps(structure)
    said = document if isinstance(document, str) else json.dumps(document)
    return file({"__metadata__": {"linops": said, "linops.structure:": text}, **tensors}, data)


def _tensor(**change: Any) -> dict[str, Any]:
    return {"diagonal": TENSOR["diagonal"] | change}


def _chain(count: int) -> list[dict[str, Any]]:
    """Operators of which each is twice part of the next: a tree of 2^count in as many lines."""
    pair = [{"class": "Product", "factors": [{"operator": k}, {"operator": k}]} for k in range(count)]
    return [DIAGONAL, *pair]


def _heavy(leaves: int, levels: int) -> list[dict[str, Any]]:
    """An operator of many leaves, deep in others."""
    core = {"shape": [1, 1, 1, 1], "dtype": "float32"}
    above = ({"class": "Scaled", "base": {"operator": k}, "number": 2.0} for k in range(levels))
    return [{"class": "TensorTrain", "cores": [core] * leaves}, *above]


def _deep(count: int) -> list[dict[str, Any]]:
    return [DIAGONAL, *({"class": "Scaled", "base": {"operator": k}, "number": 2.0} for k in range(count))]


def files() -> Iterator[tuple[str, bytes]]:
    """Names and bytes of files, none of which holds what may be loaded."""
    good = operator()
    yield "empty", b""
    yield "seven bytes", good[:7]
    yield "cut off in the header", good[:40]
    yield "cut off in the numbers", good[:-1]
    yield "a byte too many", good + b"\0"
    yield "a header of 2^63 bytes", file({}, length=2**63)
    yield "a header that sizes an allocation of 100 MB", file({}, length=10**8)
    yield "a header of 20 MB", file(b" " * (20 << 20))
    yield "not UTF-8", file(b'{"a\xff": 1}')
    yield "no JSON", file(b"{")
    yield "no object", file([1])
    yield "JSON nested 200,000 deep", file(b"[" * 200_000 + b"]" * 200_000)
    yield "millions of lists", file(b"[" + b"[]," * 5_000_000 + b"[]]")
    yield "a name twice", file(b'{"a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}, "a": 1}')
    yield "metadata that are no texts", file({"__metadata__": {"linops": 1}})
    yield (
        "200,000 tensors",
        file({str(k): {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for k in range(200_000)}),
    )
    for name, change in {
        "an unknown dtype": {"dtype": "F99"},
        "a dtype that is a list": {"dtype": ["F32"]},
        "a negative size": {"shape": [-4]},
        "a size that is no integer": {"shape": [4.0]},
        "a size that is true": {"shape": [True, 4]},
        "a size of 2^62 beside 0": {"shape": [0, 2**62], "data_offsets": [0, 0]},
        "a size of 2^64": {"shape": [2**64]},
        "a product of sizes that wraps to 4": {"shape": [2**32, 2**32, 4]},
        "500 axes": {"shape": [1] * 499 + [4]},
        "a shape that is a text": {"shape": "4"},
        "one offset": {"data_offsets": [0]},
        "offsets that go back": {"data_offsets": [16, 0]},
        "offsets beyond the file": {"data_offsets": [0, 2**50]},
        "fewer bytes than the shape": {"shape": [5]},
        "another shape than the structure": {"shape": [2, 2]},
        "another dtype than the structure": {"dtype": "I32"},
    }.items():
        yield name, operator(tensors=_tensor(**change), data=b"" if change.get("data_offsets") == [0, 0] else bytes(16))
    second = {"other": {"dtype": "U8", "shape": [8], "data_offsets": [8, 16]}}
    yield "tensors that overlap", operator(tensors=TENSOR | second)
    yield "a gap between tensors", operator(tensors=TENSOR | _shifted(second, 16), data=bytes(32))
    yield "a tensor is missing", operator(tensors={}, data=b"")
    yield "a tensor by a path", operator(tensors={"../../etc/x": TENSOR["diagonal"]})
    yield "no document", file({"__metadata__": {"linops.structure:": "{}"}, **TENSOR}, bytes(16))
    yield "a document nested 200,000 deep", operator(document="[" * 200_000 + "]" * 200_000)
    yield "a document with NaN", operator(document='{"version": NaN}')
    yield "a document with an integer of 10,000 digits", operator(document='{"version": ' + "1" * 10_000 + "}")
    yield "a document of version 2", operator(document=DOCUMENT | {"version": 2})
    yield "a document of version true", operator(document=DOCUMENT | {"version": True})
    yield "a document that holds something else", operator(document=DOCUMENT | {"holds": "code"})
    yield "notes that are no objects", operator(document=DOCUMENT | {"tensors": {"diagonal": 1}})
    for name, note in {
        "the same as itself": {"same": "diagonal"},
        "the same as a list": {"same": []},
        "the same in an order of axes that is none": {"same": "x", "axes": [1, 1]},
        "pairs of what is no float64": {"pairs": True},
    }.items():
        tensors = {"x": TENSOR["diagonal"]} if "same" in note else TENSOR
        yield name, operator(tensors=tensors, document=DOCUMENT | {"tensors": {"diagonal": note}})
    yield (
        "a ring of the same",
        operator(
            tensors={},
            data=b"",
            document=DOCUMENT | {"tensors": {"diagonal": {"same": "x"}, "x": {"same": "diagonal"}}},
        ),
    )
    yield "a structure nested 200,000 deep", operator("[" * 200_000)
    yield "a structure of version 99", operator(version=99)
    yield "a structure without operators", operator([])
    yield "operators that are a text", operator({})
    yield "an unknown operator", operator([{"class": "os.system"}])
    yield "an operator by a path", operator([{"class": "../Dense"}])
    yield "a class of another module", operator([{"class": "subprocess:Popen", "args": ["true"]}])
    yield "a class that is a list", operator([{"class": ["Dense"]}])
    yield "an operator with a callable", operator([{"class": "Function", "size": [4, 4], "matvec": "os.system"}])
    yield "an unknown field", operator([DIAGONAL | {"__reduce__": 1}])
    yield "a private field", operator([DIAGONAL | {"_structure": 1}])
    yield "an operator that is part of itself", operator([{"class": "Scaled", "base": {"operator": 0}, "number": 2.0}])
    yield (
        "an operator that stands behind",
        operator([{"class": "Scaled", "base": {"operator": 1}, "number": 2.0}, DIAGONAL]),
    )
    yield (
        "an operator at a place below zero",
        operator([DIAGONAL, {"class": "Scaled", "base": {"operator": -1}, "number": 2.0}]),
    )
    yield "an operator that is part of nothing", operator([DIAGONAL, DIAGONAL])
    yield "2^64 operators in 64 lines", operator(_chain(64))
    yield "operators nested 100,000 deep", operator(_deep(100_000), tensors={}, data=b"")
    yield (
        "sizes that do not fit",
        operator(
            [
                DIAGONAL,
                {"class": "Identity", "size": 3},
                {"class": "Product", "factors": [{"operator": 0}, {"operator": 1}]},
            ]
        ),
    )
    yield (
        "a leaf of 2^62 numbers",
        operator([{"class": "Diagonal", "diagonal": {"shape": [2**62], "dtype": "float32"}}]),
    )
    yield (
        "a leaf of a negative size",
        operator([{"class": "Diagonal", "diagonal": {"shape": [-1], "dtype": "float32"}}]),
    )
    yield "a leaf of an unknown dtype", operator([{"class": "Diagonal", "diagonal": {"shape": [4], "dtype": "object"}}])
    yield (
        "an index array of objects",
        operator([{"class": "Permute", "indices": {"shape": [1], "dtype": "object", "data": "AAAAAAAAAAA="}}]),
    )
    yield (
        "an index array beyond the matrix",
        operator([{"class": "Permute", "indices": {"shape": [1], "dtype": "uint8", "data": "CQ=="}}]),
    )
    yield (
        "an index array of another size",
        operator([{"class": "Permute", "indices": {"shape": [2**40], "dtype": "uint8", "data": "AA=="}}]),
    )
    yield "an index array that is kept nowhere", operator([{"class": "Permute", "indices": {"kept": "x"}}])
    yield "100,000 leaves, each 900 levels deep", operator(_heavy(100_000, 900), tensors={}, data=b"")
    yield "tags that are none", operator([DIAGONAL | {"assumed": 2**63}])
    yield "a range of 2^62 terms for a size", operator([{"class": "Identity", "size": {"range": [0, 2**62, 1]}}])
    yield (
        "an equation of Einsum that is none",
        operator([{"class": "Einsum", "expression": "ab,b->" + "a" * 10_000, "tensors": []}]),
    )


def _shifted(tensors: dict[str, Any], begin: int) -> dict[str, Any]:
    return {name: one | {"data_offsets": [begin + 8, begin + 16]} for name, one in tensors.items()}
