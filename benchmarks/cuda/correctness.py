"""Every operator and layer of the tests on the device, against float64 on the CPU: products, gradients, compiled."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

import linops as lo
from benchmarks.cuda.running import Case, Row, short
from linops.specs import dtype_name

TESTS = Path(__file__).parents[2] / "tests"
VECTORS = 5
#: how far results may be apart, as a share of the norm of the result
APART = {torch.float32: 1e-5, torch.bfloat16: 4e-2, torch.complex64: 1e-5}


def tables() -> tuple[dict[str, Any], dict[str, Any]]:
    """The tests' tables: makers of operators with their matrices, and of symbolic operators for layers.

    Returns:
        Both by name. They need numpy and scipy alone.
    """
    if str(TESTS) not in sys.path:
        sys.path.append(str(TESTS))
    return import_module("cases").CASES, import_module("layer_structures").OPERATORS


def operators(device: str, every: int = 1) -> Iterator[Case]:
    """A case for each operator of the conformance suite and dtype.

    Args:
        device: Where.
        every: Which share of the operators: each so-manyth.

    Yields:
        Cases.
    """
    made = list(tables()[0].items())[::every]
    for dtype in APART:
        for name, make in made:
            allowed = getattr(make, "names", None)
            wanted = "complex128" if dtype.is_complex else "float32"
            if allowed is None or {"torch", wanted} <= allowed:
                yield Case({"case": name, "dtype": dtype_name(dtype)}, partial(_operator, make, name, dtype, device))


def _operator(make: Any, name: str, dtype: torch.dtype, device: str) -> list[Row]:
    operator = make(_randoms(name, dtype.is_complex))[0].to(backend="torch")
    narrow = operator.to(dtype=dtype) if operator.dtype is not None else operator
    # the same numbers, rounded as on the device
    exact = narrow.to(dtype=torch.complex128 if dtype.is_complex else torch.float64) if narrow.dtype else operator
    random, (m, n) = np.random.default_rng(1), operator.shape
    x, v, u = (_rounded(random.standard_normal(size), dtype) for size in ((n, VECTORS), (n,), (VECTORS, m)))
    here = {"product": (exact, x), "vector": (exact, v), "left": (exact, u)}
    there = narrow.to(device=device)
    checks: dict[str, Callable[[Any, torch.Tensor], Any]] = {
        "product": lambda A, x: A @ x,
        "vector": lambda A, x: A @ x,
        "left": lambda A, x: x @ A,
        "gradients": _gradients,
    }
    here["gradients"] = here["product"]
    return [_compared(checks, here, {key: (there, value.to(device, dtype)) for key, (_, value) in here.items()}, dtype)]


def _gradients(operator: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """Of a weighted |A x|², with respect to x and all leaves that have one: |A x|² of an orthogonal A has none."""
    leaves = [leaf.detach().clone() for _, leaf in operator.named_leaves()]
    wanted = [leaf.requires_grad_() for leaf in leaves if leaf.is_floating_point() or leaf.is_complex()]
    x = x.detach().clone().requires_grad_()
    y = operator.with_leaves(leaves) @ x
    weights = torch.linspace(1, 2, y.shape[0], dtype=torch.float64, device=y.device)[:, None]
    found = torch.autograd.grad((y.abs().square() * weights).sum(), [x, *wanted], allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


def layers(device: str, every: int = 1) -> Iterator[Case]:
    """A case for each structure of the tests of layers and dtype.

    Args:
        device: Where.
        every: Which share of the structures: each so-manyth.

    Yields:
        Cases.
    """
    made = list(tables()[1].items())[::every]
    for dtype in (torch.float32, torch.bfloat16):
        for name, make in made:
            yield Case({"case": name, "dtype": dtype_name(dtype)}, partial(_layer, make, dtype, device, None))


def compiled(device: str, backend: str, every: int = 1) -> Iterator[Case]:
    """The layers in float32, compiled, with their gradients.

    Args:
        device: Where.
        backend: Of `torch.compile`.
        every: Which share of the structures: each so-manyth.

    Yields:
        Cases.
    """
    for name, make in list(tables()[1].items())[::every]:
        yield Case({"case": name, "dtype": "float32"}, partial(_layer, make, torch.float32, device, backend))


def compiled_operators(device: str, every: int = 1) -> Iterator[Case]:
    """An operator of each class in float32, compiled down to torch's own kernels: whether programs are what they trace.

    Args:
        device: Where.
        every: Which share of the classes: each so-manyth.

    Yields:
        Cases.
    """
    first: dict[str, tuple[str, Any]] = {}
    for name, make in tables()[0].items():
        if {"torch", "float32"} <= getattr(make, "names", {"torch", "float32"}):
            first.setdefault(type(make(_randoms(name, False))[0]).__name__, (name, make))
    for kind in list(first)[::every]:
        if kind not in CALLABLES:
            name, make = first[kind]
            yield Case({"case": name, "dtype": "float32"}, partial(_compiled_operator, make, name, device))


#: of which torch.compile takes no product
CALLABLES = ("Function", "Jacobian", "Hessian")


def _compiled_operator(make: Any, name: str, device: str) -> list[Row]:
    exact = make(_randoms(name, False))[0].to(backend="torch")
    x = _rounded(np.random.default_rng(1).standard_normal((exact.shape[1], VECTORS)), torch.float32)
    there = exact.to(dtype=torch.float32, device=device) if exact.dtype is not None else exact.to(device=device)
    torch._dynamo.reset()
    product = torch.compile(lambda A, x: A @ x, fullgraph=True, backend="aot_eager")
    row = {"outcome": "right", "product": _apart(product(there, x.to(device, torch.float32)), exact @ x)}
    if not row["product"] <= 2 * APART[torch.float32]:
        row |= {"outcome": "wrong", "why": f"product is off by {row['product']:.1e}"}
    return [row]


def _layer(make: Any, dtype: torch.dtype, device: str, backend: str | None) -> list[Row]:
    layer = lo.nn.torch.Linear(make(), dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = torch.randn(VECTORS, layer.in_features, generator=generator).to(dtype)
    exact = lo.nn.torch.Linear(make(), dtype=torch.float64)
    exact.load_state_dict({name: value.double() for name, value in layer.state_dict().items()})
    layer = layer.to(device)
    if backend:
        torch._dynamo.reset()
    there = torch.compile(layer, fullgraph=True, backend=backend) if backend else layer
    checks = {"product": lambda layer, x: layer(x), "gradients": _layer_gradients}
    if backend:  # one program
        del checks["product"]
    here, narrow = (exact, x.double()), (there, x.to(device))
    return [_compared(checks, dict.fromkeys(checks, here), dict.fromkeys(checks, narrow), dtype)]


def _layer_gradients(layer: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """The product, and the gradients of its square."""
    x = x.detach().clone().requires_grad_()
    y = layer(x)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])]


def _compared(checks: Any, here: Any, there: Any, dtype: torch.dtype) -> Row:
    """A row with the error of each check, and what was wrong."""
    row: Row = {"outcome": "right"}
    wrong = []
    for name, check in checks.items():
        try:
            expected = check(*here[name])
        except Exception:  # not defined for this operator, or dtype, anywhere
            continue
        try:
            found = check(*there[name])
        except Exception as error:
            if not _raises_on_cpu(check, there[name]):
                wrong.append(f"{name} raised {short(error)}")
            continue
        row[name] = _apart(found, expected)
        bound = APART[dtype] * (10 if name == "gradients" else 1)
        if not row[name] <= bound:
            wrong.append(f"{name} is off by {row[name]:.1e}, allowed {bound:.0e}")
    if wrong:
        row |= {"outcome": "wrong", "why": "; ".join(wrong)}
    return row


def _raises_on_cpu(check: Any, given: Any) -> bool:
    """Whether the CPU has no such product of this dtype either, as of Fourier transforms of bfloat16."""
    subject, x = given
    if isinstance(subject, torch.nn.Module) or x.device.type == "cpu":
        return x.device.type == "cpu" and x.dtype == torch.bfloat16
    try:
        check(subject.to(device="cpu"), x.cpu())
    except Exception:
        return True
    return False


def _apart(found: Any, expected: Any) -> float:
    """The largest error of several tensors, each as a share of its norm; of one that should be zero, of the largest."""
    pairs = [(found, expected)] if isinstance(found, torch.Tensor) else list(zip(found, expected, strict=True))
    norms = [float(b.detach().norm()) for _, b in pairs]
    largest, errors = max([1e-30, *norms]), [0.0]
    for (a, b), norm in zip(pairs, norms):
        if a.shape != b.shape:
            raise AssertionError(f"shape {tuple(a.shape)}, expected {tuple(b.shape)}")
        wide = torch.complex128 if b.is_complex() else torch.float64
        errors.append(
            float((a.detach().cpu().to(wide) - b.detach().to(wide)).norm())
            / (norm if norm > 1e-9 * largest else largest)
        )
    return float(np.max(errors))  # NaN if one is


def _rounded(array: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """Numbers that a dtype holds, in double precision."""
    return torch.from_numpy(array).to(dtype).to(torch.complex128 if dtype.is_complex else torch.float64)


def _randoms(name: str, is_complex: bool) -> Callable[..., np.ndarray]:
    """A maker of random arrays, the same for a name."""
    random = np.random.default_rng(zlib.crc32(name.encode()))

    def array(*shape: int) -> np.ndarray:
        real = random.standard_normal(shape)
        return np.asarray(real + 1j * random.standard_normal(shape) if is_complex else real)

    return array
