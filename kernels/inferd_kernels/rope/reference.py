"""The meaning of `rope`, in plain torch."""

from __future__ import annotations

import torch


def rope(
    q: torch.Tensor,
    k: torch.Tensor,
    positions: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
) -> None:
    cos, sin = cos[positions].unsqueeze(1), sin[positions].unsqueeze(1)
    half = cos.shape[-1]
    for x in (q, k):
        first, second = x[..., :half].float(), x[..., half : 2 * half].float()
        rotated = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
        x[..., : 2 * half] = rotated
