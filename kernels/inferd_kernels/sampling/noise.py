"""Counter-based noise: a hash of (seed, position, token id), the same on every device.

SplitMix64 (Steele, Lea & Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014;
finaliser constants by Vigna) is random access: draw i of stream s is mix(s + (i + 1) · gamma).
Here a stream belongs to a (seed, position) and i is the token id. Integers wrap modulo 2**64.
"""

from __future__ import annotations

import torch


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
    """The finaliser; overwrites x."""
    x = x.bitwise_xor_(_shift(x, 30)).mul_(MIX_1)
    x = x.bitwise_xor_(_shift(x, 27)).mul_(MIX_2)
    return x.bitwise_xor_(_shift(x, 31))


def streams(seeds: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """The stream of each (seed, position), int64 tensors of one shape."""
    return _mix(_mix(seeds + GAMMA).add_((positions + 1) * GAMMA))


def uniform(stream: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Uniform numbers, float64, (k + 1/2) / 2**52 for k in 0 … 2**52 - 1.

    Args:
        stream, tokens: int64, of shapes that broadcast.
    """
    bits = _shift(_mix(stream + (tokens + 1) * GAMMA), 12)
    return bits.double().add_(0.5).mul_(2.0**-52)
