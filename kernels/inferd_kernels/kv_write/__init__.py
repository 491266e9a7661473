"""Write a step's new keys and values into the paged cache."""

from __future__ import annotations

import torch

from inferd_kernels.dispatch import Op
from inferd_kernels.kv_write import reference

_MODULES = {"cpu": "inferd_kernels.kv_write.cpu", "gpu": "inferd_kernels.kv_write.gpu"}
KV_WRITE = Op("kv_write", reference.kv_write, **_MODULES)


def kv_write(
    k: torch.Tensor,
    v: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
) -> None:
    """Scatter rows into the cache, in place.

    Args:
        k, v: [T, Hkv, D], of the cache's dtype; may be views into a fused projection.
        k_cache, v_cache: [num_blocks, block_size, Hkv, D], contiguous (see `layout`).
        slot_mapping: [T] int64, distinct, each in 0 … num_blocks * block_size - 1. Padding rows
            point into a block that no sequence reads; only those may repeat.

    Semantics: flat(k_cache)[slot_mapping[t]] = k[t]; the same for v
    """
    KV_WRITE.on(k.device.type)(k, v, k_cache, v_cache, slot_mapping)
