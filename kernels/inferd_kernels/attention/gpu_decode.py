"""Attention of sequences with one new row each: split over the context, then combined.

Every program takes one kv head and one span of one sequence's context; the query heads of that kv
head are the rows of its products. How long spans may be, a multiple of a tile, every program works
out from the contexts' total: few long ones are cut finely, many short ones not at all. So the grid
depends only on what the host knows, one long context among short ones keeps the whole GPU busy, and
there are never many programs with nothing to do.
"""

from __future__ import annotations

import triton
import triton.language as tl

from inferd_kernels.attention.gpu_tile import attend, none

VARIES = ("table_stride", "count", "items")
"""Arguments that change from step to step: they never make another kernel."""


@triton.jit
def _lengths(
    starts,
    lens,
    first,
    count,
    window,
    SEQUENCES: tl.constexpr,
    MIXED: tl.constexpr,
    WINDOWED: tl.constexpr,
):
    """How many positions SEQUENCES sequences from `first` on see; 0: not decoding, or none."""
    which = first + tl.arange(0, SEQUENCES)
    inside = which < count
    length = tl.load(lens + which, inside, 0)
    if WINDOWED:
        length = tl.minimum(length, window)
    if MIXED:
        rows = tl.load(starts + which + 1, inside, 0) - tl.load(starts + which, inside, 0)
        length = tl.where(rows == 1, length, 0)
    return length


@triton.jit
def _span(
    starts,
    lens,
    count,
    items,
    window,
    TOKENS: tl.constexpr,
    SHORTEST: tl.constexpr,
    SEQUENCES: tl.constexpr,
    MIXED: tl.constexpr,
    WINDOWED: tl.constexpr,
):
    """How many positions one program takes, so that there are at most items + count programs."""
    total = 0
    for first in range(0, count, SEQUENCES):
        total += tl.sum(_lengths(starts, lens, first, count, window, SEQUENCES, MIXED, WINDOWED))
    return tl.maximum(tl.cdiv(tl.cdiv(total, items), TOKENS) * TOKENS, SHORTEST)


@triton.jit
def _even(length, span, TOKENS: tl.constexpr):
    """How many positions each program of a sequence takes, all about as many, at most `span`."""
    return tl.cdiv(tl.cdiv(length, tl.cdiv(length, span)), TOKENS) * TOKENS


@triton.jit(do_not_specialize=VARIES, do_not_specialize_on_alignment=("tables", "starts", "lens"))
def decode(
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
    items,
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
    MIXED: tl.constexpr,
    WINDOWED: tl.constexpr,
    CAPPED: tl.constexpr,
):
    """Grid (KV_HEADS, programs). A context of one span goes to `out`; of several: each span's
    result to `partial` [programs, Hq, D] with the log2 of its sum to `logs` [programs, Hq]."""
    kv_head = tl.program_id(0)
    item = tl.program_id(1)
    span = _span(starts, lens, count, items, window, TOKENS, SHORTEST, SEQUENCES, MIXED, WINDOWED)
    b = 0
    before = 0  # spans of the sequences before b
    passed = 0  # of all sequences looked at
    for first in range(0, count, SEQUENCES):
        spans = tl.cdiv(
            _lengths(starts, lens, first, count, window, SEQUENCES, MIXED, WINDOWED), span
        )
        past = passed + tl.cumsum(spans, 0) <= item
        b += tl.sum(past.to(tl.int32))
        before += tl.sum(tl.where(past, spans, 0))
        passed += tl.sum(spans)
    if item >= passed:
        return
    row = tl.cast(tl.load(starts + b) if MIXED else b, tl.int64)
    end = tl.load(lens + b)
    length = tl.minimum(end, window) if WINDOWED else end
    span = _even(length, span, TOKENS)
    begin = end - length + (item - before) * span
    stop = tl.minimum(begin + span, end)
    if begin >= end:
        return

    heads = tl.arange(0, ROWS)
    dims = tl.arange(0, DIMS)
    real = (heads < GROUP)[:, None] & (dims < HEAD_DIM)[None, :]
    heads += kv_head * GROUP
    query = tl.load(q + row * q_token + heads[:, None] * q_head + dims[None, :], real, 0.0)
    top, total, acc = none(ROWS, DIMS)
    high = tl.zeros([ROWS], tl.int32) + stop - 1
    for start in range(begin, stop, TOKENS):
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
            stop,
            high,
            high,
            scale,
            cap,
            BLOCK_SIZE,
            KV_HEADS * HEAD_DIM,
            HEAD_DIM,
            TOKENS,
            MASKED=True,
            WINDOWED=False,
            CAPPED=CAPPED,
        )
    acc = acc / total[:, None]
    columns = heads[:, None] * HEAD_DIM + dims[None, :]
    if length <= span:
        to = out + row * (KV_HEADS * GROUP * HEAD_DIM) + columns
        tl.store(to, acc.to(out.dtype.element_ty), real)
    else:
        place = item.to(tl.int64) * (KV_HEADS * GROUP)
        tl.store(partial + place * HEAD_DIM + columns, acc, real)
        tl.store(logs + place + heads, top + tl.log2(total), heads < (kv_head + 1) * GROUP)


@triton.jit(do_not_specialize=VARIES, do_not_specialize_on_alignment=("starts", "lens"))
def combine(
    starts,
    lens,
    out,
    partial,
    logs,
    count,
    items,
    window,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    DIMS: tl.constexpr,
    TOKENS: tl.constexpr,
    SHORTEST: tl.constexpr,
    SEQUENCES: tl.constexpr,
    MIXED: tl.constexpr,
    WINDOWED: tl.constexpr,
    SPANS: tl.constexpr,
):
    """Grid (HEADS, sequences): the spans' results, weighed, in their order."""
    head = tl.program_id(0)
    b = tl.program_id(1)
    end = tl.load(lens + b)
    length = tl.minimum(end, window) if WINDOWED else end
    row = b.to(tl.int64)
    if MIXED:
        row = tl.load(starts + b).to(tl.int64)
        length = tl.where(tl.load(starts + b + 1) - row == 1, length, 0)
    if length <= SHORTEST:
        return
    span = _span(starts, lens, count, items, window, TOKENS, SHORTEST, SEQUENCES, MIXED, WINDOWED)
    if length <= span:
        return
    begin = 0
    for first in range(0, b, SEQUENCES):
        spans = tl.cdiv(
            _lengths(starts, lens, first, count, window, SEQUENCES, MIXED, WINDOWED), span
        )
        begin += tl.sum(tl.where(first + tl.arange(0, SEQUENCES) < b, spans, 0))
    stop = begin + tl.cdiv(length, _even(length, span, TOKENS))

    dims = tl.arange(0, DIMS)
    top = float("-inf")
    total = 0.0
    acc = tl.zeros([DIMS], tl.float32)
    for start in range(begin, stop, SPANS):
        which = start + tl.arange(0, SPANS)
        places = which.to(tl.int64) * HEADS + head
        log = tl.load(logs + places, which < stop, float("-inf"))
        inside = (which < stop)[:, None] & (dims < HEAD_DIM)[None, :]
        part = tl.load(partial + places[:, None] * HEAD_DIM + dims[None, :], inside, 0.0)
        highest = tl.maximum(top, tl.max(log, 0))
        shares = tl.exp2(log - highest)
        keep = tl.exp2(top - highest)
        total = total * keep + tl.sum(shares, 0)
        acc = acc * keep + tl.sum(shares[:, None] * part, 0)
        top = highest
    to = out + (row * HEADS + head) * HEAD_DIM + dims
    tl.store(to, (acc / total).to(out.dtype.element_ty), dims < HEAD_DIM)
