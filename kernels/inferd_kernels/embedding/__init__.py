"""Rows of a table by number: token embeddings, from the weight that a tied head shares."""

from __future__ import annotations

import torch

from inferd_kernels.dispatch import Op
from inferd_kernels.embedding import reference
from inferd_kernels.linear.weight import PackedWeight

_MODULES = {"cpu": "inferd_kernels.embedding.cpu", "gpu": "inferd_kernels.embedding.gpu"}
EMBEDDING = Op("embedding", reference.embedding, **_MODULES)


def embedding(
    ids: torch.Tensor, weight: torch.Tensor | PackedWeight, scale: float = 1.0
) -> torch.Tensor:
    """Look rows up.

    Args:
        ids: [T] int32 or int64, each in 0 … V - 1.
        weight: [V, D], fp32, bf16 or fp16; or a PackedWeight.
        scale: what every number is multiplied with, in fp32.

    Returns: [T, D] of weight's dtype, rounded once.

    Semantics: y[t, d] = scale * weight[ids[t], d]
    """
    return EMBEDDING.on(ids.device.type)(ids, weight, scale)
