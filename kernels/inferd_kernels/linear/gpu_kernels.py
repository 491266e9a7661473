"""Matrix products in Triton: the sum that all of them share, and the plain product.

An output is one chain of additions over its inputs, from the first to the last, whatever the tile:
each `tl.dot` adds to the accumulator that it is given. For 16-bit numbers the additions are the
tensor cores', 16 inputs at a time: by `wgmma m64nNk16` on a Hopper GPU, where a tile has at least
64 rows, by `mma m16n8k16` on older ones. So a row has the same bits in any tile, if those
instructions compute each output alone, which their maker does not promise: tests on a GPU look
whether they do.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sums(
    x,
    weight,
    rows_left,
    columns_left,
    x_stride,
    width,
    begin,
    end,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Products [BLOCK_M, BLOCK_N] of a tile's rows with its outputs, over inputs begin … end - 1,
    of which there is one at least: else the compiler keeps a way around the loop, and on a Hopper
    GPU each `wgmma` waits for the one before.

    x and weight point to the tile's first row and first output.
    """
    row = tl.arange(0, BLOCK_M).to(tl.int64)[:, None]
    column = tl.arange(0, BLOCK_N).to(tl.int64)[None, :]
    depth = tl.arange(0, BLOCK_K)
    x_offsets = row * x_stride + depth[None, :]
    weight_offsets = column * width + depth[:, None]
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    tl.assume(begin < end)
    for start in range(begin, end, BLOCK_K):
        inside = depth < end - start
        part = tl.load(x + start + x_offsets, (row < rows_left) & inside[None, :], 0.0)
        weights = tl.load(
            weight + start + weight_offsets, (column < columns_left) & inside[:, None], 0.0
        )
        acc = tl.dot(part, weights, acc, input_precision="ieee")
    return acc


@triton.jit
def place(tile, row_tiles, column_tiles, HEIGHT: tl.constexpr):
    """Row and column of a tile. Programs that run at a time share HEIGHT rows of tiles, so that
    what they read is in the cache."""
    band = tile // (HEIGHT * column_tiles)
    inside = tile % (HEIGHT * column_tiles)
    height = tl.minimum(row_tiles - band * HEIGHT, HEIGHT)
    return band * HEIGHT + inside % height, inside // height


@triton.jit
def store(
    out, values, rows_left, columns_left, stride, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr
):
    """Round values and write them to the tile that begins at out."""
    row = tl.arange(0, BLOCK_M).to(tl.int64)[:, None]
    column = tl.arange(0, BLOCK_N)[None, :]
    inside = (row < rows_left) & (column < columns_left)
    tl.store(out + row * stride + column, values.to(out.dtype.element_ty), inside)


@triton.jit(do_not_specialize=["rows", "splits"])
def product(
    x,
    weight,
    bias,
    out,
    rows,
    outputs,
    width,
    x_stride,
    out_stride,
    splits,
    BIAS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """A program for a tile of the outputs [rows, outputs] and one of `splits` shares of the inputs.

    With several shares, each of a BLOCK_K at least, out is [splits, rows, outputs], and nothing is
    added to it yet.
    """
    row_tiles = tl.cdiv(rows, BLOCK_M)
    row_tile, column_tile = place(tl.program_id(0), row_tiles, tl.cdiv(outputs, BLOCK_N), 8)
    row = row_tile.to(tl.int64) * BLOCK_M
    column = column_tile.to(tl.int64) * BLOCK_N
    split = tl.program_id(1)
    parts = tl.cdiv(width, BLOCK_K)
    acc = sums(
        x + row * x_stride,
        weight + column * width,
        rows - row,
        outputs - column,
        x_stride,
        width,
        split * parts // splits * BLOCK_K,
        tl.minimum(width, (split + 1) * parts // splits * BLOCK_K),
        BLOCK_M,
        BLOCK_N,
        BLOCK_K,
    )
    if BIAS:
        beside = column + tl.arange(0, BLOCK_N)
        acc += tl.load(bias + beside, beside < outputs, 0.0).to(tl.float32)[None, :]
    out += (split.to(tl.int64) * rows + row) * out_stride + column
    store(out, acc, rows - row, outputs - column, out_stride, BLOCK_M, BLOCK_N)


@triton.jit(do_not_specialize=["rows", "splits"])
def add_splits(parts, bias, out, rows, outputs, splits, BIAS: tl.constexpr, BLOCK: tl.constexpr):
    """out [rows, outputs] of parts [splits, rows, outputs], added from the first to the last."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < outputs
    total = tl.zeros((BLOCK,), tl.float32)
    for split in range(splits):
        total += tl.load(parts + (split * rows.to(tl.int64) + row) * outputs + column, inside, 0.0)
    if BIAS:
        total += tl.load(bias + column, inside, 0.0).to(tl.float32)
    tl.store(out + row * outputs + column, total.to(out.dtype.element_ty), inside)
