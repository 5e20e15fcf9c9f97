"""Sizes from which another kernel or another way is faster, as measured on CPUs.

Results do not depend on them but for rounding, and kernels chosen by them run on CPUs alone. They were chosen in
November 2026 on an Intel Xeon with AVX-512 and 2 MiB of L2, on one thread, in float32, with NumPy 2.4 (OpenBLAS),
SciPy 1.17, torch 2.13 (MKL) and JAX 0.10. This measures each of them on the machine at hand, or those named::

    python -m benchmarks thresholds
    python -m benchmarks thresholds --constants TORCH_LOOPED,TORCH_TINY
"""

from __future__ import annotations

# ---------------------------------------------------------------- memory

#: bytes of transforms from which they leave a core's cache
CORE_CACHE = 1 << 21
#: bytes of an array from which glibc returns it to the system when it is freed: fresh pages cost more than the product
FRESH_BYTES = 1 << 25

# ---------------------------------------------------------------- NumPy

#: blocks from which, and numbers in each up to which, einsum multiplies blocks by a vector: BLAS is called once a block
NUMPY_EINSUM_BLOCKS, NUMPY_EINSUM_NUMBERS = 128, 16
#: vectors from which a matrix multiplies a stack of them as the rows of one product
NUMPY_SHARED_STACK = 16
#: bytes of the columns that are transformed at a time, where all of them leave the cache
NUMPY_FFT_PART = 1 << 19

# ---------------------------------------------------------------- torch

#: numbers in a block from which MKL multiplies it; smaller ones torch multiplies by plain loops
TORCH_LOOPED = 400
#: MACs of blocks times a vector up to which views of the vector cost more than they save
TORCH_TINY = 1 << 12
#: MACs of blocks times a vector up to which a copy of it costs more than it saves
TORCH_SMALL = 1 << 15
#: numbers between two products of blocks from which they run in parts (`FRESH_BYTES` in float32), and numbers of a part
TORCH_SPLIT, TORCH_PART = FRESH_BYTES // 4, 1 << 22
#: numbers up to which the gradient of a sparse matrix's entries gathers them; from there on it goes through bags again
TORCH_GATHERED = 1 << 20
#: length from which columns that leave the cache are transformed as the rows of a copy
TORCH_FFT_LENGTH = 1 << 11

# ---------------------------------------------------------------- JAX

#: vectors from which a sparse matrix multiplies by compressed rows, not by sums over segments
JAX_COMPRESSED = 8
#: length up to which a transform on a mesh is one product with its matrix, and up to which if it is a prime
JAX_WHOLE, JAX_PRIME = 64, 512

# ---------------------------------------------------------------- plans and operators, on every backend

#: by so much must a plan be predicted to be faster than the natural order: by so much does one prediction in ten err
PLAN_GAIN = 1.5
#: by so much must the matrix of a convolution, written out, be predicted to be faster than transforms
MATRIX_GAIN = 1.2
#: MACs of integers up to which a convolution multiplies by its matrix, not by transforms of limbs
INTEGER_MACS = 1 << 15
#: the lengths of convolutions are 2^k times one of these: MKL takes up to twice as long for others, as 3^k 5^l
FFT_ODD = (1, 3, 5, 9, 15)
#: a transform of other prime factors takes longer than one or two of a fast length
FFT_PRIMES = (2, 3, 5, 7, 11, 13)
#: log2 of the largest block of Hadamard's matrix that is one product
HADAMARD_BLOCK = 5
#: exponent up to which a power is products, one after the other; from there on a closed form, or the matrix's power
POWER_PRODUCTS = 8
