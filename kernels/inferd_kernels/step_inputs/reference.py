"""The meaning of `step_inputs`, in plain torch: a sequence at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from inferd_kernels.step_inputs import StepInputs

RECORD = 8  # words that describe a sequence


def step_inputs(
    packed: torch.Tensor,
    sampled: torch.Tensor,
    tables: torch.Tensor,
    out: StepInputs,
    *,
    num_sequences: int,
    block_size: int,
) -> None:
    records = packed[: RECORD * num_sequences].view(num_sequences, RECORD).tolist()
    out.cu_seqlens_q[0] = 0
    for b, (row, start, length, first, begin, count, new, slot) in enumerate(records):
        rows = slice(first, first + length)
        ids = packed[RECORD * num_sequences :][rows].long()
        late = sampled[(-1 - ids).clamp(min=0)].clamp(min=0)
        out.input_ids[rows] = torch.where(ids < 0, late, ids)
        positions = torch.arange(start, start + length, device=packed.device)
        out.positions[rows] = positions
        fresh = packed[new : new + count]
        table = fresh if row < 0 else torch.cat((tables[row, :begin], fresh))
        if row >= 0:
            tables[row, begin : begin + count] = fresh
        used = -(-(start + length) // block_size)
        out.block_tables[b, :used] = table[:used]
        blocks = table[positions // block_size].long()
        out.slot_mapping[rows] = blocks * block_size + positions % block_size
        out.row_slots[rows] = slot
        out.seq_lens[b] = start + length
        out.cu_seqlens_q[b + 1] = first + length
