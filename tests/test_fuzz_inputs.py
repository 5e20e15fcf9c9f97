"""Words and files of users, changed at random: documented errors alone, one line where a command says them."""

import io
import json
import random
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from linops.lab import checkpoint, data, keeping, npz, text
from linops.lab.app import app
from linops.lab.parsing import parse_list

SETTINGS = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
#: characters that structures are made of, and some that they are not
WORDS = st.text(alphabet="abdekmnortu_:=,;.*/\\-+ ()[]0123456789é\0", max_size=40)
PIECES = st.lists(
    st.sampled_from(["dense", "btt", "monarch", ":rank", "=", "all", ":blocks", ",", "2", "-1", "1e9", ";", " ", "x"]),
    max_size=8,
).map("".join)


def refused_or_done(function, *errors):
    """What a function gives, or None where it raises one of these errors, which says something."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function()
    except errors as error:
        said = str(error)
    assert said


def damaged(content, seed):
    """Bytes with some changed, left out, put in, or cut off."""
    rng, content = random.Random(seed), bytearray(content)
    for _ in range(rng.choice([1, 1, 3, 10])):
        place, how = rng.randrange(len(content)), rng.random()
        if how < 0.5:
            content[place] = rng.randrange(256)
        elif how < 0.7:
            del content[place : place + rng.choice([1, 20])]
        elif how < 0.9:
            content[place:place] = rng.randbytes(rng.choice([1, 20]))
        else:
            content = content[: place + 1]
        content = content or bytearray(1)
    return bytes(content)


@SETTINGS
@given(words=st.one_of(WORDS, PIECES))
@example("btt:rank=" + "9" * 5000)
@example("btt:" * 2000)
def test_structures_are_read_or_refused(words):
    refused_or_done(lambda: parse_list(words, (16, 16)), ValueError)


@pytest.mark.full
@SETTINGS
@given(words=st.lists(st.one_of(WORDS, PIECES), max_size=4), command=st.sampled_from(["compare", "train", "compress"]))
def test_command_lines_of_any_words_end_with_one_line(words, command, tmp_path):
    words = [word.replace("\0", "") for word in words]
    if command == "compare":
        words = ["--seconds", "0.1", *words]
    else:
        words = ["--out", str(tmp_path / "out"), "--no-such-option", *words]  # which keeps it from training
    result = CliRunner().invoke(app, [command, *words])
    assert isinstance(result.exception, (SystemExit, type(None))), result.exception
    if result.exit_code:
        assert sum(line.startswith("error: ") for line in result.stderr.splitlines()) == 1, result.stderr


def _npz():
    arrays = {
        "x_train": np.ones((8, 3), "float32"),
        "y_train": np.arange(8) % 2,
        "x_test": np.ones((4, 3), "float32"),
        "y_test": np.arange(4) % 2,
    }
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _archive():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        info = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        info.size = 100
        archive.addfile(info, io.BytesIO(bytes(100)))
    return file.getvalue()


NPZ, ARCHIVE = _npz(), _archive()


@SETTINGS
@given(seed=st.integers(0, 2**32))
def test_data_files_are_read_or_refused(seed, tmp_path):
    for name, content in (("a.npz", NPZ), ("a.tar.gz", ARCHIVE)):
        (tmp_path / name).write_bytes(damaged(content, seed))
        refused_or_done(lambda name=name: data.load(str(tmp_path / name)), ValueError, MemoryError)
    refused_or_done(lambda: npz.names(tmp_path / "a.npz"), ValueError)


@SETTINGS
@given(content=st.binary(max_size=300))
def test_texts_of_any_bytes_are_read_or_refused(content, tmp_path):
    (tmp_path / "text").write_bytes(content * 50)
    found = refused_or_done(lambda: text.load_text(str(tmp_path / "text")), ValueError)
    assert (found is not None) == (len(content) * 50 >= 10_000)


@SETTINGS
@given(seed=st.integers(0, 2**32))
def test_checkpoints_are_read_or_refused(seed, tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"step": 3, "model": {"a": torch.ones(3)}})
    path.write_bytes(damaged(path.read_bytes(), seed))
    refused_or_done(lambda: checkpoint.load(path), ValueError)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@SETTINGS
@given(value=PLAIN, cut=st.integers(0, 100))
def test_results_of_any_kind_are_read_or_refused(value, cut, tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(value)[: -cut or None])
    refused_or_done(lambda: keeping.kept_rows(path, [{"seed": 0}]), ValueError)


def test_the_files_that_are_damaged_are_read(tmp_path):
    (tmp_path / "a.npz").write_bytes(NPZ)
    assert data.load(str(tmp_path / "a.npz")).num_classes == 2
    with pytest.raises(ValueError, match="no such file"):
        data.load(str(Path(tmp_path) / "b.tar.gz"))
