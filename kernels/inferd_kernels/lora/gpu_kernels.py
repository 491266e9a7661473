"""The kernels of `lora` in Triton.

Rows are ordered by slot, once per step, into tiles of one slot each. `shrink` multiplies a tile by
the slot's first factors, `expand` by the second. Which slot, ranks, columns and addresses it is, a
launch reads from device memory: nothing is compiled anew, or launched otherwise, for another
adapter.

A row's bits depend on nothing but that row and its adapter: the input is cut at fixed places, the
pieces' sums are added in order, and products run along it alike whatever else is in the tile. For
that, all tiles must use the same instruction: Hopper's own takes over where four warps share 64
rows, so no tile is so.
"""

from __future__ import annotations

import triton
import triton.language as tl

from inferd_kernels.lora import gpu_tables, module

A = tl.constexpr(gpu_tables.A)
RANK = tl.constexpr(gpu_tables.RANK)
INPUTS = tl.constexpr(gpu_tables.INPUTS)
HEADER = tl.constexpr(gpu_tables.HEADER)
B = tl.constexpr(gpu_tables.B)
BEGIN = tl.constexpr(gpu_tables.BEGIN)
SPAN = tl.constexpr(gpu_tables.SPAN)
OFFSET = tl.constexpr(gpu_tables.OFFSET)
WIDTH = tl.constexpr(gpu_tables.WIDTH)
B_RANK = tl.constexpr(gpu_tables.B_RANK)
FIELDS = tl.constexpr(gpu_tables.FIELDS)
PARTS = tl.constexpr(module.MAX_PARTS)
ALIGN = tl.constexpr(gpu_tables.ALIGN)


@triton.jit(do_not_specialize=["count"])
def order(
    row_slots,  # [count] int32
    rows,  # [tiles * TILE] int32, out: a tile's rows, -1 where it has fewer
    tile_slots,  # [tiles] int32, out: -1: an unused tile
    count,
    num_slots,
    SLOTS: tl.constexpr,  # num_slots or more
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A program for each tile finds its slot and rows. Those of slots that there are not are
    nobody's."""
    tile = tl.program_id(0)
    each = tl.arange(0, SLOTS)
    block = tl.arange(0, BLOCK)
    counts = tl.zeros([SLOTS], tl.int32)
    for begin in range(0, count, BLOCK):
        slots = tl.load(row_slots + begin + block, begin + block < count, -1)
        counts += tl.sum((slots[:, None] == each[None, :]).to(tl.int32), 0)
    counts = tl.where(each < num_slots, counts, 0)
    tiles = (counts + (TILE - 1)) // TILE
    ends = tl.cumsum(tiles, 0)
    slot = tl.sum((ends <= tile).to(tl.int32), 0)  # SLOTS: behind them all
    own = each == slot
    skipped = (tile - tl.sum(tl.where(own, ends - tiles, 0), 0)) * TILE
    left = tl.sum(tl.where(own, counts, 0), 0) - skipped
    used = slot < SLOTS
    tl.store(tile_slots + tile, tl.where(used, slot, -1))
    spare = tl.arange(0, TILE)
    tl.store(rows + tile * TILE + spare, spare * 0 - 1, spare >= tl.where(used, left, 0))
    if used:
        seen = -skipped
        for begin in range(0, count, BLOCK):
            slots = tl.load(row_slots + begin + block, begin + block < count, -1)
            mine = (slots == slot).to(tl.int32)
            place = seen + tl.cumsum(mine, 0) - mine
            here = (mine > 0) & (place >= 0) & (place < TILE)
            tl.store(rows + tile * TILE + place, begin + block, here)
            seen += tl.sum(mine, 0)


@triton.jit(do_not_specialize=["table_stride", "piece_stride", "num_pieces", "pieces_each"])
def shrink(
    x,  # [T, size]
    low,  # [pieces, T, low_stride] float32, out
    rows,
    tile_slots,
    table,
    table_stride,
    x_stride,
    low_stride,
    piece_stride,
    size,
    piece,  # columns of x in a piece, a multiple of BLOCK
    num_pieces,
    pieces_each,  # what a program adds up
    TILE: tl.constexpr,
    RANKS: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
    OVERLAP: tl.constexpr,  # let `expand` begin: it waits for what it needs of this
):
    """Programs: tiles, groups of ranks that take turns, groups of pieces."""
    if OVERLAP:
        tl.extra.cuda.gdc_launch_dependents()
    tile = tl.program_id(0)
    slot = tl.load(tile_slots + tile)
    if slot >= 0:
        entry = table + slot.to(tl.int64) * table_stride
        rank = tl.load(entry + RANK).to(tl.int32)
        a = _floats(tl.load(entry + A), x.dtype.element_ty)
        own = tl.load(rows + tile * TILE + tl.arange(0, TILE)).to(tl.int64)
        inside = (own >= 0)[:, None]
        source = x + own[:, None] * x_stride
        goal = low + tl.program_id(2).to(tl.int64) * piece_stride + own[:, None] * low_stride
        first = tl.program_id(2) * pieces_each
        last = tl.minimum(first + pieces_each, num_pieces)
        for begin in range(tl.program_id(1) * RANKS, rank, tl.num_programs(1) * RANKS):
            ranks = begin + tl.arange(0, RANKS)
            factors = a + ranks.to(tl.int64)[:, None] * size
            total = tl.zeros([TILE, RANKS], tl.float32)
            for index in range(first, last):
                part = tl.zeros([TILE, RANKS], tl.float32)
                for column in range(index * piece, tl.minimum((index + 1) * piece, size), BLOCK):
                    at = (column + tl.arange(0, BLOCK))[None, :]
                    left = tl.load(source + at, inside & (at < size), 0.0)
                    right = tl.load(factors + at, (ranks < rank)[:, None] & (at < size), 0.0)
                    part = tl.dot(left, tl.trans(right), part, input_precision=PRECISION)
                total += part
            tl.store(goal + ranks[None, :], total, inside & (ranks < rank)[None, :])


@triton.jit(do_not_specialize=["table_stride"])
def look_up(
    ids,  # [T] integers
    low,  # [T, low_stride] float32, out
    rows,
    tile_slots,
    table,
    table_stride,
    low_stride,
    TILE: tl.constexpr,
    RANKS: tl.constexpr,
    DTYPE: tl.constexpr,  # of a
):
    """What `shrink` is for an embedding: a column of a for each row. Programs: tiles."""
    tile = tl.program_id(0)
    slot = tl.load(tile_slots + tile)
    if slot >= 0:
        entry = table + slot.to(tl.int64) * table_stride
        rank = tl.load(entry + RANK).to(tl.int32)
        vocab = tl.load(entry + INPUTS)
        a = _floats(tl.load(entry + A), DTYPE)
        own = tl.load(rows + tile * TILE + tl.arange(0, TILE)).to(tl.int64)
        token = tl.load(ids + own, own >= 0, 0).to(tl.int64)
        for begin in range(0, rank, RANKS):
            ranks = begin + tl.arange(0, RANKS)
            inside = (own >= 0)[:, None] & (ranks < rank)[None, :]
            at = ranks.to(tl.int64)[None, :] * vocab + token[:, None]
            value = tl.load(a + at, inside, 0.0).to(tl.float32)
            tl.store(low + own[:, None] * low_stride + ranks[None, :], value, inside)


@triton.jit(do_not_specialize=["table_stride", "piece_stride", "num_pieces"])
def expand(
    y,  # [T, width], changed in place
    low,  # [pieces, T, low_stride] float32
    rows,
    tile_slots,
    table,
    table_stride,
    y_stride,
    low_stride,
    piece_stride,
    width,
    num_pieces,
    TILE: tl.constexpr,
    PIECES: tl.constexpr,  # num_pieces or more
    RANKS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DTYPE: tl.constexpr,  # of b
    OVERLAP: tl.constexpr,  # `low` is there when what was launched before has ended
):
    """Programs: tiles, and columns of parts, which no two parts share."""
    tile = tl.program_id(0)
    slot = tl.load(tile_slots + tile)
    if slot >= 0:
        entry = table + slot.to(tl.int64) * table_stride
        column = tl.program_id(1)  # in blocks, of all the parts one after another
        before, first, begin, span, offset, end, b, rank = _find(entry, column, COLUMNS)
        begin, span = begin * ALIGN, span * ALIGN
        if column < first + (span + (COLUMNS - 1)) // COLUMNS:
            own = tl.load(rows + tile * TILE + tl.arange(0, TILE)).to(tl.int64)
            inside = (own >= 0)[:, None]
            local = (column - first) * COLUMNS + tl.arange(0, COLUMNS)
            columns = begin + local
            reached = ((local < span) & (columns < width))[None, :]
            place = y + own[:, None] * y_stride + columns[None, :]
            value = tl.load(place, inside & reached, 0.0)
            if OVERLAP:
                tl.extra.cuda.gdc_wait()
            delta = tl.zeros([TILE, COLUMNS], tl.float32)
            for start in range(0, rank, RANKS):
                ranks = start + tl.arange(0, RANKS)
                source = low + own[:, None] * low_stride + (before + ranks)[None, :]
                lows = tl.zeros([TILE, RANKS], tl.float32)
                for index in tl.static_range(PIECES):
                    known = (ranks < tl.where(num_pieces > index, rank, 0))[None, :]
                    lows += tl.load(source + index * piece_stride, inside & known, 0.0)
                at = ranks.to(tl.int64)[:, None] * span + local[None, :]
                known = (ranks < rank)[:, None] & (local < span)[None, :]
                factors = tl.load(_floats(b, DTYPE) + at, known, 0.0)
                delta = _dot(lows, factors, delta)
            after = (value.to(tl.float32) + delta).to(value.dtype)
            if (begin == offset) & (begin + span == end):
                tl.store(place, after, inside & reached)
            else:  # b's rows reach into columns of another part
                exact = ((columns >= offset) & (columns < end))[None, :]
                tl.store(place, after, inside & exact)


@triton.jit
def _find(entry, column, COLUMNS: tl.constexpr):
    """The part that has a block of columns, or the last one; the ranks and blocks before it."""
    found = False
    before = 0  # ranks of the parts in front of the one that has it
    first = 0  # blocks of them
    begin, span, offset, end, b, rank = _part(entry, 0)
    for each in tl.static_range(1, PARTS):  # loads wait for no other part's
        others = _part(entry, each)
        blocks = (span * ALIGN + (COLUMNS - 1)) // COLUMNS
        found = found | (column < first + blocks)
        before += tl.where(found, 0, rank)
        first += tl.where(found, 0, blocks)
        begin = tl.where(found, begin, others[0])
        span = tl.where(found, span, others[1])
        offset = tl.where(found, offset, others[2])
        end = tl.where(found, end, others[3])
        b = tl.where(found, b, others[4])
        rank = tl.where(found, rank, others[5])
    return before, first, begin, span, offset, end, b, rank


@triton.jit
def _part(entry, part: tl.constexpr):
    """What the table says of a slot's part."""
    fields = entry + (HEADER + part * FIELDS)
    begin = tl.load(fields + BEGIN).to(tl.int32)
    span = tl.load(fields + SPAN).to(tl.int32)
    offset = tl.load(fields + OFFSET).to(tl.int32)
    end = offset + tl.load(fields + WIDTH).to(tl.int32)
    rank = tl.load(fields + B_RANK).to(tl.int32)
    return begin, span, offset, end, tl.load(fields + B), rank


@triton.jit
def _floats(address, DTYPE: tl.constexpr):
    return tl.multiple_of(address.to(tl.pointer_type(DTYPE)), 16)


@triton.jit
def _dot(lows, factors, total):
    """float32 times any dtype as if all were float32."""
    if factors.dtype == tl.bfloat16:  # three of them hold a float32
        high = lows.to(tl.bfloat16)
        rest = tl.where(tl.abs(lows) < float("inf"), lows - high.to(tl.float32), 0.0)
        middle = rest.to(tl.bfloat16)
        low = (rest - middle.to(tl.float32)).to(tl.bfloat16)
        total = tl.dot(low, factors, total)
        total = tl.dot(middle, factors, total)
        total = tl.dot(high, factors, total)
    elif factors.dtype == tl.float16:  # less range than float32 has; two tf32 hold one
        total = tl.dot(lows, factors.to(tl.float32), total, input_precision="tf32x3")
    else:
        total = tl.dot(lows, factors, total, input_precision="ieee")
    return total
