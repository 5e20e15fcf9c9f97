"""The works, apart from what computes them: CoLA must be imported before linops."""

from __future__ import annotations

#: name → title in tables
TITLES = {
    "kronecker": "Kronecker 64³",
    "kronecker_definite": "Kronecker 64³, definite",
    "kronecker_slogdet": "Kronecker 64³",
    "kronecker_noise": "Kronecker 64³ + σ² I",
    "kronecker_noise_logdet": "Kronecker 64³ + σ² I",
    "poisson": "Poisson 256²",
    "block_diag": "BlockDiag 64 of 64×64, 16 vectors",
    "toeplitz": "Toeplitz 4096",
    "toeplitz_definite": "Toeplitz 4096, definite",
    "tridiagonal": "Tridiagonal 10⁶",
    "low_rank": "LowRank + Diagonal 10⁵, rank 32",
    "cg": "CG, n = 2000, 64 vectors",
    "slq": "SLQ, n = 2000",
    "eigsh": "top 10 of sparse 10⁵",
}
