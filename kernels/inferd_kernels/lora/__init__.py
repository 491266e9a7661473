"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685), many of them in one batch.

A `LoraModule` holds what each slot's adapter adds to one layer; `segments` says which rows use
which slot. Rows of no slot, and slots whose adapter leaves the layer alone, stay as they are, to
the bit.
"""

from __future__ import annotations

import torch

from inferd_kernels.dispatch import Op
from inferd_kernels.lora import reference
from inferd_kernels.lora.module import LoraModule, LoraPart, LoraWeights
from inferd_kernels.lora.segments import NO_SEGMENTS, LoraSegments, Segment, segments
from inferd_kernels.lora.warming import warm

__all__ = [
    "NO_SEGMENTS",
    "LoraModule",
    "LoraPart",
    "LoraSegments",
    "LoraWeights",
    "Segment",
    "lora",
    "lora_embedding",
    "segments",
    "warm",
]

_MODULES = {"cpu": "inferd_kernels.lora.cpu", "gpu": "inferd_kernels.lora.gpu"}
LORA = Op("lora", reference.lora, **_MODULES)
LORA_EMBEDDING = Op("lora_embedding", reference.lora_embedding, **_MODULES)


def lora(y: torch.Tensor, x: torch.Tensor, module: LoraModule, segments: LoraSegments) -> None:
    """Add the adapters' share to a linear layer's output, in place.

    Args:
        y: [T, out], fp32, bf16 or fp16; logits may be fp32 over a narrower x.
        x: [T, in], the layer's input; the modules' `a` has its dtype.
        module: the layer's adapters; each part's columns lie within out.
        segments: which rows use which slot.

    Semantics, for row t of a slot whose weights are a and parts p with rows R_p of a:
        y[t, p.offset + o] += sum_r p.b[o, r] * (sum_i a[R_p[r], i] * x[t, i])
    Both sums in fp32 and y rounded once.
    """
    if segments:
        LORA.on(x.device.type)(y, x, module, segments)


def lora_embedding(
    y: torch.Tensor, ids: torch.Tensor, module: LoraModule, segments: LoraSegments
) -> None:
    """Add the adapters' share to embedded tokens, in place.

    Args:
        y: [T, hidden], fp32, bf16 or fp16.
        ids: [T] integers < vocab.
        module: the embedding's adapters: `a` is [rank, vocab], with one part at offset 0.
        segments: which rows use which slot.

    Semantics, for row t of a slot whose weights are a and b:
        y[t, o] += sum_r b[o, r] * a[r, ids[t]]
    In fp32, and y rounded once.
    """
    if segments:
        LORA_EMBEDDING.on(ids.device.type)(y, ids, module, segments)
