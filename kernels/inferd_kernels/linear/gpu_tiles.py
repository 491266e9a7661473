"""Which tile of a matrix product a program computes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import torch


@dataclass(frozen=True, slots=True)
class Tile:
    """A program's part of a product, and how it is computed.

    Attributes:
        rows: 64 at least where a row's bits must not depend on the tile: see gpu_kernels.
        columns: outputs.
        depth: inputs that are multiplied at a time; of float32, which the tensor cores do not
            take, a quarter.
        stages: parts that are on the way from memory.
    """

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int

    def inputs(self, dtype: torch.dtype) -> int:
        return self.depth // 4 if dtype == torch.float32 else self.depth

    def count(self, outputs: int) -> int:
        """Of tiles side by side."""
        return -(-outputs // self.columns)


SKINNY = Tile(16, 64, depth=128, warps=4, stages=4)
"""For few rows whose bits may depend on the tile."""
STREAM = Tile(64, 32, depth=128, warps=4, stages=4)
"""Reads weights as they come; 64 rows, most of them empty, cost the tensor cores a third of that
time."""
STREAM_DEEP = Tile(64, 32, depth=128, warps=4, stages=7)
"""The same with more on the way, for a program per multiprocessor."""
NARROW = Tile(64, 16, depth=128, warps=4, stages=8)
"""More programs, for few outputs."""
NEAR = Tile(64, 64, depth=128, warps=4, stages=6)
WIDE = Tile(64, 256, depth=64, warps=4, stages=5)
"""For up to 64 rows that would be read too often from the second-level cache."""
MEDIUM = Tile(128, 128, depth=64, warps=8, stages=3)
LARGE = Tile(128, 256, depth=64, warps=8, stages=4)

ROOMY = 200 << 10
"""Bytes of shared memory that a program has where others than STREAM and MEDIUM are chosen: on an
H100 or H200. LARGE also wants `wgmma`, which takes its operands from there: on an A100 they would
not all fit the registers."""

# Of an H200 and per clock; by its data sheet and what others measured on such chips, not by us.
PRODUCTS = 1400  # multiplications and additions of a multiprocessor that a kernel reaches
LOADED = 50  # bytes that reach a multiprocessor
CACHED = 3100  # bytes that leave the second-level cache
READ = 2450  # bytes that come from memory


@cache
def multiprocessors(device: torch.device) -> tuple[int, int]:
    """How many there are, and the bytes of shared memory that a program can have; an H200's where
    there is no GPU."""
    if device.type != "cuda":
        return 132, 227 << 10
    found = torch.cuda.get_device_properties(device)
    shared: int = found.shared_memory_per_block_optin  # type: ignore[attr-defined]  # no stub
    return found.multi_processor_count, shared


@lru_cache(4096)
def choose(
    rows: int, outputs: int, dtype: torch.dtype, device: torch.device, groups: int = 1
) -> Tile:
    """The tile for [rows, in] in this many groups, each times its own [outputs, in].

    All of them give a row the same bits.
    """
    processors, shared = multiprocessors(device)
    if shared < ROOMY:
        tiles: tuple[Tile, ...] = (STREAM, MEDIUM)
    else:
        tiles = (STREAM, NARROW, NEAR, WIDE, MEDIUM, LARGE)
    if dtype == torch.float32:
        tiles = tuple(tile for tile in tiles if tile in (STREAM, NARROW))
    best = min(tiles, key=lambda tile: _clocks(tile, rows, outputs, groups, processors))
    programs = row_tiles(rows, groups, best) * best.count(outputs)
    deep = best == STREAM and programs <= processors and shared >= ROOMY
    return STREAM_DEEP if deep else best


def _clocks(tile: Tile, rows: int, outputs: int, groups: int, processors: int) -> float:
    """For an input of all outputs: what takes longest of multiplying and reading."""
    filled = max(1, min(rows, groups))
    programs = row_tiles(rows, groups, tile) * tile.count(outputs)
    turns = -(-programs // processors)
    operands = 2 * (min(tile.rows, -(-rows // filled)) + tile.columns)
    return max(
        turns * tile.rows * tile.columns / PRODUCTS,
        turns * operands / LOADED,
        programs * operands / CACHED,
        2 * filled * outputs / READ,
    )


def row_tiles(rows: int, groups: int, tile: Tile) -> int:
    """The most tiles that rows in this many groups can take, however they are shared out."""
    filled = min(rows, groups)  # groups with a row
    return filled + (rows - filled) // tile.rows
