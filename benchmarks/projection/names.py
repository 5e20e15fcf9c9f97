"""The works, apart from what computes them."""

from __future__ import annotations

#: name → title in tables
TITLES = {
    "tensor_train": "tensor train 1024², (32², 32²), rank 16",
    "tensor_train_3": "tensor train 1024², 3 cores, rank 8",
    "low_rank_8": "low rank 8 of 2048²",
    "low_rank_64": "low rank 64 of 2048²",
    "butterfly_256_hadamard": "butterfly 256, Hadamard",
    "butterfly_256": "butterfly 256, random",
    "butterfly_1024_hadamard": "butterfly 1024, Hadamard",
    "butterfly_1024": "butterfly 1024, random",
    "btt_1024": "BTT 1024², rank 1",
    "btt_2048": "BTT 2048², rank 1",
    "btt_4096": "BTT 4096², rank 1",
    "monarch_1024": "Monarch 1024², 32 blocks",
    "monarch_2048": "Monarch 2048², 32 blocks",
    "monarch_4096": "Monarch 4096², 64 blocks",
    "monarch_2048_4": "Monarch 2048², 4 blocks",
    "activations": "low rank 64 of 1024², by activations",
    "kronecker": "Kronecker 2048²",
}
