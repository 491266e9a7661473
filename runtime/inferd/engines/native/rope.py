"""Rotary angles as a table that grows with the contexts that are really used."""

from __future__ import annotations

import torch

from inferd.engines.native.decoder_config import RopeSpec

SMALLEST = 1024  # positions


class RopeTable:
    """cos and sin of one `RopeSpec`, [P, R / 2] float32 each, P growing by doubling.

    128k positions of a 128-wide head take 64 MiB, so they are not made before they are needed.
    """

    def __init__(self, spec: RopeSpec, device: torch.device) -> None:
        self.spec = spec
        self.cos = torch.empty(0, len(spec.inv_freq), device=device)
        self.sin = torch.empty(0, len(spec.inv_freq), device=device)

    def reserve(self, length: int) -> None:
        """Make positions 0 … length - 1 available. Moves the tables when it has to grow."""
        if length <= len(self.cos):
            return
        size = max(SMALLEST, 1 << (length - 1).bit_length())
        positions = torch.arange(size, dtype=torch.float32, device=self.cos.device)
        inv_freq = torch.tensor(self.spec.inv_freq, dtype=torch.float32, device=self.cos.device)
        angles = torch.outer(positions, inv_freq)
        self.cos = angles.cos().mul_(self.spec.attention_factor)
        self.sin = angles.sin().mul_(self.spec.attention_factor)
