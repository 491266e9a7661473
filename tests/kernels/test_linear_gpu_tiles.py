"""Tiles fill a GPU where there is little to do, and are large where there is much."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inferd_kernels.linear import gpu_tiles
from inferd_kernels.linear.gpu_tiles import Tile, choose, row_tiles

CPU = torch.device("cpu")
BF16 = torch.bfloat16


def programs(rows: int, outputs: int, groups: int = 1) -> tuple[Tile, int]:
    tile = choose(rows, outputs, BF16, CPU, groups)
    return tile, row_tiles(rows, groups, tile) * tile.count(outputs)


@pytest.mark.parametrize("outputs", [4096, 6144, 28672, 128256])
def test_one_row_keeps_all_multiprocessors_reading(outputs: int) -> None:
    tile, count = programs(1, outputs)
    assert count >= 128
    on_the_way = (tile.stages - 2) * tile.columns * tile.depth * BF16.itemsize
    assert min(count, 264) * on_the_way >= 3e6  # bytes: 4.3 TB/s, 0.7 µs


@pytest.mark.parametrize("outputs", [4096, 6144, 28672, 128256])
def test_a_batch_does_not_read_its_rows_too_often(outputs: int) -> None:
    """Rows and weights leave the second-level cache, two to three times as fast as memory is."""
    tile, count = programs(64, outputs)
    assert count * (64 + tile.columns) <= 2.4 * outputs


def test_prefill_takes_the_largest_tiles() -> None:
    for outputs in (4096, 6144, 28672):
        assert programs(8192, outputs)[0] == gpu_tiles.LARGE


@given(
    rows=st.integers(1, 20_000),
    outputs=st.integers(1, 200_000),
    groups=st.integers(1, 128),
    dtype=st.sampled_from((torch.float32, torch.float16, BF16)),
)
def test_tiles_that_give_the_same_bits(
    rows: int, outputs: int, groups: int, dtype: torch.dtype
) -> None:
    tile = choose(rows, outputs, dtype, CPU, groups)
    assert tile.rows >= 64
    assert dtype != torch.float32 or tile.columns <= 32


@given(st.lists(st.integers(0, 300), min_size=1, max_size=20))
def test_no_division_of_rows_takes_more_tiles(sizes: list[int]) -> None:
    for tile in (gpu_tiles.STREAM, gpu_tiles.LARGE):
        needed = sum(-(-size // tile.rows) for size in sizes)
        most = row_tiles(sum(sizes), len(sizes), tile)
        assert needed <= most
        filled = min(sum(sizes), len(sizes))
        worst = [1 + sum(sizes) - filled, *[1] * (filled - 1)]
        assert not filled or sum(-(-size // tile.rows) for size in worst) == most


@pytest.mark.parametrize("shared", [99 << 10, 163 << 10])
def test_a_gpu_with_little_shared_memory(shared: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_tiles, "multiprocessors", lambda device: (108, shared))
    found = {choose.__wrapped__(rows, 4096, BF16, CPU) for rows in (1, 64, 300, 8192)}
    assert found == {gpu_tiles.STREAM, gpu_tiles.MEDIUM}
