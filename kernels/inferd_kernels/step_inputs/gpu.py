"""`step_inputs` in Triton: a program for each sequence, one launch for a step."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from inferd_kernels.step_inputs import StepInputs
from inferd_kernels.step_inputs.reference import RECORD

_BLOCK, _WARPS = 1024, 8
"""Tokens, or blocks of a table, at a time."""


def step_inputs(
    packed: torch.Tensor,
    sampled: torch.Tensor,
    tables: torch.Tensor,
    out: StepInputs,
    *,
    num_sequences: int,
    block_size: int,
) -> None:
    if not num_sequences:
        out.cu_seqlens_q[0] = 0
        return
    assert tables.is_contiguous()
    _step_inputs[(num_sequences,)](
        packed,
        sampled,
        tables,
        out.input_ids,
        out.positions,
        out.slot_mapping,
        out.row_slots,
        out.cu_seqlens_q,
        out.seq_lens,
        out.block_tables,
        num_sequences,
        tables.stride(0),
        out.block_tables.stride(0),
        BLOCK_SIZE=block_size,
        WORDS=RECORD,
        BLOCK=_BLOCK,
        num_warps=_WARPS,
    )


@triton.jit(do_not_specialize=["num_sequences", "table_stride", "block_table_stride"])
def _step_inputs(
    packed,
    sampled,
    tables,
    input_ids,
    positions,
    slot_mapping,
    row_slots,
    cu_seqlens_q,
    seq_lens,
    block_tables,
    num_sequences,
    table_stride,
    block_table_stride,
    BLOCK_SIZE: tl.constexpr,
    WORDS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    b = tl.program_id(0)
    record = packed + b * WORDS
    row, start, length = tl.load(record), tl.load(record + 1), tl.load(record + 2)
    first, begin, count = tl.load(record + 3), tl.load(record + 4), tl.load(record + 5)
    fresh, slot = packed + tl.load(record + 6), tl.load(record + 7)
    table = tables + row.to(tl.int64) * table_stride
    if b == 0:
        tl.store(cu_seqlens_q, 0)
    tl.store(cu_seqlens_q + b + 1, first + length)
    tl.store(seq_lens + b, start + length)
    used = (start + length + BLOCK_SIZE - 1) // BLOCK_SIZE
    for done in range(0, used, BLOCK):
        i = done + tl.arange(0, BLOCK)
        block = _blocks(table, fresh, i, begin, i < used)
        tl.store(block_tables + b.to(tl.int64) * block_table_stride + i, block, i < used)
    if row >= 0:
        for done in range(0, count, BLOCK):  # more than are used yet, perhaps
            i = done + tl.arange(0, BLOCK)
            tl.store(table + begin + i, tl.load(fresh + i, i < count, 0), i < count)
    ids = packed + num_sequences * WORDS + first
    for done in range(0, length, BLOCK):
        t = done + tl.arange(0, BLOCK)
        inside = t < length
        known = tl.load(ids + t, inside, 0)
        late = tl.load(sampled + tl.maximum(-1 - known, 0), inside & (known < 0), 0)
        tl.store(input_ids + first + t, tl.where(known < 0, tl.maximum(late, 0), known), inside)
        position = start + t
        tl.store(positions + first + t, position, inside)
        block = _blocks(table, fresh, position // BLOCK_SIZE, begin, inside)
        slots = block.to(tl.int64) * BLOCK_SIZE + position % BLOCK_SIZE
        tl.store(slot_mapping + first + t, slots, inside)
        tl.store(row_slots + first + t, slot + 0 * t, inside)


@triton.jit
def _blocks(table, fresh, i, begin, inside):
    """The sequence's i-th blocks: new ones from packed, as this step may still be writing them
    into its table."""
    old = tl.load(table + i, inside & (i < begin), 0)
    return tl.where(i < begin, old, tl.load(fresh + i - begin, inside & (i >= begin), 0))


IMPLEMENTATIONS = {"step_inputs": step_inputs}
