"""group_rows, grouped_linear and grouped_sum: the same as one row after the other."""

from __future__ import annotations

import pytest
import torch

from inferd_kernels.grouped_linear import group_rows, grouped_linear, grouped_sum, reference
from inferd_kernels.linear import PackedWeight, linear

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SIZES = [[3], [0, 4, 0, 1, 0], [7, 0], [0, 7], [0, 0, 0]]

pytestmark = pytest.mark.usefixtures("implementation", "poisoned_memory")
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@each_dtype
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_products(
    sizes: list[int], packed: bool, dtype: torch.dtype, generator: torch.Generator
) -> None:
    x = torch.randn(sum(sizes), 9, generator=generator).to(dtype)
    weight = torch.randn(len(sizes), 33, 9, generator=generator).to(dtype)
    offsets = torch.tensor([0, *sizes]).cumsum(0).int()
    kept = tuple(PackedWeight.of(each) for each in weight) if packed else weight
    y = grouped_linear(x, kept, offsets)
    assert (y.shape, y.dtype) == ((len(x), 33), dtype)
    for group, part in enumerate(torch.split(x, sizes)):
        if len(part):
            begin = int(offsets[group])
            assert torch.equal(y[begin : begin + len(part)], linear(part, kept[group], None))


@pytest.mark.parametrize("groups", [[2, 0, 2, 1, 0, 2], [0], [3, 3, 3], []], ids=str)
def test_rows_by_group(groups: list[int]) -> None:
    order, places, offsets = group_rows(torch.tensor(groups, dtype=torch.int64), 4)
    expected = sorted(range(len(groups)), key=lambda row: (groups[row], row))
    assert order.tolist() == expected
    assert [expected[place] for place in places.tolist()] == list(range(len(groups)))
    assert offsets.dtype == torch.int32
    assert offsets.tolist() == [sum(each < e for each in groups) for e in range(5)]


@each_dtype
def test_sums_in_order(
    dtype: torch.dtype, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "PIECE", 50)  # two tokens at a time
    x = torch.randn(11, 5, generator=generator).to(dtype)
    places = torch.randint(0, 11, (7, 3), generator=generator)
    shares = torch.rand(7, 3, generator=generator)
    y = grouped_sum(x, places, shares)
    assert y.dtype == dtype
    for token in range(7):
        total = torch.zeros(5)
        for place, share in zip(places[token].tolist(), shares[token], strict=True):
            total += x[place].float() * share
        assert torch.equal(y[token], total.to(dtype))
    assert grouped_sum(x, places[:0], shares[:0]).shape == (0, 5)
