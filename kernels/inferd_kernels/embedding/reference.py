"""The meaning of `embedding`, in plain torch."""

from __future__ import annotations

import torch
from torch.nn import functional

from inferd_kernels.linear.weight import PackedWeight


def embedding(ids: torch.Tensor, weight: torch.Tensor | PackedWeight, scale: float) -> torch.Tensor:
    if isinstance(weight, PackedWeight):
        weight = weight.unpack()
    rows = functional.embedding(ids, weight)
    return rows if scale == 1.0 else rows * scale
