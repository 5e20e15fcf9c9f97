"""Compiles Triton's kernels for GPUs, without one: python tests/compile_kernels.py [sm_90].

It prints what programs take, and ends with 1 if one takes more shared memory than there is, or does without tensor
cores. Some three minutes for a GPU.
"""

import sys
from itertools import product

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from linops.kernels import triton_crossed as crossed
from linops.kernels import triton_factors as factors

#: bytes of shared memory that a program may have
SHARED = {80: 163 << 10, 90: 227 << 10}
KINDS = {torch.bfloat16: "*bf16", torch.float32: "*fp32"}
POINTERS = {"first", "second", "x", "y", "f0", "f1", "f2", "f3"}
SIDES = (((2, 2),) * 4, ((4, 4),) * 3, ((16, 16),), ((3, 5),))


def compiled(kernel, capability, dtype, constants, one, warps, stages=3):
    """A kernel's program; arguments named `one` are 1, as innermost strides are, and other numbers multiples of 16."""
    names = [parameter.name for parameter in kernel.params]
    constants = constants | dict.fromkeys(one, 1)
    signature = {
        name: "constexpr" if name in constants else KINDS[dtype] if name in POINTERS else "i32" for name in names
    }
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(names)
        if signature[name] != "constexpr" and name != "R"
    }
    source = ASTSource(kernel, signature, {(names.index(name),): value for name, value in constants.items()}, aligned)
    return compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps, "num_stages": stages})


def programs(capability):
    """(name, program, whether it multiplies by tensor cores) of what runs."""
    for dtype, rank, rows in product(KINDS, (1, 4), (True, False)):
        one = ("first_n", "second_r", *(("x_n", "y_p") if rows else ("x_k", "y_k")))
        for place in crossed.tiles(rank):
            tile = crossed.TILES[place]
            sizes = crossed.chunks(rank, 64, 64, tile) | {"PRECISION": crossed.precision(dtype), "WIDENED": False}
            found = compiled(crossed._crossed, capability, dtype, sizes, one, tile.warps, tile.stages)
            yield f"crossed {dtype} rank {rank} {'rows' if rows else 'features'} {tile}", found, True
    for dtype, sides, rising in product(KINDS, SIDES, (True, False)):
        for wide, one in ((1, ("x_k", "y_k")), (32, ("x_j", "y_j"))):
            sizes = factors.constants(sides, rising, wide, 4096)
            found = compiled(factors._factors, capability, dtype, sizes, one, 4)
            yield f"factors {dtype} {sides} rising {rising} wide {wide}", found, False


def main(wanted):
    """Compiles for the GPUs that are named; the number of programs that do not fit."""
    bad = 0
    for capability in [int(name.removeprefix("sm_")) for name in wanted] or SHARED:
        for name, program, dots in programs(capability):
            shared, tensor = program.metadata.shared, "mma" in program.asm["ptx"]
            wrong = shared > SHARED[capability] or (dots and not tensor)
            bad += wrong
            print(f"{'WRONG ' * wrong}sm_{capability} {name}: {shared >> 10} KiB, tensor cores {tensor}", flush=True)
    return bad


if __name__ == "__main__":
    print(f"triton {triton.__version__}")
    sys.exit(min(main(sys.argv[1:]), 1))
