"""The meaning of `lora` and `lora_embedding`, in plain torch: slot by slot, part by part."""

from __future__ import annotations

import torch

from inferd_kernels.linear.reference import linear_f32
from inferd_kernels.lora.module import LoraModule, LoraWeights
from inferd_kernels.lora.segments import LoraSegments, grouped


def lora(y: torch.Tensor, x: torch.Tensor, module: LoraModule, segments: LoraSegments) -> None:
    for segment in grouped(segments):
        weights = module.slots[segment.slot]
        if weights is not None:
            _add(y, segment.rows, linear_f32(x[segment.rows], weights.a), weights)


def lora_embedding(
    y: torch.Tensor, ids: torch.Tensor, module: LoraModule, segments: LoraSegments
) -> None:
    for segment in grouped(segments):
        weights = module.slots[segment.slot]
        if weights is not None:
            _add(y, segment.rows, weights.a[:, ids[segment.rows]].t().float(), weights)


def _add(
    y: torch.Tensor, rows: slice | torch.Tensor, low: torch.Tensor, weights: LoraWeights
) -> None:
    """Bring [N, sum of ranks] float32 up to the parts' columns and add it to y's rows."""
    first = 0
    for part in weights.parts:
        width, rank = part.b.shape
        delta = linear_f32(low[:, first : first + rank], part.b.float())
        columns = y[:, part.offset : part.offset + width]
        if isinstance(rows, slice):
            columns[rows].add_(delta)
        elif y.dtype == delta.dtype:
            columns.index_add_(0, rows, delta)
        else:  # index_add_ would round delta first
            columns[rows] = (columns[rows] + delta).to(y.dtype)
        first += rank
