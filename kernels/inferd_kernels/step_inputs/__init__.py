"""A step's index tensors, made on the device from one small packed copy of what the host knows.

The packed layout, int32 words, for S sequences and T tokens in all:

    records  S of RECORD words each, one after another; record b is
                 0 row     of `tables` that is the sequence's; -1: none (a padding row of a graph)
                 1 start   position of its first new token
                 2 length  its new tokens, ≥ 1
                 3 first   its first row in the flat batch: the sum of the lengths before it
                 4 begin   blocks that its row of `tables` has already, and that hold
                 5 count   new blocks, ≥ 0, which are appended to those
                 6 new     where the new blocks' ids begin, in words from the start of `packed`
                 7 slot    of its adapter; -1: none
    ids      T token ids, in the flat batch's order, from word RECORD * S on; an id below 0 stands
             for one that the step before sampled: -1 - i means `sampled[i]`
    blocks   the new blocks' ids, wherever the records say

Padding rows are ordinary records: row -1, start 0, length 1, begin 0, count 1, and the scratch
block as their only one; they may share its word.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from inferd_kernels.dispatch import Op
from inferd_kernels.step_inputs import reference
from inferd_kernels.step_inputs.reference import RECORD as RECORD


@dataclass(frozen=True, slots=True)
class StepInputs:
    """Where a step's index tensors go: contiguous, at least as large as S and T ask for."""

    input_ids: torch.Tensor  # [≥ T] int64
    positions: torch.Tensor  # [≥ T] int64
    slot_mapping: torch.Tensor  # [≥ T] int64
    row_slots: torch.Tensor  # [≥ T] int32
    cu_seqlens_q: torch.Tensor  # [≥ S + 1] int32
    seq_lens: torch.Tensor  # [≥ S] int32
    block_tables: torch.Tensor  # [≥ S, max_blocks] int32


STEP_INPUTS = Op("step_inputs", reference.step_inputs, gpu="inferd_kernels.step_inputs.gpu")


def step_inputs(
    packed: torch.Tensor,
    sampled: torch.Tensor,
    tables: torch.Tensor,
    out: StepInputs,
    *,
    num_sequences: int,
    block_size: int,
) -> None:
    """Expand `packed` into `out`, and append the new blocks to `tables`.

    Args:
        packed: int32, see above; longer than it has to be, perhaps.
        sampled: [≥ 1] int64; one below 0 (a row that could not be sampled) counts as 0.
        tables: [max_batch_size, max_blocks] int32, contiguous: every row's blocks. Rows of one
            step are distinct.
        num_sequences: S, padding included; T follows from the records.

    Semantics, for sequence b with n = start + length and 0 ≤ t < length, r = first + t:
        tables[row, begin + i] = packed[new + i]              for i < count, if row ≥ 0
        block(i) = packed[new + i - begin] if i ≥ begin else tables[row, i]
        out.block_tables[b, i] = block(i)                     for i < ceil(n / block_size)
        out.input_ids[r] = id[r] if id[r] ≥ 0 else max(0, sampled[-1 - id[r]])
        out.positions[r] = p = start + t
        out.slot_mapping[r] = block(p // block_size) * block_size + p % block_size
        out.row_slots[r] = slot
        out.seq_lens[b] = n;  out.cu_seqlens_q[0] = 0;  out.cu_seqlens_q[b + 1] = first + length
    Nothing else is written: what lies behind in `out` stays as it was.
    """
    STEP_INPUTS.on(packed.device.type)(
        packed, sampled, tables, out, num_sequences=num_sequences, block_size=block_size
    )
