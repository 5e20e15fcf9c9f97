"""The files of every version are loaded by this one, and every operator and family is among those of the newest."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import as_numpy
from write_files import FOLDER, families, model, operators

import linops as lo

VERSIONS = sorted(Path(__file__).parent.joinpath("files").iterdir())


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("name", ["operators", "families"])
@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
def test_operators_of_every_version_are_loaded(version, name, backend):
    found = lo.load(version / f"{name}.safetensors", backend)
    numbers = lo.load(version / f"{name}.safetensors")
    keys = [key for key in found if isinstance(found[key], lo.LinearOperator)]
    assert keys
    for key in keys:
        matrix = as_numpy(found[f"{key}.dense"])
        assert found[key].backend in (backend, None)
        assert found[key].shape == matrix.shape
        if backend == "jax":  # which compiles a program for each
            assert all(np.array_equal(leaf, same) for (_, leaf), (_, same) in _leaves(found[key], numbers[key]))
            continue
        np.testing.assert_allclose(as_numpy(found[key].to_dense()), matrix, rtol=1e-9, atol=1e-9)


def _leaves(one, other):
    return zip(one.named_leaves(), other.named_leaves(), strict=True)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
def test_models_of_every_version_are_loaded(version):
    found = lo.nn.load(model(), version / "model.safetensors")
    outputs = lo.load(version / "outputs.safetensors", "torch")
    torch.testing.assert_close(found.eval()(outputs["x"]), outputs["y"])


@pytest.mark.parametrize("source", [operators, families])
def test_every_operator_and_family_is_in_the_newest(source):
    found = lo.load(FOLDER / f"{source.__name__}.safetensors")
    for key, A, _ in source():
        if key in found:
            assert type(found[key]) is type(A)
            continue
        assert source is operators
        with pytest.raises(TypeError, match="cannot be saved"):
            lo.save("nowhere", A)
