"""What adapters need compiled, compiled and loaded before the first one comes."""

from __future__ import annotations

import torch

from inferd_kernels.lora.module import LoraModule, LoraPart, LoraWeights
from inferd_kernels.lora.segments import LoraSegments

ROWS = (1, 1024)  # few and many: a GPU's kernels are compiled for both
SIZE = 64  # columns: any multiple of 16 stands for all of them


def warm(num_slots: int, max_rank: int, dtype: torch.dtype, device: torch.device) -> None:
    """Run each operation once on adapters that add nothing.

    Whatever ranks, parts and lengths come later, layers whose columns are multiples of 16 run what
    was compiled here. Seconds where it was never done before, and then next to nothing.

    Args:
        num_slots: of the modules (≥ 1).
        max_rank: `LoraModule.max_rank`.
        dtype: the model's.
    """
    from inferd_kernels.lora import lora, lora_embedding  # which imports this

    rows = torch.zeros(min(16, max_rank), SIZE, dtype=dtype, device=device)
    weights = LoraWeights(rows, (LoraPart(0, rows.t()),))
    module = LoraModule([weights, *[None] * (num_slots - 1)], max_rank)
    for count in ROWS:
        slots = torch.zeros(count, dtype=torch.int32, device=device)
        step = LoraSegments(row_slots=slots)
        x = torch.zeros(count, SIZE, dtype=dtype, device=device)
        for out in {dtype, torch.float32}:  # layers, logits
            lora(torch.zeros_like(x, dtype=out), x, module, step)
        lora_embedding(torch.zeros_like(x), slots.long(), module, step)
