"""`attention` in Triton, of which a row's bits depend on nothing but that row and its context.

One kernel with one tile, for rows that decode and for prompts, whatever step they came in. A row's
context is cut into spans at fixed positions; each is summed up from nothing, tile by tile, and the
spans' sums are joined in their order. Who does that is free: one program for a tile of a prompt's
rows; for a row that decodes, programs that leave the spans' sums in memory, where `_join` finds
them. A tile or span of which a row sees nothing changes no bit of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from inferd_kernels.attention import gpu
from inferd_kernels.attention.gpu_tile import attend, none, queries, tile_at

# Not measured on a GPU yet.
ROWS = 64
"""The fewest that Hopper's matrix instruction takes. Decoding fills a few of them: at the memory's
full rate that is some 275 TFLOP/s for heads of 128, a third of what the matrix units can."""
SPAN = 256
"""Positions of a span. Joining costs a prompt a tile's time every four or so, and a span's sums
are 1/64 of the bytes of its KV for four query heads to a kv head."""


def attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_tables: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    seq_lens: torch.Tensor,
    *,
    max_seqlen_q: int,
    max_seqlen_k: int,
    scale: float,
    window: int = 0,
    softcap: float = 0.0,
) -> torch.Tensor:
    assert k_cache.is_contiguous(), "a cache is contiguous"
    assert v_cache.is_contiguous(), "a cache is contiguous"
    if q.stride(2) != 1:
        q = q.contiguous()
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    if not q.shape[0]:
        return out
    num_blocks, block_size, kv_heads, head_dim = k_cache.shape
    heads, count = q.shape[1], len(seq_lens)
    dims = triton.next_power_of_2(max(head_dim, 16))
    rows, tokens = tile(heads // kv_heads, dims, q.element_size())
    span = max(SPAN, tokens)
    longest = min(window, max_seqlen_k) if window else max_seqlen_k
    spans = count * (-(-longest // span) + 1)
    items = gpu.programs_wanted(q.device, kv_heads)
    capacity = min(spans, num_blocks * block_size // span + 2 * count)
    programs = min(spans, items + count)
    tiles = gpu.most_tiles(len(q), count, heads // kv_heads, rows) if max_seqlen_q > 1 else 0
    scratch = _scratch(q.device, (capacity, heads, head_dim), (capacity, heads), (capacity, heads))
    batch = (cu_seqlens_q, seq_lens)
    same = {
        "HEAD_DIM": head_dim,
        "DIMS": dims,
        "SPAN": span,
        "SEQUENCES": gpu.SEQUENCES,
        "WINDOWED": window > 0,
    }
    _attend[(kv_heads, programs + tiles)](
        q,
        k_cache,
        v_cache,
        block_tables,
        *batch,
        out,
        *scratch,
        q.stride(0),
        q.stride(1),
        block_tables.stride(0),
        count,
        items,
        capacity,
        programs,
        window,
        *gpu.exponents(scale, softcap),
        GROUP=heads // kv_heads,
        KV_HEADS=kv_heads,
        BLOCK_SIZE=block_size,
        ROWS=rows,
        TOKENS=tokens,
        CAPPED=softcap > 0,
        num_warps=4 if dims <= 128 else 8,
        num_stages=3,
        **same,
    )
    _join[(heads, count)](
        *batch, out, *scratch, count, items, capacity, window, HEADS=heads, num_warps=2, **same
    )
    return out


def tile(group: int, dims: int, itemsize: int) -> tuple[int, int]:
    """Rows and positions of every product, by what a model is made of alone."""
    if itemsize == 4:  # no matrix units: what a model's numbers are checked with
        return max(16, triton.next_power_of_2(group)), 32 if dims <= 128 else 16
    return max(ROWS, triton.next_power_of_2(group)), 64 if dims <= 128 else 32


def _scratch(device: torch.device, *shapes: Sequence[int]) -> list[torch.Tensor]:
    return [torch.empty(*shape, dtype=torch.float32, device=device) for shape in shapes]


@triton.jit
def _spans(
    starts,
    lens,
    first,
    count,
    window,
    SPAN: tl.constexpr,
    SEQUENCES: tl.constexpr,
    WINDOWED: tl.constexpr,
):
    """How many spans each of SEQUENCES sequences from `first` on sees; 0: it has not one row."""
    which = first + tl.arange(0, SEQUENCES)
    inside = which < count
    end = tl.load(lens + which, inside, 0)
    rows = tl.load(starts + which + 1, inside, 0) - tl.load(starts + which, inside, 0)
    begin = tl.maximum(end - window, 0) // SPAN if WINDOWED else 0
    return tl.where((rows == 1) & (end > 0), tl.cdiv(end, SPAN) - begin, 0)


@triton.jit
def _turns(
    starts,
    lens,
    count,
    items,
    window,
    SPAN: tl.constexpr,
    SEQUENCES: tl.constexpr,
    WINDOWED: tl.constexpr,
):
    """How many spans a program takes, so that there are at most items + count programs."""
    total = 0
    for first in range(0, count, SEQUENCES):
        total += tl.sum(_spans(starts, lens, first, count, window, SPAN, SEQUENCES, WINDOWED))
    return tl.maximum(tl.cdiv(total, items), 1)


@triton.jit
def _fold(top, total, acc, new_top, new_total, new_acc):
    """The sums of a row's spans so far, with one more span joined: the same bits wherever done."""
    highest = tl.maximum(top, new_top)
    base = tl.where(highest == float("-inf"), 0.0, highest)
    keep = tl.exp2(top - base)
    share = tl.exp2(new_top - base)
    total = tl.fma(total, keep, new_total * share)
    wide = tl.broadcast_to(tl.expand_dims(keep, 1), acc.shape)
    acc = tl.fma(acc, wide, new_acc * tl.expand_dims(share, 1))
    return highest, total, acc


@triton.jit
def _place(
    item,
    starts,
    lens,
    count,
    items,
    capacity,
    window,
    SPAN: tl.constexpr,
    SEQUENCES: tl.constexpr,
    WINDOWED: tl.constexpr,
):
    """Of a program: its sequence (count: none), the first and last of that one's spans that it
    takes, where in the scratch the sequence's first one is, and whether it takes them all."""
    turns = _turns(starts, lens, count, items, window, SPAN, SEQUENCES, WINDOWED)
    b = 0
    before = 0  # programs of the sequences before b
    place = 0  # spans of those
    programs = 0  # of all sequences looked at
    spans = 0  # of those
    for first in range(0, count, SEQUENCES):
        own = _spans(starts, lens, first, count, window, SPAN, SEQUENCES, WINDOWED)
        fits = spans + tl.cumsum(own, 0) <= capacity
        wanted = tl.where(fits, tl.cdiv(own, turns), tl.minimum(own, 1))
        past = programs + tl.cumsum(wanted, 0) <= item
        b += tl.sum(past.to(tl.int32))
        before += tl.sum(tl.where(past, wanted, 0))
        place += tl.sum(tl.where(past, own, 0))
        programs += tl.sum(wanted)
        spans += tl.sum(own)
    b = tl.where(item < programs, b, count)
    end = tl.load(lens + b, b < count, 0)
    begin = tl.maximum(end - window, 0) // SPAN if WINDOWED else 0
    own = tl.cdiv(end, SPAN) - begin
    whole = (own <= turns) | (place + own > capacity)
    first = tl.where(whole, 0, (item - before) * turns)
    last = tl.where(whole, own, tl.minimum(first + turns, own))
    return b, begin + first, begin + last, place - begin, whole


VARIES = ("table_stride", "count", "items", "capacity", "programs")
"""Arguments that change from step to step: they never make another kernel."""


@triton.jit(do_not_specialize=VARIES, do_not_specialize_on_alignment=("tables", "starts", "lens"))
def _attend(
    q,
    keys,
    values,
    tables,
    starts,
    lens,
    out,
    partial,
    tops,
    totals,
    q_token,
    q_head,
    table_stride,
    count,
    items,
    capacity,
    programs,
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
    SPAN: tl.constexpr,
    SEQUENCES: tl.constexpr,
    WINDOWED: tl.constexpr,
    CAPPED: tl.constexpr,
):
    """Grid (KV_HEADS, programs + tiles): `programs` for sequences of one row, then for the tiles of
    those of several."""
    kv_head = tl.program_id(0)
    item = tl.program_id(1)
    if item < programs:
        b, first, last, place, whole = _place(
            item, starts, lens, count, items, capacity, window, SPAN, SEQUENCES, WINDOWED
        )
        tile = 0
    else:
        b, tile = tile_at(item - programs, starts, count, GROUP, ROWS, SEQUENCES)
        last = tl.cdiv(tl.load(lens + b, b < count, 0), SPAN)
        first = 0
        place = 0
        whole = tile >= 0
    if b == count:
        return
    first_row = tl.load(starts + b)
    rows = tl.load(starts + b + 1) - first_row
    query, row, at, head, real = queries(
        q, q_token, q_head, first_row, rows, tile, kv_head, GROUP, HEAD_DIM, ROWS, DIMS
    )
    context = tl.load(lens + b)
    high = context - rows + tl.minimum(row, rows - 1)
    low = high
    begin = first * SPAN
    end = tl.minimum(context - rows + ((tile + 1) * ROWS - 1) // GROUP + 1, context)
    end = tl.minimum(last * SPAN, end)
    if WINDOWED:
        low = high - window + 1
        begin = tl.maximum(begin, context - rows + tile * ROWS // GROUP - window + 1)

    dims = tl.arange(0, DIMS)
    all_top, all_total, all_acc = none(ROWS, DIMS)
    for span in range(begin // SPAN, tl.cdiv(end, SPAN)):
        top, total, acc = none(ROWS, DIMS)
        first_tile = tl.maximum(span * SPAN, begin // TOKENS * TOKENS)
        for start in range(first_tile, tl.minimum(span * SPAN + SPAN, end), TOKENS):
            top, total, acc = attend(
                query,
                top,
                total,
                acc,
                keys + kv_head * HEAD_DIM,
                values + kv_head * HEAD_DIM,
                tables + tl.cast(b, tl.int64) * table_stride,
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
        if whole:
            all_top, all_total, all_acc = _fold(all_top, all_total, all_acc, top, total, acc)
        else:
            to = tl.cast(place + span, tl.int64) * (KV_HEADS * GROUP) + head
            tl.store(partial + to[:, None] * HEAD_DIM + dims[None, :], acc, real)
            tl.store(tops + to, top, row < rows)
            tl.store(totals + to, total, row < rows)
    if whole:
        to = out + (at[:, None] * (KV_HEADS * GROUP) + head[:, None]) * HEAD_DIM + dims[None, :]
        tl.store(to, (all_acc / all_total[:, None]).to(out.dtype.element_ty), real)


@triton.jit(do_not_specialize=VARIES, do_not_specialize_on_alignment=("starts", "lens"))
def _join(
    starts,
    lens,
    out,
    partial,
    tops,
    totals,
    count,
    items,
    capacity,
    window,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    DIMS: tl.constexpr,
    SPAN: tl.constexpr,
    SEQUENCES: tl.constexpr,
    WINDOWED: tl.constexpr,
):
    """Grid (HEADS, sequences): the sums of the spans of a row that several programs took."""
    head = tl.program_id(0)
    b = tl.program_id(1)
    end = tl.load(lens + b)
    row = tl.load(starts + b).to(tl.int64)
    rows = tl.load(starts + b + 1) - row
    own = tl.cdiv(end, SPAN)
    if WINDOWED:
        own -= tl.maximum(end - window, 0) // SPAN
    if (rows != 1) | (own < 2):
        return
    turns = _turns(starts, lens, count, items, window, SPAN, SEQUENCES, WINDOWED)
    begin = 0
    for first in range(0, b, SEQUENCES):
        spans = _spans(starts, lens, first, count, window, SPAN, SEQUENCES, WINDOWED)
        begin += tl.sum(tl.where(first + tl.arange(0, SEQUENCES) < b, spans, 0))
    if (own <= turns) | (begin + own > capacity):
        return
    dims = tl.arange(0, DIMS)
    top, total, acc = none(1, DIMS)
    for span in range(begin, begin + own):
        at = (tl.zeros([1], tl.int64) + span) * HEADS + head
        part = tl.load(
            partial + at[:, None] * HEAD_DIM + dims[None, :], dims[None, :] < HEAD_DIM, 0
        )
        top, total, acc = _fold(top, total, acc, tl.load(tops + at), tl.load(totals + at), part)
    to = out + (row * HEADS + head) * HEAD_DIM + dims[None, :]
    tl.store(to, (acc / total[:, None]).to(out.dtype.element_ty), dims[None, :] < HEAD_DIM)


IMPLEMENTATIONS = {"attention": attention}
