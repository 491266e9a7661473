"""What the attention kernels share: a tile of queries attends to a tile of the paged cache."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def none(ROWS: tl.constexpr, DIMS: tl.constexpr):
    """The softmax of rows that have seen nothing: see `attend`."""
    empty = tl.zeros([ROWS], tl.float32)
    return empty - float("inf"), empty, tl.zeros([ROWS, DIMS], tl.float32)


@triton.jit
def queries(
    q,
    q_token,
    q_head,
    first_row,
    rows,
    tile,
    kv_head,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    ROWS: tl.constexpr,
    DIMS: tl.constexpr,
):
    """A tile of a sequence's rows for one kv head, whose heads are rows beside each other: row i
    of rows * GROUP is query i // GROUP of head i % GROUP.

    Returns: query [ROWS, DIMS]; of each row: number in its sequence, number in q, head; which of
    all these are real, as query.
    """
    flat = tile * ROWS + tl.arange(0, ROWS)
    row = flat // GROUP
    head = kv_head * GROUP + flat % GROUP
    at = first_row.to(tl.int64) + row
    dims = tl.arange(0, DIMS)
    real = (row < rows)[:, None] & (dims < HEAD_DIM)[None, :]
    places = at[:, None] * q_token + head[:, None] * q_head + dims[None, :]
    return tl.load(q + places, real, 0.0), row, at, head, real


@triton.jit
def tiles_of(
    starts, first, count, GROUP: tl.constexpr, ROWS: tl.constexpr, SEQUENCES: tl.constexpr
):
    """How many tiles of rows each of SEQUENCES sequences from `first` on has; 0: at most a row."""
    which = first + tl.arange(0, SEQUENCES)
    inside = which < count
    rows = tl.load(starts + which + 1, inside, 0) - tl.load(starts + which, inside, 0)
    return tl.where(rows > 1, tl.cdiv(rows * GROUP, ROWS), 0)


@triton.jit
def tile_at(index, starts, count, GROUP: tl.constexpr, ROWS: tl.constexpr, SEQUENCES: tl.constexpr):
    """The index-th tile of all: its sequence (count: none) and its number there. A sequence's last
    ones, which see most, come first."""
    b = 0
    ahead = 0  # tiles up to b's last one
    passed = 0  # tiles of all sequences looked at
    for first in range(0, count, SEQUENCES):
        tiles = tiles_of(starts, first, count, GROUP, ROWS, SEQUENCES)
        through = passed + tl.cumsum(tiles, 0)
        b += tl.sum((through <= index).to(tl.int32))
        ahead += tl.sum(tl.where((through > index) & (through - tiles <= index), through, 0))
        passed += tl.sum(tiles)
    return tl.where(index < passed, b, count), ahead - 1 - index


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
    k = _load(keys + places, tokens, begin, end, HEAD_DIM, MASKED)
    v = _load(values + places, tokens, begin, end, HEAD_DIM, MASKED)
    scores = tl.dot(q, tl.trans(k), input_precision="ieee")
    if CAPPED:
        small = tl.exp2(-scale * tl.abs(scores))
        bent = cap * (1.0 - small) / (1.0 + small)
        scores = tl.where(scores < 0, -bent, bent)
        scale = 1.0
    if MASKED:
        seen = tokens[None, :] <= high[:, None]
        if WINDOWED:
            seen &= tokens[None, :] >= low[:, None]
        scores = tl.where(seen, scores, float("-inf"))
    highest = tl.maximum(top, tl.max(scores, 1) * scale)
    base = highest
    if MASKED:  # a row that has seen nothing yet
        base = tl.where(highest == float("-inf"), 0.0, highest)
    shares = tl.exp2(scores * scale - base[:, None])  # one instruction, which is why scale waits
    keep = tl.exp2(top - base)
    total = total * keep + tl.sum(shares, 1)
    acc = tl.dot(shares.to(v.dtype), v, acc * keep[:, None], input_precision="ieee")
    return highest, total, acc


@triton.jit
def _load(places, tokens, begin, end, HEAD_DIM: tl.constexpr, MASKED: tl.constexpr):
    """What lies at places [TOKENS, DIMS]; 0 beyond HEAD_DIM and, where MASKED, [begin, end)."""
    used = ((tokens >= begin) & (tokens < end))[:, None]
    real = (tl.arange(0, places.shape[1]) < HEAD_DIM)[None, :]
    if MASKED and places.shape[1] > HEAD_DIM:
        return tl.load(places, used & real, 0.0)
    elif MASKED:
        return tl.load(places, used, 0.0)
    elif places.shape[1] > HEAD_DIM:
        return tl.load(places, real, 0.0)
    else:
        return tl.load(places)
