"""Structures: operators without their numbers, as values and as JSON."""

import base64
import json
import pickle
import tracemalloc

import numpy as np
import pytest
import torch
from cases import CASES
from helpers import build, every_case

import linops as lo
from linops.backends.values import Frozen
from linops.encoding import from_json, to_json
from linops.structure import Node, Structure


@every_case
def test_a_structure_is_that_of_the_symbolic_operator(case):
    A, _, _ = build(case)
    S = Structure(A)
    assert Structure(S.operator) == S == Structure(A)
    assert hash(Structure(S.operator)) == hash(S)
    filled = S.fill([leaf for _, leaf in A.named_leaves()])
    assert [(name, id(leaf)) for name, leaf in filled.named_leaves()] == [
        (name, id(leaf)) for name, leaf in A.named_leaves()
    ]
    assert (filled.shape, filled.dtype, filled.tags) == (A.shape, A.dtype, A.tags)


def test_structures_of_all_cases_differ_as_their_operators_do():
    structures = {}
    for case in CASES:
        A, _, _ = build(case)
        structures.setdefault(Structure(A), []).append((case, repr(A)))
    for alike in structures.values():
        assert len({text for _, text in alike}) == 1, alike


@every_case
def test_json_goes_round(case):
    A, _, _ = build(case)
    S = Structure(A)
    if any(callable(value) for part in S.parts if isinstance(part, Node) for value in part.context):
        with pytest.raises(TypeError, match=r"holds a function, which no text can"):
            to_json(S)
        return
    text = to_json(S)
    assert from_json(text) == S
    assert to_json(from_json(text)) == text
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_deep_and_long_expressions():
    A = lo.Dense(np.eye(2))
    for _ in range(3000):
        A = lo.assume(A, lo.Tag.INVERTIBLE) @ lo.Dense(np.eye(2)) + lo.Identity(2)
    S = Structure(A)
    assert Structure(A) == S
    with pytest.raises(ValueError, match="nested more than 1,000 deep, which is neither saved nor loaded"):
        to_json(S)
    A = lo.Dense(np.eye(2))
    for _ in range(400):
        A = lo.assume(A, lo.Tag.INVERTIBLE) @ lo.Dense(np.eye(2)) + lo.Identity(2)
    assert from_json(to_json(Structure(A))) == Structure(A)


@pytest.mark.parametrize("number", [2, 2.0, True, -0.0, float("inf"), float("nan"), 1 + 2j, complex("nan"), 10**30])
def test_numbers_keep_their_types(number):
    S = Structure(lo.Scaled(lo.Dense(lo.spec(2, 2)), number))
    found = from_json(to_json(S)).operator.number
    assert type(found) is type(number)
    assert repr(found) == repr(number)


def test_index_arrays_are_their_numbers_whatever_the_dtype():
    numbers = np.arange(200)[::-1]
    frozen = {dtype: Frozen(numbers.astype(dtype)) for dtype in ("int64", "int32", "uint8")}
    frozen |= {"torch": Frozen(torch.from_numpy(numbers.astype("int32")))}
    for one in frozen.values():
        assert one == frozen["int64"]
        assert hash(one) == hash(frozen["int64"])
    A, B = lo.Permute(numbers), lo.Permute(torch.from_numpy(numbers.astype("int32")))
    assert len({A.structure, B.structure, lo.Permute(numbers[::-1]).structure}) == 2


def test_pickles():
    S = Structure(lo.monarch(16, 16).init(seed=0))
    assert pickle.loads(pickle.dumps(S)) == S


DENSE = {"class": "Dense", "matrix": {"shape": [2, 2], "dtype": "float32"}}


def indices(*numbers, dtype="int64"):
    data = base64.b64encode(np.array(numbers, dtype).tobytes()).decode()
    return {"shape": [len(numbers)], "dtype": dtype, "data": data}


def sliced(*rows):
    return {"class": "Sliced", "base": {"operator": 0}, "rows": {"range": rows}, "columns": {"range": [0, 1, 1]}}


SPARSE = {
    "class": "Sparse",
    "values": {"shape": [2], "dtype": "float32"},
    "rows": indices(0, 1),
    "columns": indices(1, 0),
    "size": [2, 2],
    "by_column": indices(1, 0),
    "row_starts": indices(0, 1, 2),
    "column_starts": indices(0, 1, 2),
}


def without(record, *names):
    return {name: value for name, value in record.items() if name not in names}


def document(*operators, **changes):
    return json.dumps({"format": "linops.structure", "version": 1, "operators": list(operators)} | changes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no structure"),
        ("[" * 100_000, "no structure"),
        ("{}", "format"),
        ("[]", "format"),
        (document(), "no operators"),
        (document(DENSE, version=2), "version 2"),
        (document({"class": "os.system"}), "no operator 'os.system'"),
        (document({"class": "linops.operator:LinearOperator"}), "no operator"),
        (document("Dense"), "no operator 'Dense'"),
        (document({"class": ["Dense"]}), "operator 0 of 1"),
        (document(DENSE | {"nonsense": 1}), "nonsense"),
        (document(DENSE | {"matrix": {"shape": [-1, 2], "dtype": "float32"}}), "Dense"),
        (document(DENSE | {"matrix": {"shape": [2.5, 2], "dtype": "float32"}}), "shape"),
        (document(DENSE | {"matrix": {"shape": [2, 2], "dtype": "evil"}}), "Dense"),
        (document(DENSE | {"matrix": 3}), "Dense"),
        (document({"class": "Dense"}), "Dense"),
        (document({"class": "Scaled", "base": {"operator": 0}, "number": 2}), "does not stand before"),
        (document({"class": "Scaled", "base": {"operator": -1}, "number": 2}), "does not stand before"),
        (document(DENSE, DENSE), "no part of the last"),
        (
            document(DENSE, {"class": "Product", "factors": [{"operator": 0}, {"operator": True}]}),
            "does not stand before",
        ),
        (document({"class": "Permute", "indices": {"shape": [10**12], "dtype": "int64", "data": "AAAA"}}), "Permute"),
        (
            document({"class": "Permute", "indices": {"shape": [1], "dtype": "object", "data": "AAAAAAAAAAA="}}),
            "Permute",
        ),
        (document({"class": "Identity", "size": 1e300}), "Identity"),
        (document(DENSE, sliced(0, 10**15, 1)), "Sliced"),
        (document(DENSE, sliced(-1, 1, 1)), "Sliced"),
        (document(DENSE, sliced(1, -1, -1)), "Sliced"),
        (document(DENSE, {"class": "Selected", "base": {"operator": 0}, "rows": indices(99)}), "rows must be within 0"),
        (document(DENSE, {"class": "Selected", "base": {"operator": 0}, "columns": indices(-1)}), "columns must be"),
        (document(DENSE, {"class": "Selected", "base": {"operator": 0}, "rows": indices(0, dtype="float64")}), "float"),
        (document(DENSE, {"class": "Scaled", "base": {"operator": 0}, "number": "2"}), "no number"),
        (document(DENSE | {"assumed": 1 << 40}), "no tags"),
        (document(DENSE | {"assumed": "x"}), "no tags"),
        (document(SPARSE | {"rows": indices(0, 9)}), "Sparse"),
        (document(SPARSE | {"columns": indices(-1, 1)}), "Sparse"),
        (document(SPARSE | {"by_column": indices(0, 0)}), "Sparse"),
        (document(SPARSE | {"by_column": indices(0, 1)}), "Sparse"),
        (document(SPARSE | {"row_starts": indices(0, 9, 2)}), "Sparse"),
        (document(SPARSE | {"column_starts": indices(0, 1)}), "Sparse"),
        (document(SPARSE | {"rows": indices(0, 1, dtype="float64")}), "Sparse"),
        (document(SPARSE | {"size": [10**15, 2]}), "Sparse"),
        (document(without(SPARSE, "row_starts")), "Sparse: ValueError: row_starts is missing"),
        (document(without(SPARSE, "column_starts")), "column_starts is missing"),
        (document(SPARSE | {"row_starts": None}), "Sparse"),
        (document({"class": "Function", "shape": [2, 2], "product": "print"}), "Function"),
    ],
)
def test_hostile_text_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        from_json(text)


def test_a_small_text_makes_no_large_array():
    entries = without(SPARSE, "by_column", "row_starts", "column_starts")
    tracemalloc.start()
    try:
        for size in ([10**7, 2], [2, 10**7], [10**18, 10**18]):
            with pytest.raises(ValueError, match="row_starts is missing"):
                from_json(document(entries | {"size": size}))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10**6


def test_the_text_that_hostile_ones_change_is_read():
    assert from_json(document(SPARSE)).operator.shape == (2, 2)
    assert from_json(document(DENSE, sliced(0, 2, 1))).operator.shape == (2, 1)
    assert (
        from_json(to_json(lo.assume(lo.dense(2, 2), lo.Tag.SYMMETRIC).structure)).operator.assumed is lo.Tag.SYMMETRIC
    )


def test_nothing_is_the_default_and_what_is_no_number_is_no_flag():
    record = {"class": "Circulant", "c": {"shape": [5], "dtype": "float64"}, "columns": 2}
    assert from_json(document(record | {"transposed": None})) == from_json(document(record))
    with pytest.raises(ValueError, match="NaN, which no field but a number holds"):
        from_json(document(record | {"transposed": {"float": "nan"}}))
