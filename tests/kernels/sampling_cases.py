"""Logits to sample from, and the noise in plain Python."""

from __future__ import annotations

import math

import torch

VOCAB = 23
MASK64 = (1 << 64) - 1


def logits_of(seed: int, rows: int = 1, vocab: int = VOCAB, scale: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, vocab, generator=generator) * scale


def mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
    return z ^ (z >> 31)


def python_gumbel(seed: int, position: int, token: int) -> float:
    gamma = 0x9E3779B97F4A7C15
    stream = mix((mix((seed + gamma) & MASK64) + (position + 1) * gamma) & MASK64)
    bits = mix((stream + (token + 1) * gamma) & MASK64) >> 12
    return -math.log(-math.log1p(-(bits + 0.5) / 2**52))
