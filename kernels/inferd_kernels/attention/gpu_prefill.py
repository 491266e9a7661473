"""Attention of sequences with several new rows: causal, after whatever the cache already holds.

The query heads of a kv head are rows beside each other, so that a tile of rows spans few positions,
little of it lies beyond the diagonal, and no group size leaves rows empty. The programs of a launch
are as many as there are tiles, whatever sequences they belong to; where that would leave most of a
GPU idle, as with a few new rows behind a long prefix, several take a tile's context in parts.
"""

from __future__ import annotations

import triton
import triton.language as tl

from inferd_kernels.attention.gpu_tile import attend, none, queries, tile_at, tiles_of

VARIES = ("table_stride", "count", "spare")
"""Arguments that change from step to step: they never make another kernel."""


@triton.jit
def _parts(spare, starts, count, GROUP: tl.constexpr, ROWS: tl.constexpr, SEQUENCES: tl.constexpr):
    """How many programs share a tile's context: more than one where that makes at most `spare`."""
    tiles = 0
    for first in range(0, count, SEQUENCES):
        tiles += tl.sum(tiles_of(starts, first, count, GROUP, ROWS, SEQUENCES))
    return tl.maximum(spare // tl.maximum(tiles, 1), 1)


@triton.jit
def _reach(
    tile,
    rows,
    context,
    window,
    parts,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    SHORTEST: tl.constexpr,
    WINDOWED: tl.constexpr,
):
    """Of a tile: the first position that its first row sees, the one behind what its last row sees,
    and how many one program takes."""
    end = context - rows + tl.minimum(((tile + 1) * ROWS - 1) // GROUP + 1, rows)
    begin = 0
    if WINDOWED:
        begin = tl.maximum(context - rows + tile * ROWS // GROUP - window + 1, 0)
    span = tl.cdiv(tl.cdiv(end - begin, parts), SHORTEST) * SHORTEST
    return begin, end, span


@triton.jit(do_not_specialize=VARIES, do_not_specialize_on_alignment=("tables", "starts", "lens"))
def prefill(
    q,
    keys,
    values,
    tables,
    starts,
    lens,
    out,
    partial,
    logs,
    q_token,
    q_head,
    table_stride,
    count,
    spare,
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
    SHORTEST: tl.constexpr,
    SEQUENCES: tl.constexpr,
    WINDOWED: tl.constexpr,
    CAPPED: tl.constexpr,
):
    """Grid (KV_HEADS, tiles, or `spare` if more). What a program shares a tile with others for goes
    to `partial` [spare, KV_HEADS, ROWS, D], with the log2 of its sum to `logs`."""
    kv_head = tl.program_id(0)
    item = tl.program_id(1)
    parts = _parts(spare, starts, count, GROUP, ROWS, SEQUENCES)
    b, tile = tile_at(item // parts, starts, count, GROUP, ROWS, SEQUENCES)
    if b == count:
        return
    first_row = tl.load(starts + b)
    rows = tl.load(starts + b + 1) - first_row
    context = tl.load(lens + b)
    begin, end, span = _reach(tile, rows, context, window, parts, GROUP, ROWS, SHORTEST, WINDOWED)
    shared = end - begin > span
    begin += item % parts * span
    end = tl.minimum(begin + span, end)
    if begin >= end:
        return
    query, row, at, head, real = queries(
        q, q_token, q_head, first_row, rows, tile, kv_head, GROUP, HEAD_DIM, ROWS, DIMS
    )
    high = context - rows + tl.minimum(row, rows - 1)
    low = high - window + 1
    top, total, acc = none(ROWS, DIMS)
    table = tables + tl.cast(b, tl.int64) * table_stride
    k_head = keys + kv_head * HEAD_DIM
    v_head = values + kv_head * HEAD_DIM
    diagonal = begin
    if not WINDOWED:  # what every row of the tile sees
        seen = (context - rows + tile * ROWS // GROUP + 1) // TOKENS * TOKENS
        diagonal = tl.minimum(tl.maximum(seen, begin), end // TOKENS * TOKENS)
        for start in range(begin, diagonal, TOKENS):
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
    acc = acc / tl.where(total == 0, 1.0, total)[:, None]
    dims = tl.arange(0, DIMS)
    if shared:  # of which a row may have seen nothing
        place = (tl.cast(item, tl.int64) * KV_HEADS + kv_head) * ROWS + tl.arange(0, ROWS)
        tl.store(partial + place[:, None] * HEAD_DIM + dims[None, :], acc, real)
        tl.store(logs + place, top + tl.log2(tl.where(total == 0, 1.0, total)))
    else:
        to = out + (at[:, None] * (KV_HEADS * GROUP) + head[:, None]) * HEAD_DIM + dims[None, :]
        tl.store(to, acc.to(out.dtype.element_ty), real)


@triton.jit(do_not_specialize=VARIES, do_not_specialize_on_alignment=("starts", "lens"))
def unite(
    starts,
    lens,
    out,
    partial,
    logs,
    count,
    spare,
    window,
    GROUP: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    ROWS: tl.constexpr,
    DIMS: tl.constexpr,
    SHORTEST: tl.constexpr,
    SEQUENCES: tl.constexpr,
    WINDOWED: tl.constexpr,
    SLICE: tl.constexpr,
):
    """Grid (KV_HEADS, spare, ROWS / SLICE): what programs shared, weighed, in its order."""
    kv_head = tl.program_id(0)
    index = tl.program_id(1)
    parts = _parts(spare, starts, count, GROUP, ROWS, SEQUENCES)
    b, tile = tile_at(index, starts, count, GROUP, ROWS, SEQUENCES)
    if b == count:
        return
    first_row = tl.load(starts + b)
    rows = tl.load(starts + b + 1) - first_row
    begin, end, span = _reach(
        tile, rows, tl.load(lens + b), window, parts, GROUP, ROWS, SHORTEST, WINDOWED
    )
    if end - begin <= span:
        return
    inside = tl.program_id(2) * SLICE + tl.arange(0, SLICE)
    flat = tile * ROWS + inside
    dims = tl.arange(0, DIMS)
    real = (flat < rows * GROUP)[:, None] & (dims < HEAD_DIM)[None, :]
    top, total, acc = none(SLICE, DIMS)
    for part in range(tl.cdiv(end - begin, span)):
        place = (tl.cast(index * parts + part, tl.int64) * KV_HEADS + kv_head) * ROWS + inside
        log = tl.load(logs + place)
        highest = tl.maximum(top, log)
        base = tl.where(highest == float("-inf"), 0.0, highest)
        keep = tl.exp2(top - base)
        share = tl.exp2(log - base)
        piece = tl.load(partial + place[:, None] * HEAD_DIM + dims[None, :], real, 0.0)
        total = total * keep + share
        acc = acc * keep[:, None] + piece * share[:, None]
        top = highest
    at = tl.cast(first_row, tl.int64) + flat // GROUP
    to = (at * (KV_HEADS * GROUP) + kv_head * GROUP + flat % GROUP) * HEAD_DIM
    acc = acc / total[:, None]
    tl.store(out + to[:, None] + dims[None, :], acc.to(out.dtype.element_ty), real)
