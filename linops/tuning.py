"""Sizes from which another kernel or another way is faster, as measured on CPUs.

Results depend on them in their rounding alone. The kernels of a framework that they choose run on CPUs; on other
devices the plain one does. Lengths, blocks and plans are those of the structure, whatever the device.

They were chosen in November 2026 on an Intel Xeon with AVX-512 and 2 MiB of L2, on one thread, in float32, with NumPy
2.4 (OpenBLAS), SciPy 1.17, torch 2.13 (MKL) and JAX 0.10; numbers of then are given where they were kept. This measures
each constant, or those named, on the machine at hand::

    python -m benchmarks thresholds
    python -m benchmarks thresholds --constants TORCH_LOOPED,TORCH_TINY

In brackets is what it gave at half and at twice a constant on another machine, an AMD EPYC with 1 MiB of L2: the time
of the way that is not taken over that of the way taken. Below 1, the two cross elsewhere on that machine.
"""

from __future__ import annotations

# ---------------------------------------------------------------- memory

#: bytes of transforms from which they leave a core's cache: NumPy then transforms columns in parts (1.1, 1.5), torch as
#: the rows of a copy (1.2, 1.0)
CORE_CACHE = 1 << 21
#: bytes of an array from which glibc returns it to the system when it is freed, so that the next one takes fresh pages:
#: x + 1 into those takes longer than into memory that is there (from there on 2.5 on NumPy, 4.7 on torch)
FRESH_BYTES = 1 << 25

# ---------------------------------------------------------------- NumPy

#: blocks from which, and numbers in each up to which, einsum multiplies blocks by a vector: matmul calls BLAS once a
#: block (1.2, 1.1; 1.3, 1.3)
NUMPY_EINSUM_BLOCKS, NUMPY_EINSUM_NUMBERS = 128, 16
#: vectors from which a matrix multiplies a stack of them as the rows of one product (0.9, 1.6)
NUMPY_SHARED_STACK = 16
#: bytes of the columns that are transformed at a time where all of them leave the cache: a best size (1.0, 1.0; 1.2 at
#: a quarter and at four times)
NUMPY_FFT_PART = 1 << 19

# ---------------------------------------------------------------- torch

#: numbers in a block from which MKL multiplies it; smaller ones torch multiplies by plain loops (0.9, 5.1)
TORCH_LOOPED = 400
#: MACs of blocks times a vector up to which other views of the vector cost more than they save (blocks 0.9, 2.2; small
#: ones 1.0, 1.3; one matrix times a stack 1.3, 1.3)
TORCH_TINY = 1 << 12
#: MACs of blocks times a scattered vector up to which a copy of it costs more than it saves (on the Xeon
#: in December 0.8 at this and at twice this, 1.7 at eight times; a view with a last stride other than 1 makes bmm 5
#: times as slow)
TORCH_SMALL = 1 << 13
#: numbers between two products of blocks from which they run in parts (0.9, 1.7), for they are `FRESH_BYTES` in
#: float32, and numbers of a part: a best size (1.2, 1.3); on the Xeon BTT became 1.3 to 2.4 times faster by it
TORCH_SPLIT, TORCH_PART = FRESH_BYTES // 4, 1 << 22
#: columns up to which MKL multiplies a sparse matrix in float32; more of them go through bags (on the Xeon, 8 to 64
#: entries a row: at half 1.1 to 1.5, at twice 1.2 to 2.4; in float64 it is 1.3 to 5 times as fast for up to 64)
TORCH_CSR_COLUMNS = 8
#: numbers up to which the gradient of a sparse matrix's entries gathers them; then it goes through bags (1.3, 2.4)
TORCH_GATHERED = 1 << 20
#: length from which columns that leave the cache are transformed as the rows of a copy (0.6, 1.0; on the Xeon 1.04 to
#: 1.44 from there on)
TORCH_FFT_LENGTH = 1 << 11

# ---------------------------------------------------------------- JAX

#: numbers of an operand from which XLA keeps a product of blocks apart from what makes its operand: gradients of block
#: products whose axes are exchanged between them otherwise take up to three times as long
JAX_APART = 1 << 16
#: vectors from which one matrix, of at most the square of this in numbers, is repeated for each of a stack of operands:
#: XLA's one product of all, whose result it then turns, takes twice as long
JAX_REPEATED = 64
#: bytes between two operations from which vectors are multiplied in parts, and about how many at a time: forward 1.0 to
#: 4.5 times as fast, with gradients of rows 1.0 to 1.8, on an AMD EPYC with 512 KiB of L2
JAX_PARTS, JAX_PART = 1 << 24, 128
#: vectors from which a sparse matrix multiplies by compressed rows, not by sums over segments (4.5, 2.0; on the Xeon
#: 1.6 for 16 vectors, 3 for 256)
JAX_COMPRESSED = 8
#: length up to which a transform on a mesh is one product with its matrix (1.2, 2.3), and up to which if it is a prime
#: (2.6, 2.2)
JAX_WHOLE, JAX_PRIME = 64, 512

# ---------------------------------------------------------------- plans and operators, on every backend

#: by so much must a plan be predicted to be faster than the natural order: from there on 64 of 69 random products were
#: not slower on the Xeon, see docs/decisions/plan-gain.md
PLAN_GAIN = 1.08
#: by so much must a plan for training be predicted to be faster: less, as predictions of many steps err less (of those
#: of families and of `benchmarks planning`, see docs/plans.md)
TRAINING_GAIN = 1.15
#: by so much must the matrix of a convolution, written out, be predicted to be faster than transforms (NumPy 1.6, 2.6,
#: torch 1.2, 2.9, where the prediction is about 1 and about 3)
MATRIX_GAIN = 1.2
#: MACs of integers up to which a convolution multiplies by its matrix, not by transforms of limbs (2.3, 1.1)
INTEGER_MACS = 1 << 15
#: the lengths of convolutions are 2^k times one of these: MKL takes longer for others, such as 1100 (3.2 on torch; on
#: NumPy 0.9 to 1.0)
FFT_ODD = (1, 3, 5, 9, 15)
#: a transform of another prime factor takes longer than one of a fast length more than twice as long (for 64 times 11
#: NumPy 2.0, torch 2.1; for 64 times 17 0.6, 0.6; 64 times 61 0.9, 1.6)
FFT_PRIMES = (2, 3, 5, 7, 11, 13)
#: log2 of the largest block of Hadamard's matrix that is one product: a best size (one less 1.0, one more 1.7 to 1.9)
HADAMARD_BLOCK = 5
#: exponent up to which a power is products, one after the other; then a closed form, or the matrix's power (at 4 1.0 on
#: NumPy and 0.7 on torch, at 16 3.0 and 4.1)
POWER_PRODUCTS = 8
