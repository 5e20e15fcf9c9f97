"""What a product runs, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from linops.plan.machine import Machine
from linops.plan.step import Step


def explain(header: str, steps: Iterable[Step], itemsize: int, machine: Machine, training: bool = False) -> str:
    """A table of the steps of a program, first step first.

    Args:
        header: The line above the table.
        steps: The steps.
        itemsize: Bytes of one number.
        machine: What steps take.
        training: Whether the steps are those of a forward and a backward pass.

    Returns:
        The table, as text: per step its operands, MACs, FLOPs, bytes moved (read and written), and the time that the
        machine model predicts.
    """
    rows: list[Sequence[str]] = [("step", "what", "operands", "MACs", "FLOPs", "bytes moved", "predicted")]
    total, seconds = [0, 0, 0], 0.0
    for number, step in enumerate(steps, 1):
        took = machine.seconds(step, itemsize, training)
        moved = itemsize * (step.inputs + step.weights + step.outputs)
        flops = 2 * step.macs + step.other_flops
        kind = f"{step.gradient}: {step.kind}" if step.gradient else step.kind
        rows.append((str(number), kind, step.detail, f"{step.macs:,}", f"{flops:,}", f"{moved:,}", _time(took)))
        total = [total[0] + step.macs, total[1] + flops, total[2] + moved]
        seconds += took
    rows.append(("", "total", "", *(f"{value:,}" for value in total), _time(seconds)))
    widths = [max(len(row[column]) for row in rows) for column in range(7)]

    def line(row: Sequence[str]) -> str:
        cells = [
            f"{cell:<{width}}" if column in (1, 2) else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(row, widths))
        ]
        return "  ".join(cells).rstrip()

    rule = "  ".join("─" * width for width in widths)
    return "\n".join([header, line(rows[0]), rule, *map(line, rows[1:-1]), rule, line(rows[-1])])


def _time(seconds: float) -> str:
    """Seconds with a unit; nothing where there are none."""
    if not seconds:
        return ""
    for factor, unit in ((1e6, "µs"), (1e3, "ms")):
        if seconds * factor < 1000:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"
