"""Compiled kernels: what users say of them without a compiler, and with one the numbers of plain products."""

import json
import threading
from pathlib import Path

import pytest
import torch
from kernel_modes import kept_mode, use_compiled
from torch.utils import cpp_extension
from torch.utils.flop_counter import FlopCounterMode

import linops as lo
import linops.backends.torch_blocks as torch_blocks
from linops import backends
from linops.kernels import building, chain, choice, crossed

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12, torch.bfloat16: 2e-2}
# blocks, n, rank, m, p, batch: multiples of no vector, of some, one vector more than a tile, fewer rows than a register
SHAPES = (
    (4, 3, 2, 5, 7, 37),
    (1, 5, 1, 3, 2, 32),
    (3, 16, 2, 9, 48, 65),
    (32, 32, 1, 32, 32, 128),
    (2, 33, 3, 17, 20, 97),
    (40, 4, 4, 6, 5, 40),  # more terms than are summed at a time
)
LAYOUTS = ("rows", "columns", "wider rows", "part of columns")


mode = pytest.fixture(autouse=True)(kept_mode)


@pytest.fixture
def compiled():
    """Kernels are used wherever they can be."""
    use_compiled(building.library)


@pytest.fixture
def ran(monkeypatch):
    """How often the compiled kernel computed a product."""
    calls, kernel = [], crossed._sizes
    monkeypatch.setattr(crossed, "_sizes", lambda *arguments: calls.append(1) or kernel(*arguments))
    return calls


def operands(shape, dtype, layout="columns"):
    blocks, n, rank, m, p, batch = shape
    generator = torch.Generator().manual_seed(0)

    def numbers(*size):
        return torch.randn(*size, dtype=torch.float64, generator=generator).to(dtype)

    first, second = numbers(blocks, rank * m, n), numbers(m, p, blocks * rank)
    if layout == "rows":
        x = numbers(batch, blocks, n).permute(1, 2, 0)
    elif layout == "wider rows":
        x = numbers(batch, blocks * n + 3)[:, : blocks * n].unflatten(1, (blocks, n)).permute(1, 2, 0)
    elif layout == "part of columns":
        x = numbers(blocks, n, batch + 5)[..., 2:-3]
    else:
        x = numbers(blocks, n, batch)
    return first, second, x


def plain(first, second, x, swapped=False):
    return torch_blocks._crossed_plain(first, second, x, swapped)


def close(found, expected, dtype):
    difference = (found.double() - expected.double()).norm()
    assert found.dtype is dtype
    assert found.shape == expected.shape
    assert difference <= TOLERANCE[dtype] * expected.double().norm()


# ---------------------------------------------------------------- without a compiler


def test_modes_are_checked_and_end_with_their_block():
    assert lo.kernels.status().mode == "off"
    with pytest.raises(ValueError, match="'off', 'auto', 'compiled'"):
        lo.kernels.use("fast")
    with lo.kernels.use("auto"):
        assert lo.kernels.status().mode == "auto"
    assert lo.kernels.status().mode == "off"
    lo.kernels.use("auto")
    assert lo.kernels.status().mode == "auto"


@pytest.fixture
def environment(monkeypatch):
    """Sets what the environment says."""
    yield lambda said: (monkeypatch.setenv("LINOPS_KERNELS", said), choice._environment.cache_clear())
    monkeypatch.undo()
    choice._environment.cache_clear()


def test_the_environment_says_a_mode(environment):
    choice.MODE.set("")
    for said, mode in {"auto": "auto", "": "off"}.items():
        environment(said)
        assert lo.kernels.status().mode == mode
    environment("on")  # which importing does not mind
    for use in (lo.kernels.status, lambda: lo.btt(64, 64).init(seed=0, backend="torch") @ torch.ones(64, 40)):
        with pytest.raises(ValueError, match="LINOPS_KERNELS: mode 'on'; expected one of 'off', 'auto', 'compiled'"):
            use()


def test_threads_have_modes_of_their_own():
    barrier, seen = threading.Barrier(2, timeout=10), {}

    def run(mode):
        with lo.kernels.use(mode):
            barrier.wait()
            seen[mode] = lo.kernels.status().mode
            barrier.wait()
        seen[f"after {mode}"] = lo.kernels.status().mode

    threads = [threading.Thread(target=run, args=(mode,)) for mode in ("auto", "compiled")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"auto": "auto", "compiled": "compiled", "after auto": "off", "after compiled": "off"}


def test_off_builds_nothing(monkeypatch):
    monkeypatch.setattr(crossed, "wants", lambda *_: pytest.fail("asked for a kernel"))
    lo.btt(64, 64).init(seed=0, backend="torch") @ torch.ones(64, 40)


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    """As on a machine that cannot build extensions."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))

    def fails(*_, **__):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(cpp_extension, "load", fails)
    caches = building.library, building.chain_module, chain._chain_of
    for each in caches:
        each.cache_clear()
    yield
    for each in caches:
        each.cache_clear()


@pytest.mark.parametrize("way", ["auto", "compiled"])
def test_without_a_compiler_products_run_and_the_status_says_why(no_compiler, way):
    lo.kernels.use(way)
    A, x = lo.btt(64, 64).init(seed=0, backend="torch"), torch.randn(64, 40)
    torch.testing.assert_close(A @ x, A.to_dense() @ x)
    assert "no compiler here" in lo.kernels.status().reason


def test_builds_wait_for_no_other_and_are_kept_whole(no_compiler, monkeypatch, tmp_path):
    built = []

    def load(name, sources, build_directory, **_):
        assert not [*Path(build_directory).iterdir()]  # no lock of torch's, nor half a library
        (Path(build_directory) / "lock").touch()
        built.append(build_directory)
        if len(built) == 1:
            raise KeyboardInterrupt  # or a kill
        (Path(build_directory) / f"{name}.so").write_text("a library")
        return str(Path(build_directory) / f"{name}.so")

    monkeypatch.setattr(cpp_extension, "load", load)
    monkeypatch.setattr(building.ctypes, "CDLL", lambda path: Path(path).read_text())
    with pytest.raises(KeyboardInterrupt):
        building.library()
    assert building.library() == "a library"
    building.library.cache_clear()  # as another process starts
    assert building.library() == "a library"
    assert len({*built}) == 2
    assert [Path(lo.kernels.status().library)] == [*(tmp_path / "linops").iterdir()]


@pytest.mark.full
def test_without_a_compiler_the_operators_run_too(no_compiler):
    leaves = [a.requires_grad_() for a in operands(SHAPES[0], torch.float64)]
    y, expected = torch.ops.linops.crossed(*leaves, True), plain(*leaves, True)
    torch.testing.assert_close(y, expected)
    found = torch.autograd.grad(y.sum(), leaves)
    for one, other in zip(found, torch.autograd.grad(expected.sum(), leaves)):
        torch.testing.assert_close(one, other)


@pytest.fixture
def auto(monkeypatch):
    """Under "auto", as if there were a library, with a clock that says the kernel is twice as fast; what was timed."""
    timed = []
    monkeypatch.setattr(crossed, "library", lambda: object())
    monkeypatch.setattr(crossed, "_OPERATOR", lambda *operands: plain(*operands))
    monkeypatch.setattr(crossed, "seconds", lambda ways: timed.append(1) or [2.0, 1.0])
    lo.kernels.use("auto")
    return timed


GIVEN = operands(SHAPES[3], torch.float32)


def wants():
    return crossed.wants(*GIVEN, False, plain)


def test_what_was_measured_is_kept_for_each_target(auto, monkeypatch, tmp_path):
    monkeypatch.setenv("LINOPS_MACHINE", str(tmp_path / "folder" / "machine.json"))
    for target, measured in {"this": 1, "another": 2}.items():
        choice.STATE.choices = None  # as another process starts
        monkeypatch.setattr(building, "target", lambda target=target: target)
        assert wants()
        assert len(auto) == measured
    for target in ("this", "another"):
        choice.STATE.choices = None
        monkeypatch.setattr(building, "target", lambda target=target: target)
        assert wants()
    assert len(auto) == 2
    assert [*lo.kernels.status().chosen.values()] == ["compiled"]
    assert {*json.loads((tmp_path / "folder" / "kernels.json").read_text())["targets"]} == {"this", "another"}


def test_auto_measures_nothing_that_someone_sees(auto):
    packed = []
    with FlopCounterMode(display=False) as counter:
        assert not wants()
    assert counter.get_total_flops() == 0
    with torch.autograd.graph.saved_tensors_hooks(lambda x: packed.append(1) or x, lambda x: x):
        assert not wants()
    with torch.overrides.BaseTorchFunctionMode():
        assert not wants()
    assert not packed
    assert not auto
    with torch.device("cpu"):  # a mode that changes no product
        assert wants()


@pytest.mark.parametrize("way", ["plain", "autocast", "grad"])
def test_compiled_graphs_take_plain_products_where_programs_do(way, monkeypatch):
    lo.kernels.use("compiled")
    first, second, x = operands(SHAPES[0], torch.float32)
    taken = []
    monkeypatch.setattr(crossed, "wants", lambda *_: taken.append(1) or False)

    def run(x):
        if way == "grad":
            return torch.func.grad(lambda x: backends.crossed_matmul(first, second, x).square().sum())(x)
        with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
            return backends.crossed_matmul(first, second, x)

    graph = torch.compile(run, fullgraph=True, backend="eager")
    assert graph(x).dtype is (torch.bfloat16 if way == "autocast" else torch.float32)
    assert bool(taken) == (way == "plain")


@pytest.mark.parametrize("sizes", [(1, 1), (1, 3), (3, 1), (2, 3)])
@pytest.mark.parametrize("rows", [False, True])
def test_what_the_kernel_writes_has_a_stride_that_it_knows(sizes, rows):
    blocks, n = sizes
    made = crossed._empty(torch.ones(1), (blocks, n, 64), rows)
    assert crossed._stride(made) == (blocks * n if rows else 64)


# ---------------------------------------------------------------- with one

full = pytest.mark.full


@full
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 1, 2, 5, 7, 64), (1, 1, 1, 1, 1, 64), (3, 1, 1, 1, 2, 64), (1, 3, 2, 2, 1, 64)])
def test_sides_of_one(compiled, ran, shape, layout, swapped):
    leaves = [a.requires_grad_() for a in operands(shape, torch.float64, layout)]
    y, expected = backends.crossed_matmul(*leaves, swapped), plain(*leaves, swapped)
    close(y, expected, torch.float64)
    g = torch.randn_like(expected)
    for one, other in zip(torch.autograd.grad(y, leaves, g), torch.autograd.grad(expected, leaves, g)):
        close(one, other, torch.float64)
    assert len(ran) == 2


@full
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_products_and_gradients_are_those_of_plain_products(compiled, ran, shape, dtype, layout, swapped, threads):
    first, second, x = operands(shape, dtype, layout)
    wide = [a.double().requires_grad_() for a in (first, second, x)]
    expected = plain(*wide, swapped)
    leaves = [a.detach().requires_grad_() for a in (first, second, x)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        y = backends.crossed_matmul(*leaves, swapped)
        close(y, expected, dtype)
        for g in (torch.randn_like(y), torch.randn(y.shape).to(dtype), torch.ones((), dtype=dtype).expand(y.shape)):
            found = torch.autograd.grad(y, leaves, g, retain_graph=True)
            wanted = torch.autograd.grad(expected, wide, g.double(), retain_graph=True)
            for one, other in zip(found, wanted):
                close(one, other, dtype)
    finally:
        torch.set_num_threads(before)
    assert len(ran) == 4
    assert (y.stride(2) == 1) == ("columns" in layout)


@full
@pytest.mark.parametrize("wanted", range(1, 8))
@pytest.mark.parametrize("swapped", [False, True])
def test_gradients_of_every_kind(compiled, ran, monkeypatch, wanted, swapped):
    monkeypatch.setattr(crossed, "LEAST", 2)
    few = operands((2, 3, 2, 3, 2, 3), torch.float64, "rows")
    leaves = [a.requires_grad_(bool(wanted >> i & 1)) for i, a in enumerate(few)]

    def product(*operands):
        return backends.crossed_matmul(*operands, swapped)

    assert torch.autograd.gradcheck(product, leaves, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(product, leaves)
    assert ran


@full
def test_transformations_take_plain_products(compiled, ran):
    first, second, x = operands(SHAPES[0], torch.float64)
    expected = plain(first, second, x)
    stacked = torch.stack([x, 2 * x])
    y = torch.func.vmap(lambda x: backends.crossed_matmul(first, second, x))(stacked)
    torch.testing.assert_close(y, torch.stack([expected, 2 * expected]))
    tangent = torch.func.jvp(lambda x: backends.crossed_matmul(first, second, x), (x,), (x,))[1]
    torch.testing.assert_close(tangent, expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert backends.crossed_matmul(first.float(), second.float(), x.float()).dtype is torch.bfloat16
    assert not ran
    y = torch.func.vmap(lambda x: torch.ops.linops.crossed(first, second, x, False))(stacked)
    torch.testing.assert_close(y, torch.stack([expected, 2 * expected]))
    assert len(ran) == 2


@full
@pytest.mark.parametrize(
    "family", [lo.btt(96, 80, rank=2), lo.monarch(64, 96, blocks=4)], ids=lambda A: type(A).__name__
)
def test_layers_operators_and_compiled_graphs(compiled, ran, family):
    A = family.init(seed=0, backend="torch")
    layer, x = A.to_layer(), torch.randn(3, 70, A.shape[1])  # more than chains take
    matrix = A.to_dense()
    ran.clear()
    y = layer(x)
    assert len(ran) == 1
    assert y.is_contiguous()
    torch.testing.assert_close(y, x @ matrix.T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(A @ x[0].T, matrix @ x[0].T, rtol=1e-4, atol=1e-5)
    assert len(ran) == 2
    for empty in (layer(x[:0]), layer(x[:, :0])):
        assert empty.numel() == 0
    torch.testing.assert_close(layer(x[0, :5]), y[0, :5], rtol=1e-4, atol=1e-5)
    assert len(ran) == 2  # few vectors
    exported = torch.export.export(layer, (x[0],), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},))
    assert "linops" not in exported.graph_module.code
    torch.testing.assert_close(exported.module()(x[1]), y[1])
    expected = torch.autograd.grad(y.square().sum(), list(layer.parameters()))
    ran.clear()
    graph = torch.compile(layer, fullgraph=True, backend="aot_eager")
    found = torch.autograd.grad(graph(x).square().sum(), list(layer.parameters()))
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert len(ran) == 2  # forward and backward


@full
def test_compiled_graphs_of_transformations_and_casts(compiled, ran):
    first, second, x = operands(SHAPES[0], torch.float32)

    def product(x):
        return backends.crossed_matmul(first, second, x)

    def gradient(x):
        return torch.func.grad(lambda x: product(x).square().sum())(x)

    def compile(function):
        return torch.compile(function, fullgraph=True, backend="aot_eager")

    torch.testing.assert_close(compile(gradient)(x), gradient(x))
    mapped = torch.func.vmap(product)
    torch.testing.assert_close(compile(mapped)(torch.stack([x, 2 * x])), mapped(torch.stack([x, 2 * x])))
    with torch.autocast("cpu", torch.bfloat16):
        y = compile(product)(x)
        assert y.dtype is torch.bfloat16
        torch.testing.assert_close(y, product(x))
    assert not ran
    torch.testing.assert_close(compile(product)(x), plain(first, second, x))
    assert len(ran) == 1


@full
def test_the_operators_are_those_of_torch(compiled):
    for layout in LAYOUTS[:2]:
        leaves = [a.requires_grad_() for a in operands(SHAPES[0], torch.float64, layout)]
        torch.library.opcheck(torch.ops.linops.crossed.default, (*leaves, False))
        torch.library.opcheck(torch.ops.linops.crossed.default, (*leaves, True))


@full
def test_flops_are_counted(compiled):
    first, second, x = (a.requires_grad_() for a in operands(SHAPES[0], torch.float32))
    once = 2 * x.shape[2] * first.numel(), 2 * x.shape[2] * second.numel()
    with FlopCounterMode(display=False) as counter:
        y = backends.crossed_matmul(first, second, x)
        assert counter.get_total_flops() == sum(once)
        y.sum().backward()
    assert counter.get_total_flops() == 3 * sum(once) + once[0]  # the middle is computed anew


@full
def test_auto_takes_what_was_measured(compiled, ran, monkeypatch):
    lo.kernels.use("auto")
    first, second, x = operands(SHAPES[3], torch.float32, "rows")
    for ratio, times in {1.5: 2, 1.1: 1}.items():  # once to see whether results agree
        ran.clear()
        choice.STATE.choices = None
        monkeypatch.setattr(crossed, "seconds", lambda ways, ratio=ratio: [ratio, 1.0])
        torch.testing.assert_close(backends.crossed_matmul(first, second, x), plain(first, second, x))
        assert len(ran) == times
    monkeypatch.undo()
    choice.STATE.choices = None
    for leaf in (first, second):
        leaf.requires_grad_()
        backends.crossed_matmul(first, second, x)
    assert len(lo.kernels.status().chosen) == 2  # gradients of one, of two
    for times in choice.STATE.choices.why.values():
        assert all(0 < seconds < 1 for seconds in times.values())
