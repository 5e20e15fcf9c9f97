"""Writes the files that every later version must load: ``PYTHONPATH=. python tests/write_files.py``, once a version."""

from pathlib import Path

import numpy as np
import torch
from cases import CASES
from cases.limits import names
from frameworks import settle
from helpers import build
from torch import nn

import linops as lo
from linops.families import FAMILIES
from linops.writing import VERSION

FOLDER = Path(__file__).parent / "files" / f"v{VERSION}"


def operators():
    """Every case that can be saved by its name, and its matrix."""
    for case in CASES:
        A, matrix, _ = build(case)
        if "numpy" in names(CASES[case]):
            yield case, A, matrix


def families():
    """Every family with numbers, and the matrices that they are."""
    for name, family in FAMILIES.items():
        A = family(24, 16).init(seed=0, dtype="float64")
        yield name, A, A.to_dense()


def model():
    """The dense model of the file of a model."""
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 24), nn.Linear(24, 8, bias=False))


def main():
    """Write the files; those that are there stay."""
    settle()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, source in (("operators", operators), ("families", families)):
        found = {}
        for key, A, matrix in source():
            try:
                lo.save(FOLDER / "one", A)
            except TypeError:  # callables
                continue
            (FOLDER / "one").unlink()
            found |= {key: A, f"{key}.dense": matrix}
        lo.save(FOLDER / f"{name}.safetensors", found)
    torch.manual_seed(0)
    small, x = model(), torch.from_numpy(np.linspace(-1, 1, 24).reshape(3, 8)).float()
    lo.nn.replace_linear_(small, "btt", exclude="3", parts={"2": 3}, weight_norm=True)
    lo.nn.save(small, FOLDER / "model.safetensors")
    lo.save(FOLDER / "outputs.safetensors", {"x": x, "y": small.eval()(x).detach()})


if __name__ == "__main__":
    main()
