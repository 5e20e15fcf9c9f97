"""Settings of the tests' own process; linops itself touches no global state."""

import jax
import torch

jax.config.update("jax_disable_most_optimizations", True)  # thousands of tiny programs: compile them fast
jax.config.update("jax_enable_x64", True)  # so that JAX holds float64 and complex128 as NumPy and torch do
torch.set_num_threads(1)
