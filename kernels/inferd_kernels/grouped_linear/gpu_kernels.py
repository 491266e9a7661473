"""Rows put in groups, the groups' products, and the sums of each token's rows, in Triton."""

from __future__ import annotations

import triton
import triton.language as tl

from inferd_kernels.linear.gpu_kernels import place, store, sums


@triton.jit(do_not_specialize=["rows"])
def count_before(
    groups, order, places, offsets, rows, count, BLOCK: tl.constexpr, CHUNK: tl.constexpr
):
    """A program for BLOCK of the rows, and then of the bounds: each counts what is before it."""
    mine = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    is_row = mine < rows
    is_bound = (mine >= rows) & (mine <= rows + count)
    group = tl.where(is_row, tl.load(groups + mine, is_row, 0), mine - rows)
    number = tl.where(is_row, mine, 0)  # a bound stands before its group's first row
    before = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, rows, CHUNK):
        other = start + tl.arange(0, CHUNK)
        their = tl.load(groups + other, other < rows, count + 1)[None, :]
        earlier = (their == group[:, None]) & (other[None, :] < number[:, None])
        before += tl.sum(((their < group[:, None]) | earlier).to(tl.int32), 1)
    tl.store(places + mine, before.to(tl.int64), is_row)
    tl.store(order + before, mine.to(tl.int64), is_row)
    tl.store(offsets + (mine - rows), before, is_bound)


@triton.jit(do_not_specialize=["row_tiles"])
def grouped_product(
    x,
    weight,
    offsets,
    out,
    row_tiles,
    groups,
    outputs,
    width,
    GROUPS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """A program for a tile of one group's rows; those beyond the last group's have none.

    row_tiles: as many as there can be. GROUPS: a power of 2, at least `groups`.
    """
    row_tile, column_tile = place(tl.program_id(0), row_tiles, tl.cdiv(outputs, BLOCK_N), 8)
    each = tl.arange(0, GROUPS)
    begins = tl.load(offsets + each, each < groups, 0)
    ends = tl.load(offsets + each + 1, each < groups, 0)
    tiles = tl.cdiv(ends - begins, BLOCK_M)
    after = tl.cumsum(tiles, 0)
    group = tl.sum((after <= row_tile).to(tl.int32), 0)
    if group < GROUPS:
        mine = each == group
        first = tl.sum(tl.where(mine, after - tiles, 0), 0)
        row = tl.sum(tl.where(mine, begins, 0), 0) + (row_tile - first) * BLOCK_M
        end = tl.sum(tl.where(mine, ends, 0), 0)
        column = column_tile * BLOCK_N
        acc = sums(
            x + row.to(tl.int64) * width,
            weight + (group.to(tl.int64) * outputs + column) * width,
            end - row,
            outputs - column,
            width,
            width,
            0,
            width,
            BLOCK_M,
            BLOCK_N,
            BLOCK_K,
        )
        out += row.to(tl.int64) * outputs + column
        store(out, acc, end - row, outputs - column, outputs, BLOCK_M, BLOCK_N)


@triton.jit
def sum_rows(x, places, shares, out, size, COUNT: tl.constexpr, BLOCK: tl.constexpr):
    """A program for a token and BLOCK of its columns."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < size
    total = tl.zeros((BLOCK,), tl.float32)
    for each in tl.static_range(COUNT):
        row = tl.load(places + token * COUNT + each)
        share = tl.load(shares + token * COUNT + each)
        total += tl.load(x + row * size + column, inside, 0.0).to(tl.float32) * share
    tl.store(out + token * size + column, total.to(out.dtype.element_ty), inside)
