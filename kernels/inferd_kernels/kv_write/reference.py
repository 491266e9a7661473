"""The meaning of `kv_write`, in plain torch."""

from __future__ import annotations

import torch

from inferd_kernels import layout


def kv_write(
    k: torch.Tensor,
    v: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
) -> None:
    layout.flat(k_cache).index_copy_(0, slot_mapping, k)
    layout.flat(v_cache).index_copy_(0, slot_mapping, v)
