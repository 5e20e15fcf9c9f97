"""Results of more than one machine: what is shown beside what, and that what another machine measured is kept."""

import json
import re

import pytest

from benchmarks import machines, plots, report, results, sections
from benchmarks.registry import Benchmark

INTEL = {"processor": "Intel(R) Xeon(R) Processor", "cores": 2, "date": "2026-11-25", "threads": 1, "versions": {}}
#: benchmarks whose results are those of a machine
MEASURED = {
    *("btt", "calibrate", "compile", "composed", "families", "growth", "imports", "overhead", "peers", "planning"),
    *("solves", "symbolic"),
}
AMD = INTEL | {"processor": "AMD EPYC", "date": "2026-12-01"}


def result(conditions, *rows):
    return {"conditions": conditions, "rows": list(rows)}


def scaled(known, factor):
    """What a machine that takes so many times as long might have measured."""
    units = re.compile(r"_(us|ms|s|ratio|speedup)$|^(ratio|overhead|microseconds|bare|call|block|roofline)$")
    rows = [
        {
            name: factor * value if isinstance(value, float) and units.search(name) else value
            for name, value in row.items()
        }
        for row in known["rows"]
    ]
    return result(known["conditions"] | {"processor": "AMD EPYC", "date": "2026-12-01"}, *rows)


@pytest.fixture(scope="module")
def measured():
    """Results as they are kept, as if of one Intel, and made-up ones of an AMD for all its benchmarks."""
    kept = {name: one for name, one in results.load_all().items() if name in MEASURED}
    earlier = {name: result(one["conditions"] | INTEL, *one["rows"]) for name, one in kept.items()}
    earlier["imports"] = result(INTEL, {"numpy_s": 0.1, "linops_s": 0.3, "added_s": 0.2, "goal_s": 0.25})
    return {name: scaled(known, 1.5) for name, known in earlier.items()}, earlier


def table_of(text, heading):
    """The lines of the first table whose head has some text."""
    lines = text.splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("|") and heading in line)
    last = next(place for place in range(first, len(lines)) if not lines[place].startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[first:last]]


# ---------------------------------------------------------------- which results there are


def test_one_result_of_each_machine_that_of_the_machine_at_hand_first():
    now, same, other = result(AMD, {"a": 1}), result(AMD | {"date": "2026-12-09"}, {"a": 2}), result(INTEL, {"a": 3})
    last = result(INTEL | {"cores": 8, "date": "2026-11-28"}, {"a": 4})
    earlier = [{"x": other}, {"x": same, "y": same}, {"x": last}, {"z": result(INTEL)}]
    assert machines.of_each("x", {"x": now}, earlier) == [now, last, other]
    assert machines.of_each("y", {"x": now}, earlier) == [same]
    assert machines.of_each("z", {"x": now}, earlier) == []
    assert machines.of_each("x", {"x": other}, [{"x": other}]) == [other]


def test_columns_are_machines_that_of_the_latest_result_first():
    intel, amd = result(INTEL, {"a": 1}), result(AMD, {"a": 2})
    found = machines.by_machine(["x", "y", "x", "z"], {"x": intel, "y": amd}, [{"x": intel}])
    assert found == {"AMD EPYC, 2 cores": {"y": amd}, "Intel Xeon, 2 cores": {"x": intel}}
    assert list(found) == ["AMD EPYC, 2 cores", "Intel Xeon, 2 cores"]


def test_files_of_earlier_machines_lie_in_the_folder_of_their_machine():
    paths = list((results.FOLDER / results.EARLIER).rglob("*.json"))
    assert paths
    for path in paths:
        assert path.parent.name == machines.folder_of(results.load(path)["conditions"]), path


# ---------------------------------------------------------------- the page


def test_rows_of_a_case_stand_one_below_the_other():
    intel = result(INTEL, {"d": 8, "batch": 1, "ms": 1.0}, {"d": 16, "batch": 1, "ms": 2.0})
    amd = result(AMD, {"d": 16, "batch": 1, "ms": 4.0}, {"d": 32, "batch": 1, "ms": 5.0, "new": 6.0})
    rows = machines.compared([amd, intel])
    assert [(row["d"], row["machine"], row["ms"]) for row in rows] == [
        (16, "AMD EPYC", 4.0),
        (16, "Intel Xeon", 2.0),
        (32, "AMD EPYC", 5.0),
        (8, "Intel Xeon", 1.0),
    ]
    assert machines.compared([intel]) == intel["rows"]
    alike = machines.compared([result(AMD, {"d": 8}), result(AMD | {"cores": 8}, {"d": 8})])
    assert [row["machine"] for row in alike] == ["AMD EPYC, 2 cores", "AMD EPYC, 8 cores"]


def test_goals_have_a_column_for_each_machine(measured):
    amd, intel = measured
    head, _, *lines = table_of(report.goals(amd, [intel]), "goal")
    assert head == ["goal", "AMD EPYC, 2 cores", "Intel Xeon, 2 cores"]
    imports = next(line for line in lines if line[0].endswith(": **≤ 0.25 s** (`imports`)"))
    assert imports[1:] == ["**missed**: 0.30 s", "met: 0.20 s"]
    assert next(line for line in lines if "(`linalg`)" in line[0])[1:] == ["–", "–"]


def test_the_page_shows_both_machines(measured):
    amd, intel = measured
    page = report.page(amd, [intel])
    folded = re.findall(r"<summary>([^<]*)</summary>\n\n(?:(?!<details).)*?\n\n</details>", page, re.S)
    wanted = [s.benchmark for s in sections.SECTIONS.values() if s.benchmark in intel and not s.beside]
    assert folded == [machines.dated(intel[name]["conditions"]) for name in wanted]
    assert page.count("images/bench_forward.png") == page.count("images/bench_forward_intel-xeon-2-cores.png") == 1
    for name in ("btt", "overhead", "solves", "calibrate", "compile", "symbolic", "imports"):
        assert f"*AMD EPYC, 2 cores, 2026-12-01; {machines.dated(intel[name]['conditions'])}.*" in page
    solves = table_of(page, "| machine | microseconds |")
    assert [line[1] for line in solves[2:]] == ["AMD EPYC", "Intel Xeon"] * 8
    assert [line[0] for line in solves[2::2]] == [line[0] for line in solves[3::2]]
    overhead = table_of(page, "|  | machine | numpy")
    assert [line[0] for line in overhead[2::2]] == [line[0] for line in overhead[3::2]]
    conditions = table_of(page + "\n\n", "| benchmark | date | machine")
    assert [line[0] for line in conditions[2:]] == [name for name in sorted(intel) for _ in range(2)]


def test_a_result_of_the_same_machine_is_shown_once(measured):
    _, intel = measured
    assert report.page(intel, [intel]) == report.page(intel)
    assert "<details" not in report.page(intel)
    assert "| machine | microseconds" not in report.page(intel)


def test_what_only_an_earlier_machine_measured_is_shown(measured):
    _, intel = measured
    page = report.page({}, [intel])
    assert page == report.page(intel)


def test_plots_of_an_earlier_gpu_are_its_own():
    text = "![Times](images/bench_cuda.png)\n\n| images/x.png |"
    section = sections.Section("cuda", lambda rows: text)
    shown = report._section(section, [result(AMD | {"device": "H200"}, {}), result(AMD | {"device": "A 100"}, {})])
    assert shown.count("(images/bench_cuda.png)") == shown.count("(images/bench_cuda_a-100.png)") == 1
    assert shown.count("| images/x.png |") == 2


def test_plots_of_each_machine_are_written(measured, monkeypatch, tmp_path):
    amd, intel = measured
    drawn = []
    one = {"bench_growth.png": ("growth", lambda rows, path: drawn.append((rows, path.name)))}
    monkeypatch.setattr(plots, "PLOTS", one)
    names = ["bench_growth.png", "bench_growth_intel-xeon-2-cores.png"]
    assert [path.name for path in plots.write(amd, tmp_path, [intel])] == names
    assert drawn == [(amd["growth"]["rows"], names[0]), (intel["growth"]["rows"], names[1])]
    assert [path.name for path in plots.write(intel, tmp_path, [intel])] == names[:1]


# ---------------------------------------------------------------- files


def test_results_of_another_machine_are_kept(monkeypatch, tmp_path, capsys):
    module = type("module", (), {"measure": staticmethod(lambda known=(): [{"a": 2}])})
    monkeypatch.setattr("benchmarks.registry.import_module", lambda name: module)
    monkeypatch.setattr(results, "use_threads", lambda threads, jax=False: None)
    monkeypatch.setattr(results, "environment", lambda threads: dict(now))
    path = tmp_path / "fake.json"
    results.save(path, INTEL, [{"a": 1}])
    before = path.read_bytes()
    aside = tmp_path / "earlier" / "intel-xeon-2-cores" / "fake.json"
    now = INTEL | {"versions": {"numpy": "3"}}
    results.run(Benchmark("fake", "fake"), {}, 1, path, keep=True)  # the same machine
    assert not aside.exists()
    path.write_bytes(before)
    now = AMD
    results.run(Benchmark("fake", "fake"), {}, 1, path, fresh=True)  # somebody's own file
    assert not aside.exists()
    for fresh in (False, True):
        path.write_bytes(before)
        results.run(Benchmark("fake", "fake"), {}, 1, path, fresh=fresh, keep=True)
        assert aside.read_bytes() == before
        assert json.loads(path.read_text())["rows"] == [{"a": 2}]
        assert str(aside) in capsys.readouterr().err
        aside.unlink()
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    path.write_bytes(before)
    results.run(Benchmark("fake", "fake"), {}, 1, path, fresh=True)  # a benchmark alone, into the folder of results
    assert results.load_earlier(tmp_path) == [{"fake": result(INTEL, {"a": 1})}]
    assert results.load_all(tmp_path)["fake"]["rows"] == [{"a": 2}]
