"""Products with sparse matrices in PyTorch: MKL's, embedding bags, and plain ops where these do not do."""

from __future__ import annotations

import sys
import warnings
from functools import cache
from typing import Any

import torch

from linops.backends import primitives as p
from linops.backends.torch_blocks import transforming
from linops.tuning import TORCH_CSR_COLUMNS, TORCH_GATHERED


def index(indices: Any, like: torch.Tensor) -> torch.Tensor:
    """Indices as gathers and scatters are fastest with.

    Args:
        indices: An index array.
        like: What they stand beside.

    Returns:
        A tensor of int64.
    """
    return torch.as_tensor(indices, device=like.device).long()


@p.prepared_sparse.dispatch
def _prepared_sparse(values: torch.Tensor, positions: p.Positions):
    return None


@p.sparse_matmul.dispatch
def _sparse_matmul(values: torch.Tensor, positions: p.Positions, x: torch.Tensor):
    if values.dtype is not x.dtype:
        raise RuntimeError(
            f"Sparse: entries of {values.dtype} times an operand of {x.dtype}; torch does not mix "
            f"dtypes in a product: x.to({values.dtype}), or A.to(dtype={x.dtype})"
        )
    if not _runs_bags(values, x):
        return _sparse_sums(values, positions, x)
    product = _SparseProduct.apply if _differentiates(values, x) else _product
    if values.is_complex():  # products of real and imaginary parts, which stand side by side as columns
        pairs = torch.view_as_real(x.resolve_conj()).reshape(x.shape[0], -1)
        real, imaginary = (
            torch.view_as_complex(product(part, positions, pairs).reshape(positions.shape[0], -1, 2))
            for part in (values.real, values.imag)
        )
        return real + 1j * imaginary
    return product(values, positions, x)


@p.sparse_matvec.dispatch
def _sparse_matvec(values: torch.Tensor, positions: p.Positions, x: torch.Tensor):
    return p.sparse_matmul(values, positions, x.reshape(x.shape[0], 1)).reshape(positions.shape[0])


def _differentiates(values: torch.Tensor, x: torch.Tensor) -> bool:
    """Whether derivatives of a product may be asked for: in reverse mode or, inside a dual level, in forward mode."""
    if torch.is_grad_enabled() and (values.requires_grad or x.requires_grad):
        return True
    return getattr(torch.autograd.forward_ad, "_current_level", 0) >= 0


def _runs_bags(values: torch.Tensor, x: torch.Tensor) -> bool:
    """Whether embedding bags can take the product: plain tensors, neither traced nor transformed."""
    return (
        (values.is_floating_point() or values.is_complex())
        and values.device.type in ("cpu", "cuda")
        and type(x) in (torch.Tensor, torch.nn.Parameter)
        and type(values) in (torch.Tensor, torch.nn.Parameter)
        and values.numel() > 0
        and x.numel() > 0
        and not torch.compiler.is_compiling()
        and not transforming()
    )


def _sparse_sums(values: torch.Tensor, positions: p.Positions, x: torch.Tensor) -> torch.Tensor:
    """The product by plain ops, which every transformation knows; it writes nnz × k numbers on the way."""
    products = values[:, None] * x.index_select(0, index(positions.columns, x))
    return p.scatter(products, positions.rows, positions.shape[0])


def _product(values: torch.Tensor, positions: p.Positions, x: torch.Tensor) -> torch.Tensor:
    """The product by torch's fastest kernel for it; it has no derivatives."""
    return (_csr if _runs_csr(values, positions, x) else _bags)(values, positions, x)


def _runs_csr(values: torch.Tensor, positions: p.Positions, x: torch.Tensor) -> bool:
    """Whether MKL takes the product, and sooner than embedding bags."""
    return (
        (values.dtype is torch.float64 or (values.dtype is torch.float32 and x.shape[1] <= TORCH_CSR_COLUMNS))
        and values.is_cpu
        and positions.columns.dtype is torch.int32
        and positions.row_starts.dtype is torch.int32
        and _has_csr()
        and not torch.is_autocast_enabled("cpu")  # which would cast it to what MKL does not take
        and not torch._C._len_torch_dispatch_stack()  # which would count it as a dense product
    )


@cache
def _has_csr() -> bool:
    """Whether torch multiplies sparse matrices on the CPU; the warning that these are new in torch is given here."""
    if not (torch.backends.mkl.is_available() and sys.platform == "linux"):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor([0, 1], [0], [1.0], device="cpu")
    return True


def _in_rows(values: torch.Tensor, positions: p.Positions) -> tuple[torch.Tensor, torch.Tensor]:
    """Entries and their columns, row by row."""
    if positions.by_row is None:
        return values, positions.columns
    return values.index_select(0, positions.by_row), positions.columns.index_select(0, positions.by_row)


def _csr(values: torch.Tensor, positions: p.Positions, x: torch.Tensor) -> torch.Tensor:
    """The product as that of a sparse matrix of torch, which is made in 5 µs over the same memory."""
    entries, columns = _in_rows(values, positions)
    m, n = positions.shape
    # the device is said, for a default device or `with torch.device` would put the matrix elsewhere
    matrix = torch.sparse_csr_tensor(
        positions.row_starts, columns, entries, (m, n), device=values.device, check_invariants=False
    )
    return (matrix @ x[:, 0])[:, None] if x.shape[1] == 1 else matrix @ x


def _bags(values: torch.Tensor, positions: p.Positions, x: torch.Tensor) -> torch.Tensor:
    """The product as embedding bags: row i sums rows columns[j] of x, weighted by values[j], over its entries j.

    3 (one vector) to 30 times as fast as plain ops; but without second derivatives and vmap.
    """
    values, columns = _in_rows(values, positions)
    return torch.nn.functional.embedding_bag(
        columns,
        x.contiguous(),
        positions.row_starts,
        mode="sum",
        per_sample_weights=values.contiguous(),
        include_last_offset=True,
    )


def _gathered(values: torch.Tensor, positions: p.Positions, x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """The gradient of the entries by plain ops, to be differentiated again; it writes 3 nnz × k numbers on the way."""
    rows, columns = index(positions.rows, x), index(positions.columns, x)
    return (gradient.index_select(0, rows) * x.index_select(0, columns)).sum(1)


def _bagged(values: torch.Tensor, positions: p.Positions, x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """The gradient of the entries by a second pass over the bags, which writes nothing on the way."""
    with torch.enable_grad():
        weights = values.detach().requires_grad_()
        return torch.autograd.grad(_bags(weights, positions, x.detach()), weights, gradient)[0]


class _SparseProduct(torch.autograd.Function):
    """`_product` with its derivatives, of any order and in both modes."""

    @staticmethod
    def forward(ctx: Any, values: Any, positions: p.Positions, x: Any) -> Any:
        ctx.save_for_backward(values, x)
        ctx.save_for_forward(values, x)
        ctx.positions = positions
        return _product(values, positions, x)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        (values, x), positions = ctx.saved_tensors, ctx.positions
        of_values = of_x = None
        if ctx.needs_input_grad[0]:
            few = values.is_cpu and values.numel() * x.shape[1] < TORCH_GATHERED
            of_values = (_gathered if few or torch.is_grad_enabled() else _bagged)(values, positions, x, gradient)
        if ctx.needs_input_grad[2]:
            of_x = p.sparse_matmul(values, positions.T, gradient)
        return of_values, None, of_x

    @staticmethod
    def jvp(ctx: Any, of_values: Any, _: Any, of_x: Any) -> Any:
        (values, x), positions = ctx.saved_tensors, ctx.positions
        parts = [] if of_values is None else [p.sparse_matmul(of_values, positions, x)]
        parts += [] if of_x is None else [p.sparse_matmul(values, positions, of_x)]
        return sum(parts[1:], parts[0])
