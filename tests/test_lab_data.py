"""The lab's data: the same for the same seed, and what its sources say it is."""

import numpy as np
import pytest

from linops.lab import data, mnist1d


def test_mnist1d_is_the_same_for_the_same_seed():
    x, y = mnist1d.generate(500, seed=3)
    again, labels = mnist1d.generate(500, seed=3)
    np.testing.assert_array_equal(x, again)
    np.testing.assert_array_equal(y, labels)
    assert not np.array_equal(x, mnist1d.generate(500, seed=4)[0])


def test_mnist1d_is_standardised_and_balanced():
    x, y = mnist1d.generate(2000)
    assert x.shape == (2000, 40)
    assert x.dtype == np.float32
    assert abs(x.mean()) < 1e-5
    assert x.std() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(np.bincount(y), 200)


def test_shuffling_permutes_positions_alike_in_every_sample():
    plain, labels = mnist1d.generate(300, seed=1, shuffle_seq=False)
    shuffled, same_labels = mnist1d.generate(300, seed=1, shuffle_seq=True)
    order = [int(np.flatnonzero((plain == column[:, None]).all(0))[0]) for column in shuffled.T]
    assert sorted(order) == list(range(40))
    assert order != list(range(40))
    np.testing.assert_array_equal(labels, same_labels)


def test_signals_are_stretched_templates():
    signals, drawn = mnist1d._dilated(np.arange(10), np.random.default_rng(0))
    lengths = 12 + np.random.default_rng(0).integers(36, 61, 10)  # the generator's only draw so far
    for template, length, signal, mask in zip(mnist1d.TEMPLATES, lengths, signals, drawn):
        heights = (template - template[0]) / template.std() / 6
        where = np.arange(72) * (length - 1) / 71
        np.testing.assert_allclose(signal, np.interp(where, np.arange(13), [*heights, 0]), atol=1e-12)
        np.testing.assert_array_equal(mask, where < 12)


def test_digits_are_split_by_seed():
    one, other = data.load("digits", seed=0), data.load("digits", seed=1)
    assert one.x_train.shape == (1437, 64)
    assert one.x_test.shape == (360, 64)
    assert (one.x_train.min(), one.x_train.max()) == (-1, 1)
    assert not np.array_equal(one.y_train, other.y_train)


def test_npz_is_flattened(tmp_path):
    path = tmp_path / "own.npz"
    images = np.ones((6, 2, 3), np.float64)
    np.savez(path, x_train=images, y_train=np.arange(6), x_test=images[:2], y_test=np.arange(2))
    found = data.load(str(path))
    assert found.x_train.shape == (6, 6)
    assert found.x_train.dtype == np.float32
    assert found.num_classes == 6


FITTING = {"x_train": np.ones((2, 3)), "y_train": np.ones(2, int), "x_test": np.ones((1, 3)), "y_test": np.ones(1, int)}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": np.ones((2, 3))}, "no array y_train, x_test, y_test"),
        (
            {"x_train": np.ones((2, 3)), "y_train": np.ones(2), "x_test": np.ones((1, 3)), "y_test": np.ones(1, int)},
            "y_train is float64",
        ),
        (
            {
                "x_train": np.ones((2, 3)),
                "y_train": np.ones(3, int),
                "x_test": np.ones((1, 3)),
                "y_test": np.ones(1, int),
            },
            r"\(2, 3\)",
        ),
        (
            {
                "x_train": np.ones((2, 3)),
                "y_train": np.ones(2, int),
                "x_test": np.ones((1, 4)),
                "y_test": np.ones(1, int),
            },
            "3 features",
        ),
        (FITTING | {"x_train": np.ones((0, 3))}, r"x_train is float64 of shape \(0, 3\)"),
        (FITTING | {"x_train": np.ones(2)}, r"x_train is float64 of shape \(2,\)"),
        (FITTING | {"x_train": np.array([["a"], ["b"]])}, "x_train is <U1"),
        (FITTING | {"x_test": np.ones((1, 3), complex)}, "x_test is complex128"),
        (FITTING | {"x_test": np.full((1, 3), np.nan)}, "x_test holds numbers that are not finite"),
        (FITTING | {"y_test": np.ones((), int)}, "y_test of shape"),
    ],
)
def test_wrong_files_say_what_is_wrong(tmp_path, arrays, message):
    path = tmp_path / "wrong.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message):
        data.load(str(path))


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04garbage"])
def test_what_is_no_npz_says_so(tmp_path, content):
    path = tmp_path / "wrong.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"wrong\.npz"):
        data.load(str(path))


def test_an_array_alone_is_no_npz(tmp_path):
    path = tmp_path / "wrong.npz"
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(ValueError, match="savez"):
        data.load(str(path))


def test_objects_are_not_read(tmp_path):
    path = tmp_path / "wrong.npz"
    np.savez(path, **FITTING | {"x_train": np.array([{}, {}], object)})
    with pytest.raises(ValueError, match=r"x_train is object of shape \(2,\); expected numbers"):
        data.load(str(path))


@pytest.mark.parametrize("source", ["mnist2d", "missing.npz"])
def test_unknown_sources(source):
    with pytest.raises(ValueError, match=source):
        data.load(source)
