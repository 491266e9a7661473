"""Rotary position embedding (Su et al. 2021, arXiv:2104.09864), in the half-split layout."""

from __future__ import annotations

import torch

from inferd_kernels.dispatch import Op
from inferd_kernels.rope import reference

_MODULES = {"cpu": "inferd_kernels.rope.cpu", "gpu": "inferd_kernels.rope.gpu"}
ROPE = Op("rope", reference.rope, **_MODULES)
ROPE_KV_WRITE = Op("rope_kv_write", reference.rope_kv_write, **_MODULES)


def rope(
    q: torch.Tensor,
    k: torch.Tensor,
    positions: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
) -> None:
    """Rotate queries and keys in place.

    Args:
        q: [T, Hq, D], fp32, bf16 or fp16; may be a view into a fused projection.
        k: [T, Hkv, D], likewise.
        positions: [T] int64, each < P.
        cos, sin: [P, R / 2] float32, R ≤ D even: the angles of each position, times the
            attention factor where the model has one. Dimensions R … D-1 stay as they are.

    Semantics, for x in (q, k), h = R / 2, i < h, p = positions[t], from the old values:
        x[t, :, i]     = x[t, :, i] * cos[p, i] - x[t, :, i + h] * sin[p, i]
        x[t, :, i + h] = x[t, :, i + h] * cos[p, i] + x[t, :, i] * sin[p, i]
    """
    ROPE.on(q.device.type)(q, k, positions, cos, sin)


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
    """`rope`, then `kv_write` of the turned keys and of the values, as one.

    Args: those of both.

    Semantics: rope(q, k, positions, cos, sin); kv_write(k, v, k_cache, v_cache, slot_mapping)
    """
    run = ROPE_KV_WRITE.on(q.device.type)
    run(q, k, v, positions, cos, sin, k_cache, v_cache, slot_mapping)
