"""GPT, ViT, text and CIFAR archives."""

import io
import os
import pickle
import tarfile

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from linops.lab import cifar, data, problems, runs
from linops.lab.macs import macs
from linops.lab.parsing import parse
from linops.lab.runs import Run
from linops.lab.text import load_text
from linops.lab.train import Settings
from linops.lab.transformer import GPT, Attention, ViT


@pytest.fixture(params=["gpt", "vit"])
def problem(request):
    if request.param == "gpt":
        return problems.Text(np.frombuffer(b"to be or not to be, that is the question. " * 300, np.uint8), context=16)
    return problems.Images(data.load("digits"))


def test_models_learn_and_are_structured(problem):
    run = Run(parse("btt"), 32, depth=1)
    row, losses = runs.execute(problem, run, Settings(steps=100, batch=32, checkpoint_every=0))
    assert np.mean(losses[-5:]) < 0.8 * losses[0]
    model = runs.build(problem, run)
    structured = [name for name, module in model.named_modules() if hasattr(module, "structure")]
    assert structured == [name for name, _ in model.named_modules() if problem.structured(name)]
    assert len(structured) == 6
    assert row["num_params"] == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("text", ["dense", "btt", "monarch"])
def test_macs_are_what_torch_counts(problem, text):
    model = runs.build(problem, Run(parse(text), 32, depth=1))
    examples = problem.example().repeat(4, *[1] * (problem.example().ndim - 1))
    # the CPU's fused kernel is not counted
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(examples)
    assert counter.get_total_flops() == 4 * 2 * macs(model, problem.example())


def test_models_start_at_zero(problem):
    model = runs.build(problem, Run(parse("btt"), 32))
    assert not model(problem.example()).any()


def test_gpt_is_causal():
    torch.manual_seed(0)
    model = GPT(50, 12, width=32)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randint(50, (2, 12))
    changed = x.clone()
    changed[:, 8:] = (changed[:, 8:] + 1) % 50
    difference = (model(x) - model(changed)).abs().amax((0, 2))
    assert difference[:8].max() < 1e-5
    assert difference[8] > 1e-3


def test_patches_tile_the_image():
    image = torch.arange(64.0).reshape(1, 64)
    patches = ViT((1, 8, 8), 10, width=16).patches(image)
    assert patches.shape == (1, 16, 4)
    assert patches[0, 0].tolist() == [0, 1, 8, 9]
    assert patches[0, 5].tolist() == [18, 19, 26, 27]


def test_wrong_sizes_are_errors():
    with pytest.raises(ValueError, match="no multiple"):
        Attention(24, causal=True)
    with pytest.raises(ValueError, match="tile"):
        ViT((1, 9, 8), 10)
    with pytest.raises(ValueError, match="no known shape"):
        problems.Images(data.load("mnist1d"))
    with pytest.raises(ValueError, match="learns text"):
        problems.make("gpt", "digits", None, 0, "cpu")


def test_text_of_files_and_folders(tmp_path):
    (tmp_path / "b.txt").write_bytes(b"b" * 6000)
    (tmp_path / "a.txt").write_bytes(b"a" * 6000)
    text = load_text(str(tmp_path))
    assert bytes(text) == b"a" * 6000 + b"b" * 6000
    with pytest.raises(ValueError, match="6000 bytes"):
        load_text(str(tmp_path / "a.txt"))
    with pytest.raises(ValueError, match="no such"):
        load_text(str(tmp_path / "c.txt"))


def archive(path, members):
    with tarfile.open(path, "w:gz") as made:
        for name, value in members.items():
            content = pickle.dumps(value)
            entry = tarfile.TarInfo(f"cifar/{name}")
            entry.size = len(content)
            made.addfile(entry, io.BytesIO(content))


def batch(labels, name=b"labels"):
    return {b"data": np.full((len(labels), 3072), 255, np.uint8), name: labels}


def test_cifar_archives(tmp_path):
    archive(
        tmp_path / "c10.tar.gz",
        {"data_batch_1": batch([1, 2]), "data_batch_2": batch([3]), "test_batch": batch([4]), "batches.meta": {}},
    )
    found = data.load(str(tmp_path / "c10.tar.gz"))
    assert found.y_train.tolist() == [1, 2, 3]
    assert found.image == (3, 32, 32)
    assert found.x_test.shape == (1, 3072)
    assert found.x_test.max() == 1
    archive(
        tmp_path / "c100.tar.gz", {"train": batch([5], b"fine_labels"), "test": batch([6], b"fine_labels"), "meta": {}}
    )
    assert data.load(str(tmp_path / "c100.tar.gz")).y_test.tolist() == [6]


def test_binary_cifar_archives(tmp_path):
    def records(*labels):
        return b"".join(bytes(label) + bytes([255] * 3072) for label in labels)

    def made(name, members):
        with tarfile.open(tmp_path / name, "w:gz") as out:
            for member, content in members.items():
                entry = tarfile.TarInfo(f"cifar/{member}")
                entry.size = len(content)
                out.addfile(entry, io.BytesIO(content))
        return str(tmp_path / name)

    ten = {"data_batch_1.bin": records([1], [2]), "data_batch_2.bin": records([3]), "test_batch.bin": records([4])}
    found = data.load(made("c10.tar.gz", ten | {"batches.meta.txt": b"cat"}))
    assert (found.y_train.tolist(), found.y_test.tolist()) == ([1, 2, 3], [4])
    assert found.image == (3, 32, 32)
    assert found.x_test.min() == 1
    hundred = {"train.bin": records([9, 5]), "test.bin": records([9, 6])}  # a coarse label, and the fine one
    assert data.load(made("c100.tar.gz", hundred)).y_test.tolist() == [6]
    with pytest.raises(ValueError, match=r"test_batch\.bin has 3072 bytes"):
        data.load(made("cut.tar.gz", ten | {"test_batch.bin": records([4])[:-1]}))


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-pickle",)


def test_harmful_archives_run_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    archive(tmp_path / "bad.tar.gz", {"data_batch_1": Harmful(), "test_batch": batch([1])})
    with pytest.raises(ValueError, match="no CIFAR archive does"):
        data.load("bad.tar.gz")
    assert not (tmp_path / "made-by-a-pickle").exists()
    archive(tmp_path / "empty.tar.gz", {"other": {}})
    with pytest.raises(ValueError, match="no training or no test batch"):
        cifar.read(tmp_path / "empty.tar.gz")
