"""What the attention kernels share: a tile of queries attends to a tile of the paged cache."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def attend(
    q,
    top,
    total,
    acc,
    keys,
    values,
    table,
    start,
    begin,
    end,
    low,
    high,
    scale,
    cap,
    BLOCK_SIZE: tl.constexpr,
    TOKEN_STRIDE: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    TOKENS: tl.constexpr,
    MASKED: tl.constexpr,
    WINDOWED: tl.constexpr,
    CAPPED: tl.constexpr,
):
    """The softmax so far of rows q [M, DIMS], with positions start … start + TOKENS - 1 added.

    top, total [M], acc [M, DIMS], all fp32: the largest score, in powers of two; the sum of
    2^(score - top); the values in those shares. Where MASKED, only positions in [begin, end) are
    loaded, and row r sees those in [low[r], high[r]] (low only where WINDOWED); else all.

    scale, cap: see `gpu.exponents`.
    """
    tokens = start + tl.arange(0, TOKENS)
    dims = tl.arange(0, q.shape[1])
    if MASKED:
        used = (tokens >= begin) & (tokens < end)
        blocks = tl.load(table + tokens // BLOCK_SIZE, used, 0)
    else:
        blocks = tl.load(table + tokens // BLOCK_SIZE)
    slots = blocks.to(tl.int64) * BLOCK_SIZE + tokens % BLOCK_SIZE
    places = slots[:, None] * TOKEN_STRIDE + dims[None, :]
    if MASKED and HEAD_DIM != q.shape[1]:
        loaded = used[:, None] & (dims < HEAD_DIM)[None, :]
        k = tl.load(keys + places, loaded, 0.0)
        v = tl.load(values + places, loaded, 0.0)
    elif MASKED:
        k = tl.load(keys + places, used[:, None], 0.0)
        v = tl.load(values + places, used[:, None], 0.0)
    elif HEAD_DIM != q.shape[1]:
        k = tl.load(keys + places, (dims < HEAD_DIM)[None, :], 0.0)
        v = tl.load(values + places, (dims < HEAD_DIM)[None, :], 0.0)
    else:
        k = tl.load(keys + places)
        v = tl.load(values + places)
    scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
    if CAPPED:
        small = tl.exp2(-tl.abs(scores))
        bent = cap * (1.0 - small) / (1.0 + small)
        scores = tl.where(scores < 0, -bent, bent)
    if MASKED:
        seen = tokens[None, :] <= high[:, None]
        if WINDOWED:
            seen &= tokens[None, :] >= low[:, None]
        scores = tl.where(seen, scores, float("-inf"))
    highest = tl.maximum(top, tl.max(scores, 1))
    base = highest
    if MASKED:  # a row that has seen nothing yet
        base = tl.where(highest == float("-inf"), 0.0, highest)
    shares = tl.exp2(scores - base[:, None])
    keep = tl.exp2(top - base)
    total = total * keep + tl.sum(shares, 1)
    acc = tl.dot(shares.to(v.dtype), v, acc * keep[:, None], input_precision="ieee")
    return highest, total, acc
