"""Timing, comparison and the texts of structures."""

from dataclasses import replace

import pytest

import linops as lo
from linops.lab import comparison, measure, tables
from linops.lab.comparison_table import comparison_table
from linops.lab.parsing import parse, parse_list


def test_candidates_take_turns():
    order = []
    functions = {name: (lambda name=name: order.append(name)) for name in ("a", "b", "c")}
    times = measure.side_by_side(functions, seconds=0.003, rounds=6)
    assert {name: len(timing.seconds) for name, timing in times.items()} == {"a": 6, "b": 6, "c": 6}
    runs = [name for number, name in enumerate(order) if not number or order[number - 1] != name]
    assert runs[3:9] == ["a", "b", "c", "b", "c", "a"]  # after the warm-up of each


def test_timing():
    timing = measure.Timing((3.0, 1.0, 2.0))
    assert timing.median == 2
    assert timing.quartiles == (1.5, 2.5)
    with pytest.raises(ValueError, match="3 and 1 rounds"):
        timing.ratio(measure.Timing((1.0,)))


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
def test_roofline_is_positive(backend):
    pytest.importorskip(backend)
    found = measure.roofline(backend, moved=1 << 16, seconds=0.01)
    assert found.flops_per_second > 1e7
    assert found.bytes_per_second > 1e6


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("batch", [1, 8])
def test_compare(backend, batch):
    pytest.importorskip(backend)
    found = comparison.compare(
        48, 64, parse_list("btt,low_rank:rank=40,kronecker"), batch=batch, backend=backend, seconds=0.05
    )
    assert [row.structure for row in found.rows] == ["dense", "btt", "kronecker"]
    assert "low_rank:rank=40" in found.refused
    dense, btt, _ = found.rows
    assert (dense.share, dense.forward_ratio) == (1, 1)
    assert btt.macs == lo.btt(48, 64).cost().macs
    assert btt.share == btt.macs / (48 * 64)
    assert (btt.forward_backward is None) == (backend == "numpy")
    assert all(row.forward > 0 and row.roofline_share > 0 for row in found.rows)
    for share, said in ((0.5, False), (2.0, True)):
        table = comparison_table(replace(found, rows=[replace(row, roofline_share=share) for row in found.rows]), 1, 1)
        assert ("over 100 %" in str(table.caption)) == said


def test_structures():
    structure = parse("btt:rank=2:cores=3")
    assert (structure.family, structure.options) == ("btt", {"rank": 2, "cores": 3})
    assert structure(64, 64).ranks == (2, 2)
    assert len(parse_list("btt,btt,dense")) == 2


@pytest.mark.parametrize("text", ["bt", "btt:rank", "btt:rank=two", "btt:=2", ","])
def test_wrong_structures(text):
    with pytest.raises(ValueError, match="structure"):
        parse_list(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0123, "12.3 ms"), (123.4, "123 s"), (1e-7, "0.10 µs"), (None, "–"), (0.9996, "1000 ms"), (1.0, "1.00 s")],
)
def test_durations(seconds, text):
    assert tables.duration(seconds) == text
