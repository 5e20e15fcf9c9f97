"""``linops compress``: structures in the place of a file's weights, without a model's code, one tensor at a time."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from time import perf_counter
from typing import Any, BinaryIO

import numpy as np

from linops.encoding import to_json
from linops.lab import npz
from linops.lab.compress_command import RESULTS
from linops.lab.outputs import require_folder
from linops.lab.progress import Progress
from linops.nn.compression import Choices, Option, Plan, choice
from linops.nn.measuring import candidates, families_of, options
from linops.nn.members import build, named
from linops.nn.patterns import astray, matches
from linops.nn.projected import TOL, damped
from linops.projection import project
from linops.safetensors import FLOATS, Tensors, encoded, opened, write
from linops.writing import DOCUMENT, STRUCTURE, VERSION


@dataclass
class Job:
    """What ``linops compress`` is asked to do.

    Attributes:
        model: The file of weights.
        budget: A share of the parameters of the weights that are selected, or, above 1, their number.
        families: Names of families.
        calibration: A ``.npz`` of second moments or inputs by the names of weights, or None.
        criterion: ``"weight"`` or ``"activation"``.
        where: Patterns of weights to select; all where there is none.
        exclude: Patterns of weights to leave.
        exact: Whether to prove the choice.
        out: The folder for results.
        force: Whether to replace those that are there.
    """

    model: Path
    budget: float
    families: tuple[str, ...]
    calibration: Path | None = None
    criterion: str = "weight"
    where: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    exact: bool = False
    out: Path = Path("compressed")
    force: bool = False


def compress(job: Job) -> Plan:
    """Compress a file of weights.

    Args:
        job: What to do.

    Returns:
        The plan that was applied.

    Raises:
        ValueError: If the file is damaged, an argument is out of range, or results are there already.
        OSError: If a file cannot be read or written; nothing is left half written.
    """
    families = families_of(job.families)
    budget: Any = {"params": job.budget}
    file, known = opened(job.model), _known(job.calibration)
    if DOCUMENT in file.metadata:
        raise ValueError(f"{file.path} holds structures already; compress the file that it was made of")
    names = _selected(job, file)
    _require_room(job)
    if unknown := [name for name in known if name not in names]:
        raise ValueError(f"{job.calibration}: array {unknown[0]!r} is of no weight that is selected")
    _require_budget(job, [file.entries[name].shape for name in names], families)
    with Progress(2 * len(names)) as progress:
        for pattern in job.exclude:
            if why := astray(pattern, _matrices(file), "the file's"):
                progress.say(f"warning: nothing is left out for --exclude {why}")
        layers: list[Choices] = []
        for name in names:
            start = perf_counter()
            weight = file.read(name)
            m, n = weight.shape
            with _naming(job.model, name):
                found = list(candidates(families, (m,), n, name))
                C = _moment(job, known, name, n) if job.criterion == "activation" else None
                layers.append(Choices((name,), (m, n), options(weight.astype(np.float64), found, C)))
            progress.end()
            progress.say(f"measured {name}: {m}×{n}, {len(layers[-1].options)} options, {perf_counter() - start:.1f} s")
        plan = choice(Plan(tuple(layers), (), "params", 0.0, 0, 0.0, 0.0, job.criterion, job.exact), budget)
        _write(job, file, plan, partial(_moment, job, known), progress)
    return plan


def _write(job: Job, file: Tensors, plan: Plan, moment: Callable[[str, int], Any], progress: Progress) -> None:
    """Write all results to a folder beside, then put them in their place."""
    chosen = {name: option for name, option in plan.chosen.items() if option.family != "dense"}
    document = {"version": VERSION, "holds": "dict", "tensors": {}}
    kept = {key: text for key, text in file.metadata.items() if not key.startswith(DOCUMENT)}
    entries, metadata, parts = {}, kept | {DOCUMENT: json.dumps(document)}, []
    done: dict[str, dict[str, Any]] = {}
    for name, one in file.entries.items():
        if name not in chosen:
            entries[name] = one.dtype, one.shape
            parts.append(partial(_copy, file, name, progress if name in plan.chosen else None))
            continue
        m, n = one.shape
        target = build(named(chosen[name].text), m, n, {}, name)
        for leaf, spec in target.named_leaves():
            if f"{name}.{leaf}" in file.entries:
                raise ValueError(f"{file.path}: tensor '{name}.{leaf}' has the name of a leaf of {name!r}")
            entries[f"{name}.{leaf}"] = one.dtype, tuple(spec.shape)
        metadata[STRUCTURE + name] = to_json(target.to(dtype=FLOATS[one.dtype]).structure)
        parts.append(partial(_project, job, file, name, target, chosen[name], moment, done, progress))
    job.out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix=f".{job.out.name}.", suffix=".partial", dir=job.out.parent))
    try:
        write(folder / RESULTS[0], entries, metadata, parts)
        report = {"model": str(job.model), "plan": json.loads(plan.to_json()), "weights": done}
        (folder / RESULTS[1]).write_text(json.dumps(report, indent=1) + "\n")
        plan.plot(folder / RESULTS[2])
        job.out.mkdir(exist_ok=True)
        for name in RESULTS[::-1]:  # the weights last
            os.replace(folder / name, job.out / name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(file: Tensors, name: str, progress: Progress | None, to: BinaryIO) -> None:
    """Copy a tensor; of one that could have been compressed say so."""
    file.copy(name, to)
    if progress is not None:
        progress.end()
        progress.say(f"copied {name}: dense")


def _project(
    job: Job,
    file: Tensors,
    name: str,
    target: Any,
    option: Option,
    moment: Callable[[str, int], Any],
    done: dict[str, dict[str, Any]],
    progress: Progress,
    to: BinaryIO,
) -> None:
    """Project a weight, write its leaves, and say how near it is."""
    start, weight = perf_counter(), file.read(name)
    C = moment(name, weight.shape[1])
    with _naming(job.model, name), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*had not converged", UserWarning)
        W = weight if C is None else weight.astype(np.float64)
        given = {} if C is None else {"second_moment": damped(C, C)}
        operator, info = project(W, target, **given, tol=TOL, return_info=True)
        for _, leaf in operator.named_leaves():
            to.write(encoded(np.asarray(leaf), file.entries[name].dtype))
    done[name] = {
        "structure": option.text,
        "params": option.params,
        "dense": weight.size,
        "weight_error": info.weight_error,
        "activation_error": info.activation_error,
        "converged": info.converged,
    }
    progress.end()
    errors = f"weight error {info.weight_error:.3f}"
    errors += "" if info.activation_error is None else f", activation error {info.activation_error:.3f}"
    progress.say(f"projected {name}: {option.text}, {errors}, {perf_counter() - start:.1f} s")


def _matrices(file: Tensors) -> list[str]:
    """The weights that could be compressed."""
    names = [name for name, one in file.entries.items() if len(one.shape) == 2 and one.dtype in FLOATS]
    return [name for name in names if min(file.entries[name].shape) > 0]


def _selected(job: Job, file: Tensors) -> list[str]:
    """The weights that are to be compressed."""
    names = _matrices(file)
    for pattern in job.where:
        if why := astray(pattern, names, "the file's"):
            raise ValueError(f"{job.model}: no weight is selected by --where {why}")
    found = [name for name in names if not job.where or matches(job.where, name)]
    found = [name for name in found if not matches(job.exclude, name)]
    if not found:
        raise ValueError(f"{job.model}: of its {len(names)} matrices none is selected")
    return found


def _require_budget(job: Job, shapes: Sequence[tuple[int, ...]], families: Sequence[str]) -> None:
    """Refuse a budget below what the cheapest structures cost, before anything is measured."""
    if not job.budget > 0:
        raise ValueError(f"--budget {job.budget:g}: expected more than 0: a share, as 0.5, or a number of parameters")
    least = {(m, n): _least(m, n, families) for m, n in set(shapes)}
    total, cheapest = sum([m * n for m, n in shapes]), sum([least[m, n] for m, n in shapes])
    if (job.budget * total if job.budget <= 1 else job.budget) >= cheapest:
        return
    what = (
        f"a share of {total:,} parameters"
        if job.budget <= 1
        else f"above 1 it counts parameters, of which there are {total:,}"
    )
    way = f"for {job.budget:g} % give --budget {job.budget / 100:g}" if 1 < job.budget <= 100 else "give more"
    raise ValueError(
        f"--budget {job.budget:g}: {what}; the cheapest options cost {cheapest:,} together ({cheapest / total:.4f}); "
        f"{way}, or take more --families"
    )


def _least(m: int, n: int, families: Sequence[str]) -> int:
    """The parameters of the cheapest structure of a weight."""
    found = candidates(families, (m,), n, "weight")
    return min([m * n, *[sum([one.num_params for one in each.operators]) for each in found]])


def _require_room(job: Job) -> None:
    """Refuse to write over a result or the model."""
    require_folder(job.out)
    there = [name for name in RESULTS if (job.out / name).exists()]
    if there and not job.force:
        raise ValueError(f"{str(job.out)!r} holds a result, {there[0]}: take another --out, or --force to replace it")
    if any((job.out / name).exists() and (job.out / name).samefile(job.model) for name in RESULTS):
        raise ValueError(f"{str(job.model)!r} would be written over: take another --out")


def _known(path: Path | None) -> list[str]:
    """The names of arrays of a calibration file."""
    return [] if path is None else npz.names(path)


def _moment(job: Job, known: list[str], name: str, n: int) -> np.ndarray | None:
    """The second moment of a weight's inputs, or None."""
    if job.calibration is None or name not in known:
        return None
    (array,) = npz.read(job.calibration, [name])
    what = f"{job.calibration}: array {name!r} of shape {array.shape}"
    if array.ndim != 2 or array.shape[1] != n or not array.shape[0] or array.dtype.kind != "f":
        raise ValueError(f"{what}, {array.dtype}: expected ({n}, {n}) or (N, {n}) floating numbers")
    array = array.astype(np.float64)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{what} holds NaN or infinity")
    if array.shape[0] != n:
        return array.T @ array / array.shape[0]
    if not np.allclose(array, array.T, rtol=1e-4, atol=1e-6 * np.abs(array).max()):
        raise ValueError(f"{what} is taken for a second moment and is not symmetric; give other than {n} inputs")
    return (array + array.T) / 2


@contextmanager
def _naming(model: Path, name: str) -> Iterator[None]:
    """Errors of a tensor with its name."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{model}: tensor {name!r}: {error}") from error
