"""Which kernel runs is measured at a first use and kept: with clocks and devices that are made up."""

import json
from types import SimpleNamespace

import pytest

from linops.kernels.choosing import GAIN, Choices, choices_file, size_class


def timed(times):
    """A clock: what each function takes, and which were timed."""
    asked = []

    def seconds(functions):
        names = [name for name, each in times["ways"].items() if each in functions]
        asked.extend(names)
        return [times[name] for name in names]

    return seconds, asked


def choose(choices, case="c", agree=lambda a, b: a == b, ways=None, **times):
    ways = {name: lambda: 3 for name in times} | (ways or {})
    seconds, asked = timed({"ways": ways, **times})
    return choices.choose(case, ways, seconds, agree), asked


@pytest.mark.parametrize(
    ("kernel", "chosen"), [(0.99, "kernel"), (0.5 / GAIN, "kernel"), (1.01, "plain"), (5.0, "plain")]
)
def test_a_kernel_must_be_clearly_faster(kernel, chosen):
    assert choose(Choices("here"), plain=GAIN, kernel=kernel)[0] == chosen


def test_the_fastest_of_several_is_taken():
    choices = Choices("here")
    assert choose(choices, plain=3.0, slow=2.0, fast=1.0, middling=1.5)[0] == "fast"
    assert choices.why["c"] == {"plain": pytest.approx(3), "slow": 2.0, "fast": 1.0, "middling": 1.5}


def test_it_is_measured_once():
    choices = Choices("here")
    assert choose(choices, plain=3.0, kernel=1.0) == ("kernel", ["plain", "kernel"])
    assert choose(choices, plain=1.0, kernel=3.0) == ("kernel", [])
    assert choose(choices, "another", plain=1.0, kernel=3.0) == ("plain", ["plain", "kernel"])


def test_a_kernel_that_fails_or_errs_is_never_taken():
    def fails():
        raise RuntimeError("no image for this device")

    choices = Choices("here")
    chosen, asked = choose(choices, plain=9.0, errs=1.0, fails=1.0, ways={"errs": lambda: 4, "fails": fails})
    assert (chosen, asked) == ("plain", [])  # nothing to be compared with
    assert choices.why["c"]["errs"] == "its result is another"
    assert choices.why["c"]["fails"] == "RuntimeError: no image for this device"


def test_the_plain_way_must_run():
    def fails():
        raise ValueError("no memory")

    with pytest.raises(ValueError, match="no memory"):
        choose(Choices("here"), plain=1.0, kernel=1.0, ways={"plain": fails})


def test_choices_outlive_the_process(tmp_path):
    file = tmp_path / "folder" / "kernels.json"
    choose(Choices("here", file), plain=3.0, kernel=1.0)
    choose(Choices("there", file), plain=1.0, kernel=3.0)
    assert choose(Choices("here", file), plain=1.0, kernel=3.0) == ("kernel", [])
    assert choose(Choices("there", file), plain=3.0, kernel=1.0) == ("plain", [])
    assert json.loads(file.read_text())["targets"] == {"here": {"c": "kernel"}, "there": {"c": "plain"}}
    assert choose(Choices("here", file), plain=1.0, other=3.0) == (
        "plain",
        ["plain", "other"],
    )  # a way of another version


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"format": "other"}', '{"format": "linops.kernels", "version": 2, "targets": [1]}']
)
def test_a_file_that_is_none_is_replaced(tmp_path, text):
    file = tmp_path / "kernels.json"
    file.write_text(text)
    choices = Choices("here", file)
    assert choices.known == {}
    choose(choices, plain=3.0, kernel=1.0)
    assert Choices("here", file).known == {"c": "kernel"}


def test_a_folder_that_cannot_be_written_is_left(tmp_path):
    (tmp_path / "file").touch()
    choices = Choices("here", tmp_path / "file" / "kernels.json")
    assert choose(choices, plain=3.0, kernel=1.0)[0] == "kernel"
    assert choices.file is None


def test_where_choices_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("LINOPS_MACHINE", "")
    assert choices_file() is None
    monkeypatch.setenv("LINOPS_MACHINE", str(tmp_path / "machine.json"))
    assert choices_file() == tmp_path / "kernels.json"


def test_sizes_have_classes():
    assert [size_class(size) for size in (0, 1, 2, 3, 1023, 1024)] == [0, 1, 2, 2, 512, 1024]


# ---------------------------------------------------------------- on CUDA, made up


@pytest.fixture
def on_cuda(monkeypatch):
    """`linops.kernels.cuda` as if there were a device and a kernel; `times` is what ways take, in turn."""
    torch = pytest.importorskip("torch")
    from linops.backends.torch_blocks import _crossed_whole
    from linops.kernels import cuda

    choices, times, ran = Choices("made up"), [], []

    def kernel(first, second, x, tile):
        ran.append(tile)
        (b, r, m, n), p, k = first.shape, second.shape[1], x.shape[2]
        return _crossed_whole(first.reshape(b, r * m, n), second.reshape(m, p, b * r), x.reshape(b, n, k))

    monkeypatch.setattr(cuda, "_kernels", lambda: SimpleNamespace(tiles=lambda rank: (0, 1), crossed_matmul=kernel))
    monkeypatch.setattr(cuda, "_choices", lambda device: choices)
    monkeypatch.setattr(cuda, "seconds", lambda ways: [times.pop(0) for _ in ways])
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)

    def crossed(vectors=32, dtype=torch.float32, side=5, grad=False):
        shapes = (3, 8, side), (4, 6, 6), (3, side, vectors)
        given = [torch.ones(shape, dtype=dtype, requires_grad=grad) for shape in shapes]
        ran.clear()
        y = cuda.crossed(*given, _crossed_whole)
        torch.testing.assert_close(y, _crossed_whole(*given))
        return list(ran), given, y

    token = cuda.ALLOWED.set(True)
    yield SimpleNamespace(crossed=crossed, choices=choices, times=times, cuda=cuda, torch=torch)
    cuda.ALLOWED.reset(token)


def test_the_faster_kernel_runs(on_cuda):
    on_cuda.times += [3.0, 2.0, 1.0]
    assert on_cuda.crossed()[0][-1] == 1
    assert on_cuda.crossed(33)[0] == [1]  # of the same class
    (case,) = on_cuda.choices.known
    assert case == "crossed 3,8,5 4,6 torch.float32 features 32 gradients (False, False, False)"
    on_cuda.times += [1.0, 2.0, 3.0]
    on_cuda.crossed(64)
    assert on_cuda.crossed(64)[0] == []


def test_training_is_a_case_of_its_own(on_cuda):
    on_cuda.times += [1.0, 2.0, 3.0, 3.0, 2.0, 1.0]
    on_cuda.crossed()
    ran, given, y = on_cuda.crossed(grad=True)
    assert ran[-1] == 1
    assert all(gradient is not None for gradient in on_cuda.torch.autograd.grad(y.sum(), given))
    assert [*on_cuda.choices.known.values()] == ["torch", "triton 1"]


@pytest.mark.parametrize("sizes", [{"vectors": 15}, {"side": 257}, {"dtype": "float64"}], ids=str)
def test_what_kernels_are_not_for_is_not_measured(on_cuda, sizes):
    if "dtype" in sizes:
        sizes = {"dtype": on_cuda.torch.float64}
    assert on_cuda.crossed(**sizes)[0] == []
    assert on_cuda.choices.known == {}


def test_kernels_are_off_unless_they_are_allowed(on_cuda):
    from contextvars import Context

    assert Context().run(on_cuda.cuda.ALLOWED.get) is False
    token = on_cuda.cuda.ALLOWED.set(False)
    assert on_cuda.crossed()[0] == []
    on_cuda.cuda.ALLOWED.reset(token)


def test_nothing_is_tried_while_flops_are_counted(on_cuda):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False):
        assert on_cuda.crossed()[0] == []
    with on_cuda.torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x):
        assert on_cuda.crossed(grad=True)[0] == []
    assert on_cuda.choices.known == {}


def test_memory_that_does_not_suffice_to_measure_is_no_error(on_cuda, monkeypatch):
    def full(function):
        raise on_cuda.torch.OutOfMemoryError("full")

    monkeypatch.setattr(on_cuda.cuda, "seconds", full)
    assert on_cuda.crossed()[0] == [0, 1]  # to see whether results agree
    assert on_cuda.choices.known == {}


def test_results_agree_within_rounding(on_cuda):
    one = on_cuda.torch.ones(100)
    assert on_cuda.cuda.agree([one], [one * (1 + 5e-6)])
    assert not on_cuda.cuda.agree([one], [one * (1 + 5e-5)])
    assert not on_cuda.cuda.agree([one * float("nan")], [one])
    assert on_cuda.cuda.agree([one * float("nan")], [one * float("inf")])
    assert on_cuda.cuda.agree([one.bfloat16()], [one.bfloat16() * 1.01])


def test_a_device_times_by_its_events(on_cuda, monkeypatch):
    monkeypatch.undo()
    from linops.kernels import cuda

    clock, called = iter(range(100)), []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = next(clock)

        def elapsed_time(self, other):
            return other.at - self.at

    monkeypatch.setattr(cuda.torch.cuda, "Event", Event)
    monkeypatch.setattr(cuda.torch.cuda, "synchronize", lambda: None)
    assert cuda.seconds([lambda: called.append(1), lambda: called.append(2)], rounds=3) == [1e-3, 1e-3]
    assert called == [1, 2] * 5
