"""The GPU's products of groups: as the references, with the same bits in any company."""

from __future__ import annotations

import pytest
import torch

from inferd_kernels.grouped_linear import gpu as kernels
from inferd_kernels.grouped_linear import (
    group_rows,
    grouped_linear,
    grouped_sum,
    reference,
)
from inferd_kernels.linear import gpu_invariant, gpu_tiles
from inferd_kernels.linear.gpu_tiles import Tile
from tests.kernels.gpu_device import DEVICE, DTYPES, NATIVE

SIZES = [[3], [0, 4, 0, 70, 0], [65, 0], [0, 5], [1] * 6]
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}

pytestmark = pytest.mark.usefixtures("poisoned_memory")
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def operands(
    sizes: list[int], dtype: torch.dtype, generator: torch.Generator, width: int = 40
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows, weights and offsets; empty groups' weights are NaN, and so is what lies behind x."""
    x = torch.full((sum(sizes) + 2, width), torch.nan)
    x[:-2] = torch.randn(sum(sizes), width, generator=generator)
    weight = torch.randn(len(sizes), 33, width, generator=generator) / width**0.5
    weight[[not size for size in sizes]] = torch.nan
    offsets = torch.tensor([0, *sizes]).cumsum(0).int()
    return x.to(DEVICE, dtype)[:-2], weight.to(DEVICE, dtype), offsets.to(DEVICE)


@each_dtype
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_products(
    gpu: torch.device, sizes: list[int], dtype: torch.dtype, generator: torch.Generator
) -> None:
    x, weight, offsets = operands(sizes, dtype, generator)
    found = grouped_linear(x, weight, offsets)
    expected = reference.grouped_linear(x, weight, offsets)
    torch.testing.assert_close(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("tile", [gpu_tiles.NARROW, gpu_tiles.WIDE, gpu_tiles.LARGE], ids=str)
def test_a_row_is_multiplied_as_if_alone(
    gpu: torch.device, tile: Tile, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtype = torch.bfloat16 if NATIVE else torch.float16
    sizes = [2, 0, 131, 65]
    x, weight, offsets = operands(sizes, dtype, generator, 4104 if NATIVE else 40)
    if not NATIVE:  # numpy's order depends on a tile's shape: nothing is rounded
        x, weight = (x * 4).round() / 4, (weight * 8).round() / 8
    monkeypatch.setattr(kernels, "choose", lambda *args: tile)
    y = grouped_linear(x, weight, offsets)
    groups = [group for group, size in enumerate(sizes) for _ in range(size)]
    for row in (0, 1, 2, 65, 132, 133, 197):
        alone = gpu_invariant.linear(x[row : row + 1], weight[groups[row]], None)
        assert torch.equal(y[row], alone[0])


def test_no_rows(gpu: torch.device) -> None:
    weight, offsets = torch.ones(2, 3, 4, device=DEVICE), torch.zeros(3, device=DEVICE).int()
    assert grouped_linear(torch.ones(0, 4, device=DEVICE), weight, offsets).shape == (0, 3)
    nothing = torch.ones(0, 2, device=DEVICE)
    assert grouped_sum(torch.ones(0, 4, device=DEVICE), nothing.long(), nothing).shape == (0, 4)


@pytest.mark.parametrize(("rows", "groups"), [(0, 3), (1, 1), (9, 40), (70, 3), (150, 128)])
@pytest.mark.parametrize("most", [8192, 50])
def test_rows_by_group(
    gpu: torch.device,
    rows: int,
    groups: int,
    most: int,
    generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counted, or sorted where there are many."""
    monkeypatch.setattr(kernels, "COUNTED_ROWS", most)
    of = torch.randint(0, groups, (rows,), generator=generator).to(DEVICE)
    for found, expected in zip(
        group_rows(of, groups), reference.group_rows(of, groups), strict=True
    ):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)


@each_dtype
@pytest.mark.parametrize(("tokens", "count", "size"), [(1, 1, 1), (3, 2, 40), (2, 8, 1030)])
def test_sums(
    gpu: torch.device,
    tokens: int,
    count: int,
    size: int,
    dtype: torch.dtype,
    generator: torch.Generator,
) -> None:
    x = torch.randn(tokens * count + 1, size, generator=generator).to(DEVICE, dtype)
    x[-1] = torch.nan
    places = torch.randperm(tokens * count, generator=generator).view(tokens, count).to(DEVICE)
    shares = torch.rand(tokens, count, generator=generator).to(DEVICE)
    found, expected = grouped_sum(x, places, shares), reference.grouped_sum(x, places, shares)
    torch.testing.assert_close(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
