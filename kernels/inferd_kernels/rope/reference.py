"""The meaning of `rope` and `rope_kv_write`, in plain torch."""

from __future__ import annotations

import torch

from inferd_kernels.kv_write.reference import kv_write


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


def rope_kv_write(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    positions: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
) -> None:
    rope(q, k, positions, cos, sin)
    kv_write(k, v, k_cache, v_cache, slot_mapping)
