"""Attention of sequences with several new rows: causal, after whatever the cache already holds.

The query heads of a kv head are rows beside each other, so that a tile of rows spans few positions,
little of it lies beyond the diagonal, and no group size leaves rows empty.
"""

from __future__ import annotations

import triton
import triton.language as tl

from inferd_kernels.attention.gpu_tile import attend, none, queries


@triton.jit(
    do_not_specialize=("table_stride", "least"),
    do_not_specialize_on_alignment=("tables", "starts", "lens"),
)
def prefill(
    q,
    keys,
    values,
    tables,
    starts,
    lens,
    out,
    q_token,
    q_head,
    table_stride,
    least,
    window,
    scale,
    cap,
    GROUP: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    DIMS: tl.constexpr,
    TOKENS: tl.constexpr,
    WINDOWED: tl.constexpr,
    CAPPED: tl.constexpr,
):
    """Grid (tiles of the most rows, KV_HEADS, sequences); those of fewer than `least` rows are
    left alone. The longest tiles come first."""
    kv_head = tl.program_id(1)
    b = tl.program_id(2).to(tl.int64)
    first_row = tl.load(starts + b)
    rows = tl.load(starts + b + 1) - first_row
    tile = tl.cdiv(rows * GROUP, ROWS) - 1 - tl.program_id(0)
    if (rows < least) | (tile < 0):
        return
    query, row, at, head, real = queries(
        q, q_token, q_head, first_row, rows, tile, kv_head, GROUP, HEAD_DIM, ROWS, DIMS
    )
    context = tl.load(lens + b)
    high = context - rows + tl.minimum(row, rows - 1)
    from_position = context - rows + tile * ROWS // GROUP
    end = tl.minimum(context - rows + ((tile + 1) * ROWS - 1) // GROUP + 1, context)
    begin = 0
    low = high
    if WINDOWED:
        low = high - window + 1
        begin = tl.maximum(from_position - window + 1, 0)

    top, total, acc = none(ROWS, DIMS)
    table = tables + b * table_stride
    k_head = keys + kv_head * HEAD_DIM
    v_head = values + kv_head * HEAD_DIM
    diagonal = begin
    if not WINDOWED:  # what every row of the tile sees
        diagonal = (from_position + 1) // TOKENS * TOKENS
        for start in range(0, diagonal, TOKENS):
            top, total, acc = attend(
                query,
                top,
                total,
                acc,
                k_head,
                v_head,
                table,
                start,
                0,
                end,
                low,
                high,
                scale,
                cap,
                BLOCK_SIZE,
                KV_HEADS * HEAD_DIM,
                HEAD_DIM,
                TOKENS,
                MASKED=False,
                WINDOWED=False,
                CAPPED=CAPPED,
            )
    for start in range(diagonal, end, TOKENS):
        top, total, acc = attend(
            query,
            top,
            total,
            acc,
            k_head,
            v_head,
            table,
            start,
            begin,
            end,
            low,
            high,
            scale,
            cap,
            BLOCK_SIZE,
            KV_HEADS * HEAD_DIM,
            HEAD_DIM,
            TOKENS,
            MASKED=True,
            WINDOWED=WINDOWED,
            CAPPED=CAPPED,
        )
    dims = tl.arange(0, DIMS)
    to = out + (at[:, None] * (KV_HEADS * GROUP) + head[:, None]) * HEAD_DIM + dims[None, :]
    tl.store(to, (acc / total[:, None]).to(out.dtype.element_ty), real)
