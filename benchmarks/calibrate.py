"""The numbers of the planner's machine model (`linops.plan.machine`), fitted to products measured on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import least_squares

import linops as lo
from benchmarks.environment import environment
from benchmarks.progress import progress, say
from linops import backends
from linops.lab.measure import compiler, side_by_side
from linops.plan import Step, machine_file, natural_order
from linops.plan.machine import Machine
from linops.plan.machines import MEASURED
from linops.plan.processors import TABLE, described, write_row

SIZES = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
BATCHES = (1, 1, 4, 16, 64, 256, 1024)
#: of one product: MACs, and numbers in its operands and its result
LARGEST, NUMBERS = 1 << 28, 1 << 23
#: the numbers of a machine that are fitted
FITTED = ("call", "block", "flops", "half", "bandwidth", "shuffled", "fourier", "looped")

Shape = tuple[int, int, int, int]


def shapes(count: int, seed: int) -> list[Shape]:
    """Random products (blocks, rows, columns, batch) of many magnitudes."""
    random, found = np.random.default_rng(seed), []
    while len(found) < count:
        blocks, rows, columns = (
            int(size) for size in random.choice((1, 1, *SIZES[:9]), 1).tolist() + random.choice(SIZES, 2).tolist()
        )
        batch = int(random.choice(BATCHES))
        numbers = blocks * (rows * columns + columns * batch + rows * batch)
        if batch == 1 and blocks > 1:  # whose kernels are chosen by size, and fit no law
            continue
        if blocks * rows * columns * batch <= LARGEST and numbers <= NUMBERS:
            found.append((blocks, rows, columns, batch))
    return found


@dataclass(frozen=True)
class Samples:
    """What was measured.

    Attributes:
        products: Least seconds of each product.
        copies: (numbers, seconds) of copies to another order of axes.
        convolutions: (steps, seconds) of convolutions by Fourier transforms.
    """

    products: list[float]
    copies: list[tuple[int, float]]
    convolutions: list[tuple[tuple[Step, ...], float]]


def samples(backend: str, products: list[Shape], seconds: float) -> Samples:
    """Least seconds of products, copies and convolutions."""
    compiled, wait = compiler(backend)
    multiply = compiled(backends.block_matmul)

    def turn(x: Any) -> Any:
        return backends.copy(backends.permute(x, (1, 0, 2))) if backend != "jax" else backends.permute(x, (1, 0, 2)) + 0

    turned = compiled(turn)
    random = np.random.default_rng(0)

    def array(*shape: int) -> Any:
        return backends.asarray(random.standard_normal(shape), backend, "float32")

    def timed(function: Callable[[], Any]) -> float:  # what else runs on the machine only adds to it
        return min(side_by_side({"it": function}, seconds=seconds, rounds=5, wait=wait)["it"].seconds)

    times = []
    for blocks, rows, columns, batch in progress(products, f"calibrate {backend}"):
        a, x = array(blocks, rows, columns), array(blocks, columns, batch)
        times.append(timed(lambda a=a, x=x: multiply(a, x)))
    copies = []
    for size in (4, 16, 64, 256):
        for batch in (1, 16, 64):
            x = array(size, size, batch)
            copies.append((size * size * batch, timed(lambda x=x: turned(x))))
    convolve, convolutions = compiled(lambda A, x: A @ x), []
    with natural_order():
        for size in (64, 256, 1024):
            for batch in (16, 256):
                A, x = lo.toeplitz(size, size).init(seed=0, backend=backend), array(size, batch)
                convolutions.append((A._lower(batch), timed(lambda A=A, x=x: convolve(A, x))))
    return Samples(times, copies, convolutions)


def fit(backend: str, products: list[Shape], samples: Samples) -> tuple[Machine, float]:
    """The machine of least squares of log seconds, and the median factor by which it errs."""
    known = MEASURED[backend]
    start = {name: value for name in FITTED if (value := getattr(known, name))}  # not all have plain loops
    measured = np.log([*samples.products, *[took for *_, took in (*samples.copies, *samples.convolutions)]])

    def machine(logs: Any) -> Machine:
        return replace(known, **dict(zip(start, np.exp(logs).tolist())))

    def errors(logs: Any) -> Any:
        model = machine(logs)
        predicted = [model.matmul(*shape, 4) for shape in products]
        predicted += [model.copy(8 * numbers) for numbers, _ in samples.copies]
        predicted += [model.total(steps, 4) for steps, _ in samples.convolutions]
        # what the products do not show, as a bandwidth that never limits them, stays near what is known
        return np.concatenate([np.log(predicted) - measured, 0.05 * (np.asarray(logs) - begin)])

    begin = np.log(list(start.values()))
    found = least_squares(errors, begin, loss="soft_l1", f_scale=0.2)
    made, wrong = machine(found.x), errors(found.x)[: len(measured)]
    return replace(made, turned=made.shuffled if known.turned else 0.0), float(np.exp(np.median(np.abs(wrong))))


def step_seconds(backend: str, seconds: float) -> float:
    """Seconds of a step in a chain of six tiny block products with permutations between, the views included."""
    permute, block = lo.Permute.axes((8, 8), (1, 0)), lo.BlockDiag(lo.spec(8, 8, 8))
    operator: Any = lo.Product((permute, block) * 6).init(seed=0, backend=backend)
    x = backends.asarray(np.random.default_rng(0).standard_normal((64, 16)), backend, "float32")
    compiled, wait = compiler(backend)
    functions = {"chain": compiled(lambda A, x: A @ x), "none": compiled(lambda A, x: x + x)}
    with natural_order():
        times = side_by_side(
            {name: partial(call, operator, x) for name, call in functions.items()},
            seconds=seconds,
            rounds=21,
            wait=wait,
        )
    beyond = np.median(np.subtract(times["chain"].seconds, times["none"].seconds))  # of rounds that lie together
    return max(float(beyond), 1e-7) / 6


def measure(seconds: float = 0.05, count: int = 160, save: bool = False, row: bool = False) -> list[dict[str, Any]]:
    """Fit the numbers of the planner's machine model (linops/plan/machine.py) to products measured on this machine.

    With ``--save`` they are written to the user's own machine file (linops/plan/machine_file.py), which linops reads
    from then on; numbers of other devices stay there. With ``--row`` they become the row of this kind of CPU in
    linops/plan/processors.json, which all users of such a CPU get. With neither they are only shown. By default it
    takes about a minute and a half.

    Args:
        seconds: About how long to measure each product.
        count: Number of random products, at least 20.
        save: Whether to write the numbers to the user's machine file.
        row: Whether to write them into the table of CPUs of this checkout.

    Returns:
        One row a backend: the fields of `Machine`, and the median factor between prediction and measurement.
    """
    if count < 20:
        raise ValueError(
            f"calibrate: the numbers of a machine cannot be fitted to {count} products; expected at least 20"
        )
    products = shapes(count, seed=0)
    path = machine_file.machine_file() if save else None
    if save and path is None:
        raise ValueError(
            f"calibrate --save: the environment variable {machine_file.VARIABLE} is set to nothing; unset it"
        )
    rows, machines = [], {}
    for backend in MEASURED:
        backends.load(backend)
        machine, error = fit(backend, products, samples(backend, products, seconds))
        machine = replace(machine, call=step_seconds(backend, 20 * seconds))
        numbers = {name: float(f"{getattr(machine, name):.2g}") for name in (*FITTED, "turned")}
        machines[backend, "cpu"] = replace(machine, **numbers)
        rows.append({"backend": backend, **numbers, "median_factor": error})
    if path is not None:
        others = machine_file.own()[1] if path.exists() else {}
        machine_file.save(path, f"{environment(1)['processor']}, 1 thread", others | machines)
        say(f"wrote {path}")
    if row:
        numbers = {backend: _numbers(machine) for (backend, _), machine in machines.items()}
        say(f"wrote the row {write_row(*described(), _conditions(), numbers)!r} into {TABLE}")
    return rows


def _numbers(machine: Machine) -> dict[str, Any]:
    """The numbers of a machine that differ from what they are if nothing is said."""
    return {one.name: value for one in fields(machine) if (value := getattr(machine, one.name)) != one.default}


def _conditions() -> str:
    """When and how a row was measured."""
    found = environment(1)
    versions = ", ".join(f"{name} {found['versions'][name]}" for name in ("torch", "numpy", "jax"))
    return f"{found['date']}, one thread, float32, load {found['load_average']}; {versions}"
