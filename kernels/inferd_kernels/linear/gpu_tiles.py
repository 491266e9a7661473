"""Which tile of a matrix product a program computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

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
        cost: time for an input of all outputs, relative to the other tiles'. Estimated from the
            cache's rate, not measured.
    """

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    cost: int

    def inputs(self, dtype: torch.dtype) -> int:
        return self.depth // 4 if dtype == torch.float32 else self.depth

    def count(self, outputs: int) -> int:
        """Of tiles side by side."""
        return -(-outputs // self.columns)


SKINNY = Tile(16, 64, depth=128, warps=4, stages=4, cost=5)
"""For few rows whose bits may depend on the tile."""
STREAM = Tile(64, 32, depth=128, warps=4, stages=4, cost=5)
"""Reads weights as fast as they come; 64 rows cost a third of what the tensor cores can do in that
time."""
STREAM_DEEP = Tile(64, 32, depth=128, warps=4, stages=7, cost=5)
"""The same with more on the way, for a program per multiprocessor."""
STREAM_NARROW = Tile(64, 16, depth=128, warps=4, stages=8, cost=4)
"""More programs, for few outputs."""
MEDIUM = Tile(128, 128, depth=64, warps=8, stages=3, cost=13)
LARGE = Tile(128, 256, depth=64, warps=8, stages=4, cost=20)
ROOMY = 200 << 10
"""Bytes of shared memory that a program has where STREAM_DEEP, STREAM_NARROW and LARGE are chosen:
on an H100 or H200. LARGE also wants `wgmma`, which takes its operands from there: on an A100 they
would not all fit the registers."""


@cache
def multiprocessors(device: torch.device) -> tuple[int, int]:
    """How many there are, and the bytes of shared memory that a program can have; an H200's where
    there is no GPU."""
    if device.type != "cuda":
        return 132, 227 << 10
    found = torch.cuda.get_device_properties(device)
    shared: int = found.shared_memory_per_block_optin  # type: ignore[attr-defined]  # no stub
    return found.multi_processor_count, shared


def choose(
    rows: int, outputs: int, dtype: torch.dtype, device: torch.device, groups: int = 1
) -> Tile:
    """The tile for [rows, in] in this many groups, each times its own [outputs, in].

    All of them give a row the same bits.
    """
    processors, shared = multiprocessors(device)
    roomy = shared >= ROOMY
    if rows <= 64 * groups or dtype == torch.float32:
        programs = row_tiles(rows, groups, STREAM) * STREAM.count(outputs)
        if not roomy or programs > processors:
            return STREAM
        return STREAM_NARROW if programs <= processors // 2 else STREAM_DEEP
    tiles: Sequence[Tile] = (LARGE, MEDIUM, STREAM) if roomy else (MEDIUM, STREAM)

    def time(tile: Tile) -> int:
        return -(-row_tiles(rows, groups, tile) * tile.count(outputs) // processors) * tile.cost

    return min(tiles, key=time)


def row_tiles(rows: int, groups: int, tile: Tile) -> int:
    """The most tiles that rows in this many groups can take, however they are shared out."""
    filled = min(rows, groups)  # groups with a row
    return filled + (rows - filled) // tile.rows
