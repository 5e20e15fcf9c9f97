"""Files that are changed at random, and what reading them does: by hypothesis' seeds in tests, or by atheris.

python -m tests.fuzz.files --seconds 60          # coverage-guided, by atheris, in bounded memory
"""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from types import FunctionType

import numpy as np

import linops as lo
from linops import encoding, reading, safetensors, strict_json
from linops.encoding import document, from_document

#: what stands in the place of a value
VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    3,
    2**31,
    2**40,
    2**62,
    2**63,
    -(2**62),
    10**6,
    1.5,
    1e308,
    "",
    "a",
    "os",
    [],
    {},
]
VALUES += [{}, [1], [2**40] * 3, [[1]], {"operator": 0}, {"shape": [2**40, 2**40], "dtype": "float32"}]
VALUES += [{"shape": [], "dtype": "float32"}, {"shape": [0], "dtype": "int8"}]
VALUES += [{"shape": [4, 4], "dtype": "complex128"}]
VALUES += [{"range": [0, 2**60, 1]}, {"range": [0, 10, 0]}, {"float": "nan"}, {"complex": ["1", "2"]}]
VALUES += [{"int": "9" * 300}, {"data": "", "shape": [0], "dtype": "int64"}, {"kept": "x"}]


def _places(value, path=()):
    """The paths to all values within plain data."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*path, key))


def changed(plain, seed):
    """Plain data with one to three values changed, left out, or doubled."""
    rng, plain = random.Random(seed), json.loads(json.dumps(plain))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        path = rng.choice(list(_places(plain["operators"])) or [()])
        if not path:
            break
        holder = plain["operators"]
        for key in path[:-1]:
            holder = holder[key]
        how = rng.random()
        if how < 0.8:
            holder[path[-1]] = json.loads(json.dumps(rng.choice(VALUES)))
        elif how < 0.9:
            del holder[path[-1]]
        elif isinstance(holder, list):
            holder.append(json.loads(json.dumps(rng.choice(holder))))
    return plain


def mutated(data, seed):
    """Bytes of a file with one to four of them changed, left out, put in, or the rest cut off; most in the header."""
    rng, data = random.Random(seed), bytearray(data)
    header = int.from_bytes(data[:8], "little") + 8
    for _ in range(rng.choice([1, 1, 2, 4])):
        place = min(rng.randrange(header if rng.random() < 0.9 else len(data)), len(data) - 1)
        how = rng.random()
        if how < 0.4:
            data[place] = rng.randrange(256)
        elif how < 0.6:
            del data[place]
        elif how < 0.8:
            data[place:place] = bytes(rng.choices(b'0123456789[]{},:"-.eN', k=rng.choice([1, 3])))
        else:
            data = data[:place]
        data = data or bytearray(1)
    return bytes(data)


def good():
    """Bytes of files that are read."""
    values = [
        lo.btt(8, 8).init(seed=0),
        lo.Permute.random(40_000, 0) @ lo.Diagonal(np.ones(40_000, "float32")),
        {"a": lo.Dense(np.ones((2, 2)) * 1j), "b": np.ones(3), "c": lo.monarch(4, 4)},
    ]
    with tempfile.TemporaryDirectory() as folder:
        for number, value in enumerate(values):
            lo.save(Path(folder) / str(number), value)
            yield (Path(folder) / str(number)).read_bytes()


def read(data, path):
    """Read bytes as a file: an operator, or a documented error."""
    path.write_bytes(data)
    try:
        lo.load(path)
    except (ValueError, TypeError) as error:
        return error
    return None


def read_structure(plain):
    """Read plain data as a structure: the structure, or a documented error."""
    try:
        structure = from_document(plain)
    except ValueError as error:
        return error
    assert from_document(document(structure)) == structure
    return structure


def main():
    """Run atheris on the reader of files."""
    import atheris

    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--memory", type=int, default=2048, help="MiB")
    parser.add_argument("--keep", default=".", help="the folder for a file that fails")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, data in enumerate(good()):
            (corpus / str(number)).write_bytes(data[:20_000])
        path = Path(folder) / "file"

        for module in (safetensors, strict_json, reading, encoding):
            for name, function in list(vars(module).items()):
                if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                    setattr(module, name, atheris.instrument_func(function))

        limits = [
            f"-max_total_time={options.seconds}",
            f"-rss_limit_mb={options.memory}",
            "-timeout=10",
            "-max_len=20000",
        ]
        atheris.Setup([sys.argv[0], *limits, str(corpus)], lambda data: read(data, path))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
