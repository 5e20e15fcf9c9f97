"""What ``linops estimate`` does: one estimate a structure and mesh, as a table, as JSON and as a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from linops.lab import tables as t
from linops.lab.console import console
from linops.lab.folding import Folding
from linops.lab.keeping import write_json
from linops.lab.outputs import require_folder, say_files
from linops.lab.progress import Progress
from linops.nn.estimated import Estimate, between, quantity, span, title
from linops.nn.estimation import estimate
from linops.nn.hardware import hardware as hardware_of
from linops.nn.mesh import MOST
from linops.nn.transformer import Transformer


def meshes_of(mesh: str | None, devices: str | None, default: str) -> list[dict[str, int]]:
    """The meshes that were asked for.

    Args:
        mesh: As in ``"data=8,model=4"``, or None.
        devices: As in ``"1,8,64"``, or None: then the mesh alone.
        default: The devices, where neither is given.

    Returns:
        Sizes by name.

    Raises:
        BadParameter: If one is malformed, or the model's axis does not divide the devices.

    Example:
        >>> meshes_of("data=8,model=4", None, "1"), meshes_of("model=2", "2,8", "1")
        ([{'data': 8, 'model': 4}], [{'data': 1, 'model': 2}, {'data': 4, 'model': 2}])
    """
    sizes = {"data": 1, "model": 1}
    for item in (mesh or "").split(",") if mesh else []:
        name, _, value = item.strip().partition("=")
        if name not in sizes:
            raise typer.BadParameter(f"{item!r}: expected data=NUMBER or model=NUMBER", param_hint="'--mesh'")
        if f"{name}=" in (mesh or "").partition(item)[0]:
            raise typer.BadParameter(f"{mesh!r}: {name} is given twice", param_hint="'--mesh'")
        sizes[name] = _number(value, "--mesh")
    if devices is None and mesh is not None:
        return [sizes]
    found = []
    for item in dict.fromkeys((devices or default).replace(" ", "").split(",")):
        count, ranks = _number(item, "--devices"), sizes["model"]
        if count % ranks:
            raise typer.BadParameter(
                f"{count} devices do not divide into groups of the mesh's {ranks} model ranks", param_hint="'--devices'"
            )
        found.append({"data": count // ranks, "model": ranks})
    return found


def _number(text: str, option: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:12]) <= MOST):
        raise typer.BadParameter(f"{text!r}: expected a number of devices, 1 to {MOST:,}", param_hint=f"'{option}'")
    return int(text)


def require_room(out: Path | None, names: Sequence[str], force: bool) -> None:
    """Refuse to write over a result.

    Args:
        out: The folder, or None.
        names: Of the files.
        force: Whether they may be replaced.

    Raises:
        ValueError: If there is a result, or the folder cannot be written to.
    """
    if out is None:
        return
    require_folder(out)
    there = [name for name in names if (out / name).exists()]
    if there and not force:
        raise ValueError(f"{str(out)!r} holds a result, {there[0]}: take another --out, or --force to replace it")


def estimates(
    shapes: Transformer,
    meshes: Sequence[Mapping[str, int]],
    batch: int,
    families: Sequence[str],
    hardware: str,
    options: Mapping[str, Any],
) -> list[Estimate]:
    """The estimates, of every structure on every mesh.

    Args:
        shapes: Of the model.
        meshes: Devices by axis.
        batch: Rows of a data rank.
        families: Structures.
        hardware: Its name or file.
        options: As for `lo.nn.estimate`.

    Returns:
        The estimates, those of a structure beside each other.
    """
    machine, found = hardware_of(hardware), []
    with Progress(len(meshes) * len(families)) as progress:
        for family in families:
            for mesh in meshes:
                progress.begin(f"{family} on {mesh['data'] * mesh['model']}", 1)
                found.append(estimate(shapes, mesh, batch, machine, families=[family], **options)[family])
                progress.end()
    return found


def show(found: Sequence[Estimate], as_json: bool, out: Path | None, names: Sequence[str]) -> None:
    """Prints and writes estimates.

    Args:
        found: The estimates.
        as_json: Whether to print JSON.
        out: The folder for files, or None.
        names: Of the files: of JSON, of the plot.
    """
    document = [one.to_dict() for one in found]
    if out is not None:
        from linops.lab.estimate_plot import plot

        write_json(out / names[0], document)
        plot(found, out / names[1])
    if as_json:
        typer.echo(json.dumps(document, indent=1))
        return
    shown = console()
    shown.print(table(found))
    if out is not None:
        say_files(shown, out, *names)


def table(found: Sequence[Estimate]) -> Folding:
    """A row a structure and mesh.

    Args:
        found: The estimates.

    Returns:
        A table for rich.
    """
    first, sweep = found[0], len({one.devices for one in found}) > 1
    columns = ["structure on devices" if sweep else "structure"]
    columns += ["memory", "fits", "FLOPs", "sent", "time", "tokens/s", "params"]
    rows = [
        (
            f"{one.structure} on {t.count(one.devices)}" if sweep else one.structure,
            quantity(one.memory.total, "B"),
            "yes" if one.fits else "no",
            quantity(one.flops, ""),
            quantity(one.bytes_sent, "B"),
            between(*one.seconds),
            span(*[quantity(rate, "") for rate in one.tokens_per_second]),
            quantity(one.num_params, ""),
        )
        for one in found
    ]
    heading = title(first)
    if sweep:
        ranks = first.mesh["model"]
        heading[0] = f"{first.model} on {first.hardware.name}" + (f", {ranks} model ranks" if ranks > 1 else "")
    caption = (
        "Of a device and step. Times are estimates: from full overlap of sending and computing to none, "
        f"products at {100 * first.hardware.efficiency:.0f} % of the peak, "
        f"bytes at {100 * first.hardware.reach:.0f} % of bandwidth."
    )
    if any(not one.fits for one in found):
        caption += f"\nNot all fit {quantity(first.hardware.memory, 'B')}: {advice(found)}"
    whole: dict[str, dict[str, None]] = {}
    for one in found:
        if one.whole:
            whole.setdefault(", ".join(one.whole), {})[one.structure] = None
    for layers, structures in whole.items():
        caption += f"\nWhole on every model rank, for {', '.join(structures)}: {layers}."
    return t.table("\n".join(heading), columns, rows, caption)


def advice(found: Sequence[Estimate]) -> str:
    """What would take less memory.

    Args:
        found: The estimates.

    Returns:
        A few words.
    """
    ways = {}
    for one in found:
        if not one.fits and one.memory.activations > one.memory.total / 2:
            ways["a smaller --batch or --seq" if one.options["checkpointing"] == 1 else "--checkpointing 1"] = None
        elif not one.fits and one.options["engine"] == "ddp":
            ways["--engine fsdp"] = None
    return ", ".join([*ways, "more devices, or a smaller model"]) + "."
