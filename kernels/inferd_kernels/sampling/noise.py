"""Counter-based Gumbel noise: a hash of (seed, position, token id), the same on every device.

SplitMix64 (Steele, Lea & Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014;
finaliser constants by Vigna) is random access: draw i of stream s is mix(s + (i + 1) · gamma).
Here a stream belongs to a (seed, position) and i is the token id. Integers wrap modulo 2**64.
"""

from __future__ import annotations

import torch

MAX_GUMBEL = 36.75
"""Upper bound of `gumbel`: -log(-log(1 - 2**-53)) = 36.74."""
MIN_GUMBEL = -3.61
"""Lower bound of `gumbel`: -log(-log(2**-53)) = -3.604."""


def _signed(value: int) -> int:
    """The int64 with the bits of `value`, 0 ≤ value < 2**64."""
    return value - (1 << 64) if value >= 1 << 63 else value


GAMMA = _signed(0x9E3779B97F4A7C15)
MIX_1 = _signed(0xBF58476D1CE4E5B9)
MIX_2 = _signed(0x94D049BB133111EB)


def seed_tensor(seeds: list[int], device: torch.device) -> torch.Tensor:
    """Seeds 0 ≤ s < 2**64 as int64 with the same bits."""
    return torch.tensor([_signed(seed) for seed in seeds], dtype=torch.int64, device=device)


def _shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical right shift; torch's is arithmetic."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _mix(x: torch.Tensor) -> torch.Tensor:
    x = (x ^ _shift(x, 30)).mul_(MIX_1)
    x = (x ^ _shift(x, 27)).mul_(MIX_2)
    return x ^ _shift(x, 31)


def gumbel(seeds: torch.Tensor, positions: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise, float64, in (MIN_GUMBEL, MAX_GUMBEL).

    Args:
        seeds, positions, tokens: int64, of shapes that broadcast.
    """
    stream = _mix(_mix(seeds + GAMMA) + (positions + 1) * GAMMA)
    bits = _shift(_mix(stream + (tokens + 1) * GAMMA), 12)  # 52 of them
    uniform = (bits.double() + 0.5) * 2.0**-52  # exact, in (0, 1)
    return uniform.log_().neg_().log_().neg_()
